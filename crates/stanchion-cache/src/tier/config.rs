//! The settings of the remote tier as data.

use std::time::Duration;

use stanchion_core::ConfigError;

use crate::config::CacheConfig;

/// The settings of a [`TieredCache`](super::TieredCache) beside those of its cache in memory. Each
/// field says its default.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct TierConfig {
    /// The longest time that an instance serves a value from its memory without asking the store
    /// again: the bound on how stale it may be when messages are lost. At least 1 ms. Default: 30 s.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub max_local_age: Duration,
    /// A call of the store that takes so long has failed: 1 ms to a minute. Default: 200 ms.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub timeout: Duration,
    /// How long a load holds its lease without renewing it; it renews it every third of
    /// this. So long after a process has died the next one loads. 30 ms to an hour, and at least three times
    /// `timeout`. A loader that blocks its thread for longer loses it. Default: 3 s.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub lease: Duration,
    /// How long a caller waits for the load of another instance before it loads without a
    /// lease, for itself. Below the cache's `load_timeout`. Default: 5 s.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub lease_wait: Duration,
    /// Values that are larger than this, encoded, stay in memory: 64 bytes to 512 MB. Default: 8 MiB.
    pub max_value_bytes: usize,
    /// Values from this size on are compressed. It needs the feature `lz4`. Default: none are.
    pub compress_above: Option<usize>,
    /// The number of the form that your values have. Values of another number are not seen, and are written
    /// over: raise it when an older one can't be decoded any more. Instances of both numbers beside each other, as during a
    /// deployment, load for themselves. Default: 0.
    pub schema: u32,
    /// The most invalidations that are remembered while the store can't be reached. When there
    /// are more, everything is cleared instead. At least 1. Default: 10,000.
    pub max_pending: usize,
}

impl Default for TierConfig {
    fn default() -> Self {
        Self {
            max_local_age: Duration::from_secs(30),
            timeout: Duration::from_millis(200),
            lease: Duration::from_secs(3),
            lease_wait: Duration::from_secs(5),
            max_value_bytes: 8 << 20,
            compress_above: None,
            schema: 0,
            max_pending: 10_000,
        }
    }
}

/// Redis holds no larger ones.
const LARGEST_VALUE: usize = 512 << 20;

impl TierConfig {
    /// Whether a tiered cache can be built of it, over a cache in memory with these settings.
    ///
    /// # Errors
    /// Names the first field that can't be honoured.
    pub fn validate(&self, local: &CacheConfig) -> Result<(), ConfigError> {
        let times = [
            ("max_local_age", self.max_local_age, Duration::from_millis(1), Duration::MAX, "must be 1ms or more"),
            ("timeout", self.timeout, Duration::from_millis(1), Duration::from_secs(60), "must be 1ms to 1min"),
            ("lease", self.lease, Duration::from_millis(30), Duration::from_secs(3600), "must be 30ms to 1h"),
        ];
        for (field, value, least, most, rule) in times {
            if value < least || value > most {
                return Err(ConfigError::new(field, format!("{value:?}"), rule));
            }
        }
        if self.lease < 3 * self.timeout {
            return Err(ConfigError::new("lease", format!("{:?}", self.lease), "must be at least 3 times the timeout"));
        }
        if self.lease_wait >= local.load_timeout {
            let value = format!("{:?}", self.lease_wait);
            return Err(ConfigError::new("lease_wait", value, "must be below load_timeout"));
        }
        if !(64..=LARGEST_VALUE).contains(&self.max_value_bytes) {
            return Err(ConfigError::new("max_value_bytes", self.max_value_bytes, "must be 64 to 536870912"));
        }
        if let Some(bytes) = self.compress_above
            && !cfg!(feature = "lz4")
        {
            return Err(ConfigError::new("compress_above", bytes, "needs the feature `lz4`"));
        }
        if self.max_pending == 0 {
            return Err(ConfigError::new("max_pending", 0, "must be at least 1"));
        }
        Ok(())
    }
}

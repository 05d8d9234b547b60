//! The settings of leasing.

use std::time::Duration;

use stanchion_core::{ConfigError, TokenBucket};

/// How an instance leases units, as data. What it says is checked when a
/// [`Leased`](super::Leased) is made of it.
///
/// With the feature `serde`: `{ "ttl": "50ms", "target": "20ms", "share": 10 }`, where
/// each may be left out. The same batch always: `min_batch` equal to `max_batch`.
///
/// ```
/// use std::time::Duration;
/// use stanchion_limit::{LeaseConfig, Leased, MemoryRateStore};
///
/// let error = Leased::new(MemoryRateStore::new(1), LeaseConfig::default().ttl(Duration::ZERO)).unwrap_err();
/// assert_eq!(error.to_string(), "ttl is 0ns: must be longer than zero and at most an hour");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct LeaseConfig {
    /// How long units that were leased can be used. Default: 50 ms.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    ttl: Duration,
    /// How long a batch should last at the key's rate. Default: 20 ms.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    target: Duration,
    /// The fewest units of a batch, whatever the rate. Default: 1.
    min_batch: u64,
    /// The most units of a batch, whatever the rate. Default: 1,000,000.
    max_batch: u64,
    /// The most units of a batch, in percent of the limit's burst. Default: 10.
    share: u32,
    /// How long a refusal is believed at most. Default: 1 s.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    remember: Duration,
    /// How many keys are kept at most. Default: 65,536.
    max_keys: usize,
}

impl Default for LeaseConfig {
    fn default() -> Self {
        Self {
            ttl: Duration::from_millis(50),
            target: Duration::from_millis(20),
            min_batch: 1,
            max_batch: 1_000_000,
            share: 10,
            remember: Duration::from_secs(1),
            max_keys: 65_536,
        }
    }
}

impl LeaseConfig {
    /// The longest of its times.
    const LONGEST: Duration = Duration::from_secs(3_600);
    /// The most that [`max_keys`](Self::max_keys) takes.
    const MOST_KEYS: usize = 1 << 26;

    /// Units that were leased can be used for so long. Default: 50 ms.
    ///
    /// It is what the bound pays for leasing: see [`Leased`](super::Leased).
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// A batch should last so long at the rate at which the key was asked for of late.
    /// Default: 20 ms, which is at most 50 trips a second for a key.
    pub const fn target(mut self, target: Duration) -> Self {
        self.target = target;
        self
    }

    /// At least and at most so many units in a batch, whatever the key's rate. Default:
    /// 1 to 1,000,000.
    pub const fn batch(mut self, min: u64, max: u64) -> Self {
        self.min_batch = min;
        self.max_batch = max;
        self
    }

    /// A batch is at most this share of the limit's burst, in percent, and at least 1
    /// unit. Default: 10.
    pub const fn share(mut self, percent: u32) -> Self {
        self.share = percent;
        self
    }

    /// A refusal is believed for so long at most, however long the key has to wait:
    /// then the store is asked again. Default: 1 s.
    pub const fn remember(mut self, remember: Duration) -> Self {
        self.remember = remember;
        self
    }

    /// So many keys are kept at most; of others, each check is the store's. Default:
    /// 65,536.
    pub const fn max_keys(mut self, keys: usize) -> Self {
        self.max_keys = keys;
        self
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let time = |field, time: Duration| {
            if time.is_zero() || time > Self::LONGEST {
                let limit = "must be longer than zero and at most an hour";
                return Err(ConfigError::new(field, format_args!("{time:?}"), limit));
            }
            Ok(())
        };
        time("ttl", self.ttl)?;
        time("target", self.target)?;
        time("remember", self.remember)?;
        if self.target > self.ttl {
            let limit = format!("must be at most the ttl of {:?}: a batch that lasts longer is thrown away", self.ttl);
            return Err(ConfigError::new("target", format_args!("{:?}", self.target), limit));
        }
        if self.max_batch == 0 {
            return Err(ConfigError::new("max_batch", 0, "must be at least 1"));
        }
        if self.min_batch == 0 || self.min_batch > self.max_batch {
            let limit = format!("must be 1 to the max_batch of {}", self.max_batch);
            return Err(ConfigError::new("min_batch", self.min_batch, limit));
        }
        if self.share == 0 || self.share > 100 {
            return Err(ConfigError::new("share", self.share, "must be 1 to 100 percent"));
        }
        if self.max_keys == 0 || self.max_keys > Self::MOST_KEYS {
            let limit = format!("must be 1 to {}", Self::MOST_KEYS);
            return Err(ConfigError::new("max_keys", self.max_keys, limit));
        }
        Ok(())
    }

    pub(super) const fn lifetime(&self) -> Duration {
        self.ttl
    }

    pub(super) const fn lasting(&self) -> Duration {
        self.target
    }

    pub(super) const fn memory(&self) -> Duration {
        self.remember
    }

    pub(super) const fn keys(&self) -> usize {
        self.max_keys
    }

    /// The most units that a batch of this limit's has.
    pub(super) fn most(&self, bucket: &TokenBucket) -> u64 {
        let share = u128::from(bucket.burst()) * u128::from(self.share) / 100;
        // At most the burst, as the share is at most 100.
        u64::try_from(share).unwrap_or(u64::MAX).min(self.max_batch).max(1)
    }

    /// The units of a batch for a demand of so many.
    pub(super) fn batch_for(&self, bucket: &TokenBucket, demand: u64) -> u64 {
        demand.max(self.min_batch).min(self.most(bucket))
    }
}

//! The settings of a cache as data.

use std::time::Duration;

use stanchion_core::ConfigError;

use crate::freshness::Ladder;
use crate::policy::Eviction;

/// The settings of a cache, as a configuration file has them; the builder fills the
/// same struct. Each field says its default.
///
#[cfg_attr(feature = "serde", doc = "```")]
#[cfg_attr(not(feature = "serde"), doc = "```text")]
/// use stanchion_cache::{Cache, CacheConfig};
///
/// let config: CacheConfig = serde_json::from_str(
///     r#"{ "max_entries": 10000, "ttl": "1h", "stale_if_error": "10m" }"#,
/// )?;
/// let users: Cache<u64, String> = Cache::from_config("users", &config)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct CacheConfig {
    /// The most entries: 1 to 4,000,000,000. Default: 10,000.
    pub max_entries: u64,
    /// The most weight of all entries together, at least 1. Default: no limit.
    pub max_weight: Option<u64>,
    /// Which entry goes when there is no room. Default: [`Eviction::Hybrid`].
    pub eviction: Eviction,
    /// How long an entry is fresh, counted from the start of its load. Default: for ever.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text::option"))]
    pub ttl: Option<Duration>,
    /// Each time to live is shortened by up to this share, by chance, so that what came in
    /// together doesn't expire together: 0 to 1. Default: 0.
    pub ttl_jitter: f64,
    /// An entry that nobody has read for so long is gone. Default: never.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text::option"))]
    pub idle_ttl: Option<Duration>,
    /// After this share of its time to live an entry is refreshed in the background while
    /// it is served: above 0, below 1. Default: not at all.
    pub refresh_ahead: Option<f64>,
    /// XFetch's β: refreshes early by chance, the more likely the nearer the end and the
    /// longer the load took: above 0; 1 is usual. Default: not at all.
    pub early_refresh: Option<f64>,
    /// So long after its end an entry is served while it is refreshed in the
    /// background. Default: zero.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub stale_while_revalidate: Duration,
    /// So long after its end an entry is served if its load fails or exceeds the
    /// soft timeout. Default: zero.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub stale_if_error: Duration,
    /// After a failed refresh of an entry that can still be served, none is tried for so
    /// long. Default: 1 s.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub failure_throttle: Duration,
    /// So long it is remembered that there is no such thing. Default: not at all.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text::option"))]
    pub negative_ttl: Option<Duration>,
    /// A caller that waits for so long gets the stale value, if there is one that may be
    /// served; the load goes on. Default: it waits as long as the load.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text::option"))]
    pub load_timeout_soft: Option<Duration>,
    /// A load that takes so long has failed: 1 ms to a day. Default: 30 s.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub load_timeout: Duration,
    /// What becomes of a load that nobody waits for any more. Default:
    /// [`Abandoned::Continue`].
    pub abandoned: Abandoned,
    /// What a load costs, in any unit: for [`CacheSnapshot::saved`](crate::CacheSnapshot::saved).
    /// Default: 0.
    pub load_cost: f64,
}

/// What becomes of a load that nobody waits for any more.
///
/// As configuration: `"continue"`, `"abort"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Abandoned {
    /// It goes on, for those who ask next.
    #[default]
    Continue,
    /// It is dropped. Refreshes in the background are never abandoned.
    Abort,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            max_entries: 10_000,
            max_weight: None,
            eviction: Eviction::Hybrid,
            ttl: None,
            ttl_jitter: 0.0,
            idle_ttl: None,
            refresh_ahead: None,
            early_refresh: None,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            failure_throttle: Duration::from_secs(1),
            negative_ttl: None,
            load_timeout_soft: None,
            load_timeout: Duration::from_secs(30),
            abandoned: Abandoned::Continue,
            load_cost: 0.0,
        }
    }
}

/// As many as can be numbered.
pub(crate) const MOST_ENTRIES: u64 = 4_000_000_000;
const DAY: Duration = Duration::from_secs(86_400);

impl CacheConfig {
    /// Whether a cache can be built of it.
    ///
    /// # Errors
    /// Names the first field that can't be honoured.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check_size(self.max_entries, self.max_weight)?;
        for (field, ttl) in [("ttl", self.ttl), ("idle_ttl", self.idle_ttl), ("negative_ttl", self.negative_ttl)] {
            if ttl.is_some_and(|ttl| ttl.is_zero()) {
                return Err(ConfigError::new(field, "0s", "must be longer than zero; without it, leave it out"));
            }
        }
        // NaN is in no range.
        if !(0.0..=1.0).contains(&self.ttl_jitter) {
            return Err(ConfigError::new("ttl_jitter", self.ttl_jitter, "must be 0 to 1"));
        }
        if let Some(share) = self.refresh_ahead
            && !(share > 0.0 && share < 1.0)
        {
            return Err(ConfigError::new("refresh_ahead", share, "must be above 0 and below 1"));
        }
        if let Some(beta) = self.early_refresh
            && !(beta > 0.0 && beta <= 1e6)
        {
            return Err(ConfigError::new("early_refresh", beta, "must be above 0 and at most 1000000"));
        }
        if !(Duration::from_millis(1)..=DAY).contains(&self.load_timeout) {
            let value = format!("{:?}", self.load_timeout);
            return Err(ConfigError::new("load_timeout", value, "must be 1ms to 1day"));
        }
        if let Some(soft) = self.load_timeout_soft
            && soft >= self.load_timeout
        {
            return Err(ConfigError::new("load_timeout_soft", format!("{soft:?}"), "must be below load_timeout"));
        }
        if !(self.load_cost >= 0.0 && self.load_cost.is_finite()) {
            return Err(ConfigError::new("load_cost", self.load_cost, "must be 0 or more"));
        }
        Ok(())
    }

    pub(crate) fn ladder(&self) -> Ladder {
        Ladder {
            refresh_ahead: self.refresh_ahead,
            early_refresh: self.early_refresh,
            stale_while_revalidate: self.stale_while_revalidate,
            stale_if_error: self.stale_if_error,
        }
    }
}

pub(crate) fn check_size(max_entries: u64, max_weight: Option<u64>) -> Result<(), ConfigError> {
    if !(1..=MOST_ENTRIES).contains(&max_entries) {
        return Err(ConfigError::new("max_entries", max_entries, "must be 1 to 4000000000"));
    }
    if max_weight == Some(0) {
        return Err(ConfigError::new("max_weight", 0, "must be at least 1"));
    }
    Ok(())
}

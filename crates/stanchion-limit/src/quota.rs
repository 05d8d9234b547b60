//! A quota in the user's words.

use std::time::Duration;

use stanchion_core::{ConfigError, TokenBucket};

/// So many units per period, and so many at once.
///
/// It is plain data: what it says is checked when a limiter is built of it.
/// The promise: **any window of length W admits at most
/// `burst + ⌊W · count / period⌋`**. Mind what that means for the default
/// burst: 100 per minute can admit 199 in its first minute, 100 at once and one
/// each 0.6 s after that. A smaller burst makes the limit stricter, down to 1,
/// which spaces the units evenly.
///
/// ```
/// use std::time::Duration;
/// use stanchion_limit::Quota;
///
/// let quota = Quota::per_minute(100).burst(20);
/// assert_eq!(quota, Quota::new(100, Duration::from_secs(60)).burst(20));
/// assert!(quota.bucket().is_ok());
///
/// let error = Quota::per_second(0).bucket().unwrap_err();
/// assert_eq!(error.to_string(), "count is 0: must be at least 1");
/// ```
///
/// # As configuration
/// With the feature `serde`: `{ "count": 100, "period": "1m", "burst": 20 }`,
/// where `burst` may be left out. A period is written as in `humantime`: "250ms",
/// "1s", "1m", "1h", "1day"; mind that "1M" is a month. [`bucket`](Self::bucket)
/// tells whether the quota can be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Quota {
    /// Units per period.
    count: u64,
    /// The period: "250ms", "1s", "1m", "1day".
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    period: Duration,
    /// Units at once. Default: `count`.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    burst: Option<u64>,
}

impl Quota {
    /// `count` units per `period`.
    pub const fn new(count: u64, period: Duration) -> Self {
        Self { count, period, burst: None }
    }

    /// `count` units per second.
    pub const fn per_second(count: u64) -> Self {
        Self::new(count, Duration::from_secs(1))
    }

    /// `count` units per minute.
    pub const fn per_minute(count: u64) -> Self {
        Self::new(count, Duration::from_secs(60))
    }

    /// `count` units per hour.
    pub const fn per_hour(count: u64) -> Self {
        Self::new(count, Duration::from_secs(3_600))
    }

    /// `count` units per day of 24 hours.
    pub const fn per_day(count: u64) -> Self {
        Self::new(count, Duration::from_secs(86_400))
    }

    /// At most `units` at once. Default: `count`.
    pub const fn burst(mut self, units: u64) -> Self {
        self.burst = Some(units);
        self
    }

    /// The quota as numbers to count with.
    ///
    /// # Errors
    /// Names the field that can't be honoured: see [`TokenBucket::new`].
    pub fn bucket(&self) -> Result<TokenBucket, ConfigError> {
        TokenBucket::new(self.count, self.period, self.burst.unwrap_or(self.count))
    }
}

#[cfg(all(test, feature = "serde"))]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_data() {
        let quota: Quota = serde_json::from_str(r#"{"count": 100, "period": "1m", "burst": 20}"#).unwrap();
        assert_eq!(quota, Quota::per_minute(100).burst(20));
        let text = serde_json::to_string(&Quota::per_day(5)).unwrap();
        assert_eq!(text, r#"{"count":5,"period":"1day"}"#);
        assert_eq!(serde_json::from_str::<Quota>(&text).unwrap(), Quota::per_day(5));
    }

    #[test]
    fn a_config_that_makes_no_sense_says_where() {
        let error = |text: &str| serde_json::from_str::<Quota>(text).unwrap_err().to_string();
        assert!(error(r#"{"count": 1, "period": "soon"}"#).starts_with("\"soon\" is no duration"));
        assert!(error(r#"{"count": -1, "period": "1s"}"#).contains("invalid value"));
        assert!(error(r#"{"count": 1, "period": "1s", "brust": 2}"#).contains("unknown field `brust`"));
    }
}

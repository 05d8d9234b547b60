//! Limiters as data.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::quota::Quotas;
use crate::table::WhenFull;
#[cfg(doc)]
use crate::{KeyedLimiter, Limiter};
use crate::{KeyedLimiterBuilder, LimiterBuilder};

/// What a [`Limiter`] is built of, as data. It is checked when the limiter is built.
///
/// With the feature `serde`, where all but `quota` may be left out:
/// ```json
/// { "quota": { "count": 50, "period": "1s", "burst": 10 }, "max_wait": "250ms", "queue": 100 }
/// ```
/// ```
/// use stanchion_limit::{LimiterBuilder, LimiterConfig, Quota};
///
/// let config = LimiterConfig::new(Quota::per_second(0));
/// let error = LimiterBuilder::from(config).build().unwrap_err();
/// assert_eq!(error.to_string(), "count is 0: must be at least 1");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct LimiterConfig {
    /// The quota, or several by name.
    pub quota: Quotas,
    /// How long a gate lets a call wait in line. Default: not at all. Without the feature `tokio`
    /// nothing waits.
    #[cfg_attr(
        feature = "serde",
        serde(default, with = "stanchion_core::duration_text::option", skip_serializing_if = "Option::is_none")
    )]
    pub max_wait: Option<Duration>,
    /// How many may wait in line. Default: 10,000.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub queue: Option<usize>,
}

impl LimiterConfig {
    /// This quota, or these, with the defaults.
    pub fn new(quotas: impl Into<Quotas>) -> Self {
        Self { quota: quotas.into(), max_wait: None, queue: None }
    }
}

impl From<LimiterConfig> for LimiterBuilder {
    fn from(config: LimiterConfig) -> Self {
        let builder = crate::Limiter::builder(config.quota);
        #[cfg(feature = "tokio")]
        let builder = {
            let builder = config.max_wait.into_iter().fold(builder, Self::max_wait);
            config.queue.into_iter().fold(builder, Self::queue)
        };
        builder
    }
}

/// What a [`KeyedLimiter`] is built of, as data. It is checked when the limiter is built.
///
/// With the feature `serde`, where all but `quota` may be left out:
/// ```json
/// {
///   "quota": { "second": { "count": 10, "period": "1s" }, "day": { "count": 20000, "period": "1day" } },
///   "tiers": {
///     "paid": { "second": { "count": 100, "period": "1s" }, "day": { "count": 1000000, "period": "1day" } }
///   },
///   "max_keys": 100000, "when_full": "forget", "max_wait": "250ms", "queue": 100
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct KeyedLimiterConfig {
    /// The quota, or several by name, of keys of no tier.
    pub quota: Quotas,
    /// The quota or quotas of each tier: see [`KeyedLimiterBuilder::tier`].
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "BTreeMap::is_empty"))]
    pub tiers: BTreeMap<String, Quotas>,
    /// How many keys can be in debt at a time. Default: 65,536.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub max_keys: Option<usize>,
    /// What becomes of a new key when there is no room. Default: it is refused.
    #[cfg_attr(feature = "serde", serde(default))]
    pub when_full: WhenFull,
    /// How long a gate lets a call wait in line. Default: not at all. Without the feature `tokio`
    /// nothing waits.
    #[cfg_attr(
        feature = "serde",
        serde(default, with = "stanchion_core::duration_text::option", skip_serializing_if = "Option::is_none")
    )]
    pub max_wait: Option<Duration>,
    /// How many may wait in line for each key. Default: 1,000.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub queue: Option<usize>,
}

impl KeyedLimiterConfig {
    /// This quota, or these, with the defaults.
    pub fn new(quotas: impl Into<Quotas>) -> Self {
        Self {
            quota: quotas.into(),
            tiers: BTreeMap::new(),
            max_keys: None,
            when_full: WhenFull::default(),
            max_wait: None,
            queue: None,
        }
    }
}

impl<K: ?Sized> From<KeyedLimiterConfig> for KeyedLimiterBuilder<K> {
    fn from(config: KeyedLimiterConfig) -> Self {
        let builder = crate::KeyedLimiter::builder(config.quota).when_full(config.when_full);
        let builder = config.max_keys.into_iter().fold(builder, Self::max_keys);
        let tier = |builder: Self, (name, quotas): (String, Quotas)| builder.tier(name, quotas);
        let builder = config.tiers.into_iter().fold(builder, tier);
        #[cfg(feature = "tokio")]
        let builder = {
            let builder = config.max_wait.into_iter().fold(builder, Self::max_wait);
            config.queue.into_iter().fold(builder, Self::queue)
        };
        builder
    }
}

#[cfg(all(test, feature = "serde"))]
mod tests {
    use super::*;
    use crate::{KeyedLimiter, Limiter, Quota};

    #[test]
    fn a_quota_is_read_as_one_or_as_several() {
        let one: LimiterConfig = serde_json::from_str(r#"{"quota": {"count": 5, "period": "1s"}}"#).unwrap();
        assert_eq!(one, LimiterConfig::new(Quota::per_second(5)));
        let text = r#"{"quota":{"day":{"count":9,"period":"1day"},"second":{"count":5,"period":"1s"}}}"#;
        let several: LimiterConfig = serde_json::from_str(text).unwrap();
        let quotas = [("day", Quota::per_day(9)), ("second", Quota::per_second(5))];
        assert_eq!(several, LimiterConfig::new(quotas));
        assert_eq!(serde_json::to_string(&several).unwrap(), text);
        let text = serde_json::to_string(&one).unwrap();
        assert_eq!(text, r#"{"quota":{"count":5,"period":"1s"}}"#);
        let limiter: Limiter = LimiterBuilder::from(several).build().unwrap();
        assert_eq!(limiter.take_up_to(20).granted(), 5);
    }

    #[test]
    fn tiers_are_data() {
        let text = r#"{
            "quota": { "count": 1, "period": "1s", "algorithm": "sliding_log" }, "max_keys": 9, "when_full": "forget",
            "tiers": { "paid": { "count": 9, "period": "1s", "algorithm": "sliding_log" } }
        }"#;
        let config: KeyedLimiterConfig = serde_json::from_str(text).unwrap();
        let builder: KeyedLimiterBuilder<str> = config.into();
        let limiter = builder.tier_by(|key: &str| key.to_owned()).build().unwrap();
        assert_eq!((limiter.peek("paid").limit(), limiter.peek("other").limit()), (9, 1));
        assert_eq!(limiter.snapshot().max_keys, 9);
        let _: &KeyedLimiter<str, _, _> = &limiter;
    }

    #[test]
    fn what_makes_no_sense_says_where() {
        let error = |text: &str| serde_json::from_str::<LimiterConfig>(text).unwrap_err().to_string();
        assert!(error("{}").starts_with("missing field `quota`"));
        assert!(error(r#"{"quota": 5}"#).contains("a quota, or quotas by name"));
        assert!(error(r#"{"quota": {"count": 5, "perod": "1s"}}"#).contains("unknown field `perod`"));
        assert!(error(r#"{"quota": {"hour": {"count": -5}}}"#).contains("invalid value"));
        assert!(error(r#"{"quota": {"count": 1, "period": "1s"}, "max_wait": "soon"}"#).contains("no duration"));
    }
}

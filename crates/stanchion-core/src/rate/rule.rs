//! Any of the rules by which a limit counts.

use std::time::Duration;

use super::{FixedWindow, SlidingCounter, SlidingLog, TokenBucket};
use crate::ConfigError;

/// The numbers of a limit, by any of the algorithms.
///
/// ```
/// use std::time::Duration;
/// use stanchion_core::{RateRule, SlidingLog, TokenBucket};
///
/// let second = Duration::from_secs(1);
/// let bucket: RateRule = TokenBucket::new(10, second, 5)?.into();
/// let log: RateRule = SlidingLog::new(10, second)?.into();
/// assert_eq!((bucket.limit(), log.limit()), (5, 10));
/// assert_eq!((bucket.window(), log.window()), (second / 2, second));
/// # Ok::<(), stanchion_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RateRule {
    /// A burst, and one unit more each interval.
    TokenBucket(TokenBucket),
    /// So many in each window, one after another.
    FixedWindow(FixedWindow),
    /// So many in a sliding window, estimated of two counts.
    SlidingCounter(SlidingCounter),
    /// So many in every window, each remembered.
    SlidingLog(SlidingLog),
}

impl RateRule {
    /// The most units at once: a bucket's burst, a window's count.
    #[inline]
    pub const fn limit(&self) -> u64 {
        match self {
            Self::TokenBucket(bucket) => bucket.burst(),
            Self::FixedWindow(window) => window.limit(),
            Self::SlidingCounter(counter) => counter.limit(),
            Self::SlidingLog(log) => log.limit(),
        }
    }

    /// The limit and the overdraft.
    #[inline]
    pub const fn most_units(&self) -> u64 {
        match self {
            Self::TokenBucket(bucket) => bucket.most_units(),
            Self::FixedWindow(window) => window.most_units(),
            Self::SlidingCounter(counter) => counter.most_units(),
            Self::SlidingLog(log) => log.most_units(),
        }
    }

    /// The time in which the whole limit comes back: that in which an empty bucket
    /// fills, or the longest that the window can be.
    pub const fn window(&self) -> Duration {
        match self {
            Self::TokenBucket(bucket) => bucket.refill_duration(),
            Self::FixedWindow(window) => Duration::from_nanos(window.longest()),
            Self::SlidingCounter(counter) => Duration::from_nanos(counter.window()),
            Self::SlidingLog(log) => Duration::from_nanos(log.window()),
        }
    }

    /// The same limit for one of `instances` that share it.
    ///
    /// # Errors
    /// Names `instances` when it is zero, or when the share of each is nothing.
    pub fn share(&self, instances: u32) -> Result<Self, ConfigError> {
        Ok(match self {
            Self::TokenBucket(bucket) => bucket.share(instances)?.into(),
            Self::FixedWindow(window) => window.share(instances)?.into(),
            Self::SlidingCounter(counter) => counter.share(instances)?.into(),
            Self::SlidingLog(log) => log.share(instances)?.into(),
        })
    }
}

macro_rules! of {
    ($($rule:ident)*) => {$(
        impl From<$rule> for RateRule {
            #[inline]
            fn from(rule: $rule) -> Self {
                Self::$rule(rule)
            }
        }
    )*};
}

of! { TokenBucket FixedWindow SlidingCounter SlidingLog }

impl From<&TokenBucket> for RateRule {
    #[inline]
    fn from(bucket: &TokenBucket) -> Self {
        Self::TokenBucket(*bucket)
    }
}

impl From<&Self> for RateRule {
    #[inline]
    fn from(rule: &Self) -> Self {
        *rule
    }
}

//! A token bucket's numbers, compiled from a quota: integers only.
//!
//! Time is counted in *ticks*, 1 to 128 to the nanosecond, and the interval
//! between two tokens is rounded **up** to a whole tick. From there on all
//! arithmetic is exact, so that a limiter can admit less than its quota by a
//! known share, and never more.
//!
//! One tick is 1/u ns, with the u for which the rounded interval is nearest to
//! the true one. For most quotas that is exact: 50 per second is an interval
//! of 20,000,000 ns, 3 per second one of 1,000,000,000 ticks at u = 3. Where it
//! isn't, the error is at most [`MOST_LOST`], or the quota is refused.
//!
//! u stops at 8 where that is good to a millionth, so that a signed 64-bit
//! difference of ticks spans 36 years; at 128 for the fastest quotas, whose
//! differences span two years; and at 1 where the bucket takes many years to fill.

use std::time::Duration;

use crate::ConfigError;

/// The finest tick, 1/8 ns, for a quota that it keeps to a millionth.
const USUAL_TICKS_PER_NANO: u128 = 8;
/// The finest tick of all: 1/128 ns.
const MOST_TICKS_PER_NANO: u128 = 128;

/// A quota may lose one part in this many to rounding: 0.01 %.
const MOST_LOST: u128 = 10_000;

/// An empty bucket may take this long to fill: 100 years of 365 days.
const LONGEST_REFILL: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A full bucket in ticks stays below this, and an overdraft below half of it; so with the
/// tolerance for clocks on top they fit the signed half of 64 bits.
const MOST_TICKS: u128 = 1 << 62;

/// A token bucket's numbers: `burst` tokens at most, one more each `interval`.
///
/// Compiled from "`count` per `period`, `burst` at once" so that the rate
/// enforced is never above `count / period` and never more than 0.01 % below
/// it. This is what a [`RateStore`](crate::RateStore) is handed; users write a
/// `Quota` of `stanchion-limit`.
///
/// ```
/// use std::time::Duration;
/// use stanchion_core::TokenBucket;
///
/// let bucket = TokenBucket::new(3, Duration::from_secs(1), 10)?;
/// assert_eq!(bucket.burst(), 10);
/// // A third of a second is no whole number of nanoseconds, but of ticks.
/// assert_eq!((bucket.interval(), bucket.ticks_per_nano()), (1_000_000_000, 3));
///
/// let error = TokenBucket::new(3, Duration::from_secs(1), 0).unwrap_err();
/// assert_eq!(error.to_string(), "burst is 0: must be at least 1");
/// # Ok::<(), stanchion_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenBucket {
    interval: u64,
    burst: u64,
    // Follows from the others; a check needs it ready.
    capacity: u64,
    // With the overdraft in it.
    tolerance: u64,
    ticks_per_nano: u32,
}

impl TokenBucket {
    /// The bucket for `count` tokens per `period`, holding at most `burst`.
    ///
    /// # Errors
    /// Names `count`, `period` or `burst` when it is zero, when an empty bucket
    /// would take more than 100 years to fill, or when the rate is too high to
    /// be met within 0.01 % (never below 3,200,000 a second).
    pub fn new(count: u64, period: Duration, burst: u64) -> Result<Self, ConfigError> {
        if count == 0 {
            return Err(ConfigError::new("count", count, "must be at least 1"));
        }
        if period.is_zero() {
            return Err(ConfigError::new("period", format_args!("{period:?}"), "must be longer than zero"));
        }
        if burst == 0 {
            return Err(ConfigError::new("burst", burst, "must be at least 1"));
        }
        let period_nanos = period.as_nanos();
        let count_wide = u128::from(count);
        let refill_nanos = match period_nanos.checked_mul(u128::from(burst)) {
            Some(product) => product.div_ceil(count_wide),
            None => u128::MAX,
        };
        if refill_nanos > LONGEST_REFILL.as_nanos() {
            let limit = "an empty bucket may take at most 100 years to fill";
            return Err(if burst == 1 || period > LONGEST_REFILL {
                ConfigError::new("period", format_args!("{period:?}"), limit)
            } else {
                ConfigError::new("burst", burst, limit)
            });
        }
        match compiled(count_wide, period_nanos, refill_nanos, u128::from(burst)) {
            Some((interval, ticks_per_nano)) => Ok(Self::from_parts(interval, burst, ticks_per_nano, 0)),
            None => Err(ConfigError::new(
                "count",
                format_args!("{count} per {period:?}"),
                "too fast to be met within 0.01 %; count in larger units, such as KiB for bytes",
            )),
        }
    }

    /// Of parts whose product is known to fit.
    const fn from_parts(interval: u64, burst: u64, ticks_per_nano: u32, overdraft: u64) -> Self {
        let tolerance = second(ticks_per_nano) + overdraft;
        Self { interval, burst, capacity: burst * interval, tolerance, ticks_per_nano }
    }

    /// The same bucket, from which [`Ask::Overdraw`](crate::Ask::Overdraw) may take up to `units`
    /// more than are there. Default: none.
    ///
    /// # Errors
    /// Names `overdraft` when paying it off would take more than some decades.
    pub fn overdraft(self, units: u64) -> Result<Self, ConfigError> {
        let ticks = units.checked_mul(self.interval).filter(|ticks| u128::from(*ticks) < MOST_TICKS / 2);
        let Some(ticks) = ticks else {
            return Err(ConfigError::new("overdraft", units, "is more than the bucket can pay off in decades"));
        };
        Ok(Self { tolerance: second(self.ticks_per_nano) + ticks, ..self })
    }

    /// The most tokens that it holds.
    #[inline]
    pub const fn burst(&self) -> u64 {
        self.burst
    }

    /// The ticks between two tokens.
    #[inline]
    pub const fn interval(&self) -> u64 {
        self.interval
    }

    /// How many ticks a nanosecond has: 1 to 128.
    #[inline]
    pub const fn ticks_per_nano(&self) -> u32 {
        self.ticks_per_nano
    }

    /// The ticks in which an empty bucket fills: `burst * interval`.
    #[inline]
    pub const fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The ticks that `cost` tokens take, or `None` if it is above the burst
    /// and so never fits.
    #[inline]
    pub const fn cost(&self, cost: u64) -> Option<u64> {
        if cost > self.burst { None } else { Some(cost * self.interval) }
    }

    /// The most ticks that may be owed: the capacity and the overdraft.
    #[inline]
    pub const fn most_debt(&self) -> u64 {
        self.capacity + (self.tolerance - second(self.ticks_per_nano))
    }

    /// The most units that may be owed: the burst and the overdraft.
    pub const fn most_units(&self) -> u64 {
        self.most_debt() / self.interval
    }

    /// A debt may exceed the capacity by this much before it is taken for the
    /// trace of a clock that stepped back, or of a larger quota: the overdraft and
    /// one second.
    #[inline]
    pub const fn tolerance(&self) -> u64 {
        self.tolerance
    }

    /// Ticks as time, rounded up to a nanosecond.
    pub const fn duration(&self, ticks: u64) -> Duration {
        Duration::from_nanos(ticks.div_ceil(self.ticks_per_nano as u64))
    }

    /// The time between two tokens, rounded up to a nanosecond.
    pub const fn interval_duration(&self) -> Duration {
        self.duration(self.interval)
    }

    /// The time in which an empty bucket fills, rounded up to a nanosecond.
    pub const fn refill_duration(&self) -> Duration {
        self.duration(self.capacity())
    }

    /// The same limit for one of `instances` that share it: a burst of
    /// ⌊burst / instances⌋ and `instances` times the interval.
    ///
    /// # Errors
    /// Names `instances` when it is zero or above the burst, or when the share
    /// is so small that it can't be represented.
    pub fn share(&self, instances: u32) -> Result<Self, ConfigError> {
        let parts = u64::from(instances);
        let error = |limit: &str| ConfigError::new("instances", instances, limit);
        if parts == 0 {
            return Err(error("must be at least 1"));
        }
        let burst = self.burst / parts;
        let overdraft = (self.most_units() - self.burst) / parts;
        if burst == 0 {
            return Err(error(&format!("the burst of {} leaves nothing for each", self.burst)));
        }
        // burst * interval does not grow: ⌊burst / parts⌋ * (interval * parts) <= burst * interval.
        match self.interval.checked_mul(parts) {
            Some(interval) => Ok(Self::from_parts(interval, burst, self.ticks_per_nano, overdraft * interval)),
            None => Err(error("the share of each is too small")),
        }
    }
}

/// The ticks of a second.
const fn second(ticks_per_nano: u32) -> u64 {
    1_000_000_000 * ticks_per_nano as u64
}

/// The interval in ticks, rounded up, with the tick that wastes least; `None`
/// where even that wastes too much.
fn compiled(count: u128, period_nanos: u128, refill_nanos: u128, burst: u128) -> Option<(u64, u32)> {
    let finest = (MOST_TICKS / (refill_nanos + 1_000_000_000)).clamp(1, MOST_TICKS_PER_NANO);
    // The waste of a tick of 1/u ns is (interval - exact) / interval, where
    // exact = u * period / count and interval = ⌈exact⌉: as a fraction,
    // (interval * count - u * period) / (interval * count). Of equal wastes the
    // coarsest tick wins, for it spans the longest time.
    let mut best: Option<(u128, u128, u128)> = None; // waste's numerator, interval, u
    for u in 1..=finest {
        let exact = period_nanos * u;
        let interval = exact.div_ceil(count);
        let waste = interval * count - exact;
        let better = match best {
            None => true,
            // waste / (interval * count) < best_waste / (best_interval * count)
            Some((best_waste, best_interval, _)) => less(waste, interval, best_waste, best_interval),
        };
        if better {
            best = Some((waste, interval, u));
        }
        let good = best.is_some_and(|(waste, interval, _)| waste.saturating_mul(1_000_000) <= interval * count);
        if waste == 0 || (u >= USUAL_TICKS_PER_NANO && good) {
            break;
        }
    }
    let (waste, interval, u) = best?;
    let share_is_small = waste.checked_mul(MOST_LOST).is_some_and(|waste| waste <= interval * count);
    let fits = interval.checked_mul(burst).is_some_and(|capacity| capacity < MOST_TICKS);
    (share_is_small && fits).then_some((u64::try_from(interval).ok()?, u32::try_from(u).ok()?))
}

/// a / b < c / d, for a below 2^64 (a waste is below `count`) and b, d below 2^64.
fn less(a: u128, b: u128, c: u128, d: u128) -> bool {
    a * d < c * b
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn error(count: u64, period: Duration, burst: u64) -> String {
        TokenBucket::new(count, period, burst).unwrap_err().to_string()
    }

    #[test]
    fn common_quotas_are_exact() {
        for (count, period, interval, ticks) in [
            (50, SECOND, 20_000_000, 1),
            (1_000, SECOND, 1_000_000, 1),
            (7, SECOND, 1_000_000_000, 7),
            (100, SECOND * 60, 600_000_000, 1),
            (1_500_000, SECOND, 2_000, 3),
            (700_000_000, SECOND, 10, 7),
            (1_000_000_000, SECOND, 1, 1),
        ] {
            let bucket = TokenBucket::new(count, period, 1).unwrap();
            assert_eq!((bucket.interval(), bucket.ticks_per_nano()), (interval, ticks), "{count} per {period:?}");
        }
    }

    #[test]
    fn what_cannot_be_kept_is_refused_by_name() {
        assert_eq!(error(0, SECOND, 1), "count is 0: must be at least 1");
        assert_eq!(error(1, Duration::ZERO, 1), "period is 0ns: must be longer than zero");
        assert_eq!(error(1, SECOND, 0), "burst is 0: must be at least 1");
        let century = LONGEST_REFILL;
        assert!(TokenBucket::new(1, century, 1).is_ok());
        assert!(error(1, century + Duration::from_nanos(1), 1).starts_with("period is "));
        assert!(error(1, Duration::MAX, u64::MAX).starts_with("period is "));
        assert!(error(1, SECOND, u64::MAX).starts_with("burst is 18446744073709551615: "));
        assert!(error(u64::MAX, SECOND, 1).starts_with("count is 18446744073709551615 per 1s: "));
        assert!(error(u64::MAX, Duration::from_nanos(1), u64::MAX).starts_with("count is "));
    }

    #[test]
    fn a_gibibyte_a_second_is_met() {
        let bucket = TokenBucket::new(1 << 30, SECOND, 1 << 30).unwrap();
        let exact = 1e9 / f64::from(1 << 30);
        #[allow(clippy::cast_precision_loss, reason = "small numbers")]
        let ours = bucket.interval() as f64 / f64::from(bucket.ticks_per_nano());
        assert!(ours >= exact && ours <= exact * 1.0001, "{ours} for {exact}");
    }

    #[test]
    fn a_share_never_adds_up_to_more_than_the_whole() {
        let whole = TokenBucket::new(100, SECOND, 10).unwrap();
        let share = whole.share(3).unwrap();
        assert_eq!((share.burst(), share.interval()), (3, whole.interval() * 3));
        assert_eq!(
            whole.share(11).unwrap_err().to_string(),
            "instances is 11: the burst of 10 leaves nothing for each"
        );
        assert_eq!(whole.share(0).unwrap_err().field(), "instances");
    }

    #[test]
    fn an_overdraft_is_divided_like_the_burst() {
        let whole = TokenBucket::new(100, SECOND, 10).unwrap().overdraft(31).unwrap();
        assert_eq!((whole.most_units(), whole.burst()), (41, 10));
        assert_eq!(whole.most_debt(), 41 * whole.interval());
        assert_eq!(whole.tolerance() - second(whole.ticks_per_nano()), 31 * whole.interval());
        assert_eq!(whole.share(3).unwrap().most_units(), 3 + 10);
        assert_eq!(whole.overdraft(u64::MAX).unwrap_err().field(), "overdraft");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Whatever is accepted is met within 0.01 %, and never exceeded.
        #[test]
        fn the_rate_is_never_above_the_quota_and_hardly_below(
            count in prop_oneof![1..1000_u64, 1..5_000_000_000_u64, any::<u64>()],
            nanos in prop_oneof![1..10_000_u64, 1..10_000_000_000_000_u64, any::<u64>()],
            burst in prop_oneof![1..1000_u64, any::<u64>()],
        ) {
            if let Ok(bucket) = TokenBucket::new(count, Duration::from_nanos(nanos), burst) {
                let ours = u128::from(bucket.interval()) * u128::from(count);
                let exact = u128::from(nanos) * u128::from(bucket.ticks_per_nano());
                prop_assert!(ours >= exact);
                prop_assert!((ours - exact) * MOST_LOST <= ours);
                prop_assert!(bucket.burst().checked_mul(bucket.interval()).is_some_and(|all| u128::from(all) < MOST_TICKS));
                prop_assert!(u128::from(bucket.capacity()) + u128::from(bucket.tolerance()) < 1 << 63);
            }
        }

        /// Up to 3.2 million a second no count is refused for its speed.
        #[test]
        fn ordinary_speeds_are_always_accepted(count in 1..=3_200_000_u64, seconds in 1..100_u64) {
            let period = Duration::from_secs(seconds);
            prop_assert!(TokenBucket::new(count, period, count).is_ok());
        }
    }
}

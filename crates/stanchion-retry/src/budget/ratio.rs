//! A share of the calls: Finagle's `RetryBudget`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use stanchion_core::{ConfigError, Moment};

use crate::backoff::{as_float, nanos, whole};

/// Grants a share of the calls of the last while, and a minimum each second:
/// **in any [`ttl`](Self::ttl), at most `percent` of its calls, and
/// `min_per_second · ttl` more** (up to a tenth of `ttl` may count for both of two
/// neighbours).
///
/// After Finagle's `RetryBudget`, with smaller defaults: what one client's minimum
/// is, a fleet multiplies. A client that makes `r` calls a second asks at most
/// `1 + percent / 100 + min_per_second / r` times as often as its calls: by default
/// 1.2 times at 10 calls a second. The share is kept exactly, to a millionth; a budget that
/// was idle for a month costs the same as a busy one.
///
/// As configuration: `{ "ttl": "10s", "percent": 10.0, "min_per_second": 1, "even": true }`,
/// each of which may be left out.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct RatioBudget {
    /// For how long a call counts.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    ttl: Duration,
    percent: f64,
    min_per_second: u32,
    even: bool,
}

impl RatioBudget {
    /// Finagle's defaults: a fifth of the calls, and 10 a second, all of it at once
    /// if need be.
    pub const fn finagle() -> Self {
        Self { ttl: Duration::from_secs(10), percent: 20.0, min_per_second: 10, even: false }
    }

    /// For how long a call, and a grant, counts: 1 s to 60 s. Default: 10 s.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// How many retries for each hundred calls: 0 to 1,000. Default: 10.
    pub const fn percent(mut self, percent: f64) -> Self {
        self.percent = percent;
        self
    }

    /// How many each second whatever the calls, so that a service with few of
    /// them can retry, too. Default: 1.
    pub const fn min_per_second(mut self, retries: u32) -> Self {
        self.min_per_second = retries;
        self
    }

    /// Whether grants are spread: in each tenth of [`ttl`](Self::ttl) at most a
    /// quarter of them, but five in any case, so that a few calls that fail together
    /// can make their retries. Default: yes.
    ///
    /// Otherwise all that was saved up is spent in the first second of an outage, and
    /// comes back in one second of each `ttl`, for a whole fleet in the same one.
    pub const fn even(mut self, even: bool) -> Self {
        self.even = even;
        self
    }
}

impl Default for RatioBudget {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(10), percent: 10.0, min_per_second: 1, even: true }
    }
}

/// Units of one grant: a deposit of `percent` is exact to a millionth.
const GRANT: u64 = 1_000_000;
/// Parts of the time to live. Together they slide.
const SLICES: usize = 10;
/// Even where grants are spread, a slice has so many.
const LEAST_OF_SLICE: u64 = 5;
/// The deposits of a slice are counted in the lower half of a word, its number in the upper.
const COUNT: u64 = (1 << 32) - 1;

/// The state: calls by slice of time, counted without a lock, and grants by
/// slice, under one. Deposits only add, so a grant that is decided on an older
/// sum is never one too many.
#[derive(Debug)]
pub(super) struct Ratio {
    deposits: [AtomicU64; SLICES],
    granted: Mutex<[(u32, u64); SLICES]>,
    slice_nanos: u64,
    /// What a call brings, of [`GRANT`].
    deposit: u64,
    /// What is there whatever the calls.
    reserve: u64,
    even: bool,
}

impl Ratio {
    pub(super) fn new(config: &RatioBudget) -> Result<Self, ConfigError> {
        let (least, most) = (Duration::from_secs(1), Duration::from_secs(60));
        if config.ttl < least || config.ttl > most {
            return Err(ConfigError::new("ttl", format_args!("{:?}", config.ttl), "must be from 1 s to 60 s"));
        }
        if !(0.0..=1_000.0).contains(&config.percent) {
            return Err(ConfigError::new("percent", config.percent, "must be a number from 0 to 1000"));
        }
        let ttl = nanos(config.ttl);
        let reserve = u128::from(config.min_per_second) * u128::from(ttl) * u128::from(GRANT) / 1_000_000_000;
        Ok(Self {
            deposits: [const { AtomicU64::new(0) }; SLICES],
            granted: Mutex::new([(0, 0); SLICES]),
            slice_nanos: ttl / SLICES as u64,
            deposit: whole((config.percent / 100.0 * as_float(GRANT)).round()),
            // 2^32 a second for a minute, in millionths: below 2^58.
            reserve: u64::try_from(reserve).unwrap_or(u64::MAX / 2),
            even: config.even,
        })
    }

    /// The slice of a moment: its number, which starts at 1 and wraps around after
    /// 13 years of the shortest, and its place.
    fn slice(&self, now: Moment) -> (u32, usize) {
        let number = now.as_nanos() / self.slice_nanos + 1;
        #[allow(clippy::cast_possible_truncation, reason = "wraps around, as the text says")]
        (number as u32, (number % SLICES as u64) as usize)
    }

    #[inline]
    pub(super) fn deposit(&self, now: Moment) {
        let (number, place) = self.slice(now);
        let slot = &self.deposits[place];
        // Relaxed throughout: the word guards no other memory.
        let mut seen = slot.load(Ordering::Relaxed);
        loop {
            let counted = match (seen >> 32) == u64::from(number) {
                true if seen & COUNT == COUNT => return,
                // Between the look and the addition the slice may pass to a later time: then this
                // call counts there.
                true => {
                    slot.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                false => u64::from(number) << 32 | 1,
            };
            match slot.compare_exchange_weak(seen, counted, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// Takes one grant, if it is there; says the number of its slice.
    pub(super) fn withdraw(&self, now: Moment) -> Option<u64> {
        let (number, place) = self.slice(now);
        let mut granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        if granted[place].0 != number {
            granted[place] = (number, 0);
        }
        if self.left(&granted, number) < GRANT {
            return None;
        }
        granted[place].1 += 1;
        Some(u64::from(number))
    }

    pub(super) fn give_back(&self, slice: u64) {
        let mut granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = granted.iter_mut().find(|slot| u64::from(slot.0) == slice) {
            slot.1 = slot.1.saturating_sub(1);
        }
    }

    pub(super) fn balance(&self, now: Moment) -> u64 {
        let granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        self.left(&granted, self.slice(now).0) / GRANT
    }

    /// What may still be granted: what the calls of the last slices and the reserve
    /// have brought, less what was granted in them; where that is spread, no more than
    /// is left of this slice's part.
    fn left(&self, granted: &[(u32, u64); SLICES], number: u32) -> u64 {
        let is_live = |slice: u32| usize::try_from(number.wrapping_sub(slice)).is_ok_and(|age| age < SLICES);
        let calls: u64 = self
            .deposits
            .iter()
            .map(|slot| slot.load(Ordering::Relaxed))
            // The upper half, without loss.
            .filter(|word| u32::try_from(word >> 32).is_ok_and(is_live))
            .map(|word| word & COUNT)
            .sum();
        let spent = |grants: u64| grants.saturating_mul(GRANT);
        let all = self.reserve.saturating_add(calls.saturating_mul(self.deposit));
        let left = all.saturating_sub(spent(granted.iter().filter(|slot| is_live(slot.0)).map(|slot| slot.1).sum()));
        if !self.even {
            return left;
        }
        let part = (all / 4).max(spent(LEAST_OF_SLICE));
        let now = granted.iter().find(|slot| slot.0 == number).map_or(0, |slot| slot.1);
        left.min(part.saturating_sub(spent(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(millis * 1_000_000)
    }

    fn ratio(percent: f64, min: u32) -> Ratio {
        Ratio::new(&RatioBudget::finagle().percent(percent).min_per_second(min)).unwrap()
    }

    /// tower's `TpsBudget` grants 100 % at 0.7 and 50 % at 0.4.
    #[test]
    fn for_every_percentage_the_grants_are_exactly_that_share_of_the_calls() {
        for percent in 1..=200_u32 {
            let budget = ratio(f64::from(percent), 0);
            for _ in 0..10_000 {
                budget.deposit(at(5));
            }
            let granted = std::iter::from_fn(|| budget.withdraw(at(5))).count();
            assert_eq!(granted, usize::try_from(percent).unwrap() * 100, "{percent} %");
        }
    }

    #[test]
    fn the_minimum_is_there_without_calls_and_comes_back_after_its_time() {
        let budget = ratio(0.0, 3);
        let granted = |now| std::iter::from_fn(|| budget.withdraw(at(now))).count();
        assert_eq!(granted(0), 30);
        assert_eq!(granted(9_999), 0);
        assert_eq!(granted(10_000), 30);
    }

    #[test]
    fn grants_are_spread_but_five_may_come_at_once() {
        let granted = |budget: &Ratio, now| std::iter::from_fn(|| budget.withdraw(at(now))).count();
        // 10 in 10 s: five at a time, then those that come back.
        let few = Ratio::new(&RatioBudget::default().percent(0.0)).unwrap();
        assert_eq!([0, 1, 2, 3, 4, 9, 10, 11].map(|second| granted(&few, second * 1_000)), [5, 5, 0, 0, 0, 0, 5, 5]);
        // A tenth of 1,000 calls, and 10: a quarter of them a second.
        let many = Ratio::new(&RatioBudget::default()).unwrap();
        (0..1_000).for_each(|_| many.deposit(at(9_000)));
        assert_eq!([9, 10, 11, 12, 13].map(|second| granted(&many, second * 1_000)), [27, 27, 27, 27, 2]);
    }

    #[test]
    fn a_call_counts_for_its_time_to_live_and_no_longer() {
        let budget = ratio(100.0, 0);
        budget.deposit(at(0));
        assert_eq!((budget.balance(at(9_999)), budget.balance(at(10_000))), (1, 0));
    }

    #[test]
    fn what_is_given_back_can_be_had_again_once() {
        let budget = ratio(100.0, 0);
        budget.deposit(at(0));
        let slice = budget.withdraw(at(0)).unwrap();
        assert!(budget.withdraw(at(0)).is_none());
        budget.give_back(slice);
        assert!(budget.withdraw(at(0)).is_some() && budget.withdraw(at(0)).is_none());
        budget.give_back(slice);
        budget.give_back(slice);
        assert_eq!(budget.balance(at(0)), 1);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let field = |config: RatioBudget| Ratio::new(&config).unwrap_err().field().to_owned();
        let default = RatioBudget::default;
        assert_eq!(field(default().ttl(Duration::from_millis(999))), "ttl");
        assert_eq!(field(default().ttl(Duration::MAX)), "ttl");
        for percent in [f64::NAN, f64::INFINITY, -0.1, 1_000.1] {
            assert_eq!(field(default().percent(percent)), "percent");
        }
        assert!(Ratio::new(&default().percent(1_000.0).min_per_second(u32::MAX)).is_ok());
    }

    proptest! {
        /// Beside a list of all calls and grants, over histories of many times the time to live.
        #[test]
        fn it_agrees_with_a_list_of_everything_that_happened(
            percent in 0..300_u32, min in 0..3_u32,
            history in prop::collection::vec((0..4_000_u64, 0..6_u32, 0..6_u32), 1..200),
        ) {
            let budget = ratio(f64::from(percent), min);
            let (mut now, mut calls, mut grants) = (0, Vec::<u64>::new(), Vec::<u64>::new());
            for (pause, deposits, wishes) in history {
                now += pause;
                for _ in 0..deposits {
                    budget.deposit(at(now));
                    calls.push(now / 1_000);
                }
                for _ in 0..wishes {
                    let live = |list: &[u64]| list.iter().filter(|&&slice| slice + 10 > now / 1_000).count() as u64;
                    let left = u64::from(min) * 10 * 100 + live(&calls) * u64::from(percent);
                    let expected = left >= live(&grants) * 100 + 100;
                    prop_assert_eq!(budget.withdraw(at(now)).is_some(), expected);
                    if expected {
                        grants.push(now / 1_000);
                    }
                }
            }
        }
    }

    /// tower's works off each idle second by itself: 400 ms for a month. This would take it half an hour.
    #[test]
    fn the_first_call_after_thirty_idle_days_costs_the_same() {
        let budget = ratio(100.0, 0);
        for month in 1..=5_000 {
            let now = at(month * 30 * 86_400_000);
            budget.deposit(now);
            assert!(budget.withdraw(now).is_some() && budget.withdraw(now).is_none());
        }
    }

    #[test]
    fn two_threads_lose_no_call() {
        let budget = ratio(100.0, 0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..50_000).for_each(|_| budget.deposit(at(1))));
            }
        });
        assert_eq!(budget.balance(at(1)), 100_000);
    }
}

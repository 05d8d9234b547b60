//! The token bucket as the generic cell rate algorithm: one number for state.
//!
//! The state is `tat`, the *theoretical arrival time*: the moment at which the
//! bucket is full again if nobody else asks. The lead of `tat` over `now` is the
//! bucket's debt; each token adds an interval to it, and it may not grow beyond
//! the capacity (ITU-T I.371, with the burst as the limit).
//!
//! Why the bound holds. Let admissions with readings of the clock in `[a, b]`
//! cost `C` ticks in all, and let `f` and `l` be the first and last of them in
//! the order of the state's changes. Each admission sets `tat` to at least its
//! reading plus its cost, and to at least the last `tat` plus its cost; so
//! `a + C <= tat` after `l`. Each leaves `tat <= now + capacity`; so
//! `tat <= b + capacity`. Hence `C <= (b - a) + capacity`, and in tokens:
//! at most `burst + ⌊(b - a) / interval⌋`. The order in which threads read
//! their clocks doesn't matter, and a reading that is old only refuses.
//!
//! The cut is the one step that takes `tat` back. It must not be taken for a
//! reading that is merely old, of a thread that was held up: so an executor in
//! memory reads its clock again before it cuts, after it has loaded the state
//! ([`second_look`]); then only a clock that has stepped back is left to explain it.

use stanchion_core::{Ask, Decision, TokenBucket};

/// What one request does to a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Allowed: `tat` is the new state, which leaves `debt` ticks.
    Take {
        /// The new state.
        tat: u64,
        /// The ticks until the bucket is full.
        debt: u64,
    },
    /// A request of no cost: allowed, and nothing changes.
    Look {
        /// The ticks until the bucket is full.
        debt: u64,
    },
    /// Refused, and nothing changes.
    Refuse {
        /// The ticks until the bucket is full.
        debt: u64,
    },
    /// Refused, and `tat` is the new state: an empty bucket. The debt was more
    /// than the bucket and a second's tolerance can owe, so a clock has stepped
    /// back, or the debt is that of a larger quota.
    Cut {
        /// The new state.
        tat: u64,
    },
}

impl Step {
    /// What is said to the request of `cost` ticks.
    pub const fn decision(&self, bucket: &TokenBucket, cost: u64) -> Decision {
        match *self {
            Self::Take { debt, .. } | Self::Look { debt } => Decision::allowed_by(bucket, debt),
            Self::Refuse { debt } => Decision::refused_by(bucket, debt, cost),
            Self::Cut { .. } => Decision::refused_by(bucket, bucket.capacity(), cost),
        }
    }

    /// The new state, if there is one.
    pub const fn state(&self) -> Option<u64> {
        match *self {
            Self::Take { tat, .. } | Self::Cut { tat } => Some(tat),
            Self::Look { .. } | Self::Refuse { .. } => None,
        }
    }
}

/// What a request for `cost` ticks at `now` does to a bucket in state `tat`.
///
/// `cost` is at most `bucket.capacity()`: [`TokenBucket::cost`] sees to that.
/// `now` and `tat` count [ticks](TokenBucket::ticks_per_nano) and may wrap
/// around; a state that is half the range old or older, years, is an unknown
/// future and gets cut.
///
/// ```
/// use std::time::Duration;
/// use stanchion_limit::{TokenBucket, pure::{Step, step}};
///
/// let bucket = TokenBucket::new(1, Duration::from_nanos(10), 2)?;
/// let one = bucket.interval();
/// assert_eq!(step(&bucket, 100, 100, one), Step::Take { tat: 110, debt: 10 });
/// assert_eq!(step(&bucket, 110, 100, one), Step::Take { tat: 120, debt: 20 });
/// assert_eq!(step(&bucket, 120, 109, one), Step::Refuse { debt: 11 });
/// assert_eq!(step(&bucket, 120, 110, one), Step::Take { tat: 130, debt: 20 });
/// # Ok::<(), stanchion_limit::ConfigError>(())
/// ```
#[inline]
pub const fn step(bucket: &TokenBucket, tat: u64, now: u64, cost: u64) -> Step {
    step_within(bucket, tat, now, cost, bucket.capacity())
}

/// The same, with a debt of up to `most` ticks: the capacity, or with the overdraft.
#[inline]
pub(crate) const fn step_within(bucket: &TokenBucket, tat: u64, now: u64, cost: u64, most: u64) -> Step {
    let debt = debt(tat, now);
    let capacity = bucket.capacity();
    if cost == 0 {
        Step::Look { debt }
    } else if cost <= most && debt <= most - cost {
        Step::Take { tat: now.wrapping_add(debt + cost), debt: debt + cost }
    } else if debt <= capacity + bucket.tolerance() {
        Step::Refuse { debt }
    } else {
        Step::Cut { tat: now.wrapping_add(capacity) }
    }
}

/// What becomes of a state that is to be cut by a `reading` which may be old:
/// `now` is the clock, read once more after `tat` was loaded, or `None` where it
/// can't be, and then nothing is cut.
#[cold]
#[inline(never)]
pub(crate) fn second_look(bucket: &TokenBucket, tat: u64, reading: u64, cost: u64, now: Option<u64>) -> Step {
    match now {
        Some(now) => step(bucket, tat, now, cost),
        None => Step::Refuse { debt: debt(tat, reading) },
    }
}

/// What a request that may ask in any way does to a bucket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) step: Step,
    /// The units that are taken, if it is allowed.
    granted: u64,
    /// The ticks that are asked for, of which a refusal waits.
    cost: u64,
    ask: Ask,
}

/// What a request for `units`, which an empty bucket can give, does to one in state `tat`.
pub(crate) fn plan(bucket: &TokenBucket, ask: Ask, units: u64, tat: u64, now: u64) -> Plan {
    let most = if ask == Ask::Overdraw { bucket.most_debt() } else { bucket.capacity() };
    let granted = match ask {
        Ask::UpTo => units.min(fitting(bucket, debt(tat, now), most)),
        _ => units,
    };
    // One that asks for what is there, where nothing is, waits for one unit.
    let cost = if ask == Ask::UpTo && units > 0 { granted.max(1) } else { granted } * bucket.interval();
    Plan { step: step_within(bucket, tat, now, cost, most), granted, cost, ask }
}

impl Plan {
    /// What is said to it.
    pub(crate) fn decision(&self, bucket: &TokenBucket) -> Decision {
        let debt = match self.step {
            Step::Take { debt, .. } | Step::Look { debt } => {
                return Decision::allowed_by(bucket, debt).granting(self.granted);
            }
            Step::Refuse { debt } => debt,
            Step::Cut { .. } => bucket.capacity(),
        };
        match self.ask {
            Ask::Overdraw => Decision::overdraft_refused_by(bucket, debt, self.cost),
            _ => Decision::refused_by(bucket, debt, self.cost),
        }
    }
}

/// How many whole units fit where the debt is `debt` and may be `most`, in ticks.
#[inline]
pub(crate) const fn fitting(bucket: &TokenBucket, debt: u64, most: u64) -> u64 {
    most.saturating_sub(debt) / bucket.interval()
}

/// How far `tat` is ahead of `now`; zero when it isn't.
#[inline]
pub(crate) const fn debt(tat: u64, now: u64) -> u64 {
    let ahead = tat.wrapping_sub(now);
    // The upper half is the past.
    if ahead >> 63 == 0 { ahead } else { 0 }
}

/// A reading of the clock in the bucket's ticks.
#[inline]
pub(crate) const fn ticks(bucket: &TokenBucket, now: stanchion_core::Moment) -> u64 {
    now.as_nanos().wrapping_mul(bucket.ticks_per_nano() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn bucket(count: u64, nanos: u64, burst: u64) -> TokenBucket {
        TokenBucket::new(count, Duration::from_nanos(nanos), burst).unwrap()
    }

    #[test]
    fn a_token_is_back_exactly_after_its_interval() {
        let bucket = bucket(1, 10, 1);
        assert_eq!(step(&bucket, 110, 109, 10), Step::Refuse { debt: 1 });
        assert_eq!(step(&bucket, 110, 110, 10), Step::Take { tat: 120, debt: 10 });
    }

    #[test]
    fn a_debt_is_cut_only_beyond_the_tolerance() {
        let bucket = bucket(1, 10, 2);
        let most = bucket.capacity() + bucket.tolerance();
        assert_eq!(step(&bucket, most, 0, 10), Step::Refuse { debt: most });
        assert_eq!(step(&bucket, most + 1, 0, 10), Step::Cut { tat: 20 });
    }

    #[test]
    fn time_may_wrap_around() {
        let bucket = bucket(1, 10, 2);
        let late = u64::MAX - 4;
        assert_eq!(step(&bucket, late, late, 10), Step::Take { tat: 5, debt: 10 });
        assert_eq!(step(&bucket, 5, late, 10), Step::Take { tat: 15, debt: 20 });
        assert_eq!(step(&bucket, 15, late, 10), Step::Refuse { debt: 20 });
        assert_eq!(step(&bucket, 15, 5, 10), Step::Take { tat: 25, debt: 20 });
    }

    #[test]
    fn a_state_of_half_the_range_ago_refuses_once_and_is_then_as_good_as_any() {
        let bucket = bucket(1, 10, 2);
        let (years, ten_later) = (1 << 63, (1 << 63) + 10);
        assert_eq!(step(&bucket, 0, years - 1, 10), Step::Take { tat: years + 9, debt: 10 });
        assert_eq!(step(&bucket, 0, years + 1, 10), Step::Cut { tat: years + 21 });
        assert_eq!(step(&bucket, years + 21, ten_later + 1, 10), Step::Take { tat: ten_later + 21, debt: 20 });
    }

    #[test]
    fn to_look_costs_nothing_and_is_never_refused() {
        let bucket = bucket(1, 10, 1);
        assert_eq!(step(&bucket, 110, 100, 0), Step::Look { debt: 10 });
        assert_eq!(step(&bucket, 90, 100, 0), Step::Look { debt: 0 });
    }

    proptest! {
        /// The step against a bucket that is filled token by token, with
        /// fractions of a token in 128-bit numbers.
        #[test]
        fn it_agrees_with_a_bucket_that_is_filled_drop_by_drop(
            count in 1..50_u64, nanos in 1..1_000_u64, burst in 1..20_u64,
            requests in prop::collection::vec((0..200_u64, 0..25_u64), 1..200),
        ) {
            let bucket = bucket(count, nanos, burst);
            let per_nano = u64::from(bucket.ticks_per_nano());
            // The naive bucket holds tokens times the interval; it gains a tick's worth each tick.
            let mut level = u128::from(bucket.capacity());
            let (mut now, mut tat) = (0_u64, 0_u64);
            for (pause, tokens) in requests {
                now += pause * per_nano;
                level = (level + u128::from(pause * per_nano)).min(u128::from(bucket.capacity()));
                let Some(cost) = bucket.cost(tokens) else {
                    prop_assert!(tokens > burst);
                    continue;
                };
                let fits = level >= u128::from(cost);
                match step(&bucket, tat, now, cost) {
                    Step::Take { tat: next, debt } => {
                        prop_assert!(fits && cost > 0);
                        tat = next;
                        level -= u128::from(cost);
                        prop_assert_eq!(u128::from(debt), u128::from(bucket.capacity()) - level);
                    }
                    Step::Look { .. } => prop_assert_eq!(cost, 0),
                    Step::Refuse { .. } => prop_assert!(!fits),
                    Step::Cut { .. } => prop_assert!(false, "time goes forward here"),
                }
            }
        }
    }
}

//! One bucket's state in one atomic number.

use stanchion_core::{Ask, Decision, TokenBucket};

use crate::gcra::{Plan, Step, debt, plan, second_look, step};
use crate::state::returnable;
use crate::sync::{AtomicU64, Ordering};

/// One bucket's state. All of it is in the one number, so that every change is
/// one compare-and-swap, and no ordering is needed but its own.
///
/// It has its cache lines to itself: what stands beside it in a limiter is only
/// read, and shouldn't travel between cores with it.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct TatCell(AtomicU64);

impl TatCell {
    /// A full bucket at `now`.
    pub(crate) fn full(now: u64) -> Self {
        Self(AtomicU64::new(now))
    }

    /// The state, for an executor with conditions of its own.
    pub(crate) fn load(&self) -> u64 {
        // Acquire, as in `swap`.
        self.0.load(Ordering::Acquire)
    }

    /// Replaces the state that was seen, or returns what it is instead.
    pub(crate) fn swap(&self, seen: u64, next: u64) -> Result<(), u64> {
        // AcqRel: whoever sees the change sees what was written before it.
        self.0.compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Acquire).map(drop)
    }

    /// Takes `cost` ticks at a reading of the clock, if they are there; `again`
    /// reads it once more, should the state be impossible.
    // Always: see `Taken`.
    #[inline(always)]
    pub(crate) fn take(&self, bucket: &TokenBucket, reading: u64, cost: u64, again: impl Fn() -> Option<u64>) -> Taken {
        // Relaxed throughout: the number guards no other memory, and a stale
        // one fails the swap.
        let mut tat = self.0.load(Ordering::Relaxed);
        loop {
            let (next, taken) = match step(bucket, tat, reading, cost) {
                Step::Take { tat: next, debt } => (next, Taken::Allowed { debt }),
                Step::Look { debt } => return Taken::Allowed { debt },
                Step::Refuse { debt } => return Taken::Refused { debt },
                Step::Cut { .. } => match second_look(bucket, tat, reading, cost, again()) {
                    Step::Take { tat: next, debt } => (next, Taken::Allowed { debt }),
                    Step::Cut { tat: next } => (next, Taken::Refused { debt: bucket.capacity() }),
                    Step::Look { debt } => return Taken::Allowed { debt },
                    Step::Refuse { debt } => return Taken::Refused { debt },
                },
            };
            match self.0.compare_exchange_weak(tat, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return taken,
                Err(seen) => {
                    // The one who was faster is likely to come again: not in its way.
                    std::hint::spin_loop();
                    tat = seen;
                }
            }
        }
    }

    /// The same for a request that asks in any way; also the state that it leaves, or
    /// finds. `now` reads the clock, after the state, so that no state is impossible.
    pub(crate) fn ask(&self, bucket: &TokenBucket, ask: Ask, units: u64, now: impl Fn() -> u64) -> (Plan, u64) {
        let mut tat = self.0.load(Ordering::Acquire);
        loop {
            let plan = plan(bucket, ask, units, tat, now());
            let Some(next) = plan.step.state() else { return (plan, tat) };
            match self.0.compare_exchange_weak(tat, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return (plan, next),
                Err(seen) => tat = seen,
            }
        }
    }

    /// Gives back up to `units` of what was taken when the state was left as in `mark`, if `returned`
    /// ticks more have been given back since; see `state.rs`. The ticks that are there again; `None` if
    /// all are, since the bucket is full.
    pub(crate) fn give_back(
        &self,
        bucket: &TokenBucket,
        mark: [u64; 2],
        returned: u64,
        units: u64,
        now: impl Fn() -> u64,
    ) -> Option<u64> {
        let mut tat = self.0.load(Ordering::Acquire);
        loop {
            let reading = now();
            let owed = debt(tat, reading);
            if owed == 0 {
                return None;
            }
            let ticks = returnable(bucket, reading, mark, returned, units).min(owed);
            if ticks == 0 {
                return Some(0);
            }
            match self.0.compare_exchange_weak(tat, tat.wrapping_sub(ticks), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(ticks),
                Err(seen) => tat = seen,
            }
        }
    }
}

/// What a check comes to; debts are in ticks.
///
/// Two words, which are handed on in registers. A decision is ten, of which most callers
/// want one: it is made last, where it is inlined into what asks for that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    Allowed { debt: u64 },
    Refused { debt: u64 },
    NeverFits,
}

impl Taken {
    #[cfg(any(test, feature = "tokio"))]
    #[inline(always)]
    pub(crate) const fn allowed(&self) -> bool {
        matches!(self, Self::Allowed { .. })
    }

    /// What is said to the request for `units`.
    #[inline(always)]
    pub(crate) fn decision(self, bucket: &TokenBucket, units: u64) -> Decision {
        match self {
            Self::Allowed { debt } => Decision::allowed_by(bucket, debt).granting(units),
            // No overflow: what never fits has been told apart.
            Self::Refused { debt } => Decision::refused_by(bucket, debt, bucket.interval().wrapping_mul(units)),
            Self::NeverFits => Decision::never_fits(bucket),
        }
    }
}

#[cfg(all(test, not(stanchion_loom)))]
mod tests {
    use super::*;
    use stanchion_core::Verdict;
    use std::time::Duration;

    /// Two tokens, one each second.
    fn bucket() -> TokenBucket {
        TokenBucket::new(1, Duration::from_secs(1), 2).expect("representable")
    }

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_reading_that_is_merely_old_refills_nothing() {
        let cell = TatCell::full(0);
        let take = |reading, now| cell.take(&bucket(), reading, SECOND, || Some(now)).allowed();
        assert!(take(100 * SECOND, 100 * SECOND) && take(100 * SECOND, 100 * SECOND));
        // Read long ago, by a thread that was held up since.
        assert!(!take(50 * SECOND, 100 * SECOND));
        // The same of one that can't read again: nothing is cut, and the wait is that to its reading.
        let refused = cell.take(&bucket(), 50 * SECOND, SECOND, || None);
        assert_eq!(refused, Taken::Refused { debt: 52 * SECOND });
        assert!(!take(100 * SECOND, 100 * SECOND));
        // Held up for less: its second reading shows that a token is there.
        assert!(take(50 * SECOND, 101 * SECOND));
    }

    #[test]
    fn a_clock_that_has_stepped_back_empties_the_bucket_once() {
        let cell = TatCell::full(0);
        let take = |now| cell.take(&bucket(), now, SECOND, || Some(now)).allowed();
        assert!(take(100 * SECOND) && take(100 * SECOND));
        let cut = cell.take(&bucket(), 50 * SECOND, SECOND, || Some(50 * SECOND));
        assert_eq!(cut, Taken::Refused { debt: bucket().capacity() });
        assert!(!take(51 * SECOND - 1));
        assert!(take(51 * SECOND));
    }

    #[test]
    fn what_was_taken_is_said_in_full() {
        let said = |taken: Taken, units| {
            let decision = taken.decision(&bucket(), units);
            (decision.verdict(), decision.granted(), decision.remaining(), decision.retry_after())
        };
        assert_eq!(said(Taken::Allowed { debt: SECOND }, 1), (Verdict::Allowed, 1, 1, None));
        assert_eq!(said(Taken::Allowed { debt: 0 }, 0), (Verdict::Allowed, 0, 2, None));
        let two = Some(Duration::from_secs(2));
        assert_eq!(said(Taken::Refused { debt: 2 * SECOND }, 2), (Verdict::Refused, 0, 0, two));
        assert_eq!(said(Taken::NeverFits, 3), (Verdict::NeverFits, 0, 2, None));
    }
}

//! How much of a limit is in use at one moment, and what is said of that: the part of a
//! decision that is the same for every store.

use super::{Ask, Counted, Decision, RateRule, TokenBucket, Verdict};

/// How much of a limit is in use at one moment, as a store finds it; made by those who
/// write a store, for [`Decision::of_usages`].
///
/// Units are the request's, times are in nanoseconds from that moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "one for each rule; made by those who write a store")]
pub enum Usage {
    /// Of a token bucket.
    Bucket {
        /// The ticks until it is full.
        debt: u64,
    },
    /// Of a fixed window.
    Fixed {
        /// The units used in it.
        used: u64,
        /// Until it is over.
        left: u64,
    },
    /// Of a sliding counter.
    Counter {
        /// The units of the window before.
        previous: u64,
        /// The units of this one.
        current: u64,
        /// How much of it is over.
        elapsed: u64,
        /// Until it begins, where a clock is a little behind; else 0.
        ahead: u64,
    },
    /// Of a sliding log.
    Log {
        /// The units that count.
        used: u64,
        /// Until the request fits, if it was refused.
        wait: u64,
        /// Until there is room for one unit more; 0 where all are there.
        next: u64,
        /// Until all units are there.
        reset: u64,
    },
}

impl Usage {
    /// How many more units fit: within the limit, or for [`Ask::Overdraw`] with the overdraft.
    pub fn room(&self, rule: &RateRule, ask: Ask) -> u64 {
        if let (Self::Bucket { debt }, RateRule::TokenBucket(bucket)) = (self, rule) {
            let most = if ask == Ask::Overdraw { bucket.most_debt() } else { bucket.capacity() };
            return most.saturating_sub(*debt) / bucket.interval();
        }
        most_units(rule, ask).saturating_sub(self.used(rule))
    }

    /// The units that count, in a rule that counts in windows.
    pub fn used(&self, rule: &RateRule) -> u64 {
        match (self, rule) {
            (Self::Fixed { used, .. } | Self::Log { used, .. }, _) => *used,
            (Self::Counter { previous, current, elapsed, .. }, RateRule::SlidingCounter(counter)) => {
                counter.estimate(*previous, *current, *elapsed)
            }
            _ => 0,
        }
    }

    /// What the limit says, by itself, to a request for `units` which it allows or refuses.
    fn decision(&self, rule: &RateRule, ask: Ask, units: u64, allowed: bool) -> Decision {
        if let (Self::Bucket { debt }, RateRule::TokenBucket(bucket)) = (self, rule) {
            return of_bucket(bucket, ask, *debt, units, allowed);
        }
        let (limit, used) = (rule.limit(), self.used(rule));
        let remaining = limit.saturating_sub(used);
        let [wait, next, reset] = match self {
            Self::Log { wait, next, reset, .. } => [*wait, *next, *reset],
            _ if used == 0 => [self.wait(rule, units, most_units(rule, ask)), 0, 0],
            _ => [
                self.wait(rule, units, most_units(rule, ask)),
                self.wait(rule, remaining + 1, limit),
                self.wait(rule, limit, limit),
            ],
        };
        let wait = if allowed { 0 } else { wait };
        let verdict = if allowed { Verdict::Allowed } else { Verdict::Refused };
        let window = u64::try_from(rule.window().as_nanos()).unwrap_or(u64::MAX);
        Decision::counted(verdict, Counted { limit, remaining, wait, next, reset, window })
    }

    /// How long until `units` fit below `most`, in a rule of which these numbers tell.
    fn wait(&self, rule: &RateRule, units: u64, most: u64) -> u64 {
        match (self, rule) {
            (Self::Fixed { used, left }, _) if used.saturating_add(units) > most => *left,
            (Self::Counter { previous, current, elapsed, ahead }, RateRule::SlidingCounter(counter)) => {
                let wait = counter.wait(*previous, *current, *elapsed, units, most);
                if wait == Some(0) { 0 } else { ahead.saturating_add(wait.unwrap_or(u64::MAX)) }
            }
            _ => 0,
        }
    }
}

impl Decision {
    /// What is said to a request for `cost` of which `granted` were taken: by the strictest
    /// of the limits, each with how it stands after that, and whether it was cut (law 6 of a
    /// [`RateStore`](crate::RateStore)) and so refused. `None` of no limits.
    pub fn of_usages<'a>(
        ask: Ask,
        cost: u64,
        granted: u64,
        limits: impl IntoIterator<Item = (&'a RateRule, Usage, bool)>,
    ) -> Option<Self> {
        let allowed = granted > 0 || cost == 0;
        // One that asks for what is there, where nothing is, waits for one unit.
        let units = if ask == Ask::UpTo { cost.min(1) } else { cost };
        let decisions = limits.into_iter().map(|(rule, usage, cut)| {
            // Beside one that refuses may stand one that would have allowed it.
            let own = allowed || (!cut && usage.room(rule, ask) >= units);
            usage.decision(rule, ask, units, own)
        });
        Some(Self::strictest(decisions)?.granting(granted))
    }
}

const fn most_units(rule: &RateRule, ask: Ask) -> u64 {
    match ask {
        Ask::Overdraw => rule.most_units(),
        _ => rule.limit(),
    }
}

fn of_bucket(bucket: &TokenBucket, ask: Ask, debt: u64, units: u64, allowed: bool) -> Decision {
    let cost = units.saturating_mul(bucket.interval());
    match ask {
        _ if allowed => Decision::allowed_by(bucket, debt),
        Ask::Overdraw => Decision::overdraft_refused_by(bucket, debt, cost),
        _ => Decision::refused_by(bucket, debt, cost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FixedWindow, SlidingLog};
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_limit_that_refuses_speaks_and_not_the_one_that_would_have_allowed_it() {
        let fixed: RateRule = FixedWindow::new(10, SECOND).unwrap().into();
        let log: RateRule = SlidingLog::new(5, SECOND).unwrap().into();
        let full = Usage::Fixed { used: 10, left: 7 };
        let free = Usage::Log { used: 4, wait: 0, next: 3, reset: 3 };
        let refused = Decision::of_usages(Ask::Exactly, 1, 0, [(&log, free, false), (&fixed, full, false)]).unwrap();
        assert_eq!((refused.verdict(), refused.limit_index()), (Verdict::Refused, 1));
        assert_eq!(refused.retry_after(), Some(Duration::from_nanos(7)));
    }

    #[test]
    fn what_was_cut_refuses_even_where_the_overdraft_has_room() {
        let fixed: RateRule = FixedWindow::new(10, SECOND).unwrap().overdraft(5).unwrap().into();
        let cut = Usage::Fixed { used: 10, left: 7 };
        assert_eq!(cut.room(&fixed, Ask::Overdraw), 5);
        let refused = Decision::of_usages(Ask::Overdraw, 1, 0, [(&fixed, cut, true)]).unwrap();
        assert_eq!(refused.verdict(), Verdict::Refused);
    }

    #[test]
    fn of_no_limits_nothing_is_said() {
        assert!(Decision::of_usages(Ask::Exactly, 1, 1, []).is_none());
    }
}

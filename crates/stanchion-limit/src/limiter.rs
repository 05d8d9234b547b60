//! One limit for everything.

mod builder;
mod gate;
#[cfg(feature = "tokio")]
mod wait;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stanchion_core::{
    Ask, Clock, ConfigError, Decision, Moment, Name, RateLimit, RateRequest, RateRule, Receipt, TokenBucket,
};

pub use builder::LimiterBuilder;
#[cfg(feature = "tokio")]
pub(crate) use gate::longest;
pub(crate) use gate::{admission, admitted};
#[cfg(feature = "tokio")]
pub use wait::Acquire;

#[cfg(feature = "tokio")]
use crate::cell::Taken;
use crate::gcra;
use crate::ledger::{Asked, Ledger};
#[cfg(feature = "tokio")]
use crate::line::Line;
use crate::quota::Quotas;
use crate::reservation::{Reservation, TakesBack};
use crate::reservoir::Reservoirs;
use crate::returns::Returns;
use crate::state::Now;
use crate::trace::Reporter;

/// One limit for everything in this process. By default it is a token bucket, which admits at
/// most `burst + ⌊W · count / period⌋` units in any window of length `W`; a [`Quota`](crate::Quota) says
/// what else it can be, and what it promises then. Several quotas hold all at once.
///
/// Share it by reference or in an [`Arc`](std::sync::Arc). A check of a token bucket reads the
/// clock once and swaps one number; it never waits and never allocates. Other limits are
/// behind a short lock.
///
/// # A generous burst
/// From a burst of 4,096 on, and of 1,024 for each core, most checks do neither if the
/// rate is at least 1,600 a second for each core. (Cores count in powers of two, and up to 64.)
/// A little of the burst then lies in *reservoirs*, one for each thread: 16
/// to 32 units each, all together at most 1/64 of the burst and what comes back in 10 ms. The
/// bound stays as it is, and before anything is refused the reservoirs are
/// emptied into the bucket again. What it costs:
/// - What other threads' reservoirs hold can't be got back for certain, and counts as
///   used; what a thread has used of its own is dated when the reservoir is used up, or
///   emptied. So a burst may be refused early: after a pause, by what
///   reservoirs hold; and in any case nothing is refused that a limiter
///   would allow whose burst is less by 1/16, or by what comes back in 40 ms, whichever is
///   less. Refused once, it is exact until the bucket is nearly full again.
/// - [`remaining`](Decision::remaining) and [`reset_after`](Decision::reset_after) of a
///   check that was answered from a reservoir go by what was known when it was last filled:
///   its own units are counted since, other threads' and the passing of time are
///   not. A refusal's numbers are exact.
/// - It takes 128 bytes for each core. A thread's first check gives the thread a number,
///   which takes a lock and may allocate.
///
/// ```
/// use stanchion_limit::{Limiter, Quota, Verdict};
///
/// let limiter = Limiter::per_second(50).burst(10).name("search").build()?;
/// assert!(limiter.check_n(10).allowed());
///
/// let refused = limiter.check();
/// assert_eq!(refused.verdict(), Verdict::Refused);
/// assert!(refused.retry_after().unwrap() <= std::time::Duration::from_millis(20));
///
/// // More than ever fits at once is told apart from "not yet".
/// assert_eq!(limiter.check_n(11).verdict(), Verdict::NeverFits);
///
/// // As many of eight as are there.
/// let both = Limiter::new([("second", Quota::per_second(10)), ("hour", Quota::per_hour(5))])?;
/// let some = both.take_up_to(8);
/// assert_eq!((some.granted(), both.limit_name(&some)), (5, Some("hour".into())));
/// # Ok::<(), stanchion_limit::ConfigError>(())
/// ```
///
/// # Ways of asking
/// | call | takes |
/// |---|---|
/// | [`check`](Self::check), [`check_n`](Self::check_n) | all, or nothing |
/// | [`take_up_to`](Self::take_up_to) | as many as are there |
/// | [`charge`](Self::charge) | all, into debt if need be, as far as the [overdraft](crate::Quota::overdraft) goes |
/// | [`reserve`](Self::reserve) | all, or nothing; what is not used goes back |
/// | `acquire`, `acquire_n` (feature `tokio`) | all, waiting for them in line |
/// | [`peek`](Self::peek) | nothing |
#[derive(Debug)]
pub struct Limiter {
    states: States,
    limits: Arc<[RateLimit]>,
    names: Box<[Option<Name>]>,
    clock: Clock,
    reporter: Reporter,
    #[cfg(feature = "tokio")]
    line: Line,
    /// How long a gate waits, and how many may.
    #[cfg(feature = "tokio")]
    waiting: (Duration, usize),
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "the large one is the one that is not to be looked for elsewhere")]
enum States {
    /// One token bucket, without a lock; and what was given back of late.
    Bucket { cell: Reservoirs, bucket: TokenBucket, returns: Mutex<Returns> },
    /// Anything else.
    Ledger(Mutex<Ledger>),
}

impl Limiter {
    /// A limiter of this quota, or of several, of which nothing has been taken.
    ///
    /// # Errors
    /// Names the field of the quota that can't be honoured.
    pub fn new(quotas: impl Into<Quotas>) -> Result<Self, ConfigError> {
        Self::builder(quotas).build()
    }

    /// Takes one unit, if it is there.
    // Always, and below: a decision is ten words, of which most callers want one.
    #[inline(always)]
    pub fn check(&self) -> Decision {
        self.check_n(1)
    }

    /// Takes `cost` units, or none. A cost of 0 only looks.
    #[inline(always)]
    pub fn check_n(&self, cost: u64) -> Decision {
        let decision = match &self.states {
            States::Bucket { cell, bucket, .. } if self.nobody_waits() => {
                cell.take(bucket, cost, || self.ticks(bucket)).decision(bucket, cost)
            }
            _ => self.take_behind(None, cost),
        };
        self.reporter.decided(&decision);
        decision
    }

    /// The same in two words, of a bucket before which nobody waits.
    #[cfg(feature = "tokio")]
    #[inline(always)]
    fn take_at_once(&self, cost: u64) -> Option<Taken> {
        let States::Bucket { cell, bucket, .. } = &self.states else { return None };
        if !self.nobody_waits() {
            return None;
        }
        let taken = cell.take(bucket, cost, || self.ticks(bucket));
        self.reporter.decided(&taken.decision(bucket, cost));
        Some(taken)
    }

    /// The same at a time that the caller has read already, from the clock of
    /// this limiter. A time before that of an earlier check may be refused, and
    /// never admits more. It takes from no reservoir, so that what it
    /// admits is dated as told; what lies in reservoirs counts as used.
    #[inline]
    pub fn check_at(&self, now: Moment, cost: u64) -> Decision {
        let decision = match &self.states {
            States::Bucket { cell, bucket, .. } if self.nobody_waits() => {
                let at = gcra::ticks(bucket, now);
                cell.take_at(bucket, cost, at, || self.ticks(bucket)).decision(bucket, cost)
            }
            _ => self.take_behind(Some(now), cost),
        };
        self.reporter.decided(&decision);
        decision
    }

    /// Takes units of anything but a bucket before which nobody waits.
    #[inline(never)]
    fn take_behind(&self, at: Option<Moment>, cost: u64) -> Decision {
        if self.nobody_waits() || cost == 0 {
            return self.ask_at(Ask::Exactly, cost, at);
        }
        self.behind_the_line(cost)
    }

    #[inline]
    fn nobody_waits(&self) -> bool {
        #[cfg(feature = "tokio")]
        return self.line.is_empty();
        #[cfg(not(feature = "tokio"))]
        true
    }

    /// The refusal of those who come while others wait: a unit is theirs when those have theirs.
    fn behind_the_line(&self, cost: u64) -> Decision {
        if let Some(never) = RateRequest::of(b"", cost, &self.limits).never_fits() {
            return never;
        }
        #[cfg(feature = "tokio")]
        {
            let wait = crate::line::least_wait(&self.looks(), self.line.length().1, cost);
            self.look().refused_for(wait.max(Duration::from_nanos(1)))
        }
        #[cfg(not(feature = "tokio"))]
        self.ask(Ask::Exactly, cost)
    }

    /// Takes as many of `units` as are there: [`Decision::granted`] says how many. Refused only
    /// if there are none.
    pub fn take_up_to(&self, units: u64) -> Decision {
        self.asked(Ask::UpTo, units)
    }

    /// Takes `units` that have been used already, into debt if need be; refused only where that
    /// would go beyond the quota's [overdraft](crate::Quota::overdraft), and then nothing is taken. Nobody waits for
    /// those who are in line: what is used is used.
    ///
    /// While there is a debt everybody else is refused; see there for how long that is.
    pub fn charge(&self, units: u64) -> Decision {
        let decision = self.ask(Ask::Overdraw, units);
        self.reporter.decided(&decision);
        decision
    }

    /// Takes `units`, or none, for a cost that is known only afterwards: what was not used goes back.
    ///
    /// # Errors
    /// The refusal, as a decision.
    pub fn reserve(&self, units: u64) -> Result<Reservation<'_>, Decision> {
        if !self.nobody_waits() && units > 0 {
            let refused = self.behind_the_line(units);
            self.reporter.decided(&refused);
            return Err(refused);
        }
        let (decision, receipt) = self.ask_for_receipt(units);
        self.reporter.decided(&decision);
        if decision.allowed() {
            Ok(Reservation::new(self, 0, self.limits.clone(), receipt, decision))
        } else {
            Err(decision)
        }
    }

    /// How the limit stands. Takes nothing, and is counted nowhere.
    pub fn peek(&self) -> Decision {
        self.look()
    }

    /// The name of the quota that decided, where there are several.
    pub fn limit_name(&self, decision: &Decision) -> Option<Name> {
        self.names.get(decision.limit_index())?.clone()
    }

    fn asked(&self, ask: Ask, units: u64) -> Decision {
        let decision = if self.nobody_waits() || units == 0 { self.ask(ask, units) } else { self.behind_the_line(1) };
        self.reporter.decided(&decision);
        decision
    }

    fn look(&self) -> Decision {
        self.ask(Ask::Exactly, 0)
    }

    fn ask(&self, ask: Ask, units: u64) -> Decision {
        self.ask_at(ask, units, None)
    }

    /// Asks in any way. The clock is read after the state, unless it has been.
    fn ask_at(&self, ask: Ask, units: u64, at: Option<Moment>) -> Decision {
        if let Some(never) = RateRequest::of(b"", units, &self.limits).ask(ask).never_fits() {
            return never;
        }
        match &self.states {
            States::Bucket { cell, bucket, .. } => cell.ask(bucket, ask, units, || self.ticks(bucket)).0,
            States::Ledger(ledger) => {
                let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
                // Read inside: a state is not judged by a reading that is older.
                let now = Now::read(&self.clock, self.rules());
                ledger.decide(self.ids(), at.map_or(now, |moment| now.given(moment)), units, ask)
            }
        }
    }

    /// Takes all or nothing, with a receipt.
    fn ask_for_receipt(&self, units: u64) -> (Decision, Receipt) {
        let nothing = || Receipt::new(0, Vec::new());
        if let Some(never) = RateRequest::of(b"", units, &self.limits).never_fits() {
            return (never, nothing());
        }
        match &self.states {
            States::Bucket { cell, bucket, returns } => {
                // Held while they are taken, so that the numbers are in the order of the takes.
                let mut returns = returns.lock().unwrap_or_else(PoisonError::into_inner);
                let number = returns.mark();
                let (decision, tat) = cell.ask(bucket, Ask::Exactly, units, || self.ticks(bucket));
                (decision, Receipt::new(decision.granted(), vec![[tat, 0], number]))
            }
            States::Ledger(ledger) => {
                let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
                let decision = ledger.decide(self.ids(), Now::read(&self.clock, self.rules()), units, Ask::Exactly);
                let granted = decision.granted();
                (decision, if granted > 0 { ledger.receipt(self.ids(), granted) } else { nothing() })
            }
        }
    }

    /// How each of the limits stands.
    #[cfg(feature = "tokio")]
    fn looks(&self) -> Vec<(RateRule, Decision)> {
        match &self.states {
            States::Bucket { bucket, .. } => vec![(bucket.into(), self.look())],
            States::Ledger(ledger) => {
                let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
                let now = Now::read(&self.clock, self.rules());
                let mut look =
                    |limit: Asked<'_>| (*limit.rule, ledger.decide(std::iter::once(limit), now, 0, Ask::Exactly));
                self.ids().map(&mut look).collect()
            }
        }
    }

    fn ids(&self) -> impl Iterator<Item = Asked<'_>> + Clone {
        (0..).zip(self.rules()).map(|(id, rule)| Asked { id, rule })
    }

    fn rules(&self) -> impl Iterator<Item = &RateRule> + Clone {
        self.limits.iter().map(RateLimit::rule)
    }

    /// The time in a bucket's ticks.
    #[inline]
    fn ticks(&self, bucket: &TokenBucket) -> u64 {
        gcra::ticks(bucket, self.clock.now())
    }

    /// What it is called in rejections and telemetry.
    pub fn name(&self) -> &str {
        self.reporter.name().as_str()
    }

    /// How it stands now, for this thread: what it could take at once. Takes
    /// nothing. What lies in other threads' reservoirs counts as used.
    pub fn snapshot(&self) -> LimiterSnapshot {
        let decision = self.look();
        LimiterSnapshot {
            name: self.name().to_owned(),
            limit: decision.limit(),
            remaining: decision.remaining(),
            reset_after: decision.reset_after(),
            waiting: self.waiting(),
        }
    }

    fn waiting(&self) -> usize {
        #[cfg(feature = "tokio")]
        return self.line.length().0;
        #[cfg(not(feature = "tokio"))]
        0
    }
}

impl TakesBack for Limiter {
    fn take_back(&self, _hash: u64, _limits: &[RateLimit], receipt: &Receipt, units: u64) -> u64 {
        let back = match &self.states {
            States::Bucket { cell, bucket, returns } => {
                let [taken, number] = receipt.marks() else { return 0 };
                let mut returns = returns.lock().unwrap_or_else(PoisonError::into_inner);
                let against = returns.against(0, *number);
                match cell.give_back(bucket, *taken, against, units, || self.ticks(bucket)) {
                    Some(ticks) => {
                        returns.note(0, *number, ticks);
                        ticks / bucket.interval()
                    }
                    None => units,
                }
            }
            States::Ledger(ledger) => {
                let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
                let now = Now::read(&self.clock, self.rules());
                ledger.give_back(self.ids(), now, receipt, units)
            }
        };
        #[cfg(feature = "tokio")]
        self.line.changed();
        back
    }
}

/// How a [`Limiter`] stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LimiterSnapshot {
    /// The limiter's name.
    pub name: String,
    /// The most units at once.
    pub limit: u64,
    /// The units that are there now.
    pub remaining: u64,
    /// The time until all units are there, if nobody asks.
    pub reset_after: Duration,
    /// How many wait in line.
    pub waiting: usize,
}

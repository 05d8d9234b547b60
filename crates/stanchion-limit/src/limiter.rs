//! One limit for everything.

use std::time::Duration;

use stanchion_core::{
    Admission, BoxFuture, Call, Clock, ConfigError, Decision, Gate, IntoGate, Moment, Name, Outcome, Rejection, Ticket,
    TokenBucket,
};

use crate::limit::Limit;
use crate::reservoir::Reservoirs;
use crate::trace::Reporter;
use crate::{Quota, gcra};

/// One rate limit, in this process: a token bucket that admits at most
/// `burst + ⌊W · count / period⌋` units in any window of length `W`.
///
/// Share it by reference or in an [`Arc`](std::sync::Arc). A check reads the
/// clock once and swaps one number; it never waits and never allocates.
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
/// use stanchion_limit::{Limiter, Verdict};
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
/// # Ok::<(), stanchion_limit::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct Limiter {
    cell: Reservoirs,
    bucket: TokenBucket,
    clock: Clock,
    reporter: Reporter,
}

impl Limiter {
    /// A limiter of this quota, with a full bucket.
    ///
    /// # Errors
    /// Names the field of the quota that can't be honoured.
    pub fn new(quota: Quota) -> Result<Self, ConfigError> {
        Self::builder(quota).build()
    }

    /// Settings beyond the quota.
    pub fn builder(quota: Quota) -> LimiterBuilder {
        LimiterBuilder { quota, name: "limiter".into(), clock: None }
    }

    /// Settings for `count` units a second.
    pub fn per_second(count: u64) -> LimiterBuilder {
        Self::builder(Quota::per_second(count))
    }

    /// Settings for `count` units a minute.
    pub fn per_minute(count: u64) -> LimiterBuilder {
        Self::builder(Quota::per_minute(count))
    }

    /// Takes one unit, if it is there.
    #[inline]
    pub fn check(&self) -> Decision {
        self.check_n(1)
    }

    /// Takes `cost` units, or none. A cost of 0 only looks.
    #[inline]
    pub fn check_n(&self, cost: u64) -> Decision {
        let decision = self.cell.take(&self.bucket, cost, || self.now());
        self.reporter.decided(&decision);
        decision
    }

    /// The same at a time that the caller has read already, from the clock of
    /// this limiter. A time before that of an earlier check may be refused, and
    /// never admits more. It takes from no reservoir, so that what it
    /// admits is dated as told; what lies in reservoirs counts as used.
    #[inline]
    pub fn check_at(&self, now: Moment, cost: u64) -> Decision {
        let decision = self.cell.take_at(&self.bucket, cost, gcra::ticks(&self.bucket, now), || self.now());
        self.reporter.decided(&decision);
        decision
    }

    /// The time in ticks.
    #[inline]
    fn now(&self) -> u64 {
        gcra::ticks(&self.bucket, self.clock.now())
    }

    /// What it is called in rejections and telemetry.
    pub fn name(&self) -> &str {
        self.reporter.name().as_str()
    }

    /// How it stands now, for this thread: what it could take at once. Takes
    /// nothing. What lies in other threads' reservoirs counts as used.
    pub fn snapshot(&self) -> LimiterSnapshot {
        let decision = self.cell.take(&self.bucket, 0, || self.now());
        LimiterSnapshot {
            name: self.name().to_owned(),
            limit: decision.limit(),
            remaining: decision.remaining(),
            reset_after: decision.reset_after(),
        }
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
    /// The time until the bucket is full, if nobody asks.
    pub reset_after: Duration,
}

/// Settings of a [`Limiter`]. It is a gate in the making, too: a pipeline takes
/// it as it is.
#[derive(Debug, Clone)]
#[must_use = "a builder builds nothing until it is told to"]
pub struct LimiterBuilder {
    quota: Quota,
    name: Name,
    clock: Option<Clock>,
}

impl LimiterBuilder {
    /// At most `units` at once, whatever the quota says. Default: the quota's burst.
    pub fn burst(mut self, units: u64) -> Self {
        self.quota = self.quota.burst(units);
        self
    }

    /// What it is called in rejections and telemetry. Default: `limiter`.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = name.into();
        self
    }

    /// Where it reads time. Default: [`Clock::system`].
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = Some(clock.into());
        self
    }

    /// The limiter, with a full bucket.
    ///
    /// # Errors
    /// Names the field of the quota that can't be honoured.
    pub fn build(self) -> Result<Limiter, ConfigError> {
        let bucket = self.quota.bucket()?;
        let clock = self.clock.unwrap_or_default();
        let cell = Reservoirs::full(&bucket, gcra::ticks(&bucket, clock.now()));
        Ok(Limiter { cell, bucket, clock, reporter: Reporter::new(self.name) })
    }
}

/// Takes the call's cost; the key is not looked at. How the call ends changes nothing.
impl Gate for Limiter {
    fn try_admit(&self, call: &Call<'_>) -> Admission {
        admission(self.reporter.name(), &self.check_n(call.units()))
    }

    fn settle(&self, _ticket: Ticket, _outcome: Outcome, _elapsed: Duration) {}
}

impl IntoGate for LimiterBuilder {
    fn into_gate(self) -> Result<std::sync::Arc<dyn Gate>, ConfigError> {
        self.build()?.into_gate()
    }
}

/// The key is not looked at.
impl Limit for Limiter {
    fn try_decide(&self, _key: &[u8], cost: u64) -> Option<Decision> {
        Some(self.check_n(cost))
    }

    fn decide<'a>(&'a self, _key: &'a [u8], cost: u64) -> BoxFuture<'a, Decision> {
        Box::pin(async move { self.check_n(cost) })
    }

    fn name(&self) -> &str {
        self.name()
    }
}

/// A decision in a gate's words.
pub(crate) fn admission(name: &Name, decision: &Decision) -> Admission {
    match admitted(name, decision) {
        Ok(ticket) => Admission::Admitted(ticket),
        Err(rejection) => Admission::Rejected(rejection),
    }
}

/// The same, as a result.
pub(crate) fn admitted(name: &Name, decision: &Decision) -> Result<Ticket, Rejection> {
    let Some(kind) = decision.rejection_kind() else {
        return Ok(Ticket::new(0));
    };
    let rejection = Rejection::new(name, kind);
    Err(match decision.retry_after() {
        Some(wait) => rejection.retry_after(wait),
        None => rejection,
    })
}

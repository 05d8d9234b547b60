//! As many calls at a time as the other side can bear.

mod aimd;
mod algorithm;
mod builder;
mod estimate;
mod gradient2;
mod vegas;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use stanchion_core::{Admission, Call, ConfigError, Gate, Outcome, Permit, Rejection, RejectionKind, Ticket};

pub use aimd::Aimd;
pub use algorithm::Algorithm;
pub use builder::{AdaptiveConfig, AdaptiveLimiterBuilder};
pub use gradient2::Gradient2;
pub use vegas::Vegas;

use algorithm::Ending;
use estimate::Estimate;

use crate::trace::GateReporter;

/// At most `limit` units under way at any moment, where `limit` follows what the
/// other side can bear, within `min` and `max` of its [`Algorithm`].
///
/// ```text
/// 106 ┤     ╭───────╮                 ╭──────  the limit
/// 100 ┤━━━━╱━━━━━━━┓│               ┏╱━━━━━━━  what the other side can bear
///     │   ╱        ┃│               ┃
///  53 ┤  ╱         ┃╰───────────────┃
///  50 ┤ ╱          ┗━━━━━━━━━━━━━━━━┛
///  20 ┤╱
///     └────────────┬────────────────┬───────▶ time
/// ```
///
/// What finds no room is refused at once, as [`Saturated`](RejectionKind::Saturated):
/// nobody waits here, the queue is at the other side already. When the limit
/// shrinks, nothing that is under way is cut off.
///
/// # Which algorithm
/// [`Vegas`] when in doubt; [`Aimd`] where you know the latency that you want, or
/// where the other side says when it has enough; [`Gradient2`] where latencies
/// vary widely by themselves. A simulated server whose capacity halves and
/// recovers, and what each makes of it: `docs/performance/adaptive.md`.
///
/// # Once per round trip
/// A step is made of [`samples`](AdaptiveLimiterBuilder::samples) calls that were
/// admitted under the limit that it changes; results of calls of before change
/// nothing, however many come in. So each step sees what the last one did, and a
/// hundred timeouts of one congestion are one drop. A drop makes a step at once.
///
/// # How calls end
/// | outcome | what it is to the limit |
/// |---|---|
/// | `Success` | its latency |
/// | `Throttled`, `TimedOut` | a drop |
/// | `Abandoned` | a drop, if it had taken unusually long; else nothing. Each algorithm says how long |
/// | all others | nothing: failures are quick or slow for reasons of their own |
///
/// # Weights
/// A call takes [`Call::units`] of the limit, and is refused while the limit is
/// less than that: choose a `min` that lets the heaviest call pass. One that costs
/// more than `max` is refused as [`NeverFits`](RejectionKind::NeverFits).
///
/// # What it costs
/// One swap of a number to let a call in, without a lock. When it ends, another,
/// and, for the few calls that a step is made of, a short lock. Nothing is
/// allocated. A gate that learns needs two readings of the clock, which whoever
/// drives the call makes.
///
/// ```
/// use std::time::Duration;
/// use stanchion_limit::{AdaptiveLimiter, Aimd, Call, Gate, Permit};
/// use stanchion_core::Outcome;
///
/// let limiter = AdaptiveLimiter::new(Aimd::default().initial(50).timeout(Duration::from_millis(200)))
///     .name("orders")
///     .build()?;
/// assert_eq!(limiter.limit(), 50);
///
/// let permit = Permit::try_new(&limiter, &Call::new())?;
/// permit.settle(Outcome::Throttled { retry_after: None });
/// assert_eq!(limiter.limit(), 45);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct AdaptiveLimiter {
    in_flight: AtomicU32,
    limit: AtomicU32,
    /// Counts the steps. A ticket says during which its call was admitted.
    generation: AtomicU64,
    refused: AtomicU64,
    estimate: Mutex<Estimate>,
    /// The most that the limit can become.
    most: AtomicU32,
    learns: AtomicBool,
    reporter: GateReporter,
}

impl AdaptiveLimiter {
    /// Settings for a limit by this algorithm. It returns a builder for the same
    /// reason as `Bulkhead::new`: settings that can't be honoured are an
    /// error of its `build`, or of the pipeline that takes it as it is.
    #[allow(clippy::new_ret_no_self, reason = "a pipeline takes `AdaptiveLimiter::new(…)` as it is")]
    pub fn new(algorithm: impl Into<Algorithm>) -> AdaptiveLimiterBuilder {
        AdaptiveConfig::new(algorithm).into()
    }

    /// Takes one unit, if it is there.
    ///
    /// # Errors
    /// [`Saturated`](RejectionKind::Saturated).
    pub fn try_acquire(&self) -> Result<Permit<'_>, Rejection> {
        Permit::try_new(self, &Call::new())
    }

    /// The limit now.
    pub fn limit(&self) -> u32 {
        // Relaxed here and throughout: the numbers guard no other memory. A limit
        // that has just changed is told to a call or not; both are a limit that was.
        self.limit.load(Ordering::Relaxed)
    }

    /// What it is called in rejections and telemetry.
    pub fn name(&self) -> &str {
        self.reporter.name().as_str()
    }

    /// How it stands now.
    pub fn snapshot(&self) -> AdaptiveSnapshot {
        let baseline = lock(&self.estimate).baseline();
        AdaptiveSnapshot {
            name: self.name().to_owned(),
            limit: self.limit(),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            steps: self.generation.load(Ordering::Relaxed),
            baseline,
        }
    }

    /// Does as `config` says from now on: the limit goes on from where it is, within
    /// the new bounds, and what was learnt of latencies is learnt afresh. Results of
    /// calls that are under way give back their units and change nothing else.
    ///
    /// # Errors
    /// As for [`build`](AdaptiveLimiterBuilder::build); nothing is changed then.
    pub fn reconfigure(&self, config: AdaptiveConfig) -> Result<(), ConfigError> {
        config.check()?;
        let limit = {
            let mut estimate = lock(&self.estimate);
            estimate.begin_again(config.algorithm, config.samples);
            self.most.store(config.algorithm.most(), Ordering::Relaxed);
            self.learns.store(config.algorithm.learns(), Ordering::Relaxed);
            self.publish(&estimate)
        };
        self.reporter.limit_is(limit);
        Ok(())
    }

    /// Tells the numbers of the last step. Called with the estimate locked, so that
    /// they stay those of the last one.
    fn publish(&self, estimate: &Estimate) -> u32 {
        let limit = estimate.limit();
        self.limit.store(limit, Ordering::Relaxed);
        self.generation.store(estimate.generation(), Ordering::Relaxed);
        limit
    }

    fn learns(&self) -> bool {
        self.learns.load(Ordering::Relaxed)
    }

    /// Lets a call in if, with it, at most `ceiling(limit)` units are under way.
    #[inline]
    pub(crate) fn enter(&self, units: u64, ceiling: impl Fn(u32) -> u32) -> Result<Ticket, RejectionKind> {
        let most = self.most.load(Ordering::Relaxed);
        let units = u32::try_from(units).ok().filter(|units| *units <= most).ok_or(RejectionKind::NeverFits)?;
        let generation = self.generation.load(Ordering::Relaxed);
        let limit = self.limit();
        let ceiling = ceiling(limit);
        let one_more = |used: u32| used.checked_add(units).filter(|sum| *sum <= ceiling);
        match self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(_) => {
                self.reporter.admitted();
                Ok(Ticket::new(generation).with_note(u64::from(units)))
            }
            // Whether the call would fit if nobody were more important.
            Err(used) if used.checked_add(units).is_some_and(|sum| sum <= limit) => Err(RejectionKind::Shed),
            Err(_) => Err(RejectionKind::Saturated),
        }
    }

    #[cold]
    pub(crate) fn refuse(&self, kind: RejectionKind) -> Rejection {
        self.refused.fetch_add(1, Ordering::Relaxed);
        self.reporter.refused(kind)
    }

    /// One more step's result, if this call was the last one it wanted.
    fn learn(&self, generation: u64, ending: Ending, in_flight: u32, elapsed: Duration) -> Option<u32> {
        if generation != self.generation.load(Ordering::Relaxed) {
            return None;
        }
        let mut estimate = lock(&self.estimate);
        let before = self.limit();
        estimate.settle(generation, ending, in_flight, elapsed)?;
        let limit = self.publish(&estimate);
        (limit != before).then_some(limit)
    }
}

/// Takes the call's units; neither key nor priority is looked at.
impl Gate for AdaptiveLimiter {
    #[inline]
    fn try_admit(&self, call: &Call<'_>) -> Admission {
        match self.enter(call.units(), |limit| limit) {
            Ok(ticket) => Admission::Admitted(ticket),
            Err(kind) => Admission::Rejected(self.refuse(kind)),
        }
    }

    fn settle(&self, ticket: Ticket, outcome: Outcome, elapsed: Duration) {
        // The note is what `enter` wrote: it fits.
        let units = u32::try_from(ticket.note()).unwrap_or_default();
        let in_flight = self.in_flight.fetch_sub(units, Ordering::Relaxed);
        let Some(ending) = Ending::of(outcome).filter(|_| self.learns()) else { return };
        if let Some(limit) = self.learn(ticket.generation(), ending, in_flight, elapsed) {
            self.reporter.limit_is(limit);
        }
    }

    fn needs_elapsed(&self) -> bool {
        self.learns()
    }
}

/// Nothing inside panics; a poisoned lock would still hold numbers.
fn lock(estimate: &Mutex<Estimate>) -> std::sync::MutexGuard<'_, Estimate> {
    estimate.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for AdaptiveLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.snapshot(), f)
    }
}

/// How an [`AdaptiveLimiter`] stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct AdaptiveSnapshot {
    /// The limiter's name.
    pub name: String,
    /// The limit now.
    pub limit: u32,
    /// The units under way; more than the limit for a while after it shrank.
    pub in_flight: u32,
    /// The calls that were refused so far.
    pub refused: u64,
    /// The steps that the algorithm has made.
    pub steps: u64,
    /// The latency that it compares with: Vegas' unloaded one, Gradient2's
    /// long-term average, once there is one.
    pub baseline: Option<Duration>,
}

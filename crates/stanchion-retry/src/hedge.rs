//! A second try beside the first, when the first is late.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use stanchion_core::{Attempt, ByError, CallError, Classifier, Classify, ConfigError, Moment, Name, Outcome};
use tokio::time::Sleep;

use crate::backoff::nanos;
use crate::budget::Spent;
use crate::run::now;
use crate::{Budget, Latencies, trace};

/// Asks again beside a call that is late, and takes whichever answer comes
/// first: at most [`max_hedges`](Self::max_hedges) more, out of a
/// [`Budget`].
///
/// Only for operations that are safe to repeat: both may be carried out.
///
/// - A failure never hides what is still under way: the call fails when all have
///   failed, with the first error.
/// - A failure that may pass brings the next hedge at once (gRPC, proposal A6). One
///   of the first try that won't pass ends the call.
/// - Whoever loses is dropped.
///
/// Clones share the budget and what was learnt of latencies.
///
/// # Defaults
/// One hedge; a [`Budget::default`] of its own.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use stanchion_retry::{Clock, Hedge};
///
/// let hedge = Hedge::after(Duration::from_millis(50)).validated()?;
/// let began = Clock::system().now();
/// let answer = hedge.run(|attempt| async move {
///     let slow = attempt.hedge() == 0; // the first try hangs for a while
///     tokio::time::sleep(Duration::from_millis(if slow { 900 } else { 10 })).await;
///     Ok::<_, std::io::Error>(attempt.hedge())
/// });
/// assert_eq!(answer.await?, 1);
/// assert_eq!(Clock::system().now() - began, Duration::from_millis(60));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Hedge {
    pub(crate) name: Name,
    trigger: Trigger,
    max_hedges: u32,
    budget: Budget,
    has_own_budget: bool,
}

#[derive(Clone)]
enum Trigger {
    After(Duration),
    Percentile { percent: f64, least: Duration, learnt: Arc<Learnt> },
}

/// What the percentile is read from.
struct Learnt {
    latencies: Latencies,
    /// The percentile as it was last read, in nanoseconds; 0 while too little is known.
    delay: AtomicU64,
    /// How many were recorded.
    recorded: AtomicU64,
}

/// So many must be known before a percentile means something.
const ENOUGH: u64 = 100;
/// The percentile is read anew after so many.
const READ_EACH: u64 = 64;
/// Latencies of the last one to two minutes count.
const WINDOW: Duration = Duration::from_secs(60);

/// How one of several tries ended: what [`Hedge::race`] is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// Well: this is the answer.
    Well,
    /// In a way that another try may mend.
    Badly,
    /// In such a way after all the retries that were allowed: another that is under
    /// way may mend it, but no more are made.
    Exhausted,
    /// In a way that won't pass.
    Finally,
}

impl From<Outcome> for Ended {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Success | Outcome::Ignored => Self::Well,
            outcome if outcome.is_retryable() => Self::Badly,
            _ => Self::Finally,
        }
    }
}

impl Hedge {
    /// Asks again after this time, and each time that it passes once more.
    pub fn after(delay: Duration) -> Self {
        Self::new(Trigger::After(delay))
    }

    /// Asks again after the time within which `percent` of the calls ended lately,
    /// in the last one to two minutes: with 95, of twenty calls one is asked again.
    ///
    /// Until a hundred calls are known it doesn't. Calls that were given up count with
    /// the time that they had taken, so that it doesn't learn only from the fast.
    pub fn at_percentile(percent: f64) -> Self {
        let latencies = Latencies::new(WINDOW).expect("a minute is longer than a millisecond");
        let learnt = Learnt { latencies, delay: AtomicU64::new(0), recorded: AtomicU64::new(0) };
        Self::new(Trigger::Percentile { percent, least: Duration::from_millis(1), learnt: Arc::new(learnt) })
    }

    fn new(trigger: Trigger) -> Self {
        Self { name: Name::from("hedge"), trigger, max_hedges: 1, budget: Budget::default(), has_own_budget: true }
    }

    /// What it is called in telemetry. Default: `hedge`.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = name.into();
        self
    }

    /// How many more at most, beside the first. Default: 1.
    pub const fn max_hedges(mut self, hedges: u32) -> Self {
        self.max_hedges = hedges;
        self
    }

    /// With a percentile: no hedge is earlier than this. Default: 1 ms.
    pub fn at_least(mut self, delay: Duration) -> Self {
        if let Trigger::Percentile { least, .. } = &mut self.trigger {
            *least = delay;
        }
        self
    }

    /// What it may spend, shared with others who ask the same upstream. Default: a
    /// [`Budget::default`] of its own.
    pub fn budget(mut self, budget: impl Into<Budget>) -> Self {
        self.budget = budget.into();
        self.has_own_budget = false;
        self
    }

    /// This budget, unless it was given one.
    pub fn budget_or(self, default: &Budget) -> Self {
        if self.has_own_budget { self.budget(default) } else { self }
    }

    /// Its budget.
    pub const fn spends_from(&self) -> &Budget {
        &self.budget
    }

    /// The same policy, if it can be honoured. One that can't is never harmful:
    /// it doesn't hedge.
    ///
    /// # Errors
    /// Names `max_hedges` when it is 0 or above 16, `at_percentile` when it isn't
    /// above 0 and below 100.
    pub fn validated(self) -> Result<Self, ConfigError> {
        if !(1..=MOST_HEDGES).contains(&self.max_hedges) {
            return Err(ConfigError::new("max_hedges", self.max_hedges, "must be from 1 to 16"));
        }
        match self.trigger {
            Trigger::Percentile { percent, .. } if !is_percentile(percent) => {
                Err(ConfigError::new("at_percentile", percent, "must be a number above 0 and below 100"))
            }
            _ => Ok(self),
        }
    }

    /// When the first hedge would be made; `None` while too little is known.
    pub fn delay(&self) -> Option<Duration> {
        match &self.trigger {
            Trigger::After(delay) => Some(*delay),
            Trigger::Percentile { percent, least, learnt } => {
                // Relaxed: a number by itself.
                let delay = learnt.delay.load(Ordering::Relaxed);
                (delay > 0 && is_percentile(*percent)).then(|| Duration::from_nanos(delay).max(*least))
            }
        }
    }

    /// Runs the operation, and once more beside it when it is late. To call this is
    /// to declare it safe to repeat. A single try allocates nothing.
    ///
    /// # Errors
    /// The first error, when all have failed.
    ///
    /// # Cancellation
    /// Dropping the future drops all tries.
    pub async fn run<T, E, F, Fut>(&self, operation: F) -> Result<T, CallError<E>>
    where
        F: FnMut(Attempt) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: Classify,
    {
        self.run_with(ByError, operation).await
    }

    /// The same with a classifier that sees the whole result.
    ///
    /// # Errors
    /// The first error, when all have failed.
    pub async fn run_with<T, E, C, F, Fut>(&self, classifier: C, mut operation: F) -> Result<T, CallError<E>>
    where
        C: Classifier<T, E>,
        F: FnMut(Attempt) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let began = now();
        self.budget.begun(began);
        let make = |hedge| operation(Attempt::first().of_hedge(hedge));
        let judge = |result: &Result<T, E>| classifier.classify(result).into();
        let (result, attempts) = self.race(began, make, judge).await;
        result.map_err(|error| CallError::Inner { error, attempts })
    }

    /// For drivers of one's own: runs what `make` makes, 0 first, then hedges 1, 2
    /// …, and `judge`s what comes of it. Says how many were made.
    ///
    /// The budget isn't told that a call begins.
    pub async fn race<O, F, Fut>(&self, began: Moment, mut make: F, judge: impl Fn(&O) -> Ended) -> (O, u32)
    where
        F: FnMut(u32) -> Fut,
        Fut: Future<Output = O>,
    {
        let first = pin!(make(0));
        let timer = pin!(None);
        let mut race = Race {
            hedge: self,
            first: Some((began, first)),
            hedges: Vec::new(),
            failed: None,
            made: 0,
            no_more: self.max_hedges > MOST_HEDGES,
            timer,
        };
        poll_fn(|context| race.poll(context, &mut make, &judge)).await
    }

    fn record(&self, now: Moment, took: Duration) {
        if let Trigger::Percentile { percent, learnt, .. } = &self.trigger {
            learnt.latencies.record(now, took);
            // Relaxed, here and below: a count, and a number by itself.
            let recorded = learnt.recorded.fetch_add(1, Ordering::Relaxed) + 1;
            if recorded == ENOUGH || recorded.is_multiple_of(READ_EACH) {
                let enough = learnt.latencies.count(now) >= ENOUGH;
                let delay = enough.then(|| learnt.latencies.percentile(now, *percent)).flatten();
                learnt.delay.store(delay.map_or(0, nanos), Ordering::Relaxed);
            }
        }
    }
}

const MOST_HEDGES: u32 = 16;

fn is_percentile(percent: f64) -> bool {
    percent > 0.0 && percent < 100.0
}

impl fmt::Debug for Hedge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Hedge");
        match &self.trigger {
            Trigger::After(delay) => debug.field("after", delay),
            Trigger::Percentile { percent, .. } => debug.field("at_percentile", percent),
        };
        debug.field("max_hedges", &self.max_hedges).field("budget", &self.budget).finish()
    }
}

/// The tries of one call.
struct Race<'a, 'f, O, Fut> {
    hedge: &'a Hedge,
    first: Option<(Moment, Pin<&'f mut Fut>)>,
    hedges: Vec<Try<Fut>>,
    /// What came of the first that failed.
    failed: Option<O>,
    made: u32,
    no_more: bool,
    timer: Pin<&'f mut Option<Sleep>>,
}

struct Try<Fut> {
    began: Moment,
    spent: Option<Spent>,
    future: Pin<Box<Fut>>,
}

impl<O, Fut: Future<Output = O>> Race<'_, '_, O, Fut> {
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        make: &mut impl FnMut(u32) -> Fut,
        judge: &impl Fn(&O) -> Ended,
    ) -> Poll<(O, u32)> {
        loop {
            let mut failures = 0;
            if let Some((began, future)) = &mut self.first
                && let Poll::Ready(output) = future.as_mut().poll(context)
            {
                let took = now() - *began;
                self.first = None;
                match judge(&output) {
                    // It won't pass: nor would it for the others.
                    ended @ (Ended::Well | Ended::Finally) => {
                        return self.end(output, ended == Ended::Well, None, took);
                    }
                    Ended::Badly => failures += 1,
                    Ended::Exhausted => self.no_more = true,
                }
                self.failed.get_or_insert(output);
            }
            let mut place = 0;
            while place < self.hedges.len() {
                let Poll::Ready(output) = self.hedges[place].future.as_mut().poll(context) else {
                    place += 1;
                    continue;
                };
                let ended = self.hedges.swap_remove(place);
                match judge(&output) {
                    Ended::Well => return self.end(output, true, ended.spent, now() - ended.began),
                    Ended::Badly => failures += 1,
                    Ended::Finally | Ended::Exhausted => self.no_more = true,
                }
                self.failed.get_or_insert(output);
            }
            let asked = if failures > 0 { self.ask_again(make) } else { self.wait(context, make) };
            if asked {
                // It must be polled once, so that it begins.
                continue;
            }
            if self.first.is_some() || !self.hedges.is_empty() {
                return if failures > 0 && self.wait(context, make) { continue } else { Poll::Pending };
            }
            let failed = self.failed.take().expect("nothing is under way, so all have failed");
            return Poll::Ready((failed, self.made + 1));
        }
    }

    /// Waits until it is time for a hedge; whether one was made.
    fn wait(&mut self, context: &mut Context<'_>, make: &mut impl FnMut(u32) -> Fut) -> bool {
        if self.no_more || self.made >= self.hedge.max_hedges {
            return false;
        }
        if self.timer.is_none() {
            let Some(delay) = self.hedge.delay() else { return false };
            self.timer.set(Some(tokio::time::sleep(delay)));
        }
        let timer = self.timer.as_mut().as_pin_mut().expect("it was set just now");
        timer.poll(context).is_ready() && self.ask_again(make)
    }

    /// Makes one more, if the budget allows.
    fn ask_again(&mut self, make: &mut impl FnMut(u32) -> Fut) -> bool {
        self.timer.set(None);
        if self.no_more || self.made >= self.hedge.max_hedges {
            return false;
        }
        let began = now();
        let Some(mut spent) = self.hedge.budget.try_spend(Outcome::Transient, began) else {
            self.no_more = true;
            return false;
        };
        spent.made();
        self.made += 1;
        trace::hedging(&self.hedge.name, self.made);
        self.hedges.push(Try { began, spent: Some(spent), future: Box::pin(make(self.made)) });
        true
    }

    fn end(&mut self, output: O, well: bool, spent: Option<Spent>, took: Duration) -> Poll<(O, u32)> {
        let now = now();
        self.hedge.record(now, took);
        // The losers have taken at least so long.
        for began in self.first.iter().map(|(began, _)| *began).chain(self.hedges.iter().map(|each| each.began)) {
            self.hedge.record(now, now - began);
        }
        if well {
            self.hedge.budget.succeeded(spent);
        }
        Poll::Ready((output, self.made + 1))
    }
}

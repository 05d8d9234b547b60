//! A second try beside the first, when the first is late.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use stanchion_core::{Attempt, ByError, CallError, Classifier, Classify, ConfigError, Moment, Name, Outcome};
use tokio::task::coop;
use tokio::time::Sleep;

use crate::backoff::nanos;
use crate::budget::Spent;
use crate::run::now;
use crate::timeout::poll_timer;
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
    least: Duration,
    max_hedges: u32,
    budget: Budget,
    has_own_budget: bool,
}

#[derive(Clone)]
enum Trigger {
    After(Duration),
    Percentile { percent: f64, learnt: Arc<Learnt> },
}

/// What the percentile is read from.
struct Learnt {
    latencies: Latencies,
    /// The percentile as it was last read, in nanoseconds; 0 while too little is known.
    delay: AtomicU64,
    /// When, in nanoseconds of the clock.
    read_at: AtomicU64,
    /// How many were recorded.
    recorded: AtomicU64,
}

const UNNAMED: &str = "hedge";

/// So many must be known before a percentile means something.
const ENOUGH: u64 = 100;
/// The percentile is read anew after so many.
const READ_EACH: u64 = 64;
/// Latencies of the last one to two minutes count.
const WINDOW: Duration = Duration::from_secs(60);

/// What becomes of a race when one of its tries has ended: what [`Hedge::race`] is
/// told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RaceVerdict {
    /// This is the answer.
    Won,
    /// It failed in a way that another try may mend: the next one is made at once.
    Failed,
    /// It failed so after all the retries that were allowed: another that is under
    /// way may mend it, but no more are made.
    Exhausted,
    /// It failed in a way that won't pass. The first try's is the answer; a hedge's is
    /// remembered, and no more are made.
    Final,
}

impl RaceVerdict {
    /// That of a result with this outcome. An error that says nothing about the other
    /// side, such as a refusal of the family's own gates, is no answer to win with.
    fn of<T, E>(result: &Result<T, E>, outcome: Outcome) -> Self {
        match (result, outcome) {
            (_, Outcome::Success) | (Ok(_), Outcome::Ignored) => Self::Won,
            (_, outcome) if outcome.is_retryable() => Self::Failed,
            _ => Self::Final,
        }
    }
}

/// What came of a [race](Hedge::race).
#[derive(Debug)]
#[non_exhaustive]
pub struct Raced<O> {
    /// What the try gave that decided it.
    pub output: O,
    /// How many tries were made.
    pub tries: u32,
    /// What the budget granted for it, if it was a hedge: to be told to
    /// [`Budget::succeeded`].
    pub spent: Option<Spent>,
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
        let [delay, read_at, recorded] = [(); 3].map(|()| AtomicU64::new(0));
        let learnt = Arc::new(Learnt { latencies, delay, read_at, recorded });
        Self::new(Trigger::Percentile { percent, learnt }).at_least(Duration::from_millis(1))
    }

    fn new(trigger: Trigger) -> Self {
        Self {
            name: Name::from(UNNAMED),
            trigger,
            least: Duration::ZERO,
            max_hedges: 1,
            budget: Budget::default(),
            has_own_budget: true,
        }
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

    /// No hedge is earlier than this. Default: 1 ms with a percentile, else 0.
    pub const fn at_least(mut self, delay: Duration) -> Self {
        self.least = delay;
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

    /// When the first hedge would be made; `None` while too little is known, or
    /// nothing any more.
    pub fn delay(&self) -> Option<Duration> {
        let delay = match &self.trigger {
            Trigger::After(delay) => *delay,
            Trigger::Percentile { percent, learnt } => {
                // Relaxed: numbers by themselves. A delay beside the other's time is as good as either.
                let delay = learnt.delay.load(Ordering::Relaxed);
                let read_at = Moment::from_nanos(learnt.read_at.load(Ordering::Relaxed));
                let is_known = delay > 0 && is_percentile(*percent) && now() - read_at <= 2 * WINDOW;
                is_known.then(|| Duration::from_nanos(delay))?
            }
        };
        Some(delay.max(self.least))
    }

    /// This name, unless it was given one.
    pub fn name_or(self, name: &Name) -> Self {
        if self.name.as_str() == UNNAMED { self.name(name) } else { self }
    }

    /// With the budget and name of another policy, as far as it has none of its own.
    pub fn in_place_of(self, other: &Self) -> Self {
        let named = self.name_or(&other.name);
        if other.has_own_budget { named } else { named.budget_or(&other.budget) }
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
        let judge = |result: &Result<T, E>| {
            let outcome = classifier.classify(result);
            self.budget.failed(outcome);
            RaceVerdict::of(result, outcome)
        };
        let Raced { output, tries, spent } = self.race(began, make, judge).await;
        if classifier.classify(&output) == Outcome::Success {
            self.budget.succeeded(spent);
        }
        output.map_err(|error| CallError::Inner { error, attempts: tries })
    }

    /// For drivers of one's own: runs what `make` makes, 0 first, then hedges 1, 2
    /// …, and `judge`s what comes of it.
    ///
    /// The budget is asked for hedges, and told nothing else: that a call begins, how
    /// attempts fail and that one succeeds is the driver's to tell.
    pub async fn race<O, F, Fut>(&self, began: Moment, mut make: F, judge: impl Fn(&O) -> RaceVerdict) -> Raced<O>
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

    /// A try took so long and went well.
    fn record(&self, now: Moment, took: Duration) {
        if let Trigger::Percentile { percent, learnt } = &self.trigger {
            learnt.latencies.record(now, took);
            // Relaxed, here and below: a count, and numbers by themselves.
            let recorded = learnt.recorded.fetch_add(1, Ordering::Relaxed) + 1;
            if recorded == ENOUGH || recorded.is_multiple_of(READ_EACH) {
                let enough = learnt.latencies.count(now) >= ENOUGH;
                let delay = enough.then(|| learnt.latencies.percentile(now, *percent)).flatten();
                learnt.delay.store(delay.map_or(0, nanos), Ordering::Relaxed);
                learnt.read_at.store(now.as_nanos(), Ordering::Relaxed);
            }
        }
    }

    /// A try that failed or was given up took at least so long. That says something
    /// only if it is longer than what is known: a quick failure is no quick answer.
    fn record_at_least(&self, now: Moment, took: Duration) {
        if self.delay().is_none_or(|known| took >= known) {
            self.record(now, took);
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
        judge: &impl Fn(&O) -> RaceVerdict,
    ) -> Poll<Raced<O>> {
        let had_budget = coop::has_budget_remaining();
        loop {
            let mut failures = 0;
            if let Some((began, future)) = &mut self.first
                && let Poll::Ready(output) = future.as_mut().poll(context)
            {
                let began = *began;
                self.first = None;
                match judge(&output) {
                    RaceVerdict::Won => return self.won(output, None, began),
                    // It won't pass: nor would it for the others.
                    RaceVerdict::Final => return self.end(output, None),
                    RaceVerdict::Failed => failures += 1,
                    RaceVerdict::Exhausted => self.no_more = true,
                }
                self.lost(began);
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
                    RaceVerdict::Won => return self.won(output, ended.spent, ended.began),
                    RaceVerdict::Failed => failures += 1,
                    RaceVerdict::Final | RaceVerdict::Exhausted => self.no_more = true,
                }
                self.lost(ended.began);
                self.failed.get_or_insert(output);
            }
            let asked = if failures > 0 { self.ask_again(make) } else { self.wait(had_budget, context, make) };
            if asked {
                // It must be polled once, so that it begins.
                continue;
            }
            if self.first.is_some() || !self.hedges.is_empty() {
                return Poll::Pending;
            }
            let failed = self.failed.take().expect("nothing is under way, so all have failed");
            return self.end(failed, None);
        }
    }

    /// Waits until it is time for a hedge; whether one was made.
    fn wait(&mut self, had_budget: bool, context: &mut Context<'_>, make: &mut impl FnMut(u32) -> Fut) -> bool {
        if self.no_more || self.made >= self.hedge.max_hedges {
            return false;
        }
        if self.timer.is_none() {
            let Some(delay) = self.hedge.delay() else { return false };
            self.timer.set(Some(tokio::time::sleep(delay)));
        }
        let timer = self.timer.as_mut().as_pin_mut().expect("it was set just now");
        poll_timer(timer, had_budget, context).is_ready() && self.ask_again(make)
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

    /// A try has ended without deciding anything.
    fn lost(&self, began: Moment) {
        let now = now();
        self.hedge.record_at_least(now, now - began);
    }

    fn won(&mut self, output: O, spent: Option<Spent>, began: Moment) -> Poll<Raced<O>> {
        let now = now();
        self.hedge.record(now, now - began);
        self.end(output, spent)
    }

    fn end(&self, output: O, spent: Option<Spent>) -> Poll<Raced<O>> {
        Poll::Ready(Raced { output, tries: self.made + 1, spent })
    }
}

/// Those that are under way yet are given up: they have lost, or the call is dropped.
impl<O, Fut> Drop for Race<'_, '_, O, Fut> {
    fn drop(&mut self) {
        if self.first.is_none() && self.hedges.is_empty() {
            return;
        }
        let now = now();
        let under_way = self.first.iter().map(|(began, _)| *began).chain(self.hedges.iter().map(|each| each.began));
        for began in under_way {
            self.hedge.record_at_least(now, now - began);
        }
    }
}

//! Runs an operation under a pipeline's policies, in their order.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use stanchion_core::{Attempt, Call, CallError, Classifier, Clock, Moment, Outcome, Rejection, Scope};
use stanchion_retry::{Next, Progress, RaceVerdict, Stop, pause, within};

use crate::Mode;
use crate::gates::{Permits, Refused};
use crate::pipeline::Shared;
use crate::settings::Settings;
use crate::stats::{Ended, Stats};

/// One call: mode, total timeout, call gates; then hedge, retry and the rest.
#[expect(clippy::manual_async_fn, reason = "an `async fn` copies what it is handed when it is first polled")]
pub(crate) fn run<T, E, C, F, Fut>(
    shared: &Shared,
    call: Call<'_>,
    classifier: C,
    mut operation: F,
) -> impl Future<Output = Result<T, CallError<E>>>
where
    C: Classifier<T, E>,
    F: FnMut(Attempt) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    async move {
        let settings = shared.settings.load_full();
        let began = now();
        let under_way = shared.stats.begin(began);
        let ending = match settings.mode {
            Mode::Enabled => {
                let course = Course::new(&settings, &shared.stats, call, began);
                course.run(&classifier, operation).await
            }
            Mode::Shadow => shadow(&settings, &shared.stats, call, began, &classifier, operation).await,
            Mode::Disabled => once(operation(only(&call, began)).await, &classifier),
        };
        under_way.end(ending.counted());
        ending.told(began)
    }
}

/// How a call, or one of its concurrent tries, ended.
enum Ending<T, E> {
    /// With a result of the operation's.
    Result { result: Result<T, E>, outcome: Outcome, attempts: u32, stop: Stop },
    /// A gate refused, and nothing was tried.
    Rejected(Rejection),
    /// An attempt ran into its timeout, and there was no other.
    AttemptTimedOut { after: Duration },
    /// The whole call ran into its own.
    TimedOut { deadline: Moment },
}

impl<T, E> Ending<T, E> {
    fn counted(&self) -> Ended {
        match self {
            Self::Result { outcome, .. } => (*outcome).into(),
            Self::Rejected(_) => Ended::Rejected,
            Self::AttemptTimedOut { .. } | Self::TimedOut { .. } => Ended::TimedOut,
        }
    }

    /// What a gate of the whole call is told.
    fn outcome(&self) -> Outcome {
        match self {
            Self::Result { outcome, .. } => *outcome,
            Self::AttemptTimedOut { .. } | Self::TimedOut { .. } => Outcome::TimedOut,
            Self::Rejected(_) => Outcome::Ignored,
        }
    }

    fn told(self, began: Moment) -> Result<T, CallError<E>> {
        match self {
            Self::Result { result, attempts, .. } => result.map_err(|error| CallError::Inner { error, attempts }),
            Self::Rejected(rejection) => Err(rejection.into()),
            Self::AttemptTimedOut { after } => Err(CallError::TimedOut { after, scope: Scope::Attempt }),
            Self::TimedOut { deadline } => Err(CallError::TimedOut { after: deadline - began, scope: Scope::Total }),
        }
    }

    /// What the hedge makes of it.
    fn judged(&self, retries: bool) -> RaceVerdict {
        match self {
            // An error that says nothing about the other side, such as a refusal of a pipeline
            // within, is no answer to win with.
            Self::Result { result: Err(_), stop: Stop::Done, .. } => RaceVerdict::Final,
            Self::Result { stop: Stop::Done, .. } => RaceVerdict::Won,
            Self::Result { stop: Stop::Final | Stop::NotRepeatable, .. } => RaceVerdict::Final,
            // All that a retry was allowed is used up: to begin once more would be amplification.
            Self::Result { .. } | Self::AttemptTimedOut { .. } if !retries => RaceVerdict::Failed,
            _ => RaceVerdict::Exhausted,
        }
    }
}

/// The way of one call through the policies.
struct Course<'a> {
    settings: &'a Settings,
    stats: &'a Stats,
    call: Call<'a>,
    began: Moment,
    /// Whether it is known to be safe to do twice.
    hedged: bool,
    /// Whether one of several tries has decided the call.
    decided: AtomicBool,
}

impl<'a> Course<'a> {
    fn new(settings: &'a Settings, stats: &'a Stats, mut call: Call<'a>, began: Moment) -> Self {
        if let (None, Some(repeatable)) = (call.is_repeatable(), settings.repeatable) {
            call = call.repeatable(repeatable);
        }
        if let Some(timeout) = settings.total_timeout {
            let end = began + timeout;
            call = call.deadline(call.ends_by().map_or(end, |deadline| deadline.min(end)));
        }
        let hedged = settings.hedge.is_some() && call.is_repeatable() == Some(true);
        Self { settings, stats, call, began, hedged, decided: AtomicBool::new(false) }
    }

    async fn run<T, E, C, F, Fut>(&self, classifier: &C, mut operation: F) -> Ending<T, E>
    where
        C: Classifier<T, E>,
        F: FnMut(Attempt) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let settings = self.settings;
        if let Some(deadline) = self.call.ends_by().filter(|deadline| *deadline <= self.began) {
            return Ending::TimedOut { deadline };
        }
        let mut permits = Permits::none(&self.decided);
        if let Err(refused) = permits.admit(&settings.call_gates, &self.call, now).await {
            return self.refused(refused);
        }
        let admitted = if permits.waited { now() } else { self.began };
        for budget in &settings.budgets {
            budget.begun(admitted);
        }
        let ending = match &settings.hedge {
            Some(hedge) if self.hedged => {
                let judge = |(number, ending): &(u32, Ending<T, E>)| {
                    let verdict = ending.judged(settings.retries);
                    // Those that are dropped now have lost; that says nothing against the other side.
                    let decides = verdict == RaceVerdict::Won || (verdict == RaceVerdict::Final && *number == 0);
                    self.decided.store(decides, Ordering::Relaxed);
                    verdict
                };
                // One task polls all tries, so nobody ever waits here: it only makes them `Send`.
                let operation = Mutex::new(operation);
                let make = |number| {
                    let operation = &operation;
                    let make = move |attempt: Attempt| {
                        let mut operation = operation.lock().unwrap_or_else(PoisonError::into_inner);
                        operation(attempt.of_hedge(number))
                    };
                    let known = (number == 0).then_some(admitted);
                    if number > 0 {
                        Stats::count(&self.stats.hedges);
                    }
                    async move { (number, self.attempts(known, classifier, make).await) }
                };
                let race = hedge.race(admitted, make, judge).await;
                let (_, ending) = race.output;
                if !settings.retries && ending.outcome() == Outcome::Success {
                    hedge.spends_from().succeeded(race.spent);
                }
                ending
            }
            _ => self.attempts(Some(admitted), classifier, &mut operation).await,
        };
        permits.settle(ending.outcome());
        ending
    }

    /// The retry, with what stands before each attempt. `known` is the time now, as long
    /// as it is known without looking.
    async fn attempts<T, E, C, Fut>(
        &self,
        mut known: Option<Moment>,
        classifier: &C,
        mut make: impl FnMut(Attempt) -> Fut,
    ) -> Ending<T, E>
    where
        C: Classifier<T, E>,
        Fut: Future<Output = Result<T, E>>,
    {
        let settings = self.settings;
        // A pipeline's retry was validated when it was built.
        let mut progress = Progress::prepared(&settings.retry, &self.call);
        progress.first(|| self.began);
        // How the last attempt failed, should there be no other.
        let mut failed: Option<Ending<T, E>> = None;
        loop {
            let mut permits = Permits::none(&self.decided);
            let delay = match permits.admit(&settings.attempt_gates, &self.call, now).await {
                Err(Refused::Rejected(rejection)) => match progress.after_rejection(rejection.come_back_after(), now) {
                    Next::Retry { delay } => delay,
                    Next::Stop(_) => return failed.unwrap_or(Ending::Rejected(rejection)),
                },
                Err(refused) => return self.refused(refused),
                Ok(()) => {
                    known = known.filter(|_| !permits.waited);
                    let attempt = progress.attempt(|| known.unwrap_or_else(now));
                    if attempt.remaining() == Some(Duration::ZERO) {
                        // The gates have taken all the time there was.
                        permits.settle(Outcome::Ignored);
                        return self.refused(Refused::TimedOut);
                    }
                    if attempt.number() > 1 {
                        Stats::count(&self.stats.retries);
                    }
                    let result = match attempt.remaining() {
                        None => Ok(make(attempt).await),
                        Some(limit) => within(limit, make(attempt)).await,
                    };
                    let outcome = match &result {
                        Ok(result) => classifier.classify(result),
                        Err(_) => Outcome::TimedOut,
                    };
                    permits.settle(outcome);
                    if !settings.retries {
                        settings.budgets.iter().for_each(|budget| budget.failed(outcome));
                    }
                    let next = progress.after(outcome, now);
                    let stop = if let Next::Stop(stop) = next { stop } else { Stop::Attempts };
                    let ending = match result {
                        Ok(result) => Ending::Result { result, outcome, attempts: attempt.number(), stop },
                        Err(after) => self.cut(attempt, after),
                    };
                    match next {
                        Next::Stop(_) => return ending,
                        Next::Retry { delay } => {
                            // A value isn't kept over the delay: it may hold a connection.
                            failed =
                                Some(ending).filter(|ending| !matches!(ending, Ending::Result { result: Ok(_), .. }));
                            delay
                        }
                    }
                }
            };
            known = None;
            pause(delay).await;
        }
    }

    /// An attempt was cut: by its own timeout, or by that of the whole call.
    fn cut<T, E>(&self, attempt: Attempt, after: Duration) -> Ending<T, E> {
        match self.call.ends_by() {
            Some(deadline) if attempt.deadline() == Some(deadline) => Ending::TimedOut { deadline },
            _ => Ending::AttemptTimedOut { after },
        }
    }

    fn refused<T, E>(&self, refused: Refused) -> Ending<T, E> {
        match refused {
            Refused::Rejected(rejection) => Ending::Rejected(rejection),
            Refused::TimedOut => Ending::TimedOut { deadline: self.call.ends_by().unwrap_or(self.began) },
        }
    }
}

/// Everything is asked and told, and nothing comes of it.
async fn shadow<T, E, C, F, Fut>(
    settings: &Settings,
    stats: &Stats,
    call: Call<'_>,
    began: Moment,
    classifier: &C,
    mut operation: F,
) -> Ending<T, E>
where
    C: Classifier<T, E>,
    F: FnMut(Attempt) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let undecided = AtomicBool::new(false);
    let (mut outer, mut inner) = (Permits::none(&undecided), Permits::none(&undecided));
    // Both are asked.
    if !(outer.shadow(&settings.call_gates, &call) & inner.shadow(&settings.attempt_gates, &call)) {
        Stats::count(&stats.would_reject);
    }
    let ending = once(operation(only(&call, began)).await, classifier);
    inner.settle(ending.outcome());
    outer.settle(ending.outcome());
    if settings.total_timeout.is_some_and(|timeout| now() - began > timeout) {
        Stats::count(&stats.would_time_out);
    }
    ending
}

/// The only attempt of a call without policies: the call's own deadline is told all the same.
fn only(call: &Call<'_>, began: Moment) -> Attempt {
    call.ends_by().map_or(Attempt::first(), |deadline| Attempt::first().until(deadline, began))
}

fn once<T, E>(result: Result<T, E>, classifier: &impl Classifier<T, E>) -> Ending<T, E> {
    let outcome = classifier.classify(&result);
    Ending::Result { result, outcome, attempts: 1, stop: Stop::Attempts }
}

fn now() -> Moment {
    Clock::system().now()
}

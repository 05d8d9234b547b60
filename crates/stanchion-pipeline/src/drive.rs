//! Runs an operation under a pipeline's policies, in their order.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use stanchion_core::{Attempt, Call, CallError, Classifier, Clock, Moment, Outcome, Rejection, Scope};
use stanchion_retry::{Ended as Judged, Next, Progress, Stop, within};

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
        let under_way = shared.stats.begin();
        let ending = match settings.mode {
            Mode::Enabled => {
                let course = Course::new(&settings, &shared.stats, call, began);
                course.run(&classifier, operation).await
            }
            Mode::Shadow => shadow(&settings, &shared.stats, call, began, &classifier, operation).await,
            Mode::Disabled => once(operation(Attempt::first()).await, &classifier),
        };
        under_way.end(ending.counted(), began, now());
        ending.told(began)
    }
}

/// How a call, or one of its concurrent tries, ended.
enum Ending<T, E> {
    /// With a result of the operation's.
    Result { result: Result<T, E>, outcome: Outcome, attempts: u32, stop: Stop },
    /// A gate refused.
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
    fn judged(&self, retries: bool) -> Judged {
        match self {
            Self::Result { stop: Stop::Done, .. } => Judged::Well,
            Self::Result { stop: Stop::Final | Stop::NotRepeatable, .. } => Judged::Finally,
            // All that a retry was allowed is used up: to begin once more would be amplification.
            Self::Result { .. } | Self::AttemptTimedOut { .. } if !retries => Judged::Badly,
            _ => Judged::Exhausted,
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
        Self { settings, stats, call, began, hedged: settings.hedge.is_some() && call.is_repeatable() == Some(true) }
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
        for budget in &settings.budgets {
            budget.begun(self.began);
        }
        let mut permits = Permits::none();
        if let Err(refused) = permits.admit(&settings.call_gates, &self.call, now).await {
            return self.refused(refused);
        }
        let ending = match &settings.hedge {
            Some(hedge) if self.hedged => {
                // One task polls all tries, so nobody ever waits here: it only makes them `Send`.
                let operation = Mutex::new(operation);
                let make = |number| {
                    let operation = &operation;
                    let make = move |attempt: Attempt| {
                        let mut operation = operation.lock().unwrap_or_else(PoisonError::into_inner);
                        operation(attempt.of_hedge(number))
                    };
                    self.attempts(classifier, make)
                };
                let (ending, hedges) =
                    hedge.race(self.began, make, |ending| Ending::judged(ending, settings.retries)).await;
                self.stats.hedges.fetch_add(u64::from(hedges - 1), std::sync::atomic::Ordering::Relaxed);
                ending
            }
            _ => self.attempts(classifier, &mut operation).await,
        };
        permits.settle(ending.outcome());
        ending
    }

    /// The retry, with what stands before each attempt.
    async fn attempts<T, E, C, Fut>(&self, classifier: &C, mut make: impl FnMut(Attempt) -> Fut) -> Ending<T, E>
    where
        C: Classifier<T, E>,
        Fut: Future<Output = Result<T, E>>,
    {
        let settings = self.settings;
        // A pipeline's retry was validated when it was built.
        let mut progress = Progress::prepared(&settings.retry, &self.call);
        progress.first(|| self.began);
        let mut first = true;
        loop {
            if !std::mem::take(&mut first) {
                Stats::count(&self.stats.retries);
            }
            let mut permits = Permits::none();
            match permits.admit(&settings.attempt_gates, &self.call, now).await {
                Ok(()) => {}
                Err(Refused::Rejected(rejection)) => match progress.after_rejection(rejection.come_back_after(), now) {
                    Next::Retry { delay } => {
                        sleep(delay).await;
                        continue;
                    }
                    Next::Stop(_) => return Ending::Rejected(rejection),
                },
                Err(refused) => return self.refused(refused),
            }
            // A result that isn't the last is dropped before the delay.
            let delay = {
                let attempt = progress.attempt(now);
                let result = match attempt.remaining() {
                    None => Ok(make(attempt).await),
                    Some(limit) => within(limit, make(attempt)).await,
                };
                let outcome = match &result {
                    Ok(result) => classifier.classify(result),
                    Err(_) => Outcome::TimedOut,
                };
                permits.settle(outcome);
                match progress.after(outcome, now) {
                    Next::Retry { delay } => delay,
                    Next::Stop(stop) => {
                        return match result {
                            Ok(result) => Ending::Result { result, outcome, attempts: attempt.number(), stop },
                            Err(after) => self.cut(attempt, after),
                        };
                    }
                }
            };
            sleep(delay).await;
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
    let (mut outer, outer_all) = Permits::shadow(&settings.call_gates, &call);
    let (mut inner, inner_all) = Permits::shadow(&settings.attempt_gates, &call);
    if !(outer_all && inner_all) {
        Stats::count(&stats.would_reject);
    }
    let ending = once(operation(Attempt::first()).await, classifier);
    inner.settle(ending.outcome());
    outer.settle(ending.outcome());
    if settings.total_timeout.is_some_and(|timeout| now() - began > timeout) {
        Stats::count(&stats.would_time_out);
    }
    ending
}

fn once<T, E>(result: Result<T, E>, classifier: &impl Classifier<T, E>) -> Ending<T, E> {
    let outcome = classifier.classify(&result);
    Ending::Result { result, outcome, attempts: 1, stop: Stop::Attempts }
}

fn now() -> Moment {
    Clock::system().now()
}

async fn sleep(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

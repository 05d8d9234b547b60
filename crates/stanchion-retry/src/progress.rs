//! The decision core: what comes after an attempt. It does nothing, and reads
//! neither clock nor store but those that it is handed; `run` acts on it, async
//! and blocking, and so can anybody.

use std::time::Duration;

use stanchion_core::{Attempt, Call, ConfigError, Moment, Outcome, RandomRun};

use crate::backoff::State;
use crate::budget::Spent;
use crate::{Retry, Retrying};

/// One call under a [`Retry`]: which attempt it is at, and what it has used up.
///
/// For drivers of one's own; [`Retry::run`] drives it for everybody else.
///
/// ```
/// use std::time::Duration;
/// use stanchion_retry::{Call, Jitter, Moment, Next, Outcome, Progress, Retry, Stop};
///
/// let retry = Retry::exponential().max_attempts(2).jitter(Jitter::None);
/// let now = Moment::default();
/// let mut progress = Progress::begin(&retry, &Call::new(), || now)?;
/// let Next::Retry { delay } = progress.after(Outcome::TimedOut, || now) else { unreachable!() };
/// assert_eq!(delay, Duration::from_millis(100));
///
/// let later = now + delay;
/// assert_eq!(progress.attempt(|| later).number(), 2);
/// assert_eq!(progress.after(Outcome::Transient, || later), Next::Stop(Stop::Attempts));
/// # Ok::<(), stanchion_retry::ConfigError>(())
/// ```
#[derive(Debug)]
#[must_use = "an attempt's outcome must be told to it"]
pub struct Progress<'a> {
    retry: &'a Retry,
    attempt: Attempt,
    deadline: Option<Moment>,
    /// When a retry must have begun: the end of `max_elapsed`, or the deadline.
    latest: Option<Moment>,
    not_repeatable: bool,
    refreshed: bool,
    drawing: Option<Drawing>,
    spent: Option<Spent>,
}

/// What is only needed once something has failed.
#[derive(Debug)]
struct Drawing {
    random: RandomRun,
    usual: State,
    throttled: State,
}

/// What comes after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "it says whether to try again"]
pub enum Next {
    /// Another attempt, after this delay.
    Retry {
        /// How long to wait before it.
        delay: Duration,
    },
    /// No other: hand the result to the caller.
    Stop(Stop),
}

/// Why there is no other attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stop {
    /// It went well, or as well as it can: a success, or [`Outcome::Ignored`].
    Done,
    /// It failed in a way that another attempt doesn't mend.
    Final,
    /// The call was declared not to be repeatable.
    NotRepeatable,
    /// All attempts are used up, or the list of delays is.
    Attempts,
    /// The delay would not end within [`Retry::max_elapsed`] or before the deadline.
    Time,
    /// The other side said to wait longer than [`Retry::max_retry_after`].
    ToldTooLong,
    /// The budget has nothing left.
    Budget,
}

impl Stop {
    /// The reason in a word, for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Final => "final",
            Self::NotRepeatable => "not_repeatable",
            Self::Attempts => "attempts",
            Self::Time => "time",
            Self::ToldTooLong => "told_too_long",
            Self::Budget => "budget",
        }
    }
}

impl<'a> Progress<'a> {
    /// The call begins; `now` is only asked where elapsed time is limited.
    ///
    /// A budget is told of the call by its driver: [`Budget::begun`](crate::Budget::begun).
    ///
    /// # Errors
    /// The policy's mistake, if it was never [validated](Retry::validated).
    #[inline]
    pub fn begin(retry: &'a Retry, call: &Call<'_>, now: impl FnOnce() -> Moment) -> Result<Self, ConfigError> {
        if let Some(mistake) = retry.mistake() {
            return Err(mistake.clone());
        }
        let mut progress = Self::prepared(retry, call);
        progress.first(now);
        Ok(progress)
    }

    /// The same in two steps, for the family's own drivers, so that it is made
    /// where it stays: what a constructor has touched is moved, and it is too large
    /// to be moved for nothing. The policy must have been validated.
    #[doc(hidden)]
    #[inline]
    pub fn prepared(retry: &'a Retry, call: &Call<'_>) -> Self {
        Self {
            retry,
            attempt: Attempt::first(),
            deadline: call.ends_by(),
            latest: call.ends_by(),
            not_repeatable: call.is_repeatable() == Some(false),
            refreshed: false,
            drawing: None,
            spent: None,
        }
    }

    /// The second step: the call begins.
    #[doc(hidden)]
    #[inline]
    pub fn first(&mut self, now: impl FnOnce() -> Moment) {
        if let Some(max_elapsed) = self.retry.max_elapsed {
            let end = now() + max_elapsed;
            self.latest = Some(self.deadline.map_or(end, |deadline| deadline.min(end)));
        }
    }

    /// The attempt with what remains for it at `now`.
    fn limited(&self, now: Moment) -> Attempt {
        let cut = self.retry.attempt_timeout.map(|timeout| now + timeout);
        match (cut, self.deadline) {
            (Some(cut), Some(deadline)) => self.attempt.until(cut.min(deadline), now),
            (Some(end), None) | (None, Some(end)) => self.attempt.until(end, now),
            (None, None) => self.attempt,
        }
    }

    /// How many attempts there were, the one under way included.
    pub(crate) const fn made(&self) -> u32 {
        self.attempt.number()
    }

    /// The attempt that is made now. `now` is only asked where its time is limited;
    /// what the budget granted for it is used up, unless no time
    /// [remains](Attempt::remaining): then it isn't made.
    #[inline]
    pub fn attempt(&mut self, now: impl FnOnce() -> Moment) -> Attempt {
        if self.deadline.is_some() || self.retry.attempt_timeout.is_some() {
            let now = now();
            self.attempt = self.limited(now);
        }
        if let Some(spent) = self.spent.as_mut().filter(|_| self.attempt.remaining() != Some(Duration::ZERO)) {
            spent.made();
        }
        self.attempt
    }

    /// What comes after an attempt that ended so. `now` is asked at most once,
    /// and not at all after a success.
    #[inline]
    pub fn after(&mut self, outcome: Outcome, now: impl FnOnce() -> Moment) -> Next {
        if let Outcome::Success | Outcome::Ignored = outcome {
            if let (Some(budget), Outcome::Success) = (&self.retry.budget, outcome) {
                budget.succeeded(self.spent.take());
            }
            return Next::Stop(Stop::Done);
        }
        self.after_failure(outcome, None, now)
    }

    /// What comes after a refusal by a gate that was asked before the attempt:
    /// nothing, unless the policy is told to [retry rejections](Retry::retry_rejections).
    pub fn after_rejection(&mut self, come_back: Option<Duration>, now: impl FnOnce() -> Moment) -> Next {
        match come_back {
            Some(wait) if self.retry.rejections => self.after_failure(Outcome::Ignored, Some(wait), now),
            _ => Next::Stop(Stop::Final),
        }
    }

    #[cold]
    fn after_failure(&mut self, outcome: Outcome, refused: Option<Duration>, now: impl FnOnce() -> Moment) -> Next {
        let decided = self.decide(outcome, refused, now);
        match decided {
            Ok(delay) => {
                let failed = self.attempt.number();
                // The time is set when the attempt begins.
                self.attempt = self.attempt.next(outcome, Moment::default());
                let retrying = Retrying { attempt: failed, outcome, delay };
                crate::trace::retrying(&self.retry.name, &retrying);
                if let Some(hook) = &self.retry.hook {
                    hook(&retrying);
                }
                Next::Retry { delay }
            }
            Err(stop) => {
                crate::trace::gave_up(&self.retry.name, self.attempt.number(), outcome, stop);
                Next::Stop(stop)
            }
        }
    }

    fn decide(
        &mut self,
        outcome: Outcome,
        refused: Option<Duration>,
        now: impl FnOnce() -> Moment,
    ) -> Result<Duration, Stop> {
        let retry = self.retry;
        if let Some(budget) = &retry.budget {
            budget.failed(outcome);
        }
        let refresh = outcome == Outcome::Unauthenticated && retry.again_after_refresh && !self.refreshed;
        if !(outcome.is_retryable() || refresh || refused.is_some()) {
            return Err(Stop::Final);
        }
        // A refusal came before the operation: to ask again repeats nothing.
        if self.not_repeatable && refused.is_none() {
            return Err(Stop::NotRepeatable);
        }
        if self.attempt.number() >= retry.max_attempts {
            return Err(Stop::Attempts);
        }
        let delay = if refresh { Duration::ZERO } else { self.delay(outcome, refused)? };
        if self.latest.is_some() || retry.budget.is_some() {
            let now = now();
            if self.latest.is_some_and(|latest| now + delay >= latest) {
                return Err(Stop::Time);
            }
            // What was granted before and not used is given back first; and to ask a gate of
            // our own once more costs the other side nothing.
            self.spent = None;
            if let Some(budget) = retry.budget.as_ref().filter(|_| refused.is_none()) {
                self.spent = Some(budget.try_spend(outcome, now).ok_or(Stop::Budget)?);
            }
        }
        self.refreshed |= refresh;
        Ok(delay)
    }

    fn delay(&mut self, outcome: Outcome, refused: Option<Duration>) -> Result<Duration, Stop> {
        let retry = self.retry;
        let throttled_backoff = retry.throttled_backoff.as_ref();
        let drawing = self.drawing.get_or_insert_with(|| Drawing {
            random: retry.random_source().run(),
            usual: State::new(&retry.backoff),
            throttled: State::new(throttled_backoff.unwrap_or(&retry.backoff)),
        });
        let (told, own) = match (outcome, throttled_backoff) {
            (Outcome::Throttled { retry_after }, Some(backoff)) => {
                (retry_after, drawing.throttled.next(backoff, &mut drawing.random))
            }
            (Outcome::Throttled { retry_after }, None) => {
                (retry_after, drawing.usual.next(&retry.backoff, &mut drawing.random))
            }
            _ => (refused, drawing.usual.next(&retry.backoff, &mut drawing.random)),
        };
        let own = own.ok_or(Stop::Attempts)?;
        match told {
            Some(told) if told > retry.max_retry_after => Err(Stop::ToldTooLong),
            // On top, so that those who were told the same don't come back together.
            Some(told) => Ok(told.saturating_add(own)),
            None => Ok(own),
        }
    }
}

//! The policy: when to try again, as one plain value.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use stanchion_core::{Call, Classifier, ConfigError, Moment, Name, Outcome, Random};

use crate::run::{Run, When};
use crate::{Backoff, Budget, Jitter};

/// When to try again: at most [`max_attempts`](Self::max_attempts) attempts,
/// with a delay before each but the first.
///
/// A plain value, cheap to clone, without type parameters: name it in a field.
/// Only what may end better is tried again ([`Outcome::is_retryable`]): not what
/// is [`Permanent`](Outcome::Permanent), and not a refusal of the family's own
/// gates.
///
/// # Defaults
/// Three attempts; delays from 100 ms on, doubling, up to 20 s, with full jitter;
/// no limit of time; no budget.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use stanchion_retry::{CallError, Retry};
///
/// struct Rates {
///     retry: Retry,
/// }
///
/// impl Rates {
///     async fn fetch(&self) -> Result<u32, CallError<std::io::Error>> {
///         self.retry.run(|attempt| async move {
///             if attempt.number() < 3 { Err(std::io::ErrorKind::ConnectionReset.into()) } else { Ok(7) }
///         }).await
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let rates = Rates { retry: Retry::exponential().max_attempts(4).max_elapsed(Duration::from_secs(5)).validated()? };
/// assert_eq!(rates.fetch().await?, 7);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Retry {
    pub(crate) name: Name,
    pub(crate) max_attempts: u32,
    pub(crate) backoff: Backoff,
    pub(crate) throttled_backoff: Option<Backoff>,
    pub(crate) max_elapsed: Option<Duration>,
    pub(crate) attempt_timeout: Option<Duration>,
    pub(crate) max_retry_after: Duration,
    pub(crate) again_after_refresh: bool,
    pub(crate) rejections: bool,
    pub(crate) budget: Option<Budget>,
    random: Option<Random>,
    pub(crate) hook: Option<Hook>,
    mistake: Option<Arc<ConfigError>>,
}

const UNNAMED: &str = "retry";

pub(crate) type Hook = Arc<dyn Fn(&Retrying) + Send + Sync>;

/// What a hook is told before a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retrying {
    /// Which attempt has failed, counted from 1.
    pub attempt: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// The delay that begins now.
    pub delay: Duration,
}

/// [`Retry::exponential`], for `retry::exponential().run(…)`.
pub fn exponential() -> Retry {
    Retry::exponential()
}

impl Retry {
    /// Delays that double from 100 ms on, up to 20 s, with full jitter.
    pub fn exponential() -> Self {
        Self::new(Backoff::exponential(Duration::from_millis(100)))
    }

    /// Always `delay`, more or less a fifth.
    pub fn constant(delay: Duration) -> Self {
        Self::new(Backoff::constant(delay))
    }

    /// Delays as `backoff` says.
    pub fn new(backoff: Backoff) -> Self {
        let plain = Self {
            name: Name::from(UNNAMED),
            max_attempts: 3,
            backoff,
            throttled_backoff: None,
            max_elapsed: None,
            attempt_timeout: None,
            max_retry_after: Duration::from_secs(60),
            again_after_refresh: false,
            rejections: false,
            budget: None,
            random: None,
            hook: None,
            mistake: None,
        };
        plain.checked()
    }

    /// One attempt, and no more.
    pub fn never() -> Self {
        Self::exponential().max_attempts(1)
    }

    /// What it is called in telemetry. Default: `retry`.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = name.into();
        self
    }

    /// How many attempts at most, the first one included. Default: 3.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self.checked()
    }

    /// How long to wait before a retry.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self.checked()
    }

    /// How long to wait before a retry after [`Outcome::Throttled`]. Default: as
    /// after any other failure.
    pub fn throttled_backoff(mut self, backoff: Backoff) -> Self {
        self.throttled_backoff = Some(backoff);
        self.checked()
    }

    /// How delays are spread, whatever caused them. Default: the backoff's.
    pub fn jitter(mut self, jitter: Jitter) -> Self {
        self.backoff = self.backoff.jitter(jitter);
        self.throttled_backoff = self.throttled_backoff.map(|backoff| backoff.jitter(jitter));
        self.checked()
    }

    /// No delay is longer, jitter included. Default: the backoff's.
    pub fn max_delay(mut self, max_delay: Duration) -> Self {
        self.backoff = self.backoff.max_delay(max_delay);
        self.throttled_backoff = self.throttled_backoff.map(|backoff| backoff.max_delay(max_delay));
        self.checked()
    }

    /// No retry begins later than this after the first attempt began: attempts and
    /// delays count alike. A delay that cannot end in time isn't begun. An attempt
    /// under way is not cut; [`attempt_timeout`](Self::attempt_timeout) does that. In a
    /// pipeline it counts from the beginning of the call. Default: no limit.
    pub fn max_elapsed(mut self, max_elapsed: Duration) -> Self {
        self.max_elapsed = Some(max_elapsed);
        self.checked()
    }

    /// An attempt that takes longer is dropped, and counts as
    /// [`Outcome::TimedOut`]. Default: no limit.
    ///
    /// [`run_blocking`](Self::run_blocking) can't drop anything: there the
    /// operation is only told, by [`Attempt::remaining`](crate::Attempt::remaining).
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = Some(timeout);
        self.checked()
    }

    /// The longest `Retry-After` that is waited for; told to wait longer, it gives
    /// up at once. Default: 60 s.
    ///
    /// The wait is as long as the other side says, and the backoff's delay on top,
    /// whose jitter spreads those who were told the same.
    /// [`max_delay`](Self::max_delay) doesn't shorten it.
    pub fn max_retry_after(mut self, ceiling: Duration) -> Self {
        self.max_retry_after = ceiling;
        self
    }

    /// After [`Outcome::Unauthenticated`] try again at once, one time in a call.
    /// Default: no.
    ///
    /// The operation refreshes its credentials when it sees
    /// [`Attempt::last`](crate::Attempt::last) say so. It counts as an attempt.
    pub fn again_after_refresh(mut self) -> Self {
        self.again_after_refresh = true;
        self
    }

    /// Try again after a refusal of the family's own gates, too, when they say
    /// when to come back. Default: no.
    ///
    /// It is about the gates that a pipeline asks before each attempt. The wait
    /// is theirs and the backoff's on top; it counts as an attempt, and costs no
    /// budget, since the other side isn't asked.
    pub fn retry_rejections(mut self) -> Self {
        self.rejections = true;
        self
    }

    /// What all who share this budget may retry together. Default: no budget
    /// alone, a [`Budget::default`] of its own in a pipeline.
    pub fn budget(mut self, budget: impl Into<Budget>) -> Self {
        self.budget = Some(budget.into());
        self
    }

    /// This budget, unless it has one.
    pub fn budget_or(self, default: &Budget) -> Self {
        if self.budget.is_some() { self } else { self.budget(default) }
    }

    /// With the budget, hook, source of jitter and name of another policy, as far
    /// as it has none of its own: for a policy that takes another's place.
    pub fn in_place_of(mut self, other: &Self) -> Self {
        self.budget = self.budget.or_else(|| other.budget.clone());
        self.hook = self.hook.or_else(|| other.hook.clone());
        self.random = self.random.or_else(|| other.random.clone());
        self.name_or(&other.name)
    }

    /// This name, unless it was given one.
    pub fn name_or(self, name: &Name) -> Self {
        if self.name.as_str() == UNNAMED { self.name(name) } else { self }
    }

    /// Its budget, if it has one.
    pub const fn spends_from(&self) -> Option<&Budget> {
        self.budget.as_ref()
    }

    /// Where jitter comes from. Default: a source of the process's own.
    pub fn random(mut self, random: Random) -> Self {
        self.random = Some(random);
        self
    }

    /// Is called before the delay of each retry, not under any lock. Should it
    /// panic, the call panics.
    pub fn on_retry(mut self, hook: impl Fn(&Retrying) + Send + Sync + 'static) -> Self {
        self.hook = Some(Arc::new(hook));
        self
    }

    /// The same policy, if it can be honoured. Without this an impossible one
    /// fails each call with [`CallError::Misconfigured`](crate::CallError::Misconfigured),
    /// and nothing is tried.
    ///
    /// # Errors
    /// Names the first field that can't be honoured.
    ///
    /// ```
    /// use stanchion_retry::Retry;
    ///
    /// let error = Retry::exponential().max_attempts(0).validated().unwrap_err();
    /// assert_eq!(error.to_string(), "max_attempts is 0: must be at least 1");
    /// ```
    pub fn validated(self) -> Result<Self, ConfigError> {
        match &self.mistake {
            Some(mistake) => Err(ConfigError::clone(mistake)),
            None => Ok(self),
        }
    }

    pub(crate) fn mistake(&self) -> Option<&ConfigError> {
        self.mistake.as_deref()
    }

    /// Looks at everything once more after a change, so that a call need not.
    fn checked(mut self) -> Self {
        self.mistake = self.check().err().map(Arc::new);
        self
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.max_attempts == 0 {
            return Err(ConfigError::new("max_attempts", 0, "must be at least 1"));
        }
        for (field, limit) in [("max_elapsed", self.max_elapsed), ("attempt_timeout", self.attempt_timeout)] {
            if limit.is_some_and(|limit| limit.is_zero()) {
                return Err(ConfigError::new(field, "0ns", "must be longer than zero"));
            }
        }
        self.backoff.validate().map_err(|error| error.inside("backoff"))?;
        let throttled = self.throttled_backoff.as_ref().map_or(Ok(()), Backoff::validate);
        throttled.map_err(|error| error.inside("throttled_backoff"))
    }

    pub(crate) fn random_source(&self) -> &Random {
        static SHARED: OnceLock<Random> = OnceLock::new();
        self.random.as_ref().unwrap_or_else(|| SHARED.get_or_init(Random::system))
    }

    /// With a classifier, which sees the whole result and, if it captures it, the
    /// request. Default: each `Ok` is a success, and errors speak for themselves
    /// ([`Classify`](crate::Classify)).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
    /// use stanchion_retry::{Outcome, Retry};
    ///
    /// let status = Retry::exponential()
    ///     .classify(|result: &Result<u16, std::fmt::Error>| match result {
    ///         Ok(503) => Outcome::Transient,
    ///         Ok(_) => Outcome::Success,
    ///         Err(_) => Outcome::Permanent,
    ///     })
    ///     .run(|attempt| async move { Ok(if attempt.number() == 1 { 503 } else { 200 }) })
    ///     .await;
    /// assert_eq!(status.unwrap(), 200);
    /// # }
    /// ```
    pub fn classify<C>(&self, classifier: C) -> Run<'_, C> {
        Run::new(self, classifier)
    }

    /// With a condition: errors of which it says `true` are transient, the others
    /// permanent.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
    /// use stanchion_retry::Retry;
    ///
    /// let answer = Retry::exponential()
    ///     .when(|error: &&str| *error == "busy")
    ///     .run(|attempt| async move { if attempt.number() == 1 { Err("busy") } else { Ok("fine") } })
    ///     .await;
    /// assert_eq!(answer.unwrap(), "fine");
    /// # }
    /// ```
    pub fn when<E, F: Fn(&E) -> bool>(&self, condition: F) -> Run<'_, When<F>> {
        Run::new(self, When(condition))
    }

    /// For a call of which more is known: its deadline, whether it is repeatable.
    pub fn call(&self, call: &Call<'_>) -> Run<'_> {
        Run::by_error(self).call(call)
    }

    /// For a call that must be over by `deadline`: an attempt is cut then, a delay that
    /// cannot end before isn't begun, and the operation is told what remains. One
    /// whose deadline has passed isn't begun.
    pub fn until(&self, deadline: Moment) -> Run<'_> {
        Run::by_error(self).until(deadline)
    }
}

/// [`Retry::exponential`].
impl Default for Retry {
    fn default() -> Self {
        Self::exponential()
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("name", &self.name)
            .field("max_attempts", &self.max_attempts)
            .field("backoff", &self.backoff)
            .field("max_elapsed", &self.max_elapsed)
            .field("attempt_timeout", &self.attempt_timeout)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}

/// The outcome of an error by a condition on it.
impl<T, E, F: Fn(&E) -> bool> Classifier<T, E> for When<F> {
    fn classify(&self, result: &Result<T, E>) -> Outcome {
        match result {
            Ok(_) => Outcome::Success,
            Err(error) if (self.0)(error) => Outcome::Transient,
            Err(_) => Outcome::Permanent,
        }
    }
}

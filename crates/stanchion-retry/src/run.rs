//! Acts on the decisions: async and blocking.

use std::time::Duration;

use stanchion_core::{Attempt, ByError, Call, CallError, Classifier, Clock, ConfigError, Moment};
#[cfg(feature = "tokio")]
use stanchion_core::{Outcome, Scope};

use crate::progress::{Next, Progress};
use crate::{Classify, Retry};

/// One call under a [`Retry`], about to be made.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// use std::time::Duration;
/// use stanchion_retry::{Clock, Retry};
///
/// let retry = Retry::exponential();
/// let deadline = Clock::system().now() + Duration::from_secs(1);
/// let left = retry.until(deadline).run(|attempt| async move { Ok::<_, std::io::Error>(attempt.remaining()) }).await;
/// assert_eq!(left.unwrap(), Some(Duration::from_secs(1)));
/// # }
/// ```
#[derive(Debug)]
#[must_use = "it does nothing until it is run"]
pub struct Run<'a, C = ByError> {
    retry: &'a Retry,
    classifier: C,
    deadline: Option<Moment>,
    repeatable: Option<bool>,
}

/// The classifier of [`Retry::when`].
#[derive(Debug, Clone, Copy)]
pub struct When<F>(pub(crate) F);

impl<F> When<F> {
    /// Errors of which `condition` says `true` are transient, the others permanent.
    pub const fn new(condition: F) -> Self {
        Self(condition)
    }
}

impl<'a> Run<'a> {
    pub(crate) const fn by_error(retry: &'a Retry) -> Self {
        Self::new(retry, ByError)
    }
}

impl<'a, C> Run<'a, C> {
    pub(crate) const fn new(retry: &'a Retry, classifier: C) -> Self {
        Self { retry, classifier, deadline: None, repeatable: None }
    }

    /// As [`Retry::call`]. What the call doesn't say is as it was.
    pub fn call(mut self, call: &Call<'_>) -> Self {
        self.deadline = call.ends_by().or(self.deadline);
        self.repeatable = call.is_repeatable().or(self.repeatable);
        self
    }

    /// As [`Retry::until`].
    pub const fn until(mut self, deadline: Moment) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// As [`Retry::classify`].
    pub fn classify<D>(self, classifier: D) -> Run<'a, D> {
        let Self { retry, deadline, repeatable, .. } = self;
        Run { retry, classifier, deadline, repeatable }
    }

    /// As [`Retry::when`].
    pub fn when<E, F: Fn(&E) -> bool>(self, condition: F) -> Run<'a, When<F>> {
        self.classify(When(condition))
    }

    /// What is known of the call.
    #[inline]
    fn described(&self) -> Call<'static> {
        let mut call = Call::new();
        if let Some(deadline) = self.deadline {
            call = call.deadline(deadline);
        }
        if let Some(repeatable) = self.repeatable {
            call = call.repeatable(repeatable);
        }
        call
    }

    /// The call begins; the budget is told.
    #[inline]
    fn begin(&self, progress: &mut Progress<'_>) {
        match self.retry.budget.as_ref().filter(|budget| budget.reads_time()) {
            None => progress.first(now),
            Some(budget) => {
                let now = now();
                budget.begun(now);
                progress.first(|| now);
            }
        }
    }

    /// Makes the call: as [`Retry::run`], with whatever was said of it.
    ///
    /// # Errors
    /// Those of [`Retry::run`].
    #[cfg(feature = "tokio")]
    pub fn run<T, E, F, Fut>(self, mut operation: F) -> impl Future<Output = Result<T, CallError<E>>>
    where
        F: FnMut(Attempt) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        C: Classifier<T, E>,
    {
        let retry = self.retry;
        // A block, since an `async fn` copies what it is handed when it is first polled.
        async move {
            if let Some(mistake) = retry.mistake() {
                return Err(misconfigured(mistake));
            }
            let mut began = None;
            if let Some(deadline) = self.deadline {
                let now = now();
                if deadline <= now {
                    return Err(cut(Duration::ZERO, Scope::Total));
                }
                began = Some(now);
            }
            let limited = began.is_some() || retry.attempt_timeout.is_some();
            let mut progress = Progress::prepared(retry, &self.described());
            self.begin(&mut progress);
            loop {
                // A result that isn't the last is dropped before the delay.
                let delay = {
                    let attempt = progress.attempt(now);
                    let result = match limited.then(|| attempt.remaining()).flatten() {
                        None => Ok(operation(attempt).await),
                        Some(limit) => crate::timeout::within(limit, operation(attempt)).await,
                    };
                    let outcome = match &result {
                        Ok(result) => self.classifier.classify(result),
                        Err(_) => Outcome::TimedOut,
                    };
                    match progress.after(outcome, now) {
                        Next::Retry { delay } => delay,
                        Next::Stop(_) => {
                            return match result {
                                Ok(Ok(value)) => Ok(value),
                                Ok(Err(error)) => Err(failed(error, &progress)),
                                Err(_) if self.deadline.is_some() && attempt.deadline() == self.deadline => {
                                    let (deadline, began) =
                                        (self.deadline.unwrap_or_default(), began.unwrap_or_default());
                                    Err(cut(deadline - began, Scope::Total))
                                }
                                Err(after) => Err(cut(after, Scope::Attempt)),
                            };
                        }
                    }
                };
                crate::timeout::pause(delay).await;
            }
        }
    }

    /// Makes the call on this thread, which sleeps between the attempts.
    ///
    /// # Errors
    /// Those of [`Retry::run_blocking`].
    pub fn run_blocking<T, E, F>(self, operation: F) -> Result<T, CallError<E>>
    where
        F: FnMut(Attempt) -> Result<T, E>,
        C: Classifier<T, E>,
    {
        self.run_blocking_with(std::thread::sleep, operation)
    }

    /// The same, with another way to wait: for tests, or for a loop that must
    /// hear of a shutdown.
    ///
    /// # Errors
    /// Those of [`Retry::run_blocking`].
    pub fn run_blocking_with<T, E, F>(self, mut wait: impl FnMut(Duration), mut operation: F) -> Result<T, CallError<E>>
    where
        F: FnMut(Attempt) -> Result<T, E>,
        C: Classifier<T, E>,
    {
        if let Some(mistake) = self.retry.mistake() {
            return Err(misconfigured(mistake));
        }
        if self.deadline.is_some_and(|deadline| deadline <= now()) {
            return Err(CallError::TimedOut { after: Duration::ZERO, scope: stanchion_core::Scope::Total });
        }
        let mut progress = Progress::prepared(self.retry, &self.described());
        self.begin(&mut progress);
        loop {
            let result = operation(progress.attempt(now));
            match progress.after(self.classifier.classify(&result), now) {
                Next::Retry { delay } => {
                    drop(result);
                    wait(delay);
                }
                Next::Stop(_) => return result.map_err(|error| failed(error, &progress)),
            }
        }
    }
}

impl Retry {
    /// Runs the operation until it succeeds, or until the policy says to stop.
    ///
    /// The operation makes a future for each attempt. Errors that aren't
    /// [`Classify`] need a [`when`](Self::when) or [`classify`](Self::classify)
    /// before.
    ///
    /// Nothing is allocated, and without limits of time and a budget no clock is
    /// read, unless something fails.
    ///
    /// # Errors
    /// The operation's last error as [`CallError::Inner`], and
    /// [`CallError::TimedOut`] where the last attempt was cut. A last *value* that
    /// a classifier calls a failure is handed out as the value that it is.
    ///
    /// # Cancellation
    /// Dropping the future drops the attempt or the delay that is under way. A
    /// retry that was granted by the budget and not begun is given back.
    ///
    /// ```
    /// # async fn fetch() -> std::io::Result<&'static str> { Ok("body") }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use stanchion_retry as retry;
    ///
    /// let body = retry::exponential().run(|_| fetch()).await?;
    /// # assert_eq!(body, "body");
    /// # Ok(()) }
    /// ```
    ///
    /// The operation may borrow what is around it, be spawned, and be a method of
    /// an `Arc`:
    ///
    /// ```
    /// use std::sync::Arc;
    /// use stanchion_retry::{CallError, Retry};
    ///
    /// struct Client { retry: Retry, host: String }
    ///
    /// impl Client {
    ///     async fn get(&self, path: &str) -> std::io::Result<String> {
    ///         Ok(format!("{}/{path}", self.host))
    ///     }
    ///
    ///     async fn fetch(self: Arc<Self>, path: String) -> Result<String, CallError<std::io::Error>> {
    ///         self.retry.run(|_| self.get(&path)).await
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Arc::new(Client { retry: Retry::exponential(), host: "example.org".into() });
    /// let page = tokio::spawn(client.fetch("index".into())).await??;
    /// assert_eq!(page, "example.org/index");
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "tokio")]
    pub fn run<T, E, F, Fut>(&self, operation: F) -> impl Future<Output = Result<T, CallError<E>>>
    where
        F: FnMut(Attempt) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: Classify,
    {
        // Not in a future of its own, which would have to move that one into itself.
        Run::by_error(self).run(operation)
    }

    /// The same on this thread, which sleeps between the attempts. No runtime is
    /// needed.
    ///
    /// # Errors
    /// The operation's last error as [`CallError::Inner`].
    ///
    /// ```
    /// use stanchion_retry::Retry;
    ///
    /// let text = Retry::exponential().run_blocking(|_| std::fs::read_to_string("Cargo.toml"))?;
    /// # assert!(text.contains("stanchion-retry"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn run_blocking<T, E, F>(&self, operation: F) -> Result<T, CallError<E>>
    where
        F: FnMut(Attempt) -> Result<T, E>,
        E: Classify,
    {
        Run::by_error(self).run_blocking(operation)
    }
}

#[cold]
fn misconfigured<E>(mistake: &ConfigError) -> CallError<E> {
    mistake.clone().into()
}

#[cold]
fn failed<E>(error: E, progress: &Progress<'_>) -> CallError<E> {
    CallError::Inner { error, attempts: progress.made() }
}

#[cfg(feature = "tokio")]
#[cold]
fn cut<E>(after: Duration, scope: Scope) -> CallError<E> {
    CallError::TimedOut { after, scope }
}

pub(crate) fn now() -> Moment {
    Clock::system().now()
}

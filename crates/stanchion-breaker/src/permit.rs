//! One call's right to pass, and running it.

use std::fmt;
use std::future::Future;

use stanchion_core::{ByError, CallError, Classifier, Classify, Gate, Moment, Outcome, Rejection, Ticket};

use crate::Breaker;

/// The right to make one call. [`settle`](Self::settle) it with the call's outcome;
/// dropped, it settles [`Outcome::Abandoned`], and a probe's slot is free at once.
#[must_use = "dropping a permit settles the call as abandoned"]
pub struct BreakerPermit<'a> {
    breaker: &'a Breaker,
    // `None` once settled.
    ticket: Option<Ticket>,
    began: Option<Moment>,
}

impl<'a> BreakerPermit<'a> {
    #[inline]
    pub(crate) fn new(breaker: &'a Breaker, ticket: Ticket, began: Option<Moment>) -> Self {
        Self { breaker, ticket: Some(ticket), began }
    }

    /// The breaker's generation when it let the call pass.
    pub fn generation(&self) -> u64 {
        self.ticket.as_ref().map_or(0, Ticket::generation)
    }

    /// Tells the breaker how the call ended.
    #[inline]
    pub fn settle(mut self, outcome: Outcome) {
        self.settle_once(outcome);
    }

    #[inline]
    fn settle_once(&mut self, outcome: Outcome) {
        if let Some(ticket) = self.ticket.take() {
            let elapsed = self.began.map(|began| self.breaker.clock().now() - began).unwrap_or_default();
            self.breaker.settle(ticket, outcome, elapsed);
        }
    }
}

impl Drop for BreakerPermit<'_> {
    fn drop(&mut self) {
        self.settle_once(Outcome::Abandoned);
    }
}

impl fmt::Debug for BreakerPermit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerPermit").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}

impl Breaker {
    /// Runs an operation if the breaker lets it pass, and counts how it ended by
    /// its error's own word.
    ///
    /// # Errors
    /// The refusal, or the operation's own error.
    ///
    /// # Cancellation
    /// Dropping the future drops the operation, which counts as
    /// [`Abandoned`](crate::Abandoned) says; so does a panic in it. Before it is first
    /// polled, nothing is asked and nothing counted.
    ///
    /// ```
    /// # use stanchion_breaker::Breaker;
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let breaker = Breaker::new("files");
    /// let read = breaker.run(|| async { std::fs::read("/no/such/file") }).await;
    /// assert!(read.unwrap_err().into_inner().is_some());
    /// # });
    /// ```
    pub async fn run<T, E, F, Fut>(&self, operation: F) -> Result<T, CallError<E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: Classify,
    {
        self.run_by(ByError, operation).await
    }

    /// The same, with a classifier that says how a result counts.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Cancellation
    /// As [`run`](Self::run).
    pub async fn run_by<T, E, F, Fut>(&self, classifier: impl Classifier<T, E>, operation: F) -> Result<T, CallError<E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let permit = self.try_acquire()?;
        let result = operation().await;
        permit.settle(classifier.classify(&result));
        result.map_err(|error| CallError::Inner { error, attempts: 1 })
    }

    /// Runs a blocking operation if the breaker lets it pass, and counts how it
    /// ended by its error's own word. A panic in it counts as abandoned.
    ///
    /// # Errors
    /// The refusal, or the operation's own error.
    ///
    /// ```
    /// let breaker = stanchion_breaker::Breaker::new("files");
    /// assert!(breaker.call(|| std::fs::read("/no/such/file")).is_err());
    /// ```
    pub fn call<T, E: Classify>(&self, operation: impl FnOnce() -> Result<T, E>) -> Result<T, CallError<E>> {
        self.call_by(ByError, operation)
    }

    /// The same, with a classifier that says how a result counts.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn call_by<T, E>(
        &self,
        classifier: impl Classifier<T, E>,
        operation: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, CallError<E>> {
        let permit: Result<_, Rejection> = self.try_acquire();
        let permit = permit?;
        let result = operation();
        permit.settle(classifier.classify(&result));
        result.map_err(|error| CallError::Inner { error, attempts: 1 })
    }
}

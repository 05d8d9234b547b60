//! A call about to be made.

use std::fmt;
use std::future::Future;

use stanchion_core::{Attempt, ByError, Call, CallError, Classifier};
use stanchion_retry::When;

use crate::stats::Stats;
use crate::{Pipeline, drive};

/// A call through a [`Pipeline`], about to be made.
#[must_use = "it does nothing until it is run"]
pub struct PipelineCall<'a, C = ByError> {
    pipeline: &'a Pipeline,
    call: Call<'a>,
    classifier: C,
}

impl<'a> PipelineCall<'a> {
    pub(crate) const fn new(pipeline: &'a Pipeline, call: Call<'a>) -> Self {
        Self { pipeline, call, classifier: ByError }
    }
}

impl<'a, C> PipelineCall<'a, C> {
    /// With a classifier, which sees the whole result and, if it captures it, the
    /// request. Every policy reads the outcome that it finds. Default: each `Ok` is a
    /// success, and errors speak for themselves ([`Classify`](crate::Classify)).
    ///
    /// A closure needs the type of its argument: `|result: &Result<u16, Error>| …`. In
    /// a spawned task it must be `Sync`.
    pub fn classify<D>(self, classifier: D) -> PipelineCall<'a, D> {
        PipelineCall { pipeline: self.pipeline, call: self.call, classifier }
    }

    /// With a condition: errors of which it says `true` are transient, the others
    /// permanent.
    pub fn when<E, F: Fn(&E) -> bool>(self, condition: F) -> PipelineCall<'a, When<F>> {
        self.classify(When::new(condition))
    }

    /// Runs the operation under all policies: as [`Pipeline::run`], with whatever
    /// was said of the call.
    ///
    /// # Errors
    /// Those of [`Pipeline::run`]. A last *value* that a classifier calls a failure
    /// is handed out as the value that it is.
    pub fn run<T, E, F, Fut>(self, operation: F) -> impl Future<Output = Result<T, CallError<E>>>
    where
        C: Classifier<T, E>,
        F: FnMut(Attempt) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        drive::run(&self.pipeline.0, self.call, self.classifier, operation)
    }

    /// Runs the operation; where that fails, `instead` has the reason in hand and
    /// says what to do: another value, another place to ask, the cache's last
    /// word, or the reason itself. It is outside of all policies, the total timeout
    /// included. **A value that a classifier calls a failure is no error**, and handed
    /// out as it is.
    ///
    /// # Errors
    /// Those of `instead`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use stanchion_pipeline::{CallError, Pipeline, Retry};
    ///
    /// # async fn fetch() -> std::io::Result<f64> { Err(std::io::ErrorKind::ConnectionRefused.into()) }
    /// let rates = Pipeline::named("rates").retry(Retry::exponential()).build()?;
    /// let last_known = Some(1.07);
    /// let rate = rates.run_or_else(|_| fetch(), |reason| async move { last_known.ok_or(reason) }).await?;
    /// assert_eq!(rate, 1.07);
    /// # Ok(()) }
    /// ```
    pub async fn run_or_else<T, E, F, Fut, G, Other>(self, operation: F, instead: G) -> Result<T, CallError<E>>
    where
        C: Classifier<T, E>,
        F: FnMut(Attempt) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        G: FnOnce(CallError<E>) -> Other,
        Other: Future<Output = Result<T, CallError<E>>>,
    {
        let stats = &self.pipeline.0.stats;
        stanchion_retry::fallback(self.run(operation), |reason| async {
            let answer = instead(reason).await;
            if answer.is_ok() {
                Stats::count(&stats.fallbacks);
            }
            answer
        })
        .await
    }
}

impl<C> fmt::Debug for PipelineCall<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipelineCall").field("pipeline", &self.pipeline.name()).field("call", &self.call).finish()
    }
}

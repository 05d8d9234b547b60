//! Many items through one pipeline.

use std::fmt;
use std::future::Future;

use futures_util::future::Either;
use futures_util::stream::{self, Stream, StreamExt};
use stanchion_core::{Attempt, ByError, CallError, Classifier};
use stanchion_retry::When;

use crate::Pipeline;

/// Many items through one pipeline, at most [`concurrency`](Self::new) of them at
/// a time.
///
/// Each item is a call: retried as the pipeline says, and handed back with its
/// error when that was in vain. No item is lost: what comes out is one result for
/// each that went in.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use stanchion_pipeline::{Batch, Pipeline};
///
/// let uploads = Pipeline::batch_job("uploads").build()?;
/// let report = Batch::new(&uploads, 4)
///     .on_progress(|progress| println!("{} of {:?}", progress.done(), progress.total))
///     .run(["a.txt", "b.txt", "", "c.txt"], |name, _| async move {
///         if name.is_empty() { Err(std::io::Error::other("no name")) } else { Ok(name.len()) }
///     })
///     .await;
/// assert_eq!(report.succeeded, [5, 5, 5]);
/// assert_eq!(report.failed[0].item, "");
/// assert_eq!(report.failed[0].to_string(), "no name");
/// # Ok(()) }
/// ```
#[must_use = "it does nothing until it is run"]
pub struct Batch<'a, C = ByError> {
    pipeline: &'a Pipeline,
    classifier: C,
    concurrency: usize,
    in_order: bool,
    on_progress: Option<Box<dyn Fn(BatchProgress) + Send + Sync + 'a>>,
}

/// How far a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct BatchProgress {
    /// Items that went well.
    pub succeeded: u64,
    /// Items that failed for good.
    pub failed: u64,
    /// How many there are in all, if the source knows.
    pub total: Option<u64>,
}

impl BatchProgress {
    /// Items that are done with, one way or the other.
    pub const fn done(&self) -> u64 {
        self.succeeded + self.failed
    }
}

/// An item that failed for good.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailedItem<I, E> {
    /// The item.
    pub item: I,
    /// Why.
    pub error: CallError<E>,
}

/// What came of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchReport<T, I, E> {
    /// What came of those that went well.
    pub succeeded: Vec<T>,
    /// Those that failed for good.
    pub failed: Vec<FailedItem<I, E>>,
}

impl<'a> Batch<'a> {
    /// At most `concurrency` items at a time; 0 is taken for 1. What the pipeline's
    /// bulkhead allows is another matter: let it have as much room.
    pub const fn new(pipeline: &'a Pipeline, concurrency: usize) -> Self {
        let concurrency = if concurrency == 0 { 1 } else { concurrency };
        Self { pipeline, classifier: ByError, concurrency, in_order: false, on_progress: None }
    }
}

impl<'a, C> Batch<'a, C> {
    /// With a classifier: as [`PipelineCall::classify`](crate::PipelineCall::classify).
    pub fn classify<D>(self, classifier: D) -> Batch<'a, D> {
        let Self { pipeline, concurrency, in_order, on_progress, .. } = self;
        Batch { pipeline, classifier, concurrency, in_order, on_progress }
    }

    /// With a condition on errors: as [`PipelineCall::when`](crate::PipelineCall::when).
    pub fn when<E, F: Fn(&E) -> bool>(self, condition: F) -> Batch<'a, When<F>> {
        self.classify(When::new(condition))
    }

    /// Results come in the order of the items: a slow one holds up those behind it.
    /// Default: as they are ready.
    pub const fn in_order(mut self) -> Self {
        self.in_order = true;
        self
    }

    /// Is called after each item, on the task that runs the batch.
    pub fn on_progress(mut self, callback: impl Fn(BatchProgress) + Send + Sync + 'a) -> Self {
        self.on_progress = Some(Box::new(callback));
        self
    }

    /// Runs all items, and keeps all results.
    ///
    /// # Cancellation
    /// Dropping the future drops the calls that are under way; no other is begun.
    pub async fn run<I, T, E, F, Fut>(
        self,
        items: impl IntoIterator<Item = I, IntoIter: Send>,
        operation: F,
    ) -> BatchReport<T, I, E>
    where
        I: Clone,
        F: Fn(I, Attempt) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        C: Classifier<T, E>,
    {
        let results = self.stream(stream::iter(items), operation);
        let mut report = BatchReport { succeeded: Vec::new(), failed: Vec::new() };
        let mut results = std::pin::pin!(results);
        while let Some(result) = results.next().await {
            match result {
                Ok(value) => report.succeeded.push(value),
                Err(failed) => report.failed.push(failed),
            }
        }
        report
    }

    /// The results of a stream of items, as they come. Takes an item from the
    /// source only when there is room for it, so that a source without an end is
    /// fine. Whoever doesn't ask for results holds everything up.
    ///
    /// # Cancellation
    /// Dropping the stream drops the calls that are under way; no other is begun.
    pub fn stream<I, T, E, F, Fut>(
        self,
        items: impl Stream<Item = I>,
        operation: F,
    ) -> impl Stream<Item = Result<T, FailedItem<I, E>>>
    where
        I: Clone,
        F: Fn(I, Attempt) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        C: Classifier<T, E>,
    {
        let Self { pipeline, classifier, concurrency, in_order, on_progress } = self;
        let (_, most) = items.size_hint();
        let mut progress =
            BatchProgress { total: most.and_then(|most| u64::try_from(most).ok()), ..BatchProgress::default() };
        let shared = std::sync::Arc::new((operation, classifier));
        let calls = items.map(move |item| {
            let shared = std::sync::Arc::clone(&shared);
            async move {
                let (operation, classifier) = &*shared;
                let by_reference = |result: &Result<T, E>| classifier.classify(result);
                let call = pipeline.classify(by_reference);
                let called = call.run(|attempt| operation(item.clone(), attempt)).await;
                called.map_err(|error| FailedItem { item, error })
            }
        });
        let results = if in_order {
            Either::Left(calls.buffered(concurrency))
        } else {
            Either::Right(calls.buffer_unordered(concurrency))
        };
        results.inspect(move |result| {
            match result {
                Ok(_) => progress.succeeded += 1,
                Err(_) => progress.failed += 1,
            }
            if let Some(callback) = &on_progress {
                callback(progress);
            }
        })
    }
}

impl<C> fmt::Debug for Batch<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("pipeline", &self.pipeline.name())
            .field("concurrency", &self.concurrency)
            .field("in_order", &self.in_order)
            .finish_non_exhaustive()
    }
}

impl<I, E: fmt::Display> fmt::Display for FailedItem<I, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<I: fmt::Debug, E: std::error::Error + 'static> std::error::Error for FailedItem<I, E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

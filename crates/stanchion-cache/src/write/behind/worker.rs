//! The task that writes. It is there while there is something to write.

use std::future::poll_fn;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use stanchion_core::{CallError, Outcome};
use stanchion_retry::Retry;
use tokio::time::{Instant, timeout_at};

use super::queue::{Batch, Next};
use super::shared::Shared;
use crate::error::panic_message;
use crate::write::{Sink, Write, WriteError};

/// The duty to write what is in the queue. Dropped before it is done, what was under way waits again.
pub(super) struct Employed<S: Sink> {
    shared: Arc<Shared<S>>,
    number: u64,
}

/// Why a call to the store failed.
struct Failure<E> {
    error: WriteError<E>,
    /// Whether another attempt wouldn't mend it, and fewer writes might.
    is_final: bool,
}

type Step<S> = Next<<S as Sink>::Key, <S as Sink>::Value>;

impl<S: Sink> Employed<S> {
    pub(super) fn new(shared: Arc<Shared<S>>, number: u64) -> Self {
        Self { shared, number }
    }

    /// What is to be done now; with nothing, the duty is over.
    fn next(&self) -> Step<S> {
        let now = Instant::now();
        let mut state = self.shared.write();
        if state.worker != Some(self.number) {
            return Next::Nothing;
        }
        let settings = state.settings.clone();
        let next = state.queue.next(now, settings.config.max_batch, settings.config.max_delay);
        if let Next::Nothing = next {
            (state.worker, state.abort) = (None, None);
        }
        next
    }
}

impl<S: Sink> Drop for Employed<S> {
    fn drop(&mut self) {
        let mut state = self.shared.write();
        if state.worker != Some(self.number) {
            return;
        }
        (state.worker, state.abort) = (None, None);
        let needless = state.queue.land();
        self.shared.counts.coalesced.add(needless.len());
        let places = state.vacate(needless.len());
        self.shared.note(&state);
        drop(state);
        self.shared.room.add_permits(places);
        self.shared.reporter.coalesced(needless.len());
        // Somebody who flushes may have another runtime.
        self.shared.settled.notify_waiters();
    }
}

pub(super) async fn work<S: Sink>(employed: Employed<S>) {
    let shared = &*employed.shared;
    loop {
        match employed.next() {
            Next::Write(batch) => shared.write_batch(&batch).await,
            Next::WaitUntil(due) => {
                let _ = timeout_at(due, shared.wake.notified()).await;
            }
            Next::Nothing => return,
        }
    }
}

impl<S: Sink> Shared<S> {
    /// Writes a batch as a whole, or if it can't be, in halves, and their halves.
    async fn write_batch(&self, batch: &Batch<S::Key, S::Value>) {
        let retry = self.read().settings.retry.clone();
        let whole = 0..batch.numbers.len();
        let mut parts = vec![whole];
        while let Some(part) = parts.pop() {
            match self.write_part(&retry, &batch.writes[part.clone()]).await {
                Ok(()) => self.written(batch, part),
                Err(failure) if failure.is_final && part.len() > 1 => {
                    let middle = part.start + part.len() / 2;
                    // The first half comes first.
                    parts.push(middle..part.end);
                    parts.push(part.start..middle);
                }
                Err(failure) => self.given_up(batch, part, failure.error),
            }
        }
    }

    async fn write_part(&self, retry: &Retry, writes: &[Write<S::Key, S::Value>]) -> Result<(), Failure<S::Error>> {
        let is_final = AtomicBool::new(false);
        let outcome = |result: &Result<(), S::Error>| {
            let outcome = result.as_ref().map_or_else(|error| self.sink.outcome(error), |()| Outcome::Success);
            // Relaxed: it is this task's alone.
            is_final.store(!outcome.is_retryable(), Ordering::Relaxed);
            outcome
        };
        let calls = retry.classify(outcome).run(|attempt| {
            self.counts.retried.add(usize::from(attempt.number() > 1));
            self.sink.write(writes)
        });
        let mut calls = pin!(calls);
        let guarded = poll_fn(|context| {
            catch_unwind(AssertUnwindSafe(|| calls.as_mut().poll(context)))
                .map_or_else(|panic| Poll::Ready(Err(panic)), |polled| polled.map(Ok))
        });
        let error = match guarded.await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(CallError::Inner { error, .. })) => WriteError::Failed(error),
            Ok(Err(CallError::TimedOut { after, .. })) => {
                return Err(Failure { error: WriteError::TimedOut { after }, is_final: false });
            }
            // A policy that was validated, and no gates: there is nothing else.
            Ok(Err(_)) => WriteError::Aborted,
            Err(panic) => {
                return Err(Failure { error: WriteError::Panicked(panic_message(&*panic)), is_final: true });
            }
        };
        Err(Failure { error, is_final: is_final.load(Ordering::Relaxed) })
    }

    fn written(&self, batch: &Batch<S::Key, S::Value>, part: Range<usize>) {
        // The cache has it before the queue hasn't: nobody finds it in neither.
        for (key, loaded) in batch.part(part.clone()) {
            let follow = || self.cache.insert_loaded(key.clone(), loaded.clone());
            // What isn't kept may have left another value where it was; a weigher that panics, too.
            if !catch_unwind(AssertUnwindSafe(follow)).unwrap_or(false) {
                self.cache.invalidate(key);
            }
        }
        let mut state = self.write();
        let settled: Vec<_> = batch.numbers[part].iter().filter_map(|number| state.queue.take(*number)).collect();
        self.counts.written.add(settled.len());
        self.counts.batches.add(1);
        let places = state.vacate(settled.len());
        self.note(&state);
        drop(state);
        self.room.add_permits(places);
        self.reporter.written(settled.len());
        self.settled.notify_waiters();
    }

    fn given_up(&self, batch: &Batch<S::Key, S::Value>, part: Range<usize>, error: WriteError<S::Error>) {
        for (key, _) in batch.part(part.clone()) {
            self.cache.invalidate(key);
        }
        let error = Arc::new(error);
        let mut lost = Vec::new();
        let mut state = self.write();
        let mut needless = Vec::new();
        for number in &batch.numbers[part] {
            // A newer one of its key is to follow: nothing is lost.
            let is_outdated = state.queue.is_outdated(*number);
            let Some(held) = state.queue.take(*number) else { continue };
            if is_outdated {
                needless.push(held);
            } else {
                state.flushes.given_up(*number, &error);
                lost.push(held.into_write());
            }
        }
        if let Some(unwritten) = &mut state.unwritten {
            unwritten.extend(lost.iter().cloned());
        }
        self.counts.given_up.add(lost.len());
        self.counts.coalesced.add(needless.len());
        let places = state.vacate(lost.len() + needless.len());
        self.note(&state);
        drop(state);
        self.room.add_permits(places);
        self.reporter.coalesced(needless.len());
        self.settled.notify_waiters();
        self.report(&lost, &error);
    }

    /// Tells of what was given up. A listener that panics is on its own.
    pub(super) fn report(&self, writes: &[Write<S::Key, S::Value>], error: &WriteError<S::Error>) {
        if writes.is_empty() {
            return;
        }
        self.reporter.given_up(writes.len(), error.as_str());
        let Some(listener) = &self.listener else { return };
        for write in writes {
            // The panic's message has been printed by the hook.
            let _ = catch_unwind(AssertUnwindSafe(|| listener(write, error)));
        }
    }
}

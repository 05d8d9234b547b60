//! Waiting until what was accepted is settled, and what becomes of the rest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::error::FlushError;
use super::queue::Held;
use super::shared::{Shared, State};
use crate::write::{Sink, Write, WriteError};

/// Tasks that one flush begins, at most, each of which came to nothing.
const TASKS: usize = 3;

/// Those who wait until what was accepted before is settled.
pub(super) struct Flushes<E> {
    waiting: BTreeMap<u64, Flush<E>>,
    next: u64,
}

struct Flush<E> {
    /// It is about writes of lower numbers.
    mark: u64,
    given_up: u64,
    error: Option<Arc<WriteError<E>>>,
}

impl<E> Flushes<E> {
    pub(super) fn new() -> Self {
        Self { waiting: BTreeMap::new(), next: 0 }
    }

    fn begin(&mut self, mark: u64) -> u64 {
        self.next += 1;
        self.waiting.insert(self.next, Flush { mark, given_up: 0, error: None });
        self.next
    }

    /// This write was given up.
    pub(super) fn given_up(&mut self, number: u64, error: &Arc<WriteError<E>>) {
        for flush in self.waiting.values_mut().filter(|flush| number < flush.mark) {
            flush.given_up += 1;
            flush.error = Some(error.clone());
        }
    }

    #[cfg(all(test, not(stanchion_loom)))]
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    fn result(&self, number: u64) -> Result<(), FlushError<E>> {
        match self.waiting.get(&number) {
            Some(Flush { given_up, error: Some(error), .. }) => {
                Err(FlushError::GivenUp { writes: *given_up, error: error.clone() })
            }
            _ => Ok(()),
        }
    }
}

/// A place among those who wait, until dropped.
struct Waiting<'a, S: Sink> {
    shared: &'a Shared<S>,
    number: u64,
    mark: u64,
}

impl<S: Sink> Waiting<'_, S> {
    fn is_over(&self, state: &State<S>) -> bool {
        state.queue.is_settled(self.mark)
    }
}

impl<S: Sink> Drop for Waiting<'_, S> {
    fn drop(&mut self) {
        self.shared.write().flushes.waiting.remove(&self.number);
    }
}

impl<S: Sink> Shared<S> {
    pub(super) async fn flush(self: &Arc<Self>) -> Result<(), FlushError<S::Error>> {
        let waiting = {
            let mut state = self.write();
            let mark = state.queue.hurry();
            Waiting { shared: self, number: state.flushes.begin(mark), mark }
        };
        self.wake.notify_one();
        let mut begun = 0;
        loop {
            // Before the look: it hears of all that is settled from here on.
            let settled = self.settled.notified();
            {
                let state = self.read();
                if waiting.is_over(&state) {
                    return state.flushes.result(waiting.number);
                }
            }
            // Should the task that wrote be gone with its runtime, or by a panic of the user's `Clone`.
            let runtime = self.runtime().or_else(|| self.read().runtime.clone());
            let Some(runtime) = runtime else { return Err(FlushError::NoRuntime) };
            begun += usize::from(self.employ(&runtime));
            if begun > TASKS {
                return Err(FlushError::NoRuntime);
            }
            settled.await;
        }
    }

    pub(super) async fn shutdown(self: &Arc<Self>, within: Duration) -> Vec<Write<S::Key, S::Value>> {
        self.write().unwritten.get_or_insert_default();
        self.close();
        self.drained(within).await;
        self.abandon();
        self.write().unwritten.replace(Vec::new()).unwrap_or_default()
    }

    /// Accepts nothing any more.
    fn close(&self) {
        self.write().is_closed = true;
        self.room.close();
    }

    /// Waits until all is settled, for so long at most.
    async fn drained(self: &Arc<Self>, within: Duration) {
        let Some(runtime) = self.runtime().or_else(|| self.read().runtime.clone()) else { return };
        let flushed = {
            // Timers are the runtime's, whoever polls this.
            let _inside = runtime.enter();
            timeout(within, self.flush())
        };
        // What was given up has been told.
        let _ = flushed.await;
    }

    /// Gives up all that isn't settled.
    fn abandon(&self) {
        let mut state = self.write();
        if state.queue.len() == 0 {
            return;
        }
        let worker = state.abort.take();
        state.worker = None;
        let mut needless = Vec::new();
        let left = state.queue.take_all(&mut needless);
        let error = Arc::new(WriteError::Aborted);
        left.iter().for_each(|held| state.flushes.given_up(held.number, &error));
        let writes: Vec<_> = left.into_iter().map(Held::into_write).collect();
        if let Some(unwritten) = &mut state.unwritten {
            unwritten.extend(writes.iter().cloned());
        }
        self.counts.given_up.add(writes.len());
        self.counts.coalesced.add(needless.len());
        self.note(&state);
        drop(state);
        if let Some(worker) = worker {
            worker.abort();
        }
        // Perhaps the store has some of them.
        for write in &writes {
            self.cache.invalidate(write.key());
        }
        self.reporter.coalesced(needless.len());
        self.settled.notify_waiters();
        self.report(&writes, &error);
    }

    /// Nobody has the queue any more: writes what there is, for as long as it may.
    pub(super) fn drain(self: Arc<Self>) {
        self.close();
        let (is_settled, runtime, within) = {
            let state = self.read();
            (state.queue.len() == 0, state.runtime.clone(), state.settings.config.drain_timeout)
        };
        if is_settled {
            return;
        }
        let rest = Rest(self);
        if let Some(runtime) = runtime {
            runtime.spawn(async move {
                let rest = rest;
                rest.0.drained(within).await;
            });
        }
    }
}

/// What nobody has any more: dropped, it is given up.
struct Rest<S: Sink>(Arc<Shared<S>>);

impl<S: Sink> Drop for Rest<S> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

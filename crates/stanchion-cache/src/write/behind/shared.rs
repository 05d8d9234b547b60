//! What the handles and the task that writes have in common: how writes get in, and are read.

use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use stanchion_core::ConfigError;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, TryAcquireError};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::config::{Settings, WriteBehindBuilder, WriteBehindConfig};
use super::error::QueueError;
use super::flush::Flushes;
use super::queue::Queue;
use super::snapshot::{Counts, WriteBehindSnapshot};
use super::{Listener, worker};
use crate::cache::Cache;
use crate::loaded::Loaded;
use crate::trace::WriteReporter;
use crate::write::{Sink, Write};

pub(super) struct Shared<S: Sink> {
    pub(super) cache: Cache<S::Key, S::Value>,
    pub(super) sink: S,
    pub(super) listener: Option<Listener<S>>,
    pub(super) reporter: WriteReporter,
    state: RwLock<State<S>>,
    /// How many writes the queue has, for those who only read.
    pub(super) held: AtomicUsize,
    /// A permit for each write that there is room for.
    pub(super) room: Semaphore,
    /// For the task that writes: there may be something to do.
    pub(super) wake: Notify,
    /// For those who flush: something was settled.
    pub(super) settled: Notify,
    pub(super) counts: Counts,
}

/// A key and what it is to have.
type Given<S> = (<S as Sink>::Key, Loaded<<S as Sink>::Value>);

/// What the lock is for.
pub(super) struct State<S: Sink> {
    pub(super) settings: Arc<Settings>,
    /// Places that are to go when they are free, as the queue has become smaller.
    debt: usize,
    pub(super) queue: Queue<S::Key, S::Value>,
    pub(super) flushes: Flushes<S::Error>,
    /// Accepts nothing any more.
    pub(super) is_closed: bool,
    /// What was given up since a shutdown began; `None` before.
    pub(super) unwritten: Option<Vec<Write<S::Key, S::Value>>>,
    /// The number of the task that writes, if there is one.
    pub(super) worker: Option<u64>,
    pub(super) workers: u64,
    pub(super) abort: Option<AbortHandle>,
    /// Where the last one ran.
    pub(super) runtime: Option<Handle>,
}

impl<S: Sink> State<S> {
    /// So many writes have left the queue. Returns how many places that makes, to be given outside of the lock.
    #[must_use = "they are to be given"]
    pub(super) fn vacate(&mut self, writes: usize) -> usize {
        let paid = self.debt.min(writes);
        self.debt -= paid;
        writes - paid
    }
}

impl<S: Sink> Shared<S> {
    pub(super) fn new(builder: WriteBehindBuilder<S>, settings: Settings) -> Self {
        let WriteBehindBuilder { cache, sink, listener, .. } = builder;
        let places = settings.config.max_queued;
        let state = State {
            settings: Arc::new(settings),
            debt: 0,
            queue: Queue::new(),
            flushes: Flushes::new(),
            is_closed: false,
            unwritten: None,
            worker: None,
            workers: 0,
            abort: None,
            runtime: None,
        };
        Self {
            reporter: WriteReporter::new(&cache.0.name),
            room: Semaphore::new(places),
            cache,
            sink,
            listener,
            state: RwLock::new(state),
            held: AtomicUsize::new(0),
            wake: Notify::new(),
            settled: Notify::new(),
            counts: Counts::default(),
        }
    }

    /// A panic of the user's `Eq` or `Clone` leaves nothing half done.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, State<S>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, State<S>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn runtime(&self) -> Option<Handle> {
        self.cache.runtime()
    }

    /// What is to be written of this key: `None` if nothing is, and of what is to be removed that there is nothing.
    pub(super) fn queued<Q>(&self, key: &Q) -> Option<Option<S::Value>>
    where
        S::Key: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        // Acquire: whoever finds nothing here finds in the cache what was put there before.
        if self.held.load(Ordering::Acquire) == 0 {
            return None;
        }
        let hash = self.cache.0.store.hash(key);
        let found = self.read().queue.newest(hash, key).map(|loaded| loaded.value.clone());
        self.counts.served.add(usize::from(found.is_some()));
        found
    }

    /// For those who only read, after each change.
    pub(super) fn note(&self, state: &State<S>) {
        self.held.store(state.queue.len(), Ordering::Release);
    }

    pub(super) async fn accept(self: &Arc<Self>, key: S::Key, loaded: Loaded<S::Value>) -> Result<(), QueueError> {
        let Some(runtime) = self.runtime() else { return Err(QueueError::NoRuntime) };
        let hash = self.cache.0.store.hash(&key);
        let Some((key, loaded)) = self.replace(hash, key, loaded)? else { return Ok(()) };
        let permit = self.permit(&runtime).await?;
        self.push(hash, key, loaded, permit, &runtime)
    }

    /// Puts a value in the place of one that waits. Gives it back if none does.
    fn replace(&self, hash: u64, key: S::Key, loaded: Loaded<S::Value>) -> Result<Option<Given<S>>, QueueError> {
        let mut state = self.write();
        if state.is_closed {
            return Err(QueueError::Closed);
        }
        let replaced = state.queue.replace(hash, &key, loaded);
        if replaced.is_ok() {
            self.counts.accepted.add(1);
            self.counts.coalesced.add(1);
        }
        drop(state);
        Ok(match replaced {
            Ok(_older) => {
                self.reporter.coalesced(1);
                None
            }
            Err(loaded) => Some((key, loaded)),
        })
    }

    async fn permit(&self, runtime: &Handle) -> Result<SemaphorePermit<'_>, QueueError> {
        match self.room.try_acquire() {
            Ok(permit) => return Ok(permit),
            Err(TryAcquireError::Closed) => return Err(QueueError::Closed),
            Err(TryAcquireError::NoPermits) => {}
        }
        let wait = self.read().settings.config.max_wait;
        if !wait.is_zero() {
            let permit = {
                // Timers are the runtime's, whoever polls this.
                let _inside = runtime.enter();
                timeout(wait, self.room.acquire())
            };
            match permit.await {
                Ok(Ok(permit)) => return Ok(permit),
                Ok(Err(_)) => return Err(QueueError::Closed),
                Err(_) => {}
            }
        }
        self.counts.refused.add(1);
        self.reporter.refused();
        Err(QueueError::Full { waited: wait })
    }

    fn push(
        self: &Arc<Self>,
        hash: u64,
        key: S::Key,
        loaded: Loaded<S::Value>,
        permit: SemaphorePermit<'_>,
        runtime: &Handle,
    ) -> Result<(), QueueError> {
        let now = Instant::now();
        let mut state = self.write();
        if state.is_closed {
            return Err(QueueError::Closed);
        }
        // Somebody may have come first, while this waited for room.
        let older = match state.queue.replace(hash, &key, loaded) {
            Ok(older) => Some((key, older)),
            Err(loaded) => {
                state.queue.push(hash, key, loaded, now);
                permit.forget();
                None
            }
        };
        self.counts.accepted.add(1);
        self.counts.coalesced.add(usize::from(older.is_some()));
        self.note(&state);
        let is_full = state.queue.waiting() >= state.settings.config.max_batch;
        let is_idle = state.worker.is_none();
        drop(state);
        if older.is_some() {
            self.reporter.coalesced(1);
        }
        if is_idle {
            self.employ(runtime);
        } else if is_full {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Sees to it that there is a task that writes, if there is anything to write. Whether it had to begin
    /// one.
    pub(super) fn employ(self: &Arc<Self>, runtime: &Handle) -> bool {
        let mut state = self.write();
        if state.worker.is_some() || state.queue.len() == 0 {
            return false;
        }
        state.workers += 1;
        let number = state.workers;
        state.worker = Some(number);
        state.runtime = Some(runtime.clone());
        drop(state);
        // A runtime that is shut down drops it here and now, and that takes the lock.
        let task = runtime.spawn(worker::work(worker::Employed::new(self.clone(), number)));
        let mut state = self.write();
        if state.worker == Some(number) {
            state.abort = Some(task.abort_handle());
        }
        true
    }

    pub(super) fn reconfigure(&self, config: &WriteBehindConfig) -> Result<(), ConfigError> {
        let settings = Settings::new(config.clone(), None, &self.cache.0.name)?;
        let mut state = self.write();
        let last = state.settings.clone();
        let (was, is) = (last.config.max_queued, config.max_queued);
        let places = state.vacate(is.saturating_sub(was));
        let fewer = was.saturating_sub(is);
        // Places that are taken go when they are free.
        state.debt += fewer - self.room.forget_permits(fewer);
        let retry = settings.retry.in_place_of(&last.retry);
        state.settings = Arc::new(Settings { retry, ..settings });
        drop(state);
        self.room.add_permits(places);
        self.wake.notify_one();
        Ok(())
    }

    pub(super) fn snapshot(&self) -> WriteBehindSnapshot {
        let now = Instant::now();
        let state = self.read();
        let (queued, in_flight) = (state.queue.waiting() as u64, state.queue.flying() as u64);
        let oldest = state.queue.oldest().map_or(Duration::ZERO, |oldest| now.duration_since(oldest));
        let (is_closed, max_queued) = (state.is_closed, state.settings.config.max_queued);
        // They are counted under the lock, and so they fit what is in the queue.
        let counts = &self.counts;
        WriteBehindSnapshot {
            name: self.cache.name().to_owned(),
            queued,
            in_flight,
            max_queued: max_queued as u64,
            oldest,
            accepted: counts.accepted.get(),
            refused: counts.refused.get(),
            coalesced: counts.coalesced.get(),
            written: counts.written.get(),
            batches: counts.batches.get(),
            retried: counts.retried.get(),
            given_up: counts.given_up.get(),
            served: counts.served.get(),
            is_closed,
        }
    }
}

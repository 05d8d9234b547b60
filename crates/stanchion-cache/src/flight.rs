//! One load under way, and who waits for it.
//!
//! A flight is born with its entry in a shard's table of flights ([`Flights`]), under
//! the shard's lock, and that entry is its right to publish: whoever invalidates the key
//! takes it out, under the same lock. A load that ends looks, under that lock again,
//! whether its own flight still stands there. So between the moment at which a load starts and the
//! moment at which its value would be kept, nothing that happens to the key is missed; and
//! whoever asks after an invalidation finds no flight and starts one anew.

use std::borrow::Borrow;
use std::sync::Arc;
use std::sync::PoisonError;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hashbrown::HashTable;
use stanchion_core::Moment;

use crate::policy::spread;
use crate::sync::{Condvar, Mutex, MutexGuard};

/// A load under way. `T` is how it ends, cloned for each who waits.
pub(crate) struct Flight<T> {
    id: u64,
    began: Moment,
    state: Mutex<State<T>>,
    landed: Condvar,
}

struct State<T> {
    ending: Option<T>,
    wakers: Vec<Option<Waker>>,
    /// Who waits, threads and tasks.
    waiting: usize,
    /// Ends it, for when nobody waits any more.
    abort: Option<Abort>,
}

type Abort = Box<dyn FnOnce() + Send>;

/// A place among those who wait. Whoever has one must give it back.
#[derive(Debug, Default)]
pub(crate) struct Seat(Option<usize>);

impl<T> Flight<T> {
    /// A load of this number, which no other flight of the process may have.
    pub(crate) fn new(id: u64, began: Moment) -> Self {
        let state = State { ending: None, wakers: Vec::new(), waiting: 0, abort: None };
        Self { id, began, state: Mutex::new(state), landed: Condvar::new() }
    }

    pub(crate) fn began(&self) -> Moment {
        self.began
    }

    /// What ends the load when nobody waits for it any more.
    #[cfg_attr(not(feature = "tokio"), allow(dead_code, reason = "only tasks need it"))]
    pub(crate) fn abort_with(&self, abort: impl FnOnce() + Send + 'static) {
        self.lock().abort = Some(Box::new(abort));
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// It is over; tells all who wait. Only the first ending counts.
    pub(crate) fn land(&self, ending: T) {
        let mut state = self.lock();
        if state.ending.is_some() {
            return;
        }
        state.ending = Some(ending);
        let wakers = std::mem::take(&mut state.wakers);
        let abort = state.abort.take();
        drop(state);
        drop(abort);
        self.landed.notify_all();
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // A waker's `Clone` that panics leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone> Flight<T> {
    /// One more who wants to know. Pair with [`leave`](Self::leave).
    pub(crate) fn join(&self) {
        self.lock().waiting += 1;
    }

    /// Somebody gives up, or knows. Returns what ends a load that nobody wants any more.
    pub(crate) fn leave(&self, seat: &mut Seat) -> Option<Abort> {
        let mut state = self.lock();
        state.waiting -= 1;
        let waker = seat.0.take().and_then(|seat| state.wakers.get_mut(seat).and_then(Option::take));
        // The others keep their seats; those at the end that nobody has are given up.
        while let Some(None) = state.wakers.last() {
            state.wakers.pop();
        }
        let is_unwanted = state.waiting == 0 && state.ending.is_none();
        let abort = if is_unwanted { state.abort.take() } else { None };
        drop(state);
        // A waker is somebody's code.
        drop(waker);
        abort
    }

    /// The ending, or the task is woken when there is one.
    #[cfg_attr(not(feature = "tokio"), allow(dead_code, reason = "only tasks need it"))]
    pub(crate) fn poll(&self, seat: &mut Seat, context: &mut Context<'_>) -> Poll<T> {
        let mut state = self.lock();
        if let Some(ending) = &state.ending {
            return Poll::Ready(ending.clone());
        }
        let replaced = match seat.0 {
            Some(place) => match &mut state.wakers[place] {
                Some(waker) if waker.will_wake(context.waker()) => None,
                waker => waker.replace(context.waker().clone()),
            },
            None => {
                seat.0 = Some(state.wakers.len());
                state.wakers.push(Some(context.waker().clone()));
                None
            }
        };
        drop(state);
        drop(replaced);
        Poll::Pending
    }

    /// The ending, if there is one.
    pub(crate) fn ending(&self) -> Option<T> {
        self.lock().ending.clone()
    }

    /// Blocks until it is over, for so long at most.
    #[cfg(not(stanchion_loom))]
    pub(crate) fn wait(&self, timeout: Duration) -> Option<T> {
        let (state, _) = self
            .landed
            .wait_timeout_while(self.lock(), timeout, |state| state.ending.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        state.ending.clone()
    }

    /// loom has no time.
    #[cfg(stanchion_loom)]
    pub(crate) fn wait(&self, _timeout: Duration) -> Option<T> {
        let mut state = self.lock();
        while state.ending.is_none() {
            state = self.landed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.ending.clone()
    }
}

/// The loads under way in a shard, by key. It is kept under the shard's lock.
pub(crate) struct Flights<K, F> {
    table: HashTable<Standing<K, F>>,
}

struct Standing<K, F> {
    hash: u32,
    key: K,
    flight: Arc<F>,
}

/// What becomes of somebody who wants a load.
pub(crate) enum Boarding<F> {
    /// The load is theirs to run.
    Leads(Arc<F>),
    /// Somebody else's is under way.
    Joins(Arc<F>),
}

impl<K: Eq, T: Clone> Flights<K, Flight<T>> {
    pub(crate) fn new() -> Self {
        Self { table: HashTable::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Joins the load under way, or begins one with this number. One that `is_overdue` is
    /// voided.
    pub(crate) fn board(
        &mut self,
        hash: u32,
        key: K,
        id: u64,
        now: Moment,
        is_overdue: impl FnOnce(&Flight<T>) -> bool,
    ) -> Boarding<Flight<T>> {
        if let Some(standing) = self.table.find_mut(spread(hash), |found| found.is(hash, &key)) {
            if !is_overdue(&standing.flight) {
                return Boarding::Joins(standing.flight.clone());
            }
            // Whoever waits for it still does.
            standing.flight = Arc::new(Flight::new(id, now));
            return Boarding::Leads(standing.flight.clone());
        }
        let flight = Arc::new(Flight::new(id, now));
        let standing = Standing { hash, key, flight: flight.clone() };
        self.table.insert_unique(spread(hash), standing, |standing| spread(standing.hash));
        Boarding::Leads(flight)
    }

    /// Takes the right to publish from the load of this key, if there is one. Returns what is to be
    /// dropped outside the lock.
    pub(crate) fn void<Q: Eq + ?Sized>(&mut self, hash: u32, key: &Q) -> Option<Voided<K, Flight<T>>>
    where
        K: Borrow<Q>,
    {
        if self.table.is_empty() {
            return None;
        }
        let found = self.table.find_entry(spread(hash), |found| found.is(hash, key)).ok()?;
        Some(Voided(vec![found.remove().0]))
    }

    /// The same, of all loads.
    pub(crate) fn void_all(&mut self) -> Voided<K, Flight<T>> {
        Voided(self.table.drain().collect())
    }

    /// Whether this load may publish; it is out of the table then. By its number: nothing of the
    /// user's runs here.
    pub(crate) fn land(&mut self, hash: u32, id: u64) -> Option<Voided<K, Flight<T>>> {
        let found = self.table.find_entry(spread(hash), |found| found.flight.id == id).ok()?;
        Some(Voided(vec![found.remove().0]))
    }

    /// Whether this load may still publish.
    pub(crate) fn stands(&self, hash: u32, id: u64) -> bool {
        self.table.find(spread(hash), |found| found.flight.id == id).is_some()
    }

    /// Whether a load of this key is under way.
    pub(crate) fn contains<Q: Eq + ?Sized>(&self, hash: u32, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.table.find(spread(hash), |found| found.is(hash, key)).is_some()
    }
}

impl<K, F> Standing<K, F> {
    fn is<Q: Eq + ?Sized>(&self, hash: u32, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.hash == hash && self.key.borrow() == key
    }
}

/// Keys and flights that were taken out, to be dropped outside the lock.
#[must_use = "it is to be dropped outside the lock"]
pub(crate) struct Voided<K, F>(#[allow(dead_code, reason = "kept to be dropped")] Vec<Standing<K, F>>);

//! A cache store in this process: for tests, and the reference.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stanchion_core::{
    Answer, CacheStore, Change, ChangeListener, Clock, Fence, Found, Lease, LeaseStore, Moment, NewValue, StoreError,
    StoredValue, Subscription,
};

/// A [`CacheStore`] in memory, which several caches of one process share. It stands in for Redis in
/// tests, and is what the laws were written by.
///
/// It keeps 100,000 keys at most; then those go that have the shortest time left.
pub struct MemoryCacheStore {
    shared: Arc<Shared>,
    id: u64,
}

struct Shared {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Counts what happens: fences, and the order of loads and invalidations.
    steps: u64,
    entries: HashMap<Vec<u8>, Entry>,
    leases: HashMap<Vec<u8>, Held>,
    cleared: u64,
    tags: HashMap<String, u64>,
    /// With the number of the store that must not hear of its own.
    listeners: HashMap<u64, (u64, ChangeListener)>,
}

struct Entry {
    value: StoredValue,
    born: Moment,
    /// The step at which its load began.
    since: u64,
    keep_for: Duration,
}

#[derive(Clone, Copy)]
struct Held {
    fence: u64,
    granted: Moment,
    until: Moment,
}

const MOST_KEYS: usize = 100_000;

impl MemoryCacheStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::with_clock(Clock::system())
    }

    /// An empty store that goes by `clock`.
    pub fn with_clock(clock: impl Into<Clock>) -> Self {
        Self { shared: Arc::new(Shared { clock: clock.into(), state: Mutex::default() }), id: 0 }
    }

    /// The same store as another instance has it: each hears what the other one changes.
    pub fn another(&self) -> Self {
        let id = self.lock().step();
        Self { shared: self.shared.clone(), id }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A step is finished or not begun: a poisoned lock guards nothing half done.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the others, outside of the lock.
    fn tell(&self, change: Change<'_>) {
        let others = |(owner, listener): &(u64, ChangeListener)| (*owner != self.id).then(|| listener.clone());
        let listeners: Vec<_> = self.lock().listeners.values().filter_map(others).collect();
        for listener in listeners {
            listener(change);
        }
    }
}

impl State {
    fn step(&mut self) -> u64 {
        self.steps += 1;
        self.steps
    }

    fn get(&mut self, key: &[u8], now: Moment) -> Option<StoredValue> {
        let entry = self.entries.get(key)?;
        if self.is_gone(&entry.value.tags, entry.since) || now - entry.born >= entry.keep_for {
            self.entries.remove(key);
            return None;
        }
        Some(StoredValue { age: now - entry.born, ..entry.value.clone() })
    }

    fn is_gone<T: AsRef<str>>(&self, tags: &[T], since: u64) -> bool {
        let is_newer = |tag: &T| self.tags.get(tag.as_ref()).is_some_and(|&step| step > since);
        self.cleared > since || tags.iter().any(is_newer)
    }

    fn acquire(&mut self, key: &[u8], duration: Duration, now: Moment) -> Lease {
        match self.held(key, now) {
            Some(held) => Lease::Taken { retry_after: held.until - now },
            None => {
                let fence = self.step();
                self.leases.retain(|_, held| held.until > now);
                self.leases.insert(key.to_vec(), Held { fence, granted: now, until: now + duration });
                Lease::Held(Fence::new(fence))
            }
        }
    }

    fn held(&self, key: &[u8], now: Moment) -> Option<Held> {
        self.leases.get(key).copied().filter(|held| held.until > now)
    }

    fn holds(&self, key: &[u8], fence: Fence, now: Moment) -> Option<Held> {
        self.held(key, now).filter(|held| held.fence == fence.get())
    }

    fn store(&mut self, key: &[u8], value: NewValue<'_>, born: Moment, since: u64, now: Moment) {
        if self.entries.len() >= MOST_KEYS && !self.entries.contains_key(key) {
            self.make_room(now);
        }
        let tags = value.tags.iter().map(|&tag| tag.to_owned()).collect();
        let stored = StoredValue { bytes: value.bytes.to_vec(), age: Duration::ZERO, fresh_for: value.fresh_for, tags };
        self.entries.insert(key.to_vec(), Entry { value: stored, born, since, keep_for: value.keep_for });
    }

    fn make_room(&mut self, now: Moment) {
        self.entries.retain(|_, entry| entry.born + entry.keep_for > now);
        let mut ends: Vec<(Moment, Vec<u8>)> =
            self.entries.iter().map(|(key, entry)| (entry.born + entry.keep_for, key.clone())).collect();
        ends.sort_unstable();
        for (_, key) in ends.iter().take(self.entries.len().saturating_sub(MOST_KEYS * 9 / 10)) {
            self.entries.remove(key);
        }
    }
}

impl LeaseStore for MemoryCacheStore {
    fn acquire(&self, key: &[u8], duration: Duration) -> Answer<'_, Result<Lease, StoreError>> {
        let now = self.shared.clock.now();
        Answer::Ready(Ok(self.lock().acquire(key, duration, now)))
    }

    fn renew(&self, key: &[u8], fence: Fence, duration: Duration) -> Answer<'_, Result<bool, StoreError>> {
        let now = self.shared.clock.now();
        let mut state = self.lock();
        let held = state.holds(key, fence, now);
        if let Some(held) = held {
            state.leases.insert(key.to_vec(), Held { until: now + duration, ..held });
        }
        Answer::Ready(Ok(held.is_some()))
    }

    fn release(&self, key: &[u8], fence: Fence) -> Answer<'_, Result<bool, StoreError>> {
        let now = self.shared.clock.now();
        let mut state = self.lock();
        let is_held = state.holds(key, fence, now).is_some();
        if is_held {
            state.leases.remove(key);
        }
        Answer::Ready(Ok(is_held))
    }
}

impl CacheStore for MemoryCacheStore {
    fn get(&self, key: &[u8]) -> Answer<'_, Result<Option<StoredValue>, StoreError>> {
        let now = self.shared.clock.now();
        Answer::Ready(Ok(self.lock().get(key, now)))
    }

    fn get_or_lease(&self, key: &[u8], lease: Duration) -> Answer<'_, Result<Found, StoreError>> {
        let now = self.shared.clock.now();
        let mut state = self.lock();
        Answer::Ready(Ok(match state.get(key, now) {
            Some(value) if value.is_fresh() => Found::Fresh(value),
            value => Found::Stale { value, lease: state.acquire(key, lease, now) },
        }))
    }

    fn put(&self, key: &[u8], fence: Fence, value: NewValue<'_>) -> Answer<'_, Result<bool, StoreError>> {
        let now = self.shared.clock.now();
        let mut state = self.lock();
        let Some(held) = state.holds(key, fence, now) else { return Answer::Ready(Ok(false)) };
        state.leases.remove(key);
        let is_current = !state.is_gone(value.tags, held.fence);
        if is_current {
            state.store(key, value, held.granted, held.fence, now);
        }
        Answer::Ready(Ok(is_current))
    }

    fn insert(&self, key: &[u8], value: NewValue<'_>) -> Answer<'_, Result<(), StoreError>> {
        let now = self.shared.clock.now();
        let mut state = self.lock();
        state.leases.remove(key);
        let since = state.step();
        state.store(key, value, now, since, now);
        drop(state);
        self.tell(Change::Key(key));
        Answer::Ready(Ok(()))
    }

    fn invalidate(&self, key: &[u8]) -> Answer<'_, Result<(), StoreError>> {
        let mut state = self.lock();
        state.leases.remove(key);
        state.entries.remove(key);
        drop(state);
        self.tell(Change::Key(key));
        Answer::Ready(Ok(()))
    }

    fn invalidate_tag(&self, tag: &str) -> Answer<'_, Result<(), StoreError>> {
        let mut state = self.lock();
        let step = state.step();
        state.tags.insert(tag.to_owned(), step);
        if state.tags.len() > MOST_KEYS {
            // Nobody remembers them all: everything goes.
            state.tags.clear();
            state.cleared = step;
        }
        drop(state);
        self.tell(Change::Tag(tag));
        Answer::Ready(Ok(()))
    }

    fn clear(&self) -> Answer<'_, Result<(), StoreError>> {
        let mut state = self.lock();
        state.cleared = state.step();
        state.entries.clear();
        state.leases.clear();
        drop(state);
        self.tell(Change::All);
        Answer::Ready(Ok(()))
    }

    fn subscribe(&self, listener: ChangeListener) -> Subscription {
        let mut state = self.lock();
        let number = state.step();
        state.listeners.insert(number, (self.id, listener.clone()));
        drop(state);
        listener(Change::Resumed);
        Subscription::new(Unsubscribe { shared: self.shared.clone(), number })
    }
}

struct Unsubscribe {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Unsubscribe {
    fn drop(&mut self) {
        let removed = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).listeners.remove(&self.number);
        // Outside of the lock: it may hold the last handle of whoever listened.
        drop(removed);
    }
}

impl Default for MemoryCacheStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryCacheStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryCacheStore").field("keys", &self.lock().entries.len()).finish_non_exhaustive()
    }
}

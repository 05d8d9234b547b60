//! A store that can be slow, gone, or lose its answers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use stanchion_cache::MemoryCacheStore;
use stanchion_core::{
    Answer, CacheStore, ChangeListener, Fence, Found, Lease, LeaseStore, NewValue, StoreError, StoreErrorKind,
    StoredValue, Subscription,
};

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    Well,
    /// It isn't carried out, and answered with an error.
    Cut,
    /// It isn't carried out, and never answered.
    Hangs,
    /// It is carried out, and answered with an error.
    LosesAnswers,
}

/// One instance's line to the store.
#[derive(Clone)]
pub(crate) struct Flaky {
    store: Arc<MemoryCacheStore>,
    state: Arc<Mutex<State>>,
}

struct State {
    line: Line,
    delay: Duration,
    is_deaf: bool,
}

impl Flaky {
    pub(crate) fn new(store: &MemoryCacheStore) -> Self {
        let state = State { line: Line::Well, delay: Duration::ZERO, is_deaf: false };
        Self { store: Arc::new(store.another()), state: Arc::new(Mutex::new(state)) }
    }

    pub(crate) fn set(&self, line: Line) {
        self.state.lock().unwrap().line = line;
    }

    /// Each call takes so long, half before it is carried out and half after.
    pub(crate) fn delay(&self, delay: Duration) {
        self.state.lock().unwrap().delay = delay;
    }

    /// From the next subscription on nothing is heard, and nobody says so.
    pub(crate) fn deafen(&self) {
        self.state.lock().unwrap().is_deaf = true;
    }

    fn through<T: Send + 'static>(
        &self,
        call: impl Fn(&MemoryCacheStore) -> Answer<'_, Result<T, StoreError>> + Send + 'static,
    ) -> Answer<'_, Result<T, StoreError>> {
        let state = self.state.lock().unwrap();
        let (line, half) = (state.line, state.delay / 2);
        drop(state);
        let store = self.store.clone();
        let down = || Err(StoreError::new(StoreErrorKind::Unavailable, "the line is cut"));
        Answer::later(async move {
            tokio::time::sleep(half).await;
            let answer = match line {
                Line::Well => call(&store).ready().unwrap(),
                Line::Cut => down(),
                Line::Hangs => std::future::pending().await,
                Line::LosesAnswers => {
                    call(&store).ready().unwrap()?;
                    down()
                }
            };
            tokio::time::sleep(half).await;
            answer
        })
    }
}

impl LeaseStore for Flaky {
    fn acquire(&self, key: &[u8], duration: Duration) -> Answer<'_, Result<Lease, StoreError>> {
        let key = key.to_vec();
        self.through(move |store| store.acquire(&key, duration))
    }

    fn renew(&self, key: &[u8], fence: Fence, duration: Duration) -> Answer<'_, Result<bool, StoreError>> {
        let key = key.to_vec();
        self.through(move |store| store.renew(&key, fence, duration))
    }

    fn release(&self, key: &[u8], fence: Fence) -> Answer<'_, Result<bool, StoreError>> {
        let key = key.to_vec();
        self.through(move |store| store.release(&key, fence))
    }
}

struct Owned {
    bytes: Vec<u8>,
    fresh_for: Duration,
    keep_for: Duration,
    tags: Vec<String>,
}

impl Owned {
    fn of(value: NewValue<'_>) -> Self {
        let tags = value.tags.iter().map(|&tag| tag.to_owned()).collect();
        Self { bytes: value.bytes.to_vec(), fresh_for: value.fresh_for, keep_for: value.keep_for, tags }
    }

    fn with<T>(&self, then: impl FnOnce(NewValue<'_>) -> T) -> T {
        let tags: Vec<&str> = self.tags.iter().map(String::as_str).collect();
        then(NewValue { bytes: &self.bytes, fresh_for: self.fresh_for, keep_for: self.keep_for, tags: &tags })
    }
}

impl CacheStore for Flaky {
    fn get(&self, key: &[u8]) -> Answer<'_, Result<Option<StoredValue>, StoreError>> {
        let key = key.to_vec();
        self.through(move |store| store.get(&key))
    }

    fn get_or_lease(&self, key: &[u8], lease: Duration) -> Answer<'_, Result<Found, StoreError>> {
        let key = key.to_vec();
        self.through(move |store| store.get_or_lease(&key, lease))
    }

    fn put(&self, key: &[u8], fence: Fence, value: NewValue<'_>) -> Answer<'_, Result<bool, StoreError>> {
        let (key, value) = (key.to_vec(), Owned::of(value));
        self.through(move |store| value.with(|value| store.put(&key, fence, value)))
    }

    fn insert(&self, key: &[u8], value: NewValue<'_>) -> Answer<'_, Result<(), StoreError>> {
        let (key, value) = (key.to_vec(), Owned::of(value));
        self.through(move |store| value.with(|value| store.insert(&key, value)))
    }

    fn invalidate(&self, key: &[u8]) -> Answer<'_, Result<(), StoreError>> {
        let key = key.to_vec();
        self.through(move |store| store.invalidate(&key))
    }

    fn invalidate_tag(&self, tag: &str) -> Answer<'_, Result<(), StoreError>> {
        let tag = tag.to_owned();
        self.through(move |store| store.invalidate_tag(&tag))
    }

    fn clear(&self) -> Answer<'_, Result<(), StoreError>> {
        self.through(CacheStore::clear)
    }

    fn subscribe(&self, listener: ChangeListener) -> Subscription {
        if self.state.lock().unwrap().is_deaf {
            return Subscription::new(());
        }
        self.store.subscribe(listener)
    }
}

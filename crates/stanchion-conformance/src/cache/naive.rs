//! The definition as a store; and with one flaw or another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use stanchion_core::{
    Answer, CacheStore, Change, ChangeListener, Fence, Found, Lease, LeaseStore, ManualClock, NewValue, StoreError,
    StoredValue, Subscription,
};

use super::model::Model;
use super::{MILLI, SECOND, Subject};

/// What a store does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    None,
    KeepsForAMilliMore,
    IsFreshForAMilliMore,
    EndlessIsNothing,
    AgesFromTheEndOfTheLoad,
    KeepsOldTags,
    TakesKeysByTheirEnd,
    NamesMeet,
    LendsTwice,
    LendsForAMilliMore,
    AsksForNoFence,
    FencesStandStill,
    KeepsTheLease,
    StoresLateLoads,
    InsertionSparesLoads,
    InvalidationSparesLoads,
    ClearsNothing,
    TagSparesLoads,
    TagTakesWhatComesLater,
    TagTakesAll,
    TagTakesWhatIsLoadedOnly,
    TellsOneself,
    TellsNoTags,
    TellsStrangers,
    TellsForEver,
}

/// A cache of one name, as one instance has it.
struct Naive {
    shared: Arc<Mutex<Shared>>,
    clock: ManualClock,
    instance: u64,
    name: String,
    flaw: Flaw,
}

/// A listener with its number, and with the instance and the name of the cache that it listens for.
type Listening = (u64, u64, String, ChangeListener);

#[derive(Default)]
struct Shared {
    models: HashMap<String, Model>,
    numbers: u64,
    listeners: Vec<Listening>,
    /// When each tag of each name was invalidated last.
    tagged: HashMap<(String, String), Duration>,
}

pub(super) fn subject(flaw: Flaw) -> Subject {
    let clock = ManualClock::new();
    let (shared, of_stores) = (Arc::<Mutex<Shared>>::default(), clock.clone());
    let open = move |name: &str| -> Arc<dyn CacheStore> {
        let name = if flaw == Flaw::NamesMeet { String::new() } else { name.to_owned() };
        let instance = shared.lock().unwrap().number();
        Arc::new(Naive { shared: shared.clone(), clock: of_stores.clone(), instance, name, flaw })
    };
    Subject { open: Arc::new(open), clock }
}

impl Shared {
    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

impl Naive {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(self.clock.now().as_nanos())
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap()
    }

    /// Asks the definition, with a key of this name.
    fn model<T>(&self, ask: impl FnOnce(&mut Model) -> T) -> T {
        ask(self.lock().models.entry(self.name.clone()).or_default())
    }

    fn key<'a>(&self, key: &'a [u8]) -> &'a [u8] {
        if self.has(Flaw::TakesKeysByTheirEnd) { &key[key.len().saturating_sub(1)..] } else { key }
    }

    fn value<'a>(&self, value: NewValue<'a>) -> NewValue<'a> {
        let more = |flaw| if self.has(flaw) { MILLI } else { Duration::ZERO };
        let keep_for = value.keep_for.saturating_add(more(Flaw::KeepsForAMilliMore));
        let fresh_for = value.fresh_for.saturating_add(more(Flaw::IsFreshForAMilliMore));
        if self.has(Flaw::EndlessIsNothing) && keep_for == Duration::MAX {
            return NewValue { keep_for: Duration::ZERO, fresh_for: Duration::ZERO, ..value };
        }
        NewValue { keep_for, fresh_for, ..value }
    }

    fn tell(&self, change: Change<'_>) {
        let listeners: Vec<ChangeListener> = {
            let shared = self.lock();
            let hears = |(_, instance, name, _): &&Listening| {
                (*instance != self.instance || self.has(Flaw::TellsOneself))
                    && (*name == self.name || self.has(Flaw::TellsStrangers))
            };
            shared.listeners.iter().filter(hears).map(|(.., listener)| listener.clone()).collect()
        };
        listeners.iter().for_each(|listener| listener(change));
    }

    /// Whoever held the lease on the key before holds it after this.
    fn spare(&self, flaw: Flaw, key: &[u8], change: impl FnOnce(&mut Model)) {
        let now = self.now();
        self.model(|model| {
            let held = model.standing(key, now).filter(|_| self.has(flaw));
            change(model);
            if let Some(held) = held {
                model.grant(key, held.fence, now, held.until - now);
            }
        });
    }

    /// As if a tag's time were enough to tell what came after it.
    fn compare_times(&self, key: &[u8], tags: &[&str]) {
        let (now, mut shared) = (self.now(), self.lock());
        let at_once = |tag: &&str| shared.tagged.get(&(self.name.clone(), (*tag).to_owned())) == Some(&now);
        if self.has(Flaw::TagTakesWhatComesLater) && tags.iter().any(at_once) {
            shared.models.entry(self.name.clone()).or_default().invalidate(key);
        }
    }

    fn held(&self, key: &[u8], fence: Fence) -> Fence {
        let standing = self.model(|model| model.standing(key, self.now()));
        standing.filter(|_| self.has(Flaw::AsksForNoFence)).map_or(fence, |standing| standing.fence)
    }
}

impl LeaseStore for Naive {
    fn acquire(&self, key: &[u8], duration: Duration) -> Answer<'_, Result<Lease, StoreError>> {
        let (key, now) = (self.key(key), self.now());
        let more = if self.has(Flaw::LendsForAMilliMore) { MILLI } else { Duration::ZERO };
        let standing = self.model(|model| model.standing(key, now));
        Answer::Ready(Ok(match standing.filter(|_| !self.has(Flaw::LendsTwice)) {
            Some(standing) => Lease::Taken { retry_after: standing.until - now },
            None => {
                let fence = Fence::new(if self.has(Flaw::FencesStandStill) { 7 } else { self.lock().number() });
                self.model(|model| model.grant(key, fence, now, duration.saturating_add(more)));
                Lease::Held(fence)
            }
        }))
    }

    fn renew(&self, key: &[u8], fence: Fence, duration: Duration) -> Answer<'_, Result<bool, StoreError>> {
        let (key, fence) = (self.key(key), self.held(key, fence));
        Answer::Ready(Ok(self.model(|model| model.renew(key, fence, self.now(), duration))))
    }

    fn release(&self, key: &[u8], fence: Fence) -> Answer<'_, Result<bool, StoreError>> {
        let (key, fence) = (self.key(key), self.held(key, fence));
        Answer::Ready(Ok(self.model(|model| model.release(key, fence, self.now()))))
    }
}

impl CacheStore for Naive {
    fn get(&self, key: &[u8]) -> Answer<'_, Result<Option<StoredValue>, StoreError>> {
        Answer::Ready(Ok(self.model(|model| model.get(self.key(key), self.now()))))
    }

    fn get_or_lease(&self, key: &[u8], lease: Duration) -> Answer<'_, Result<Found, StoreError>> {
        match self.model(|model| model.get(self.key(key), self.now())) {
            Some(value) if value.is_fresh() => Answer::Ready(Ok(Found::Fresh(value))),
            value => self.acquire(key, lease).map(|lease| lease.map(|lease| Found::Stale { value, lease })),
        }
    }

    fn put(&self, key: &[u8], fence: Fence, value: NewValue<'_>) -> Answer<'_, Result<bool, StoreError>> {
        let (key, value) = (self.key(key), self.value(value));
        let now = if self.has(Flaw::StoresLateLoads) { self.now().saturating_sub(SECOND) } else { self.now() };
        let tags = if self.has(Flaw::TagSparesLoads) { &[] } else { value.tags };
        let stored = self.model(|model| {
            let stored = model.put(key, fence, NewValue { tags, ..value }, now);
            if stored && self.has(Flaw::AgesFromTheEndOfTheLoad) {
                model.insert(key, value, now);
            }
            if stored && self.has(Flaw::KeepsTheLease) {
                model.grant(key, fence, now, SECOND);
            }
            stored
        });
        self.compare_times(key, value.tags);
        Answer::Ready(Ok(stored))
    }

    fn insert(&self, key: &[u8], value: NewValue<'_>) -> Answer<'_, Result<(), StoreError>> {
        let (plain, key, value) = (key, self.key(key), self.value(value));
        let old = self.model(|model| model.get(key, self.now())).map(|old| old.tags).unwrap_or_default();
        let mut tags = value.tags.to_vec();
        if self.has(Flaw::KeepsOldTags) {
            tags.extend(old.iter().map(String::as_str));
        }
        if self.has(Flaw::TagTakesWhatIsLoadedOnly) {
            tags.clear();
        }
        self.spare(Flaw::InsertionSparesLoads, key, |model| {
            model.insert(key, NewValue { tags: &tags, ..value }, self.now());
        });
        self.compare_times(key, &tags);
        self.tell(Change::Key(plain));
        Answer::Ready(Ok(()))
    }

    fn invalidate(&self, key: &[u8]) -> Answer<'_, Result<(), StoreError>> {
        self.spare(Flaw::InvalidationSparesLoads, self.key(key), |model| model.invalidate(self.key(key)));
        self.tell(Change::Key(key));
        Answer::Ready(Ok(()))
    }

    fn invalidate_tag(&self, tag: &str) -> Answer<'_, Result<(), StoreError>> {
        self.model(|model| model.invalidate_tag(tag));
        self.lock().tagged.insert((self.name.clone(), tag.to_owned()), self.now());
        if self.has(Flaw::TagTakesAll) {
            self.model(Model::clear);
        }
        if !self.has(Flaw::TellsNoTags) {
            self.tell(Change::Tag(tag));
        }
        Answer::Ready(Ok(()))
    }

    fn clear(&self) -> Answer<'_, Result<(), StoreError>> {
        if !self.has(Flaw::ClearsNothing) {
            self.model(Model::clear);
        }
        self.tell(Change::All);
        Answer::Ready(Ok(()))
    }

    fn subscribe(&self, listener: ChangeListener) -> Subscription {
        listener(Change::Resumed);
        let mut shared = self.lock();
        let number = shared.number();
        shared.listeners.push((number, self.instance, self.name.clone(), listener));
        Subscription::new(Listens { number, shared: self.shared.clone(), flaw: self.flaw })
    }
}

struct Listens {
    number: u64,
    shared: Arc<Mutex<Shared>>,
    flaw: Flaw,
}

impl Drop for Listens {
    fn drop(&mut self) {
        if self.flaw != Flaw::TellsForEver {
            self.shared.lock().unwrap().listeners.retain(|(number, ..)| *number != self.number);
        }
    }
}

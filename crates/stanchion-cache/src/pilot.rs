//! Whoever runs a load: what happens when it ends, however it ends.

use std::borrow::Borrow;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::cache::{Birth, Inner, Look};
use crate::ending::Ending;
use crate::error::{Failure, LoadError};
use crate::flight::{Boarding, Flight};
use crate::hash::local;
use crate::loaded::Loaded;
use crate::removal::{RemovalCause, Removals};
use crate::stats::Count;
use crate::store::{Admitted, Right};

/// A load, as those who wait for it have it.
pub(crate) type Load<V> = Arc<Flight<Arc<Ending<V>>>>;

/// The duty to end a load: dropped, it ends it as aborted.
pub(crate) struct Pilot<K: Hash + Eq, V: Clone> {
    cache: Arc<Inner<K, V>>,
    hash: u64,
    /// Until it has ended.
    key: Option<K>,
    flight: Load<V>,
    /// When the load started, in the timer's unit.
    born: u64,
    tags_since: u64,
}

/// What becomes of somebody who found nothing to serve.
pub(crate) enum Boarded<K: Hash + Eq, V: Clone> {
    /// Meanwhile there is.
    Served(Look<V>),
    Leads(Pilot<K, V>),
    Joins(Load<V>),
}

/// Flights of all caches are numbered in one row.
static FLIGHTS: AtomicU64 = AtomicU64::new(1);

impl<K: Hash + Eq, V: Clone> Inner<K, V> {
    /// Looks once more, under the exclusive lock, and joins or begins a load if there is
    /// still nothing. Between this and the value's publication nothing that is done to
    /// the key is missed.
    ///
    /// `refreshed`: an entry with this end is not to be served, but replaced.
    pub(crate) fn board<Q>(self: &Arc<Self>, hash: u64, key: &Q, refreshed: Option<u64>) -> Boarded<K, V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        // Before the lock: a key's `Clone` is the user's.
        let (owned, copy) = (key.to_owned(), key.to_owned());
        let id = FLIGHTS.fetch_add(1, Ordering::Relaxed);
        let (now, moment) = (self.store.now(), self.clock.now());
        let mut guard = self.store.write(hash);
        let shard = &mut *guard;
        if let Some(slot) = shard.find(local(hash), key) {
            let is_refreshed = shard.entry(slot).is_some_and(|entry| refreshed == Some(entry.meta.expires));
            if !is_refreshed {
                let found = self.look_at(shard, slot, now);
                if !matches!(found, Look::Load { .. }) {
                    drop(guard);
                    return Boarded::Served(found);
                }
            }
        }
        let limit = self.live.load_timeout();
        let boarding = shard.flights.board(local(hash), owned, id, moment, |flight| moment - flight.began() >= limit);
        drop(guard);
        match boarding {
            Boarding::Joins(flight) => Boarded::Joins(flight),
            Boarding::Leads(flight) => {
                self.stats.count(Count::Loads);
                // Read after the flight stands: an invalidation before this is seen in these, and one
                // after it finds the flight.
                let (born, tags_since) = (self.store.timer.now(), self.store.tags.now());
                Boarded::Leads(Pilot { cache: self.clone(), hash, key: Some(copy), flight, born, tags_since })
            }
        }
    }

    /// How a load ended, for one of those who waited.
    pub(crate) fn tell<E: Send + Sync + 'static>(&self, ending: &Ending<V>) -> Result<V, LoadError<E>> {
        if matches!(ending, Ending::Stale(_)) {
            self.stats.count(Count::StaleServed);
        }
        ending.to_result()
    }

    /// How long a load may still take.
    pub(crate) fn time_left(&self, load: &Load<V>) -> Duration {
        self.live.load_timeout().saturating_sub(self.clock.now() - load.began())
    }

    /// Whether a value may have had a tag that was invalidated after its load had started and
    /// before this caller asked. A tag's last invalidation hides those before: one that
    /// came later still counts against the value of a load that this caller is younger than.
    pub(crate) fn came_too_late(&self, ending: &Ending<V>, asked: u64) -> bool {
        match ending {
            Ending::Loaded { tags, tags_since, .. } => {
                *tags_since < asked && self.store.tags.is_stale(tags, *tags_since)
            }
            _ => false,
        }
    }
}

impl<K: Hash + Eq, V: Clone> Pilot<K, V> {
    pub(crate) fn cache(&self) -> &Arc<Inner<K, V>> {
        &self.cache
    }

    pub(crate) fn flight(&self) -> &Load<V> {
        &self.flight
    }

    /// The load has ended: keeps its value if it may, and tells those who wait. Should anything
    /// of the user's panic in here, the load has failed by that.
    pub(crate) fn finish(mut self, result: Result<Loaded<V>, Failure>) {
        let Some(key) = self.key.take() else { return };
        let _unfinished = Unfinished(&self);
        let took = self.took();
        self.cache.stats.add(Count::LoadNanos, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        self.cache.load_times.record(took);
        match result {
            Ok(loaded) => {
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.publish(key, loaded, took))) {
                    self.fail(None, Failure::panic(&*panic), took);
                }
            }
            Err(failure) => self.fail(Some(&key), failure, took),
        }
    }

    fn took(&self) -> Duration {
        self.cache.clock.now() - self.flight.began()
    }

    fn publish(&self, key: K, loaded: Loaded<V>, took: Duration) {
        let cache = &*self.cache;
        let tags = cache.tag_hashes(&loaded);
        let ending = Ending::Loaded { value: loaded.value.clone(), tags: tags.clone(), tags_since: self.tags_since };
        let is_stale = cache.store.tags.is_stale(&tags, self.tags_since);
        let birth = Birth { born: self.born, load_time: loaded.load_time_or(took), tags_since: self.tags_since };
        let record = if is_stale { None } else { cache.record(&key, loaded, tags, birth) };
        let mut removals = Removals::none();
        let is_void = match record {
            Some(record) => {
                let right = Right::Load(self.flight.id());
                cache.store.admit(self.hash, key, record, right, &mut removals) == Admitted::Voided
            }
            None => is_stale | !self.forget(&key, &mut removals),
        };
        if is_void {
            cache.stats.count(Count::LoadsVoided);
        }
        self.flight.land(Arc::new(ending));
        cache.finish(removals);
        cache.reporter.loaded(took, is_void);
    }

    /// The value isn't to be kept; what was there is outdated. Whether there was the right to
    /// say so.
    fn forget(&self, key: &K, removals: &mut Removals<K, V>) -> bool {
        self.cache.store.withdraw(self.hash, key, self.flight.id(), RemovalCause::Replaced, removals)
    }

    /// Without a key there is nobody to stand in for the value.
    fn fail(&self, key: Option<&K>, failure: Failure, took: Duration) {
        let cache = &*self.cache;
        cache.stats.count(Count::LoadFailures);
        let now = cache.store.now();
        let mut guard = cache.store.write(self.hash);
        let shard = &mut *guard;
        let voided = shard.flights.land(local(self.hash), self.flight.id());
        // Whatever there is: what was invalidated is gone, and what was inserted meanwhile is newer.
        let slot = key.and_then(|key| shard.find(local(self.hash), key));
        let stand_in = slot.and_then(|slot| Some((slot, cache.stand_in(shard, slot, now)?)));
        let stand_in = stand_in.map(|(slot, value)| {
            if let Some(extra) = shard.extra_mut(slot) {
                extra.retry_at = cache.store.timer.after(now, cache.live.failure_throttle());
            }
            value
        });
        drop(guard);
        drop(voided);
        cache.reporter.failed(failure.as_str(), took, stand_in.is_some());
        self.flight.land(Arc::new(stand_in.map_or(Ending::Failed(failure), Ending::Stale)));
    }
}

impl<K: Hash + Eq, V: Clone> Drop for Pilot<K, V> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            let _unfinished = Unfinished(self);
            self.fail(Some(&key), Failure::Aborted, self.took());
        }
    }
}

/// Ends a flight that nobody has ended, because something of the user's has panicked.
struct Unfinished<'a, K: Hash + Eq, V: Clone>(&'a Pilot<K, V>);

impl<K: Hash + Eq, V: Clone> Drop for Unfinished<'_, K, V> {
    fn drop(&mut self) {
        if self.0.flight.ending().is_none() {
            self.0.cache.store.void_load(self.0.hash, self.0.flight.id());
            // Only the first ending counts.
            self.0.flight.land(Arc::new(Ending::Failed(Failure::Aborted)));
        }
    }
}

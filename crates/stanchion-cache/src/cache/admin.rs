//! Operating a cache: what it looks like, and what can be changed while it runs.

use std::borrow::Borrow;
use std::hash::Hash;
use std::time::Duration;

use stanchion_core::ConfigError;

use super::{Cache, Inner};
use crate::config::check_size;
use crate::hash::local;
use crate::histogram::Durations;
use crate::removal::Removals;
use crate::stats::Count;
use crate::timer::NEVER;

impl<K: Hash + Eq, V> Cache<K, V> {
    /// Changes the bounds while it runs. If they become lower, entries are evicted before
    /// this returns; what is pinned stays, even above the bound.
    ///
    /// # Errors
    /// Names the bound that can't be honoured; the old ones stay.
    pub fn resize(&self, max_entries: u64, max_weight: Option<u64>) -> Result<(), ConfigError> {
        check_size(max_entries, max_weight)?;
        self.0.store.budget().resize(max_entries, max_weight.unwrap_or(u64::MAX));
        let mut removals = Removals::none();
        self.0.store.shrink(&mut removals);
        self.0.finish(removals);
        Ok(())
    }

    /// Pins the key's entry: it is not evicted to make room, until it is let go. It
    /// expires and is invalidated like any other; a new value in its place is
    /// pinned, too. Whether there is such an entry.
    ///
    /// When all that there is is pinned, new entries are refused.
    pub fn pin<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.set_pinned(key, true)
    }

    /// Lets a pinned entry go. Whether there is such an entry.
    pub fn unpin<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.set_pinned(key, false)
    }

    /// Takes out what has expired, for as long as the cache is in use: looks at `limit` slots
    /// each so often. For caches that nobody inserts into for a while; to be spawned.
    ///
    /// # Cancellation
    /// Dropping it ends it.
    #[cfg(feature = "tokio")]
    pub fn janitor(&self, every: Duration, limit: usize) -> impl Future<Output = ()> + use<K, V> {
        let cache = self.downgrade();
        async move {
            loop {
                // Never zero, which would leave no time for anybody else.
                tokio::time::sleep(every.max(Duration::from_millis(1))).await;
                let Some(cache) = cache.upgrade() else { return };
                cache.sweep(limit);
            }
        }
    }

    fn set_pinned<Q>(&self, key: &Q, is_pinned: bool) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.0.store.hash(key);
        let mut shard = self.0.store.write(hash);
        let slot = shard.find(local(hash), key);
        if let Some(slot) = slot {
            shard.pin(slot, is_pinned);
        }
        slot.is_some()
    }

    /// What is known of a key's entry, fresh or not. It counts as no access.
    pub fn entry_info<Q>(&self, key: &Q) -> Option<EntryInfo>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let inner = &*self.0;
        let hash = inner.store.hash(key);
        let (now, timer) = (inner.store.now(), &inner.store.timer);
        let shard = inner.store.read(hash);
        let slot = shard.find(local(hash), key)?;
        let entry = shard.entry(slot)?;
        let extra = shard.extra(slot);
        Some(EntryInfo {
            is_fresh: inner.is_fresh(&shard, slot, now) != Some(false),
            is_absent: entry.value.is_none(),
            is_pinned: entry.meta.is_pinned(),
            is_loading: shard.flights.contains(local(hash), key),
            weight: shard.weight_of(slot).into(),
            expires_in: (entry.meta.expires != NEVER).then(|| timer.moment(entry.meta.expires) - timer.moment(now)),
            version: extra.map_or(0, |extra| extra.version),
            tags: extra.map_or(0, |extra| extra.tags.len()),
        })
    }

    /// How it stands now. Takes each shard's lock for a moment.
    pub fn snapshot(&self) -> CacheSnapshot {
        let inner = &*self.0;
        let stats = |count| inner.stats.sum(count);
        let (hits, loads) = (stats(Count::Hits), stats(Count::Loads));
        let saved_loads = hits + stats(Count::NotFoundServed) + stats(Count::Joined);
        let budget = inner.store.budget();
        let load_time = Duration::from_nanos(stats(Count::LoadNanos));
        let mut snapshot = CacheSnapshot {
            name: inner.name.as_str().to_owned(),
            entries: 0,
            max_entries: budget.max_entries(),
            weight: 0,
            max_weight: inner.weight_limit(),
            reserved_entries: budget.entries(),
            reserved_weight: budget.weight(),
            pinned: 0,
            loading: 0,
            hits,
            misses: stats(Count::Misses),
            hit_ratio: 0.0,
            stale_served: stats(Count::StaleServed),
            not_found_served: stats(Count::NotFoundServed),
            loads,
            loads_joined: stats(Count::Joined),
            load_failures: stats(Count::LoadFailures),
            loads_voided: stats(Count::LoadsVoided),
            load_time,
            load_times: inner.load_times.summary(load_time),
            inserts: stats(Count::Inserts),
            replaced: stats(Count::Replaced),
            invalidated: stats(Count::Invalidated),
            expired: stats(Count::Expired),
            evicted: stats(Count::Evicted),
            refused: stats(Count::Refused),
            saved_loads,
            saved: saved_loads as f64 * inner.live.load_cost(),
        };
        for shard in inner.store.read_all() {
            snapshot.entries += shard.len() as u64;
            snapshot.weight += shard.weight();
            snapshot.pinned += shard.pinned() as u64;
            snapshot.loading += shard.flights.len() as u64;
        }
        let asked = (snapshot.hits + snapshot.not_found_served + snapshot.misses).max(1);
        snapshot.hit_ratio = (snapshot.hits + snapshot.not_found_served) as f64 / asked as f64;
        snapshot
    }
}

impl<K: Hash + Eq, V> Inner<K, V> {
    pub(super) fn weight_limit(&self) -> Option<u64> {
        Some(self.store.budget().max_weight()).filter(|&most| most != u64::MAX)
    }
}

/// What is known of an entry, from [`Cache::entry_info`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct EntryInfo {
    /// Whether it is served without a load.
    pub is_fresh: bool,
    /// Whether it says that there is no such thing.
    pub is_absent: bool,
    /// Whether it is never evicted to make room.
    pub is_pinned: bool,
    /// Whether a load of the key is under way.
    pub is_loading: bool,
    /// Its weight.
    pub weight: u64,
    /// The time to its end; zero if that is over, `None` if there is none.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text::option"))]
    pub expires_in: Option<Duration>,
    /// Its version; 0 if it has none.
    pub version: u64,
    /// How many tags it has.
    pub tags: usize,
}

/// How a [`Cache`] stands. Counts are since it was built.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CacheSnapshot {
    /// What it is called.
    pub name: String,
    /// The entries, with those that have expired and weren't taken out yet.
    pub entries: u64,
    /// The most entries.
    pub max_entries: u64,
    /// Their weight.
    pub weight: u64,
    /// The most weight, if it is limited.
    pub max_weight: Option<u64>,
    /// What of the bound on entries is taken: by entries, and by inserts under way.
    pub reserved_entries: u64,
    /// What of the bound on weight is taken.
    pub reserved_weight: u64,
    /// The entries that are never evicted.
    pub pinned: u64,
    /// Loads under way whose value may be kept.
    pub loading: u64,
    /// Calls that got a value without waiting.
    pub hits: u64,
    /// Calls that found nothing to serve.
    pub misses: u64,
    /// The share of calls that were answered without waiting.
    pub hit_ratio: f64,
    /// Calls that got a stale value, by any rule.
    pub stale_served: u64,
    /// Calls that were told from memory that there is no such thing.
    pub not_found_served: u64,
    /// Loads that were started.
    pub loads: u64,
    /// Calls that waited for somebody else's load.
    pub loads_joined: u64,
    /// Loads that failed.
    pub load_failures: u64,
    /// Loads that were invalidated while under way.
    pub loads_voided: u64,
    /// The time of all loads together.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub load_time: Duration,
    /// How the times of loads are spread, of those that failed, too; not of those that were dropped.
    pub load_times: Durations,
    /// Values that were inserted, not loaded.
    pub inserts: u64,
    /// Values that another was put in the place of.
    pub replaced: u64,
    /// Values, and tags, that were invalidated.
    pub invalidated: u64,
    /// Entries that were taken out because they had expired.
    pub expired: u64,
    /// Entries that had to make room.
    pub evicted: u64,
    /// Values that were refused.
    pub refused: u64,
    /// Calls that did without a load of their own.
    pub saved_loads: u64,
    /// The same, times the cost of a load.
    pub saved: f64,
}

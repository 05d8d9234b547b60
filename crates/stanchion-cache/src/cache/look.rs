//! What a call finds: the ladder applied to an entry under a lock.

use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::RwLockReadGuard;

use stanchion_core::Moment;

use super::Inner;
use crate::freshness::{Rung, Times};
use crate::hash::local;
use crate::shard::{Entry, Meta, Shard};
use crate::stats::Count;
use crate::timer::NEVER;

/// What a call with a loader finds.
pub(crate) enum Look<V> {
    /// A value to serve.
    Serve(V),
    /// A value to serve, that somebody should refresh: the one of this end.
    Refresh { value: V, expires: u64 },
    /// The news that there is no such thing.
    NotFound,
    /// Nothing, or what is served only if there is nothing better.
    Load { fallback: Option<V> },
}

impl<K: Hash + Eq, V> Inner<K, V> {
    /// Whether an entry is fresh; `None` if it is and says that there is no such thing.
    #[inline]
    pub(crate) fn is_fresh(&self, shard: &Shard<K, V>, slot: u32, now: u64) -> Option<bool> {
        let Some(entry) = shard.entry(slot) else { return Some(false) };
        if now >= entry.meta.expires || self.is_gone(shard, slot, entry.meta, now) {
            return Some(false);
        }
        entry.value.map(|_| true)
    }

    /// Whether it is gone for another reason than its end.
    fn is_gone(&self, shard: &Shard<K, V>, slot: u32, meta: &Meta, now: u64) -> bool {
        meta.is_rich()
            && (self.store.is_disowned(shard.extra(slot))
                || self.store.idle() != NEVER && now >= shard.last_read(slot).saturating_add(self.store.idle()))
    }

    /// The value of a slot, if it is fresh and there is nothing else to it: what nearly all hits find. It
    /// counts as a hit.
    #[inline]
    fn plain<'a>(&self, shard: &'a Shard<K, V>, slot: u32, now: u64) -> Option<&'a V> {
        let (value, meta) = shard.value(slot)?;
        if meta.is_rich() || now >= meta.expires {
            return None;
        }
        meta.hit();
        Some(value)
    }

    /// `get` where something may expire: by itself, so that where nothing does a hit keeps nothing for
    /// what reading the clock calls.
    #[inline(never)]
    pub(super) fn get_timed<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        self.get_at(key, self.store.timer.now())
    }

    /// `get` where nothing does.
    #[inline(never)]
    pub(super) fn get_untimed<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        self.get_at(key, 0)
    }

    /// `get` at this time.
    #[inline]
    fn get_at<Q>(&self, key: &Q, now: u64) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        let hash = self.store.hash(key);
        match self.store.try_read(hash) {
            Some(shard) => self.get_from(shard, hash, key, now),
            None => self.get_waiting(hash, key, now),
        }
    }

    /// What `get` finds in a shard, counted.
    ///
    /// Whatever is out of the ordinary is somebody else's from there on, for the same reason.
    #[inline]
    fn get_from<Q>(&self, shard: RwLockReadGuard<'_, Shard<K, V>>, hash: u64, key: &Q, now: u64) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        let Some(slot) = shard.find(local(hash), key) else {
            drop(shard);
            self.stats.count(Count::Misses);
            return None;
        };
        let Some(value) = self.plain(&shard, slot, now) else { return self.get_if_rich(shard, slot, now) };
        let value = value.clone();
        drop(shard);
        self.stats.count(Count::Hits);
        Some(value)
    }

    /// The same if the lock isn't free.
    #[cold]
    #[inline(never)]
    fn get_waiting<Q>(&self, hash: u64, key: &Q, now: u64) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        self.get_from(self.store.read(hash), hash, key, now)
    }

    /// The same for a slot of which more must be known.
    #[cold]
    #[inline(never)]
    fn get_if_rich(&self, shard: RwLockReadGuard<'_, Shard<K, V>>, slot: u32, now: u64) -> Option<V>
    where
        V: Clone,
    {
        let is_there = |meta: &Meta| meta.is_rich() && now < meta.expires && !self.is_gone(&shard, slot, meta, now);
        let found = shard.value(slot).filter(|(_, meta)| is_there(meta)).map(|(value, meta)| {
            shard.hit_rich(slot, meta, now);
            value.clone()
        });
        drop(shard);
        self.stats.count(if found.is_some() { Count::Hits } else { Count::Misses });
        found
    }

    /// What a call with a loader finds, counted.
    #[inline]
    pub(crate) fn look<Q>(&self, hash: u64, key: &Q) -> Look<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        let now = self.store.now();
        let shard = self.store.read(hash);
        let slot = shard.find(local(hash), key);
        let Some(value) = slot.and_then(|slot| self.plain(&shard, slot, now)) else {
            return self.look_otherwise(shard, slot, now);
        };
        let value = value.clone();
        drop(shard);
        self.stats.count(Count::Hits);
        Look::Serve(value)
    }

    /// The same where there is no slot, or one that isn't plainly fresh.
    #[cold]
    #[inline(never)]
    fn look_otherwise(&self, shard: RwLockReadGuard<'_, Shard<K, V>>, slot: Option<u32>, now: u64) -> Look<V>
    where
        V: Clone,
    {
        let found = slot.map_or(Look::Load { fallback: None }, |slot| self.look_further(&shard, slot, now));
        drop(shard);
        self.stats.count(match found {
            Look::Serve(_) | Look::Refresh { .. } => Count::Hits,
            Look::NotFound => Count::NotFoundServed,
            Look::Load { .. } => Count::Misses,
        });
        found
    }

    /// The same for a slot, uncounted.
    #[inline]
    pub(crate) fn look_at(&self, shard: &Shard<K, V>, slot: u32, now: u64) -> Look<V>
    where
        V: Clone,
    {
        // Whatever may be refreshed early is rich, as it knows when it was born.
        match self.plain(shard, slot, now) {
            Some(value) => Look::Serve(value.clone()),
            None => self.look_further(shard, slot, now),
        }
    }

    /// The same for what is not simply fresh.
    #[cold]
    fn look_further(&self, shard: &Shard<K, V>, slot: u32, now: u64) -> Look<V>
    where
        V: Clone,
    {
        let nothing = Look::Load { fallback: None };
        let Some(entry) = shard.entry(slot) else { return nothing };
        if now >= entry.meta.expires && self.store.grace() == 0 || self.is_gone(shard, slot, entry.meta, now) {
            return nothing;
        }
        let Some(value) = entry.value else {
            return if now < entry.meta.expires { Look::NotFound } else { nothing };
        };
        let rung = self.rung(shard, slot, &entry, now);
        if matches!(rung, Rung::Fresh | Rung::RefreshAhead | Rung::Revalidate) {
            shard.hit_rich(slot, entry.meta, now);
        }
        match rung {
            Rung::Fresh => Look::Serve(value.clone()),
            Rung::RefreshAhead => Look::Refresh { value: value.clone(), expires: entry.meta.expires },
            Rung::Revalidate => {
                self.stats.count(Count::StaleServed);
                Look::Refresh { value: value.clone(), expires: entry.meta.expires }
            }
            Rung::Throttled => {
                self.stats.count(Count::StaleServed);
                Look::Serve(value.clone())
            }
            Rung::IfError => Look::Load { fallback: Some(value.clone()) },
            Rung::Gone => nothing,
        }
    }

    /// The value that may stand in for a load that failed, if the entry has one.
    pub(crate) fn stand_in(&self, shard: &Shard<K, V>, slot: u32, now: u64) -> Option<V>
    where
        V: Clone,
    {
        let entry = shard.entry(slot)?;
        if self.is_gone(shard, slot, entry.meta, now) || self.rung(shard, slot, &entry, now) == Rung::Gone {
            return None;
        }
        entry.value.cloned()
    }

    fn rung(&self, shard: &Shard<K, V>, slot: u32, entry: &Entry<'_, K, V>, now: u64) -> Rung {
        let timer = &self.store.timer;
        let extra = shard.extra(slot);
        let times = Times {
            born: extra.map_or(Moment::default(), |extra| timer.moment(extra.born)),
            expires: timer.moment(entry.meta.expires),
            load_time: extra.map_or_else(Default::default, |extra| extra.load_time),
            retry_at: extra.map_or(Moment::default(), |extra| timer.moment(extra.retry_at)),
        };
        let mut ladder = self.live.ladder();
        if extra.is_none() {
            // It came in when nobody wanted to know when it was born.
            (ladder.refresh_ahead, ladder.early_refresh) = (None, None);
        }
        // Without an early refresh nothing is left to chance.
        let chance = if ladder.early_refresh.is_some() { self.random.run().unit() } else { 0.0 };
        ladder.rung(&times, timer.moment(now), chance)
    }
}

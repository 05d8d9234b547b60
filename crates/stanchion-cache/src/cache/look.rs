//! What a call finds: the ladder applied to an entry under a lock.

use std::borrow::Borrow;
use std::hash::Hash;

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
    #[inline]
    fn is_gone(&self, shard: &Shard<K, V>, slot: u32, meta: &Meta, now: u64) -> bool {
        meta.is_rich() && self.store.is_disowned(shard.extra(slot))
            || self.store.idle() != NEVER && now >= shard.last_read(slot).saturating_add(self.store.idle())
    }

    /// The value of a slot, if it is fresh.
    #[inline]
    pub(crate) fn fresh(&self, shard: &Shard<K, V>, slot: u32, now: u64) -> Option<V>
    where
        V: Clone,
    {
        let (value, meta) = shard.value(slot)?;
        if now >= meta.expires || self.is_gone(shard, slot, meta, now) {
            return None;
        }
        shard.hit(slot, now);
        Some(value.clone())
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
        let found = shard.find(local(hash), key).map(|slot| self.look_at(&shard, slot, now));
        drop(shard);
        let found = found.unwrap_or(Look::Load { fallback: None });
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
        if let Some((value, meta)) = shard.value(slot)
            && now < meta.expires
            && !self.live.refreshes_early()
            && !self.is_gone(shard, slot, meta, now)
        {
            shard.hit(slot, now);
            return Look::Serve(value.clone());
        }
        self.look_further(shard, slot, now)
    }

    /// The same for what is not simply fresh.
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
        match self.rung(shard, slot, &entry, now) {
            Rung::Fresh => {
                shard.hit(slot, now);
                Look::Serve(value.clone())
            }
            Rung::RefreshAhead => {
                shard.hit(slot, now);
                Look::Refresh { value: value.clone(), expires: entry.meta.expires }
            }
            Rung::Revalidate => {
                shard.hit(slot, now);
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

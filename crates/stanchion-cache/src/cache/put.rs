//! How a plain value gets in: the short way.

use std::hash::Hash;

use super::Inner;
use crate::config::CacheConfig;
use crate::removal::Removals;
use crate::shard::Record;
use crate::stats::Count;
use crate::store::{Admitted, Plainly, Right, ShardGuard};
use crate::timer::{NEVER, Timer};

/// The time to live of a value that is put in without more, in the timer's unit, or [`NEVER`] if it
/// has none; 0 if this cache has more to do for each value: to weigh it, to tell of it (it isn't
/// `is_untold`), to vary its end, to refuse it.
pub(super) fn plain_ttl(is_untold: bool, config: &CacheConfig, timer: &Timer) -> u64 {
    let is_plain = is_untold && config.ttl_jitter == 0.0;
    let ttl = config.ttl.map_or(NEVER, |ttl| timer.after(0, ttl));
    if is_plain && (ttl == NEVER || config.refresh_ahead.or(config.early_refresh).is_none()) { ttl } else { 0 }
}

impl<K: Hash + Eq, V> Inner<K, V> {
    /// Does what [`insert`](Self::insert) does for a value of which nothing is said, in fewer steps if there is
    /// nothing out of the ordinary about its shard either.
    pub(super) fn insert_plain(&self, key: K, value: V, ttl: u64) {
        if ttl != NEVER {
            self.store.will_expire();
        }
        let now = self.store.now();
        let expires = if ttl == NEVER { NEVER } else { now.saturating_add(ttl) };
        let hash = self.store.hash(&key);
        let (gone, count) = match self.store.admit_plain(hash, key, value, expires, now) {
            Plainly::Put => (None, None),
            Plainly::Replaced(gone) => (Some(gone), Some(Count::Replaced)),
            Plainly::Evicted(gone) => (Some(gone), Some(Count::Evicted)),
            Plainly::Not(shard, key, value) => return self.insert_further(shard, hash, key, value, expires),
        };
        self.stats.count(Count::Inserts);
        if let Some(count) = count {
            self.stats.count(count);
        }
        // Not under the lock.
        drop(gone);
    }

    /// The same where the shard isn't plain, or must take from others.
    #[cold]
    fn insert_further(&self, shard: ShardGuard<'_, K, V>, hash: u64, key: K, value: V, expires: u64) {
        let mut removals = Removals::none();
        let record = Record { value: Some(value), expires, weight: 1, extra: None };
        let admitted = self.store.admit_from(shard, hash, key, record, Right::Insert, &mut removals);
        self.finish(removals);
        if admitted == Admitted::Kept {
            self.stats.count(Count::Inserts);
        }
    }
}

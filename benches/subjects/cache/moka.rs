//! moka and mini-moka, sync. Both hash with std's SipHash by default.

use std::hash::BuildHasher;
use std::hint::black_box;
use std::time::Duration;

use foldhash::fast::RandomState as Foldhash;
use moka::sync::Cache;

use super::loops::{self, HOUR, Subject};
use crate::runs::{self, Run};

impl<S: BuildHasher + Clone + Send + Sync + 'static> Subject for Cache<u64, u64, S> {
    #[inline]
    fn look_up(&self, key: u64) -> Option<u64> {
        self.get(&key)
    }

    #[inline]
    fn put(&self, key: u64, value: u64) {
        self.insert(key, value);
    }

    fn settle(&self) {
        self.run_pending_tasks();
    }
}

impl Subject for mini_moka::sync::Cache<u64, u64> {
    #[inline]
    fn look_up(&self, key: u64) -> Option<u64> {
        self.get(&key)
    }

    #[inline]
    fn put(&self, key: u64, value: u64) {
        self.insert(key, value);
    }

    fn settle(&self) {
        mini_moka::sync::ConcurrentCacheExt::sync(self);
    }
}

pub(super) fn plain(capacity: usize) -> Cache<u64, u64> {
    Cache::new(capacity as u64)
}

pub(super) fn with_ttl(capacity: usize) -> Cache<u64, u64> {
    Cache::builder().max_capacity(capacity as u64).time_to_live(Duration::from_secs(HOUR)).build()
}

/// With the hash function that ours has, to tell what the rest accounts for.
pub(super) fn with_foldhash(capacity: usize) -> Cache<u64, u64, Foldhash> {
    Cache::builder().max_capacity(capacity as u64).build_with_hasher(Foldhash::default())
}

pub(super) fn mini(capacity: usize) -> mini_moka::sync::Cache<u64, u64> {
    mini_moka::sync::Cache::new(capacity as u64)
}

pub(super) fn mini_with_ttl(capacity: usize) -> mini_moka::sync::Cache<u64, u64> {
    let ttl = Duration::from_secs(HOUR);
    mini_moka::sync::Cache::builder().max_capacity(capacity as u64).time_to_live(ttl).build()
}

/// `get_with` of keys that are there.
pub(super) fn get_with_hit() -> Run {
    let cache = loops::hot(plain);
    let mut next = loops::hot_keys();
    runs::one_thread(move || {
        black_box(cache.get_with(next(), || 0));
    })
}

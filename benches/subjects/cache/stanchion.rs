//! Ours, with its default policy, hasher and clock.

use std::convert::Infallible;
use std::hint::black_box;
use std::time::Duration;

use stanchion_cache::Cache;

use super::loops::{self, HOUR, Subject};
use crate::runs::{self, Run};

impl Subject for Cache<u64, u64> {
    #[inline]
    fn look_up(&self, key: u64) -> Option<u64> {
        self.get(&key)
    }

    #[inline]
    fn put(&self, key: u64, value: u64) {
        self.insert(key, value);
    }
}

pub(super) fn plain(capacity: usize) -> Cache<u64, u64> {
    Cache::builder().max_entries(capacity as u64).build().expect("a valid capacity")
}

pub(super) fn with_ttl(capacity: usize) -> Cache<u64, u64> {
    let ttl = Duration::from_secs(HOUR);
    Cache::builder().max_entries(capacity as u64).ttl(ttl).build().expect("a valid capacity")
}

/// The same on each machine and in each process: eight shards, or fewer if it is small.
pub(super) fn seeded(capacity: usize) -> Cache<u64, u64> {
    let shards = (capacity / 128).clamp(1, 8);
    Cache::builder().max_entries(capacity as u64).seed(7).shards(shards).build().expect("a valid capacity")
}

/// `get_or_load` of keys that are there.
pub(super) fn get_or_load_hit() -> Run {
    let cache = loops::hot(plain);
    let mut next = loops::hot_keys();
    runs::polled(async move || {
        let load = || async { Ok::<u64, Infallible>(0) };
        black_box(cache.get_or_load(&next(), load).await.ok());
    })
}

/// `get` of the same, as a future, too.
pub(super) fn polled_get_hit() -> Run {
    let cache = loops::hot(plain);
    let mut next = loops::hot_keys();
    runs::polled(async move || {
        black_box(cache.get(&next()));
    })
}

//! quick_cache, with its default hasher, which is foldhash like ours, and its default options.

use std::convert::Infallible;
use std::hint::black_box;

use quick_cache::sync::Cache;

use super::loops::{self, Subject};
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
    Cache::new(capacity)
}

/// `get_or_insert_async` of keys that are there.
pub(super) fn get_or_insert_hit() -> Run {
    let cache = loops::hot(plain);
    let mut next = loops::hot_keys();
    runs::polled(async move || {
        let load = async { Ok::<u64, Infallible>(0) };
        black_box(cache.get_or_insert_async(&next(), load).await.ok());
    })
}

//! lru behind one mutex: what many services have. Its default hasher is foldhash, like ours.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use lru::LruCache;

use super::loops::Subject;

impl Subject for Mutex<LruCache<u64, u64>> {
    #[inline]
    fn look_up(&self, key: u64) -> Option<u64> {
        self.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied()
    }

    #[inline]
    fn put(&self, key: u64, value: u64) {
        self.lock().unwrap_or_else(PoisonError::into_inner).put(key, value);
    }
}

pub(super) fn behind_mutex(capacity: usize) -> Mutex<LruCache<u64, u64>> {
    Mutex::new(LruCache::new(NonZeroUsize::new(capacity).expect("no cache of this suite is empty")))
}

//! foyer's cache in memory, with its default hasher (xxHash) and eight shards. Its S3-FIFO takes a shared lock for
//! a hit; its default, an LRU, takes an exclusive one.

use foyer_memory::{Cache, CacheBuilder, EvictionConfig, LfuConfig, S3FifoConfig};

use super::loops::Subject;

impl Subject for Cache<u64, u64> {
    #[inline]
    fn look_up(&self, key: u64) -> Option<u64> {
        self.get(&key).map(|entry| *entry.value())
    }

    #[inline]
    fn put(&self, key: u64, value: u64) {
        self.insert(key, value);
    }
}

fn of(capacity: usize, eviction: EvictionConfig) -> Cache<u64, u64> {
    CacheBuilder::new(capacity).with_eviction_config(eviction).build()
}

pub(super) fn s3_fifo(capacity: usize) -> Cache<u64, u64> {
    of(capacity, S3FifoConfig::default().into())
}

pub(super) fn lfu(capacity: usize) -> Cache<u64, u64> {
    of(capacity, LfuConfig::default().into())
}

//! A policy without a cache around it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::{AnyPolicy, Entries, Eviction, MOST_HITS, Policy};

/// Runs a stream of keys through a policy, as a cache of one shard would that loads
/// what it misses. It is deterministic: to measure hit ratios, not to cache.
///
/// ```
/// use stanchion_cache::policy::Simulator;
/// use stanchion_cache::Eviction;
///
/// // A loop over one key more than fit: LRU always evicts the next one.
/// let hits = |eviction| {
///     let mut cache = Simulator::new(eviction, 100);
///     (0..10_000).filter(|request| cache.access(request % 101)).count()
/// };
/// assert_eq!(hits(Eviction::Lru), 0);
/// assert!(hits(Eviction::Hybrid) > 8_000);
/// ```
#[derive(Debug)]
pub struct Simulator {
    policy: AnyPolicy,
    slots: HashMap<u64, u32>,
    /// By slot, the key and its hits.
    entries: Vec<(u64, u8)>,
    free: Vec<u32>,
    capacity: usize,
}

impl Simulator {
    /// A cache for `capacity` entries, at least one.
    pub fn new(eviction: Eviction, capacity: usize) -> Self {
        Self {
            policy: AnyPolicy::new(eviction),
            slots: HashMap::new(),
            entries: Vec::new(),
            free: Vec::new(),
            capacity: capacity.clamp(1, u32::MAX as usize / 2),
        }
    }

    /// Asks for `key`, and puts it in if it isn't there. Whether it was.
    pub fn access(&mut self, key: u64) -> bool {
        if let Some(&slot) = self.slots.get(&key) {
            let hits = self.entries.hits(slot);
            self.entries.set_hits(slot, MOST_HITS.min(hits + 1));
            self.policy.hit(slot);
            return true;
        }
        let mut is_roomy = true;
        if self.slots.len() >= self.capacity {
            is_roomy = false;
            if let Some(slot) = self.policy.evict(&mut self.entries[..]) {
                self.slots.remove(&self.entries[slot as usize].0);
                self.free.push(slot);
            }
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push((key, 0));
            u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
        });
        self.entries[slot as usize] = (key, 0);
        self.slots.insert(key, slot);
        self.policy.insert(slot, hash(key), is_roomy);
        false
    }

    /// Empties the key's slot, if it is there.
    pub fn remove(&mut self, key: u64) -> bool {
        let Entry::Occupied(entry) = self.slots.entry(key) else { return false };
        let slot = entry.remove();
        self.policy.remove(slot);
        self.free.push(slot);
        true
    }

    /// Whether the key is there. It counts as no access.
    pub fn contains(&self, key: u64) -> bool {
        self.slots.contains_key(&key)
    }

    /// The entries.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

impl Entries for [(u64, u8)] {
    fn hash(&self, slot: u32) -> u32 {
        hash(self[slot as usize].0)
    }

    fn hits(&mut self, slot: u32) -> u8 {
        self[slot as usize].1
    }

    fn set_hits(&mut self, slot: u32, hits: u8) {
        self[slot as usize].1 = hits;
    }
}

/// SplitMix64's mixing: keys of traces are numbers in a row.
pub(super) fn hash(key: u64) -> u32 {
    let mut z = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z >> 32) as u32
}

//! Who goes when there is no room: eviction policies, driven by slot numbers.
//!
//! A policy knows no keys, no values and no locks. It is told which slot was filled,
//! hit and emptied, and says which one to empty next. That makes it a pure
//! machine, which [`Simulator`] runs over a stream of keys without a cache around it.

mod hybrid;
mod links;
mod lru;
mod s3fifo;
mod simulator;
mod sketch;
#[cfg(all(test, not(stanchion_loom)))]
mod tests;

use hybrid::Hybrid;
use lru::Lru;
use s3fifo::S3Fifo;
pub(crate) use s3fifo::spread;
pub use simulator::Simulator;

/// Which entry goes when there is no room for another.
///
/// As configuration: `"hybrid"`, `"s3_fifo"`, `"lru"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Eviction {
    /// S3-FIFO's skeleton with TinyLFU's admission: a FIFO window for what is new, a
    /// clock for what has proved itself, and between them a sketch that remembers
    /// how often each was asked for. It survives scans, loops and shifts of phase. After
    /// Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023, and
    /// Einziger et al., "TinyLFU", 2017.
    #[default]
    Hybrid,
    /// S3-FIFO as published: a small FIFO, a main FIFO with reinsertion, and a ghost
    /// queue that remembers who has left.
    S3Fifo,
    /// The least recently used. Exactly so as long as at most 64 of a shard's
    /// longest unused entries were hit since the last eviction; else the longest
    /// unused of those 64.
    Lru,
}

/// What a shard asks of a policy.
///
/// `hit` runs under a shared lock and may only touch atomics; all else runs under
/// an exclusive one. Each operation takes a bounded number of steps.
pub(crate) trait Policy {
    /// The slot was read.
    fn hit(&self, slot: u32);

    /// The slot was filled, with a key of this hash. `is_roomy`: nothing had to go for it.
    fn insert(&mut self, slot: u32, hash: u32, is_roomy: bool);

    /// The slot is emptied, for other reasons than room.
    fn remove(&mut self, slot: u32);

    /// Chooses who goes, and forgets it. `None` if there is nobody. `hash` tells the
    /// hash of a slot's key.
    fn evict(&mut self, hash: impl Fn(u32) -> u32) -> Option<u32>;

    /// Chooses who goes, as `evict` does, and fills that slot with a key of the hash `newcomer`, as `insert` does.
    fn exchange(&mut self, hash: impl Fn(u32) -> u32, newcomer: u32) -> Option<u32> {
        let slot = self.evict(hash)?;
        self.insert(slot, newcomer, false);
        Some(slot)
    }
}

/// One of the policies. An enum with a tag of its own, since a hit should cost no
/// virtual call and no search for a niche.
#[derive(Debug)]
#[repr(u8)]
pub(crate) enum AnyPolicy {
    Hybrid(Hybrid),
    S3Fifo(S3Fifo),
    Lru(Lru),
}

impl AnyPolicy {
    pub(crate) fn new(eviction: Eviction) -> Self {
        match eviction {
            Eviction::Hybrid => Self::Hybrid(Hybrid::new()),
            Eviction::S3Fifo => Self::S3Fifo(S3Fifo::new()),
            Eviction::Lru => Self::Lru(Lru::new()),
        }
    }
}

impl Policy for AnyPolicy {
    #[inline]
    fn hit(&self, slot: u32) {
        match self {
            Self::Hybrid(policy) => policy.hit(slot),
            Self::S3Fifo(policy) => policy.hit(slot),
            Self::Lru(policy) => hit_lru(policy, slot),
        }
    }

    fn insert(&mut self, slot: u32, hash: u32, is_roomy: bool) {
        match self {
            Self::Hybrid(policy) => policy.insert(slot, hash, is_roomy),
            Self::S3Fifo(policy) => policy.insert(slot, hash, is_roomy),
            Self::Lru(policy) => policy.insert(slot, hash, is_roomy),
        }
    }

    fn remove(&mut self, slot: u32) {
        match self {
            Self::Hybrid(policy) => policy.remove(slot),
            Self::S3Fifo(policy) => policy.remove(slot),
            Self::Lru(policy) => policy.remove(slot),
        }
    }

    fn evict(&mut self, hash: impl Fn(u32) -> u32) -> Option<u32> {
        match self {
            Self::Hybrid(policy) => policy.evict(hash),
            Self::S3Fifo(policy) => policy.evict(hash),
            Self::Lru(policy) => policy.evict(hash),
        }
    }

    #[inline]
    fn exchange(&mut self, hash: impl Fn(u32) -> u32, newcomer: u32) -> Option<u32> {
        match self {
            Self::Hybrid(policy) => policy.exchange(hash, newcomer),
            Self::S3Fifo(policy) => policy.exchange(hash, newcomer),
            Self::Lru(policy) => policy.exchange(hash, newcomer),
        }
    }
}

/// Out of the others' way.
#[cold]
fn hit_lru(policy: &Lru, slot: u32) {
    policy.hit(slot);
}

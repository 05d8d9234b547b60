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

/// What a policy asks of whoever keeps the entries, by slot.
pub(crate) trait Entries {
    /// The hash of the slot's key.
    fn hash(&self, slot: u32) -> u32;

    /// How often it was hit since it was put in or the policy has last changed that, up to [`MOST_HITS`].
    fn hits(&mut self, slot: u32) -> u8;

    /// From now on it was hit so often.
    fn set_hits(&mut self, slot: u32, hits: u8);
}

/// What two bits can tell. Whoever keeps the entries counts, so that a hit finds its counter beside the
/// entry and needn't ask which policy there is.
pub(crate) const MOST_HITS: u8 = 3;

/// What a shard asks of a policy.
///
/// `hit` runs under a shared lock and may only touch atomics; all else runs under
/// an exclusive one. Each operation takes a bounded number of steps.
pub(crate) trait Policy {
    /// The slot was read, which is counted already. Only for a policy that [must be told](AnyPolicy::is_told_of_hits).
    fn hit(&self, _slot: u32) {}

    /// The slot was filled, with a key of this hash and no hits. `is_roomy`: nothing had to go for it.
    fn insert(&mut self, slot: u32, hash: u32, is_roomy: bool);

    /// The slot is emptied, for other reasons than room.
    fn remove(&mut self, slot: u32);

    /// Chooses who goes, and forgets it. `None` if there is nobody.
    fn evict(&mut self, entries: &mut (impl Entries + ?Sized)) -> Option<u32>;

    /// Chooses who goes, as `evict` does, and fills that slot, as `insert` does, with a key of the hash `newcomer`.
    fn exchange(&mut self, entries: &mut (impl Entries + ?Sized), newcomer: u32) -> Option<u32> {
        let slot = self.evict(entries)?;
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

    /// Whether counts of hits don't tell it enough.
    pub(crate) fn is_told_of_hits(&self) -> bool {
        matches!(self, Self::Lru(_))
    }
}

impl Policy for AnyPolicy {
    fn hit(&self, slot: u32) {
        if let Self::Lru(policy) = self {
            policy.hit(slot);
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

    fn evict(&mut self, entries: &mut (impl Entries + ?Sized)) -> Option<u32> {
        match self {
            Self::Hybrid(policy) => policy.evict(entries),
            Self::S3Fifo(policy) => policy.evict(entries),
            Self::Lru(policy) => policy.evict(entries),
        }
    }

    #[inline]
    fn exchange(&mut self, entries: &mut (impl Entries + ?Sized), newcomer: u32) -> Option<u32> {
        match self {
            Self::Hybrid(policy) => policy.exchange(entries, newcomer),
            Self::S3Fifo(policy) => policy.exchange(entries, newcomer),
            Self::Lru(policy) => policy.exchange(entries, newcomer),
        }
    }
}

//! From a key to its shard and its hash there.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;

/// Hashes keys and tags with a seed of the cache's own, which nobody sees: whoever
/// chooses keys can't choose their shards, nor those that look alike to the sketch.
#[derive(Debug)]
pub(crate) struct KeyHasher {
    seed: u64,
    shared: SharedSeed,
}

impl KeyHasher {
    pub(crate) fn new(seed: Option<u64>) -> Self {
        // std seeds its maps from the operating system.
        let seed = seed.unwrap_or_else(|| RandomState::new().hash_one("stanchion"));
        Self { seed, shared: SharedSeed::from_u64(seed.rotate_left(32)) }
    }

    #[inline]
    pub(crate) fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared);
        key.hash(&mut hasher);
        hasher.finish()
    }
}

/// The half of a hash that tells keys of one shard apart.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "the lower half; the upper one chooses the shard")]
pub(crate) fn local(hash: u64) -> u32 {
    hash as u32
}

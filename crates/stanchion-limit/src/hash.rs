//! From a key to the number that stands for it.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::OnceLock;

use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;

/// Hashes keys with seeds that nobody else knows: a keyed hash, one key of the
/// process's and one of its own.
///
/// It is foldhash rather than std's SipHash, for a third of the time. It is not
/// a cryptographic hash; but what an attacker could do with it, exhaust another
/// key's bucket by a key of the same hash, takes the seeds, and those show
/// nowhere: not in any answer, and not in which keys collide, since 2^32 keys in
/// debt at once are wanted before two do.
#[derive(Debug, Clone)]
pub(crate) struct KeyHasher {
    seed: u64,
    shared: &'static SharedSeed,
}

impl KeyHasher {
    /// A hasher with a seed of its own.
    pub(crate) fn new() -> Self {
        static SHARED: OnceLock<SharedSeed> = OnceLock::new();
        Self { seed: entropy(), shared: SHARED.get_or_init(|| SharedSeed::from_u64(entropy())) }
    }

    /// The number that stands for `key`.
    #[inline]
    pub(crate) fn hash<K: Hash + ?Sized>(&self, key: &K) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, self.shared);
        key.hash(&mut hasher);
        hasher.finish()
    }
}

/// A number from the operating system, which seeds std's hash maps.
pub(crate) fn entropy() -> u64 {
    RandomState::new().hash_one("stanchion")
}

#[cfg(all(test, not(stanchion_loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_hasher_has_a_seed_of_its_own() {
        assert_ne!(KeyHasher::new().hash("key"), KeyHasher::new().hash("key"));
    }

    /// Neighbouring numbers and names, which is what keys are, fall evenly into
    /// sets by either half of their hash.
    #[test]
    fn neighbouring_keys_spread_evenly() {
        let hasher = KeyHasher::new();
        let hashes = (0..64_000_u64).flat_map(|key| [hasher.hash(&key), hasher.hash(&format!("tenant-{key}"))]);
        let mut counts = [[0_u32; 64]; 2];
        for hash in hashes {
            for (half, counts) in [hash, hash.rotate_left(32)].into_iter().zip(&mut counts) {
                counts[usize::try_from(half >> 58).unwrap()] += 1;
            }
        }
        // Each holds 2,000 with a standard deviation of 44; this allows seven.
        assert!(counts.as_flattened().iter().all(|count| (1_690..2_310).contains(count)), "{counts:?}");
    }
}

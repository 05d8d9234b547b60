//! How a tiered cache stands.

use stanchion_breaker::BreakerSnapshot;

use crate::cache::CacheSnapshot;

/// How a [`TieredCache`](super::TieredCache) stands. Counts are since it was built.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TieredSnapshot {
    /// The cache in memory. Its loads are questions to the store, too: those that came to the
    /// loader are `loads` here.
    pub local: CacheSnapshot,
    /// The breaker around the store.
    pub breaker: BreakerSnapshot,
    /// Whether the store tells of others' changes at the moment.
    pub is_listening: bool,
    /// Values that the store had, fresh.
    pub remote_hits: u64,
    /// Questions to which the store had no fresh value.
    pub remote_misses: u64,
    /// Calls of the loader.
    pub loads: u64,
    /// Questions that the store answered with an error.
    pub remote_failed: u64,
    /// Questions that it didn't answer in time.
    pub remote_timed_out: u64,
    /// Questions that the breaker refused.
    pub remote_refused: u64,
    /// Calls that waited for another instance's load.
    pub lease_waits: u64,
    /// Those of them that gave up, and loaded for themselves.
    pub lease_wait_timeouts: u64,
    /// Loads whose value the store refused, as the key was invalidated meanwhile or the lease lost.
    pub fenced: u64,
    /// Stale values of the store that were served.
    pub stale_served: u64,
    /// Values that were no values: corrupted, or of another schema, codec or version.
    pub garbled: u64,
    /// Values that could not be encoded.
    pub not_encoded: u64,
    /// Values that were too large for the store.
    pub too_large: u64,
    /// Invalidations that the store hasn't confirmed.
    pub pending: usize,
    /// Invalidations that were sent again, and have arrived.
    pub resent: u64,
    /// Changes of others that were heard of.
    pub changes_heard: u64,
    /// How often the cache in memory was emptied because changes may have been missed.
    pub flushes: u64,
}

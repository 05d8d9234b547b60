//! How a queue of writes stands.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How a [`WriteBehind`](crate::WriteBehind) stands. Counts are since it was built;
/// `accepted` is `written + coalesced + given_up + queued + in_flight`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct WriteBehindSnapshot {
    /// What the cache is called.
    pub name: String,
    /// Writes that wait for their batch.
    pub queued: u64,
    /// Writes that are under way, or wait for another attempt.
    pub in_flight: u64,
    /// The most of both together.
    pub max_queued: u64,
    /// How long ago the oldest of them was accepted; zero if there is none.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub oldest: Duration,
    /// Writes that were accepted.
    pub accepted: u64,
    /// Writes that were not accepted, for want of room.
    pub refused: u64,
    /// Writes that a newer one of their key took the place of.
    pub coalesced: u64,
    /// Writes that are in the store.
    pub written: u64,
    /// Calls to the store that it answered well.
    pub batches: u64,
    /// Calls to the store that were made once more.
    pub retried: u64,
    /// Writes that were given up.
    pub given_up: u64,
    /// Reads that the queue answered.
    pub served: u64,
    /// Whether it accepts nothing any more.
    pub is_closed: bool,
}

/// What is counted.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) accepted: Counter,
    pub(super) refused: Counter,
    pub(super) coalesced: Counter,
    pub(super) written: Counter,
    pub(super) batches: Counter,
    pub(super) retried: Counter,
    pub(super) given_up: Counter,
    pub(super) served: Counter,
}

#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, amount: usize) {
        // Relaxed: a number among numbers.
        self.0.fetch_add(amount as u64, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

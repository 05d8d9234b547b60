//! Who may do something alone, for a while.

use std::time::Duration;

use super::StoreError;
use crate::Answer;

/// A number that grows with each holder of a lease or claim.
///
/// Whoever is written to on the holder's behalf can compare fences and turn
/// away an earlier holder that doesn't know yet that it lost the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(u64);

impl Fence {
    /// The fence of this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// The answer to [`LeaseStore::acquire`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    /// It is the caller's, until it is released or its time is over.
    Held(Fence),
    /// It is somebody else's for at most this long, unless renewed.
    Taken {
        /// The time left of the other's lease.
        retry_after: Duration,
    },
}

/// Gives one holder at a time the right to do something, by the store's clock.
///
/// Each call is one atomic step. A lease isn't a lock: a holder that sleeps
/// past its end is not stopped, only [fenced](Fence). Times are rounded up to
/// the store's resolution, at most a millisecond.
pub trait LeaseStore: Send + Sync {
    /// Takes the lease on `key` for `duration`, if it is free.
    ///
    /// The fence is greater than that of any earlier holder for as long as the
    /// store keeps its memory: its documentation says how long that is.
    fn acquire(&self, key: &[u8], duration: Duration) -> Answer<'_, Result<Lease, StoreError>>;

    /// Sets the end of the lease to `duration` from now, if `fence` still holds
    /// it; `false` if not.
    fn renew(&self, key: &[u8], fence: Fence, duration: Duration) -> Answer<'_, Result<bool, StoreError>>;

    /// Gives the lease back, if `fence` still holds it; `false` if not.
    fn release(&self, key: &[u8], fence: Fence) -> Answer<'_, Result<bool, StoreError>>;
}

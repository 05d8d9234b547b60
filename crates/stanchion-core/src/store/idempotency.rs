//! Doing something once, however often it is asked for.

use std::time::Duration;

use super::{Fence, StoreError};
use crate::Answer;

/// A digest of the request that a key was first used with.
///
/// The same key with another fingerprint is another request by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint with these bytes: a SHA-256, say.
    pub const fn new(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The right to run an operation, from [`IdempotencyStore::claim`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Compared by every later step, and to be handed on to whatever the operation writes to.
    pub fence: Fence,
    /// Whether an earlier claim ran out without a word: the operation may have run.
    pub after_lost_claim: bool,
}

/// How an operation ended, kept for those who ask again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Completion {
    /// The response, to be replayed.
    Response(Vec<u8>),
    /// It ran, and its response is not kept (too large, say): never to be run again.
    Tombstone(Vec<u8>),
}

/// The answer to [`IdempotencyStore::claim`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// Nobody has done it: the caller does it now.
    Fresh(Claim),
    /// It is done; here is how it ended.
    Replay(Completion),
    /// Somebody is at it, with a lease that runs for at most this long unless renewed.
    InFlight {
        /// The time left of the other's lease.
        retry_after: Duration,
    },
    /// The key was used with another fingerprint.
    Mismatch,
}

/// The answer to a step that compares the fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idempotency {
    /// The step was taken.
    Done,
    /// The record's time is over, and the store knows nothing of it any more:
    /// nothing was changed.
    Expired,
    /// Another holds the claim, or has completed it: nothing was changed.
    Superseded,
}

/// Remembers which operations are under way and how they ended, by the store's
/// clock, each call one atomic step.
///
/// ```text
/// absent --claim--> in flight (fence, fingerprint, lease)
///                     | complete --> completed (response or tombstone, retention)
///                     | release  --> as before the claim
///                     | lease ends -> claimable again, with `after_lost_claim`
/// ```
///
/// A completed record is never changed or shortened by anybody. A record in
/// flight outlives its lease by the retention given with the claim, so that
/// the next claimant learns of it. Fences only grow: the numbers outlive every
/// record that they are in.
pub trait IdempotencyStore: Send + Sync {
    /// Claims `key` for a lease of `lease`, unless it is claimed or completed.
    /// The record is kept for `retention` after the lease.
    fn claim(
        &self,
        key: &[u8],
        fingerprint: Fingerprint,
        lease: Duration,
        retention: Duration,
    ) -> Answer<'_, Result<Begin, StoreError>>;

    /// Sets the end of the lease to `lease` from now, if `fence` holds the claim.
    fn renew(&self, key: &[u8], fence: Fence, lease: Duration) -> Answer<'_, Result<Idempotency, StoreError>>;

    /// Records how the operation ended, for `retention`, if `fence` holds the
    /// claim. A claim whose lease is over but that nobody has taken since is
    /// still completed: the operation did run.
    fn complete(
        &self,
        key: &[u8],
        fence: Fence,
        completion: Completion,
        retention: Duration,
    ) -> Answer<'_, Result<Idempotency, StoreError>>;

    /// Gives the claim back because the operation did not begin, if `fence` holds
    /// it. All is then as it was before: a claim that was lost earlier stays lost,
    /// and the next claimant learns of it.
    fn release(&self, key: &[u8], fence: Fence) -> Answer<'_, Result<Idempotency, StoreError>>;
}

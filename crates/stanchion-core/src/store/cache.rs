//! A cache that several instances share.

use std::sync::Arc;
use std::time::Duration;

use super::StoreError;
use crate::Answer;

/// A number that changes with each invalidation of a key, and does not come back
/// for as long as a load may take: a store that forgets its counters must keep
/// them longer than that, or take its numbers from its clock.
///
/// It is read with a miss and handed back with the value that was loaded
/// meanwhile, so that a load which an invalidation has overtaken stores nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version(u64);

impl Version {
    /// The version of this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// The answer to [`CacheStore::get`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheEntry {
    /// The value with the time that it has left, or `None` for a miss. Shared, so
    /// that a store in memory needn't copy it.
    pub value: Option<(Arc<[u8]>, Duration)>,
    /// What a [`put`](CacheStore::put) after this must hand back.
    pub version: Version,
}

/// Keeps values by key for a time, each call one atomic step.
///
/// A `put` never brings back what an `invalidate` between its `get` and itself
/// has removed.
pub trait CacheStore: Send + Sync {
    /// The value of `key` with its version.
    fn get(&self, key: &[u8]) -> Answer<'_, Result<CacheEntry, StoreError>>;

    /// Stores `value` for `time_to_live`, if the key's version is still
    /// `since`; `false` if not.
    fn put(
        &self,
        key: &[u8],
        value: &[u8],
        time_to_live: Duration,
        since: Version,
    ) -> Answer<'_, Result<bool, StoreError>>;

    /// Removes the value of `key` and voids every load that has begun; the new version.
    fn invalidate(&self, key: &[u8]) -> Answer<'_, Result<Version, StoreError>>;
}

//! A cache that several instances share.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Fence, Lease, LeaseStore, StoreError};
use crate::Answer;

/// Keeps values by key for a time, says who may load a key that has none, and tells all
/// instances what was invalidated.
///
/// A store is the cache of *one name*: two of other names don't meet. Its times are its own
/// clock's. A value's age counts from the moment at which its load was granted the lease, or at
/// which it was inserted.
///
/// # Laws
/// `stanchion-conformance` holds every implementation to these.
///
/// 1. *One step.* Each call is atomic.
/// 2. *One load.* While a [lease](LeaseStore) on a key stands nobody else gets one.
/// 3. *Never back.* A `put` brings nothing back: if the key was inserted or invalidated, or
///    everything cleared, or one of the value's tags invalidated since the lease was granted, it
///    stores nothing. Nor does it if the lease is over or somebody else's.
/// 4. *Gone is gone.* After `invalidate`, `invalidate_tag` or `clear` has returned no call that
///    begins then gets a value from before.
/// 5. *Mortal.* A value is there for its `keep_for`, counted like its age, and then no more; it is
///    fresh for its `fresh_for`.
/// 6. *Told.* Each `insert`, `invalidate`, `invalidate_tag` and `clear` is told to all
///    subscribed stores of the same name but the one that did it, or they are told that they may have missed
///    something.
/// 7. *Separate.* Any bytes are a key, any text is a tag, and names don't meet.
///
/// # Cancellation
/// Dropping an answer leaves open whether the call was carried out. A dropped
/// `get_or_lease` may leave a lease that ends by itself.
pub trait CacheStore: LeaseStore {
    /// The key's value, fresh or stale.
    fn get(&self, key: &[u8]) -> Answer<'_, Result<Option<StoredValue>, StoreError>>;

    /// The key's value if it is fresh; otherwise what there is, and the lease on the
    /// key for `lease`, if nobody has it.
    fn get_or_lease(&self, key: &[u8], lease: Duration) -> Answer<'_, Result<Found, StoreError>>;

    /// Stores what was loaded under the lease of `fence`, and gives the lease back. `false`, and
    /// nothing is stored, where the laws forbid it.
    fn put(&self, key: &[u8], fence: Fence, value: NewValue<'_>) -> Answer<'_, Result<bool, StoreError>>;

    /// Stores a value in place of any other. A load that has begun stores nothing any more.
    fn insert(&self, key: &[u8], value: NewValue<'_>) -> Answer<'_, Result<(), StoreError>>;

    /// Removes the key's value. A load that has begun stores nothing any more, and another may begin at once.
    fn invalidate(&self, key: &[u8]) -> Answer<'_, Result<(), StoreError>>;

    /// Makes all values with this tag go, in a time that doesn't depend on how many they are.
    fn invalidate_tag(&self, tag: &str) -> Answer<'_, Result<(), StoreError>>;

    /// Makes all values go.
    fn clear(&self) -> Answer<'_, Result<(), StoreError>>;

    /// Tells `listener` what others change, until the subscription is dropped. The first that
    /// it hears is [`Change::Resumed`], once it is listening.
    ///
    /// The listener is called by the store's own task and should return at once.
    fn subscribe(&self, listener: ChangeListener) -> Subscription;
}

/// A value that a [`CacheStore`] has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredValue {
    /// The value.
    pub bytes: Vec<u8>,
    /// The time since its load began.
    pub age: Duration,
    /// How long it is fresh, counted like its age.
    pub fresh_for: Duration,
    /// Its tags.
    pub tags: Vec<String>,
}

impl StoredValue {
    /// Whether its age is below what it is fresh for.
    pub fn is_fresh(&self) -> bool {
        self.age < self.fresh_for
    }
}

/// A value for a [`CacheStore`]. Times are rounded up to the store's resolution, at most a
/// millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewValue<'a> {
    /// The value.
    pub bytes: &'a [u8],
    /// How long it is fresh, from the start of its load.
    pub fresh_for: Duration,
    /// How long it is there, from the start of its load: at least as long as it is fresh. The
    /// store may have a limit, which its documentation names.
    pub keep_for: Duration,
    /// Its tags.
    pub tags: &'a [&'a str],
}

/// The answer to [`CacheStore::get_or_lease`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A fresh value.
    Fresh(StoredValue),
    /// No fresh value.
    Stale {
        /// A stale one, if there is one still.
        value: Option<StoredValue>,
        /// Whether the caller is the one who may load.
        lease: Lease,
    },
}

/// What a subscriber of a [`CacheStore`] is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// This key was inserted or invalidated.
    Key(&'a [u8]),
    /// This tag was invalidated.
    Tag(&'a str),
    /// Everything was cleared.
    All,
    /// From now on nothing is heard.
    Interrupted,
    /// From now on everything is heard. What happened before is unknown.
    Resumed,
}

/// Whoever wants to be told of [changes](Change).
pub type ChangeListener = Arc<dyn Fn(Change<'_>) + Send + Sync>;

/// The right to be told of [changes](Change). Dropping it ends it, though a change that is
/// under way may still be told.
#[must_use = "dropping it ends the subscription"]
pub struct Subscription {
    _guard: Box<dyn Any + Send + Sync>,
}

impl Subscription {
    /// A subscription that ends when `guard` is dropped.
    pub fn new(guard: impl Send + Sync + 'static) -> Self {
        Self { _guard: Box::new(guard) }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscription")
    }
}

//! What leaves the cache, and who is told.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::stats::{Count, Stats};

/// Why a value left the cache, or never came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum RemovalCause {
    /// Another value was put in its place.
    Replaced,
    /// By key, by tag, by a predicate, by `clear`.
    Invalidated,
    /// Its time to live or its idle time, and all grace, are over.
    Expired,
    /// It had to make room.
    Evicted,
    /// It never came in: it is heavier than the whole budget, there was no room
    /// beside what is pinned, or a newer version is there.
    Refused,
}

impl RemovalCause {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Replaced, Self::Invalidated, Self::Expired, Self::Evicted, Self::Refused];

    /// In a word, for logs and metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Replaced => "replaced",
            Self::Invalidated => "invalidated",
            Self::Expired => "expired",
            Self::Evicted => "evicted",
            Self::Refused => "refused",
        }
    }
}

/// Somebody who is told of each value that leaves.
pub(crate) type Listener<K, V> = Arc<dyn Fn(&K, &V, RemovalCause) + Send + Sync>;

/// What was taken out under a lock, to be told of and dropped after it.
pub(crate) struct Removals<K, V> {
    /// An insert removes two at most, as a rule; more make an allocation.
    few: [Option<Removal<K, V>>; 2],
    many: Vec<Removal<K, V>>,
}

struct Removal<K, V> {
    key: K,
    /// `None`: it was said that there is no such thing.
    value: Option<V>,
    cause: RemovalCause,
}

impl<K, V> Removals<K, V> {
    pub(crate) fn none() -> Self {
        Self { few: [None, None], many: Vec::new() }
    }

    pub(crate) fn push(&mut self, key: K, value: Option<V>, cause: RemovalCause) {
        let removal = Removal { key, value, cause };
        match self.few.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(removal),
            None => self.many.push(removal),
        }
    }

    pub(crate) fn count(&self, stats: &Stats) {
        for removal in self.few.iter().flatten().chain(&self.many) {
            stats.count(match removal.cause {
                RemovalCause::Replaced => Count::Replaced,
                RemovalCause::Invalidated => Count::Invalidated,
                RemovalCause::Expired => Count::Expired,
                RemovalCause::Evicted => Count::Evicted,
                RemovalCause::Refused => Count::Refused,
            });
        }
    }

    /// Tells the listener, and drops. Not to be called under a lock. A listener that
    /// panics is on its own.
    pub(crate) fn finish(self, listener: Option<&Listener<K, V>>) {
        let Some(listener) = listener else { return };
        for Removal { key, value, cause } in self.few.into_iter().flatten().chain(self.many) {
            if let Some(value) = &value {
                // The panic's message has been printed by the hook.
                let _ = catch_unwind(AssertUnwindSafe(|| listener(&key, value, cause)));
            }
        }
    }
}

impl<K, V> fmt::Debug for Removals<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Removals").finish_non_exhaustive()
    }
}

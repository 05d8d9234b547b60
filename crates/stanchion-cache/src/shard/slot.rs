//! What a slot of a shard holds.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use crate::policy::{Entries, MOST_HITS};
use crate::removal::{RemovalCause, Removals};

/// A place for an entry.
pub(crate) enum Slot<K, V> {
    Vacant {
        next: u32,
    },
    Present {
        key: K,
        value: V,
        meta: Meta,
    },
    /// It is known that there is no such thing.
    Absent {
        key: K,
        meta: Meta,
    },
}

/// What is known of each entry.
#[derive(Debug)]
pub(crate) struct Meta {
    /// In the timer's unit.
    pub(crate) expires: u64,
    pub(super) hash: u32,
    /// Whether there is more to be looked at when it is read: an [`Extra`], or when that was
    /// last done; or more to be told.
    pub(super) is_rich: bool,
    pub(super) is_pinned: bool,
    /// Up to [`MOST_HITS`].
    pub(super) hits: AtomicU8,
}

/// What is known of some.
#[derive(Debug, Default)]
pub(crate) struct Extra {
    /// When its load started, in the timer's unit.
    pub(crate) born: u64,
    pub(crate) load_time: Duration,
    /// After a failed refresh, when the next may be tried.
    pub(crate) retry_at: u64,
    pub(crate) version: u64,
    /// Hashes.
    pub(crate) tags: Box<[u64]>,
    /// No tag is known to have been invalidated between the load's start and this.
    pub(crate) tags_hold_since: AtomicU64,
}

/// An entry as it is put in.
pub(crate) struct Record<V> {
    pub(crate) value: Option<V>,
    pub(crate) expires: u64,
    pub(crate) weight: u32,
    pub(crate) extra: Option<Extra>,
}

/// An entry as it is read.
pub(crate) struct Entry<'a, K, V> {
    pub(crate) key: &'a K,
    /// `None`: there is no such thing.
    pub(crate) value: Option<&'a V>,
    pub(crate) meta: &'a Meta,
}

impl<K, V> Slot<K, V> {
    /// The hash of the key; 0 if there is none.
    #[inline]
    pub(super) fn hash(&self) -> u32 {
        self.meta().map_or(0, |meta| meta.hash)
    }

    #[inline]
    pub(super) fn meta(&self) -> Option<&Meta> {
        match self {
            Self::Present { meta, .. } => Some(meta),
            rare => rare.rare_meta(),
        }
    }

    #[inline]
    pub(super) fn meta_mut(&mut self) -> Option<&mut Meta> {
        match self {
            Self::Present { meta, .. } => Some(meta),
            rare => rare.rare_meta_mut(),
        }
    }

    #[cold]
    #[inline(never)]
    fn rare_meta(&self) -> Option<&Meta> {
        match self {
            Self::Vacant { .. } => None,
            Self::Present { meta, .. } | Self::Absent { meta, .. } => Some(meta),
        }
    }

    #[cold]
    #[inline(never)]
    fn rare_meta_mut(&mut self) -> Option<&mut Meta> {
        match self {
            Self::Vacant { .. } => None,
            Self::Present { meta, .. } | Self::Absent { meta, .. } => Some(meta),
        }
    }

    #[inline]
    pub(super) fn key(&self) -> Option<&K> {
        match self {
            Self::Vacant { .. } => None,
            Self::Present { key, .. } | Self::Absent { key, .. } => Some(key),
        }
    }

    pub(super) fn leave(self, cause: RemovalCause, removals: &mut Removals<K, V>) {
        match self {
            Self::Vacant { .. } => {}
            Self::Present { key, value, .. } => removals.push(key, Some(value), cause),
            Self::Absent { key, .. } => removals.push(key, None, cause),
        }
    }

    pub(super) fn new(key: K, value: Option<V>, meta: Meta) -> Self {
        match value {
            Some(value) => Self::Present { key, value, meta },
            None => Self::Absent { key, meta },
        }
    }
}

impl Meta {
    /// Of an entry that is neither pinned nor was hit.
    #[inline]
    pub(super) fn new(hash: u32, expires: u64, is_rich: bool) -> Self {
        Self { expires, hash, is_rich, is_pinned: false, hits: AtomicU8::new(0) }
    }

    /// Of another value for the same entry: it keeps its standing.
    #[inline]
    pub(super) fn renewed(&self, expires: u64, is_rich: bool) -> Self {
        Self { is_pinned: self.is_pinned, hits: self.hits().into(), ..Self::new(self.hash, expires, is_rich) }
    }

    fn hits(&self) -> u8 {
        self.hits.load(Ordering::Relaxed)
    }

    /// One more hit, if it can be counted. A race of two loses one: it is a hint.
    #[inline]
    pub(crate) fn hit(&self) {
        // Relaxed: it guards no other memory.
        let hits = self.hits.load(Ordering::Relaxed);
        if hits < MOST_HITS {
            self.hits.store(hits + 1, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_rich(&self) -> bool {
        self.is_rich
    }

    pub(crate) fn is_pinned(&self) -> bool {
        self.is_pinned
    }
}

/// What a policy sees of the slots.
impl<K, V> Entries for [Slot<K, V>] {
    #[inline]
    fn hash(&self, slot: u32) -> u32 {
        self[slot as usize].hash()
    }

    #[inline]
    fn hits(&mut self, slot: u32) -> u8 {
        self[slot as usize].meta_mut().map_or(0, |meta| *meta.hits.get_mut())
    }

    #[inline]
    fn set_hits(&mut self, slot: u32, hits: u8) {
        if let Some(meta) = self[slot as usize].meta_mut() {
            *meta.hits.get_mut() = hits;
        }
    }
}

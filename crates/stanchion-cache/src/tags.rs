//! Which tags were invalidated when.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

/// The most tags whose last invalidation is remembered by itself. When there are more, the
/// older half is forgotten, and whatever was loaded before the youngest of
/// those and has any tag counts as invalid.
const MARKS: usize = 4096;

/// Marks of invalidations, by tag. Times here are numbers of invalidations.
#[derive(Debug, Default)]
pub(crate) struct Tags {
    /// How many invalidations there were.
    time: AtomicU64,
    marks: RwLock<Marks>,
}

#[derive(Debug, Default)]
struct Marks {
    /// By the tag's hash, when it was last invalidated.
    by_tag: HashMap<u64, u64>,
    /// What has tags and is of before this is invalid.
    floor: u64,
}

impl Tags {
    /// The time to note when a load starts, before it reads anything.
    pub(crate) fn now(&self) -> u64 {
        // SeqCst: a load that starts after an invalidation has returned must note a time at
        // least as late, whatever else the two threads have told each other.
        self.time.load(Ordering::SeqCst)
    }

    /// From now on, what has this tag and is of before is invalid.
    pub(crate) fn invalidate(&self, tag: u64) {
        let mut marks = self.marks.write().unwrap_or_else(PoisonError::into_inner);
        // The mark is there before the time moves: whoever sees the time finds it.
        let time = self.time.load(Ordering::SeqCst) + 1;
        marks.by_tag.insert(tag, time);
        if marks.by_tag.len() > MARKS {
            let mut times: Vec<u64> = marks.by_tag.values().copied().collect();
            let (_, &mut middle, _) = times.select_nth_unstable(MARKS / 2);
            marks.by_tag.retain(|_, mark| *mark > middle);
            marks.floor = middle;
        }
        self.time.store(time, Ordering::SeqCst);
    }

    /// Whether one of the tags was invalidated after `since`.
    pub(crate) fn is_stale(&self, tags: &[u64], since: u64) -> bool {
        if tags.is_empty() || since >= self.now() {
            return false;
        }
        let marks = self.marks.read().unwrap_or_else(PoisonError::into_inner);
        marks.floor > since || tags.iter().any(|tag| marks.by_tag.get(tag).is_some_and(|&mark| mark > since))
    }
}

#[cfg(all(test, not(stanchion_loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_started_before_is_stale_and_what_started_after_is_not() {
        let tags = Tags::default();
        let before = tags.now();
        tags.invalidate(7);
        let after = tags.now();
        assert!(tags.is_stale(&[3, 7], before));
        assert!(!tags.is_stale(&[3], before));
        assert!(!tags.is_stale(&[7], after));
    }

    #[test]
    fn memory_is_bounded_and_what_is_forgotten_counts_as_invalid() {
        let tags = Tags::default();
        for tag in 0..100_000 {
            tags.invalidate(tag);
        }
        assert!(tags.marks.read().unwrap().by_tag.len() <= MARKS);
        assert!(tags.is_stale(&[3], 2), "invalidated after");
        assert!(tags.is_stale(&[u64::MAX], 5), "nobody knows any more");
        assert!(!tags.is_stale(&[u64::MAX], 99_999));
        assert!(!tags.is_stale(&[], 0));
    }
}

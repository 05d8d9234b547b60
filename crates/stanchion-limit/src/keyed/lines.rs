//! The lines of those who wait, key by key.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::line::Line;

/// A line for each key for which somebody waits.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Each with how many have entered it and not left.
    lines: Mutex<HashMap<u64, (Arc<Line>, usize)>>,
    /// How many there are.
    any: AtomicUsize,
}

/// The line of one key, which is gone when the last one has left it.
pub(super) struct InLine<'a> {
    lines: &'a Lines,
    hash: u64,
    line: Arc<Line>,
}

impl Lines {
    /// The line of a key, if somebody is in it.
    #[inline]
    pub(super) fn of(&self, hash: u64) -> Option<Arc<Line>> {
        // Relaxed: who comes in the same instant as the first in line may be in front of it.
        if self.any.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.find(hash)
    }

    #[cold]
    fn find(&self, hash: u64) -> Option<Arc<Line>> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.get(&hash).map(|(line, _)| line).filter(|line| !line.is_empty()).cloned()
    }

    /// Enters the line of a key.
    pub(super) fn enter(&self, hash: u64) -> InLine<'_> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let (line, entered) = lines.entry(hash).or_insert_with(|| (Arc::new(Line::new()), 0));
        *entered += 1;
        let line = line.clone();
        self.any.store(lines.len(), Ordering::Relaxed);
        InLine { lines: self, hash, line }
    }

    /// The first in a key's line asks again, or in all of them.
    pub(super) fn changed(&self, hash: Option<u64>) {
        if self.any.load(Ordering::Relaxed) == 0 {
            return;
        }
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let these = lines.iter().filter(|(line, _)| hash.is_none_or(|hash| hash == **line));
        these.for_each(|(_, (line, _))| line.changed());
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.values().map(|(line, _)| line.length().0).sum()
    }
}

impl InLine<'_> {
    pub(super) fn line(&self) -> &Line {
        &self.line
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        let mut lines = self.lines.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut line) = lines.entry(self.hash) {
            line.get_mut().1 -= 1;
            if line.get().1 == 0 {
                line.remove();
            }
        }
        self.lines.any.store(lines.len(), Ordering::Relaxed);
    }
}

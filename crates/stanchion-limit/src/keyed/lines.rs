//! The lines of those who wait, key by key.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::line::Line;

/// A line for each key for which somebody waits.
#[derive(Debug, Default)]
pub(super) struct Lines {
    lines: Mutex<HashMap<u64, Arc<Line>>>,
    /// How many there are.
    any: AtomicUsize,
}

/// The line of one key, which is gone when the last one has left it.
pub(super) struct InLine<'a> {
    lines: &'a Lines,
    hash: u64,
    line: Option<Arc<Line>>,
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
        lines.get(&hash).filter(|line| !line.is_empty()).cloned()
    }

    /// Enters the line of a key.
    pub(super) fn enter(&self, hash: u64) -> InLine<'_> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let line = lines.entry(hash).or_insert_with(|| Arc::new(Line::new())).clone();
        self.any.store(lines.len(), Ordering::Relaxed);
        InLine { lines: self, hash, line: Some(line) }
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.values().map(|line| line.length().0).sum()
    }
}

impl InLine<'_> {
    pub(super) fn line(&self) -> &Line {
        self.line.as_ref().expect("it is there until this is dropped")
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        let mut lines = self.lines.lines.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.line.take());
        // Under the lock nobody enters; one reference is the map's own.
        if lines.get(&self.hash).is_some_and(|line| Arc::strong_count(line) == 1) {
            lines.remove(&self.hash);
        }
        self.lines.any.store(lines.len(), Ordering::Relaxed);
    }
}

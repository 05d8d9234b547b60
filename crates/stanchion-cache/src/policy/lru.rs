//! The least recently used, without a list that each hit would have to lock.
//!
//! A hit writes the time, a count of hits, into its slot. A heap orders the slots by
//! the time that it has last seen of each; who is at its top and was hit since goes down
//! to its place. Times only grow, so whoever is on top with the time that the
//! heap knows is the least recently used of all.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Entries, Policy};

/// Entries that one eviction puts in their place, at most.
const TURNS: usize = 64;
const NOWHERE: u32 = u32::MAX;

#[derive(Debug, Default)]
pub(crate) struct Lru {
    time: AtomicU64,
    /// When each slot was last used.
    used: Vec<AtomicU64>,
    /// The same, as far as the heap knows.
    known: Vec<u64>,
    /// Slots; the children of `n` are `2n + 1` and `2n + 2`.
    heap: Vec<u32>,
    /// Where in the heap each slot is.
    place: Vec<u32>,
}

impl Lru {
    pub(super) fn new() -> Self {
        Self::default()
    }

    fn key(&self, index: usize) -> u64 {
        self.known[self.heap[index] as usize]
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        for index in [a, b] {
            self.place[self.heap[index] as usize] = place(index);
        }
    }

    fn up(&mut self, mut index: usize) {
        while index > 0 && self.key(index) < self.key((index - 1) / 2) {
            self.swap(index, (index - 1) / 2);
            index = (index - 1) / 2;
        }
    }

    fn down(&mut self, mut index: usize) {
        loop {
            let children = (2 * index + 1..2 * index + 3).filter(|&child| child < self.heap.len());
            match children.min_by_key(|&child| self.key(child)) {
                Some(child) if self.key(child) < self.key(index) => {
                    self.swap(index, child);
                    index = child;
                }
                _ => return,
            }
        }
    }
}

/// As many as there are slots, at most.
fn place(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(NOWHERE)
}

impl Policy for Lru {
    fn hit(&self, slot: u32) {
        if let Some(used) = self.used.get(slot as usize) {
            // Relaxed: an order of hits, as far as threads agree on one.
            used.store(self.time.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }

    fn insert(&mut self, slot: u32, _hash: u32, _is_roomy: bool) {
        let wanted = slot as usize + 1;
        if self.used.len() < wanted {
            self.used.resize_with(wanted, AtomicU64::default);
            self.known.resize(wanted, 0);
            self.place.resize(wanted, NOWHERE);
        }
        *self.time.get_mut() += 1;
        let now = *self.time.get_mut();
        *self.used[slot as usize].get_mut() = now;
        self.known[slot as usize] = now;
        self.place[slot as usize] = place(self.heap.len());
        self.heap.push(slot);
        self.up(self.heap.len() - 1);
    }

    fn remove(&mut self, slot: u32) {
        let Some(index) = self.place.get(slot as usize).copied().filter(|&place| place != NOWHERE) else { return };
        let (index, last) = (index as usize, self.heap.len() - 1);
        self.swap(index, last);
        self.heap.pop();
        self.place[slot as usize] = NOWHERE;
        if index < last {
            self.up(index);
            self.down(index);
        }
    }

    fn evict(&mut self, _entries: &mut (impl Entries + ?Sized)) -> Option<u32> {
        let mut oldest = (u64::MAX, NOWHERE);
        for _ in 0..TURNS {
            let slot = *self.heap.first()?;
            let used = *self.used[slot as usize].get_mut();
            if used == self.known[slot as usize] {
                oldest = (used, slot);
                break;
            }
            oldest = oldest.min((used, slot));
            self.known[slot as usize] = used;
            self.down(0);
        }
        self.remove(oldest.1);
        Some(oldest.1)
    }
}

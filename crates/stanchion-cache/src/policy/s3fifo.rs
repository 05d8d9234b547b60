//! S3-FIFO, after Yang, Zhang, Qiu, Yue, Rashmi: "FIFO queues are all you need for
//! cache eviction", SOSP 2023, algorithm 1.

use std::collections::VecDeque;

use hashbrown::HashTable;

use super::links::{Links, Queue};
use super::{Entries, Policy};

/// The small queue's share of the entries.
const SMALL: usize = 10;
/// Entries that one eviction moves, at most.
const TURNS: usize = 64;

#[derive(Debug)]
pub(crate) struct S3Fifo {
    links: Links,
    small: Queue,
    main: Queue,
    ghost: Ghost,
}

impl S3Fifo {
    pub(super) fn new() -> Self {
        Self { links: Links::default(), small: Queue::new(1), main: Queue::new(2), ghost: Ghost::default() }
    }

    fn evict_small(&mut self, entries: &mut (impl Entries + ?Sized), turns: &mut usize) -> Option<u32> {
        while let Some(slot) = self.small.front() {
            let hits = entries.hits(slot);
            self.small.remove(&mut self.links, slot);
            if hits <= 1 || *turns == 0 {
                self.ghost.remember(entries.hash(slot), self.main.len().max(1));
                return Some(slot);
            }
            *turns -= 1;
            entries.set_hits(slot, 0);
            self.main.push(&mut self.links, slot);
            if self.small.len() * SMALL < self.main.len() + self.small.len() {
                return None;
            }
        }
        None
    }

    fn evict_main(&mut self, entries: &mut (impl Entries + ?Sized), turns: &mut usize) -> Option<u32> {
        loop {
            let slot = self.main.front()?;
            let hits = entries.hits(slot);
            if hits == 0 || *turns == 0 {
                self.main.remove(&mut self.links, slot);
                return Some(slot);
            }
            *turns -= 1;
            entries.set_hits(slot, hits - 1);
            self.main.rotate(&self.links);
        }
    }
}

impl Policy for S3Fifo {
    fn insert(&mut self, slot: u32, hash: u32, _is_roomy: bool) {
        let queue = if self.ghost.forget(hash) { &mut self.main } else { &mut self.small };
        queue.push(&mut self.links, slot);
    }

    fn remove(&mut self, slot: u32) {
        match self.links.place(slot) {
            1 => self.small.remove(&mut self.links, slot),
            2 => self.main.remove(&mut self.links, slot),
            _ => {}
        }
    }

    fn evict(&mut self, entries: &mut (impl Entries + ?Sized)) -> Option<u32> {
        let mut turns = TURNS;
        let len = self.small.len() + self.main.len();
        if self.small.len() * SMALL >= len
            && let Some(slot) = self.evict_small(entries, &mut turns)
        {
            return Some(slot);
        }
        self.evict_main(entries, &mut turns).or_else(|| self.evict_small(entries, &mut turns))
    }
}

/// The hashes of those who left the small queue of late.
#[derive(Debug, Default)]
struct Ghost {
    order: VecDeque<(u32, u32)>,
    /// The hash, and when it came.
    known: HashTable<(u32, u32)>,
    time: u32,
}

impl Ghost {
    fn remember(&mut self, hash: u32, most: usize) {
        self.time = self.time.wrapping_add(1);
        self.forget(hash);
        self.known.insert_unique(spread(hash), (hash, self.time), |known| spread(known.0));
        self.order.push_back((hash, self.time));
        // Two at a time, so that the queue shrinks with the cache, in bounded steps. What
        // was forgotten in between stands here still, with another time.
        for _ in 0..2 {
            if self.order.len() > most
                && let Some((old, time)) = self.order.pop_front()
                && let Ok(entry) = self.known.find_entry(spread(old), |known| *known == (old, time))
            {
                entry.remove();
            }
        }
    }

    /// Whether it was known; it isn't any more.
    fn forget(&mut self, hash: u32) -> bool {
        self.known.find_entry(spread(hash), |known| known.0 == hash).map(|entry| entry.remove()).is_ok()
    }
}

/// A table's hash of a 32-bit hash: it wants good bits at both ends.
pub(crate) fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

//! The default policy: a window, a clock, and a sketch between them.
//!
//! A hit counts in the entry's two bits and does nothing else. The sketch learns
//! under the exclusive lock only: one for each entry that comes in, and the bits
//! that the hands find when they pass. So a key's fame outlives its entry, and
//! decides at the window's end which of two goes: the one that leaves the window,
//! or the one under the clock's hand.
//!
//! Three ways out of the window: hit twice or more, and it has proved itself and goes to
//! main; better known than the clock's victim, and it takes that one's place; else out.
//! A scan passes through the window and touches nothing else. A loop larger than
//! the cache keeps what came first, as it should. After a shift of phase the old ones
//! lose their bits to the hand, and their fame to the sketch's fading.

use super::links::{Links, Queue};
use super::sketch::Sketch;
use super::{Entries, Policy};

/// The window's share of the entries.
const WINDOW: usize = 10;
/// An entry of the window that was hit so often needs no comparison.
const PROVED: u8 = 2;
/// Entries that go from window to main in one eviction, at most.
const PROMOTIONS: usize = 16;
/// Entries that the clock's hand passes in one eviction, at most.
const TURNS: usize = 64;

#[derive(Debug)]
pub(crate) struct Hybrid {
    links: Links,
    window: Queue,
    main: Queue,
    sketch: Sketch,
}

impl Hybrid {
    pub(super) fn new() -> Self {
        Self { links: Links::default(), window: Queue::new(1), main: Queue::new(2), sketch: Sketch::new() }
    }

    fn len(&self) -> usize {
        self.window.len() + self.main.len()
    }

    fn promote(&mut self, slot: u32, entries: &mut (impl Entries + ?Sized)) {
        entries.set_hits(slot, 0);
        self.window.remove(&mut self.links, slot);
        self.main.push(&mut self.links, slot);
    }

    /// Who goes. It stays where it is; whoever proves itself on the way goes to main.
    #[inline(always)]
    fn choose(&mut self, entries: &mut (impl Entries + ?Sized)) -> Option<Choice> {
        for _ in 0..PROMOTIONS {
            let is_due = self.window.len() * WINDOW >= self.len() || self.main.len() == 0;
            let Some(candidate) = self.window.front().filter(|_| is_due) else { break };
            let hits = entries.hits(candidate);
            if hits > 0 {
                self.sketch.add(entries.hash(candidate), hits);
                if hits >= PROVED {
                    self.promote(candidate, entries);
                    continue;
                }
            }
            let Some(victim) = self.victim(entries) else { return Some(Choice::Candidate(candidate)) };
            if self.sketch.estimate(entries.hash(candidate)) <= self.sketch.estimate(entries.hash(victim)) {
                return Some(Choice::Candidate(candidate));
            }
            self.promote(candidate, entries);
            return Some(Choice::Victim(victim));
        }
        self.victim(entries).map(Choice::Victim)
    }

    /// Where the clock's hand stops: at an entry without hits, or, if it has passed
    /// many, at that with the fewest.
    #[inline]
    fn victim(&mut self, entries: &mut (impl Entries + ?Sized)) -> Option<u32> {
        let first = self.main.front()?;
        if entries.hits(first) == 0 { Some(first) } else { self.next_victim(first, entries) }
    }

    /// The same if the first isn't it.
    #[inline(never)]
    fn next_victim(&mut self, first: u32, entries: &mut (impl Entries + ?Sized)) -> Option<u32> {
        let mut fewest = (u8::MAX, first);
        for _ in 0..TURNS {
            let slot = self.main.front()?;
            let hits = entries.hits(slot);
            if hits == 0 {
                return Some(slot);
            }
            self.sketch.add(entries.hash(slot), 1);
            entries.set_hits(slot, hits - 1);
            if hits < fewest.0 {
                fewest = (hits, slot);
            }
            self.main.rotate(&self.links);
        }
        Some(fewest.1)
    }
}

/// Who goes.
enum Choice {
    /// The one at the window's front.
    Candidate(u32),
    /// One of main's.
    Victim(u32),
}

impl Policy for Hybrid {
    fn insert(&mut self, slot: u32, hash: u32, is_roomy: bool) {
        // While there is room nobody needs to prove anything.
        let queue = if is_roomy { &mut self.main } else { &mut self.window };
        queue.push(&mut self.links, slot);
        self.sketch.fit(self.len());
        self.sketch.add(hash, 1);
    }

    fn remove(&mut self, slot: u32) {
        match self.links.place(slot) {
            1 => self.window.remove(&mut self.links, slot),
            2 => self.main.remove(&mut self.links, slot),
            _ => {}
        }
    }

    fn evict(&mut self, entries: &mut (impl Entries + ?Sized)) -> Option<u32> {
        Some(match self.choose(entries)? {
            Choice::Candidate(slot) => {
                self.window.remove(&mut self.links, slot);
                slot
            }
            Choice::Victim(slot) => {
                self.main.remove(&mut self.links, slot);
                slot
            }
        })
    }

    fn exchange(&mut self, entries: &mut (impl Entries + ?Sized), newcomer: u32) -> Option<u32> {
        let slot = match self.choose(entries)? {
            Choice::Candidate(slot) => {
                // From the window's front to its back: a turn of the ring.
                self.window.rotate(&self.links);
                slot
            }
            Choice::Victim(slot) => {
                self.main.remove(&mut self.links, slot);
                self.window.push(&mut self.links, slot);
                slot
            }
        };
        // There are as many members as before: the sketch fits.
        self.sketch.add(newcomer, 1);
        Some(slot)
    }
}

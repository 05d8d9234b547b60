//! Queues of slots, linked by number: any member leaves in one step.

use std::sync::atomic::{AtomicU8, Ordering};

/// How often a slot was hit, as far as two bits can tell.
pub(super) const MOST_HITS: u8 = 3;
const HITS: u8 = 0b11;
/// Which queue a slot is in: 0 is none.
const PLACE: u8 = 0b1100;

/// What is known of each slot: its neighbours in its queue, which queue that is, and
/// its hits.
#[derive(Debug, Default)]
pub(super) struct Links {
    around: Vec<[u32; 2]>,
    marks: Vec<AtomicU8>,
}

const PREVIOUS: usize = 0;
const NEXT: usize = 1;

/// A queue in a ring. The front is the oldest, or where a clock's hand stands.
#[derive(Debug)]
pub(super) struct Queue {
    /// The number by which its members know it: 1 to 3.
    number: u8,
    front: u32,
    len: usize,
}

impl Links {
    /// One more hit, if it can be counted. A race of two loses one: it is a hint.
    #[inline]
    pub(super) fn hit(&self, slot: u32) {
        if let Some(mark) = self.marks.get(slot as usize) {
            // Relaxed: the mark guards no other memory, and its queue only changes
            // under the exclusive lock.
            let now = mark.load(Ordering::Relaxed);
            if now & HITS < MOST_HITS {
                mark.store(now + 1, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn hits(&mut self, slot: u32) -> u8 {
        *self.marks[slot as usize].get_mut() & HITS
    }

    pub(super) fn set_hits(&mut self, slot: u32, hits: u8) {
        let mark = self.marks[slot as usize].get_mut();
        *mark = *mark & PLACE | hits;
    }

    /// The number of the queue that the slot is in.
    pub(super) fn place(&mut self, slot: u32) -> u8 {
        self.marks.get_mut(slot as usize).map_or(0, |mark| (*mark.get_mut() & PLACE) >> 2)
    }

    fn grow(&mut self, slot: u32) {
        let wanted = slot as usize + 1;
        if self.marks.len() < wanted {
            if self.marks.capacity() < wanted {
                // By a quarter: a doubled vector is half empty at worst, for good.
                let more = wanted + wanted / 4 + 16 - self.marks.len();
                self.around.reserve_exact(more);
                self.marks.reserve_exact(more);
            }
            self.around.resize(wanted, [0; 2]);
            self.marks.resize_with(wanted, AtomicU8::default);
        }
    }
}

impl Queue {
    pub(super) fn new(number: u8) -> Self {
        Self { number, front: 0, len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn front(&self) -> Option<u32> {
        (self.len > 0).then_some(self.front)
    }

    /// Puts a slot that is in no queue at the back, without hits.
    pub(super) fn push(&mut self, links: &mut Links, slot: u32) {
        links.grow(slot);
        *links.marks[slot as usize].get_mut() = self.number << 2;
        if self.len == 0 {
            self.front = slot;
            links.around[slot as usize] = [slot; 2];
        } else {
            let back = links.around[self.front as usize][PREVIOUS];
            links.around[slot as usize] = [back, self.front];
            links.around[back as usize][NEXT] = slot;
            links.around[self.front as usize][PREVIOUS] = slot;
        }
        self.len += 1;
    }

    /// Takes a member out, wherever it stands.
    pub(super) fn remove(&mut self, links: &mut Links, slot: u32) {
        let [previous, next] = links.around[slot as usize];
        links.around[previous as usize][NEXT] = next;
        links.around[next as usize][PREVIOUS] = previous;
        *links.marks[slot as usize].get_mut() = 0;
        if self.front == slot {
            self.front = next;
        }
        self.len -= 1;
    }

    /// The front becomes the back: a clock's hand moves on.
    pub(super) fn rotate(&mut self, links: &Links) {
        if self.len > 0 {
            self.front = links.around[self.front as usize][NEXT];
        }
    }
}

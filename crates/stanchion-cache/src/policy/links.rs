//! Queues of slots, linked by number: any member leaves in one step.

/// What is known of each slot: its neighbours in its queue, and which queue that is: 0 is none.
#[derive(Debug, Default)]
pub(super) struct Links {
    around: Vec<[u32; 2]>,
    places: Vec<u8>,
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
    /// The number of the queue that the slot is in.
    pub(super) fn place(&self, slot: u32) -> u8 {
        self.places.get(slot as usize).copied().unwrap_or(0)
    }

    fn grow(&mut self, slot: u32) {
        let wanted = slot as usize + 1;
        if self.places.len() < wanted {
            if self.places.capacity() < wanted {
                // By a quarter: a doubled vector is half empty at worst, for good.
                let more = wanted + wanted / 4 + 16 - self.places.len();
                self.around.reserve_exact(more);
                self.places.reserve_exact(more);
            }
            self.around.resize(wanted, [0; 2]);
            self.places.resize(wanted, 0);
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

    /// Puts a slot that is in no queue at the back.
    pub(super) fn push(&mut self, links: &mut Links, slot: u32) {
        links.grow(slot);
        links.places[slot as usize] = self.number;
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
        links.places[slot as usize] = 0;
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

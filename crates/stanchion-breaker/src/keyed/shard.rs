//! The keys of one lock.

use std::collections::HashMap;
use std::time::Duration;

use stanchion_core::Moment;

use crate::machine::{Change, Event, Machine, Reply, State};
use crate::plan::Plan;
use crate::tally::Tally;

/// A new key looks at so many others for one to forget.
const GLANCES: usize = 8;

/// The keys of one lock.
pub(super) struct Shard {
    pub(super) plan: Plan,
    pub(super) index: HashMap<u64, u32>,
    pub(super) slots: Vec<Slot>,
    free: Vec<u32>,
    /// Where the search for somebody to forget goes on.
    hand: usize,
}

/// A key with its breaker.
pub(super) struct Slot {
    hash: u64,
    pub(super) machine: Machine,
    /// `None` where nobody lives.
    pub(super) tally: Option<Tally>,
    pub(super) last: Moment,
}

impl Shard {
    /// Without keys.
    pub(super) fn new(plan: Plan) -> Self {
        Self { plan, index: HashMap::new(), slots: Vec::new(), free: Vec::new(), hand: 0 }
    }

    pub(super) fn find(&mut self, hash: u64) -> Option<&mut Slot> {
        let place = *self.index.get(&hash)?;
        self.slots.get_mut(place as usize)
    }

    pub(super) fn step(&mut self, place: usize, now: Moment, chance: f64, event: Event) -> (Reply, Option<Change>) {
        let Slot { machine, tally, .. } = &mut self.slots[place];
        let before = machine.generation();
        let (next, reply, change) = machine.clone().step(&self.plan, now, chance, event);
        *machine = next;
        if machine.generation() != before {
            *tally = Some(Tally::new(&self.plan));
        }
        (reply, change)
    }

    pub(super) fn move_in(&mut self, hash: u64, now: Moment) -> usize {
        let tally = Some(Tally::new(&self.plan));
        let place = match self.free.pop() {
            Some(place) => {
                let slot = &mut self.slots[place as usize];
                // Later than whatever the last one here has admitted.
                let machine = Machine::new(slot.machine.generation(), now);
                *slot = Slot { hash, machine, tally, last: now };
                place as usize
            }
            None => {
                self.slots.push(Slot { hash, machine: Machine::new(0, now), tally, last: now });
                self.slots.len() - 1
            }
        };
        self.index.insert(hash, u32::try_from(place).expect("at most 2^24 keys"));
        place
    }

    pub(super) fn move_out(&mut self, place: usize) {
        let slot = &mut self.slots[place];
        slot.tally = None;
        self.index.remove(&slot.hash);
        self.free.push(u32::try_from(place).expect("at most 2^24 keys"));
    }

    /// The next one, if nobody has used it in a while.
    pub(super) fn idle(&mut self, now: Moment, idle_after: Duration) -> Option<usize> {
        let place = self.turn()?;
        let slot = &self.slots[place];
        (slot.tally.is_some() && !is_forced(slot) && now - slot.last >= idle_after).then_some(place)
    }

    /// Of the next few closed ones, that which was longest unused.
    pub(super) fn least_used(&mut self) -> Option<usize> {
        let mut found: Option<usize> = None;
        for _ in 0..GLANCES {
            let place = self.turn()?;
            let slot = &self.slots[place];
            let is_closed = slot.tally.is_some() && slot.machine.state() == State::Closed;
            if is_closed && found.is_none_or(|best| slot.last < self.slots[best].last) {
                found = Some(place);
            }
        }
        found
    }

    fn turn(&mut self) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        self.hand = (self.hand + 1) % self.slots.len();
        Some(self.hand)
    }
}

/// Somebody has put it there, and nobody but somebody may forget it.
fn is_forced(slot: &Slot) -> bool {
    matches!(slot.machine.state(), State::ForcedOpen | State::Disabled | State::Shadow)
}

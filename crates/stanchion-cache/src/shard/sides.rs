//! What only some caches know of their slots: beside the slots, and only from the first
//! one on that has it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::slot::Extra;

/// All of it. A shard without is one whose entries all weigh 1 and have no more to them
/// than a value and an end.
#[derive(Debug, Default)]
pub(super) struct Sides {
    pub(super) extras: Extras,
    pub(super) weights: Weights,
    /// When each slot was last read, if entries expire by that.
    read: Option<Vec<AtomicU64>>,
}

impl Sides {
    /// Of a shard where it is noted when an entry is read.
    pub(super) fn idle_timed() -> Self {
        Self { read: Some(Vec::new()), ..Self::default() }
    }

    pub(super) fn is_idle_timed(&self) -> bool {
        self.read.is_some()
    }

    /// When a slot was last read or filled; 0 if that isn't noted.
    pub(super) fn last_read(&self, slot: u32) -> u64 {
        match &self.read {
            // Relaxed: a time among times.
            Some(read) => read.get(slot as usize).map_or(0, |time| time.load(Ordering::Relaxed)),
            None => 0,
        }
    }

    pub(super) fn note_read(&self, slot: u32, now: u64) {
        if let Some(read) = &self.read
            && let Some(time) = read.get(slot as usize)
        {
            time.store(now, Ordering::Relaxed);
        }
    }

    /// The same of a slot that was filled, one of so many.
    pub(super) fn note_filled(&mut self, slot: u32, now: u64, slots: usize) {
        if let Some(read) = &mut self.read {
            let wanted = slots.max(read.len());
            read.resize_with(wanted, AtomicU64::default);
            *read[slot as usize].get_mut() = now;
        }
    }
}

/// The slots' weights. As long as all weigh 1 it is empty.
#[derive(Debug, Default)]
pub(super) struct Weights(Vec<u32>);

impl Weights {
    pub(super) fn get(&self, slot: u32) -> u32 {
        self.0.get(slot as usize).copied().unwrap_or(1)
    }

    pub(super) fn set(&mut self, slot: u32, weight: u32) {
        let slot = slot as usize;
        if self.0.len() <= slot {
            if weight == 1 {
                return;
            }
            self.0.resize(slot + 1, 1);
        }
        self.0[slot] = weight;
    }
}

/// The slots' extras.
#[derive(Debug, Default)]
pub(super) struct Extras {
    /// By slot, the place in `all`, counted from 1.
    numbers: Vec<u32>,
    all: Vec<Extra>,
    free: Vec<u32>,
}

impl Extras {
    fn number(&self, slot: u32) -> Option<usize> {
        (*self.numbers.get(slot as usize)? as usize).checked_sub(1)
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Extra> {
        self.all.get(self.number(slot)?)
    }

    /// The slot's extra; a new one if it has none.
    pub(super) fn entry(&mut self, slot: u32) -> &mut Extra {
        let number = self.number(slot).unwrap_or_else(|| self.add(slot));
        &mut self.all[number]
    }

    fn add(&mut self, slot: u32) -> usize {
        let number = self.free.pop().map_or(self.all.len(), |number| number as usize);
        if number == self.all.len() {
            self.all.push(Extra::default());
        }
        if self.numbers.len() <= slot as usize {
            self.numbers.resize(slot as usize + 1, 0);
        }
        // As many as there are slots, at most.
        self.numbers[slot as usize] = u32::try_from(number + 1).unwrap_or(u32::MAX);
        number
    }

    pub(super) fn remove(&mut self, slot: u32) {
        if let Some(number) = self.number(slot) {
            self.all[number] = Extra::default();
            self.numbers[slot as usize] = 0;
            self.free.push(u32::try_from(number).unwrap_or(u32::MAX));
        }
    }
}

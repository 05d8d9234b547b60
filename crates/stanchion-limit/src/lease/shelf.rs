//! Where holdings are kept: a bounded map in some parts, each under a mutex.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::fast::FixedState;
use stanchion_core::Moment;

use super::turn::Queue;
use super::{Check, Holding, LeaseConfig};

/// Enough that two cores seldom meet, few enough to leave each a fair number of keys.
const SHELVES: usize = 16;
/// A shelf of fewer keys is not swept.
const FEW: usize = 64;

pub(super) struct Shelves(Box<[Cell]>);

/// One part.
pub(super) struct Cell(Mutex<Shelf>);

pub(super) struct Shelf {
    // The ids are hashes with a secret seed already.
    entries: HashMap<u64, Entry, FixedState>,
    most: usize,
    /// With so many entries, but not before this moment, those that don't matter are dropped.
    sweep_at: usize,
    not_before: Moment,
    /// The latest reading of the clock.
    latest: Moment,
    /// Numbers turns and places in line.
    last_number: u64,
    pub(super) decided_here: u64,
    pub(super) trips: u64,
}

pub(super) struct Entry {
    pub(super) holding: Holding,
    pub(super) queue: Queue,
}

impl Shelves {
    /// Room for so many keys, rounded up to a multiple of 16.
    pub(super) fn new(max_keys: usize) -> Self {
        let shelf = |_| {
            Cell(Mutex::new(Shelf {
                entries: HashMap::default(),
                most: max_keys.div_ceil(SHELVES),
                sweep_at: FEW,
                not_before: Moment::from_nanos(0),
                latest: Moment::default(),
                last_number: 0,
                decided_here: 0,
                trips: 0,
            }))
        };
        Self((0..SHELVES).map(shelf).collect())
    }

    /// The part in which this id is.
    pub(super) fn of(&self, id: u64) -> &Cell {
        &self.0[usize::try_from(id >> 60).expect("below 16")]
    }

    pub(super) fn all(&self) -> impl Iterator<Item = MutexGuard<'_, Shelf>> {
        self.0.iter().map(Cell::lock)
    }
}

impl Cell {
    /// A shelf whose holder panicked holds whole entries all the same: what panics
    /// inside is a user's clock, before anything is changed.
    pub(super) fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reading that is older by this much is no late one.
const STEP: Duration = Duration::from_secs(1);

impl Shelf {
    /// Forgets what was known before a clock stepped back: what would be over soon would be for as long
    /// as the step was.
    pub(super) fn read_at(&mut self, now: Moment) {
        if self.latest > now + STEP {
            self.entries.retain(|_, entry| entry.queue.is_busy());
            self.entries.values_mut().for_each(|entry| entry.holding = Holding::new(entry.holding.bucket(), now));
            (self.latest, self.not_before) = (now, now);
        }
        self.latest = self.latest.max(now);
    }

    /// The entry of this check, new if need be; `None` if there is no room for it.
    pub(super) fn entry(&mut self, check: &Check, now: Moment, config: &LeaseConfig) -> Option<&mut Entry> {
        let id = check.id;
        if !self.entries.contains_key(&id) {
            if self.entries.len() >= self.sweep_at.min(self.most) && now >= self.not_before {
                self.entries.retain(|_, entry| entry.queue.is_busy() || entry.holding.matters(config, now));
                self.sweep_at = (2 * self.entries.len()).max(FEW);
                // What matters now mostly does so for a lease's time; so a flood of keys is not
                // answered by a sweep for each.
                self.not_before = now + config.lifetime();
            }
            if self.entries.len() >= self.most {
                return None;
            }
            self.entries.insert(id, Entry { holding: Holding::new(&check.bucket, now), queue: Queue::default() });
        }
        self.entries.get_mut(&id)
    }

    /// The entry of this id, if there is one.
    pub(super) fn known(&mut self, id: u64) -> Option<&mut Entry> {
        self.entries.get_mut(&id)
    }

    pub(super) fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn holdings(&self) -> impl Iterator<Item = &Holding> {
        self.entries.values().map(|entry| &entry.holding)
    }
}

//! The entries of one lock: an index into slots, and the policy that watches over them.
//!
//! Nothing of the user's runs in here but `Hash` and `Eq` of keys, before anything is
//! changed, and `Clone` of a value that is read. What is taken out goes into
//! [`Removals`], for the caller to drop after the lock.

mod plain;
mod sides;
mod slot;

use std::borrow::Borrow;
use std::sync::Arc;

use hashbrown::HashTable;
use sides::Sides;
pub(crate) use slot::{Entry, Extra, Meta, Record, Slot};

use crate::ending::Ending;
use crate::flight::{Flight, Flights};
use crate::policy::{AnyPolicy, Eviction, Policy, spread};
use crate::removal::{RemovalCause, Removals};

/// The entries whose keys' hashes belong to one lock. In this order, so that a hit finds what
/// it needs in the first two cache lines, and on lines of its own, so that a lock doesn't travel with a
/// neighbour's.
#[repr(C, align(64))]
pub(crate) struct Shard<K, V> {
    index: HashTable<u32>,
    slots: Vec<Slot<K, V>>,
    policy: AnyPolicy,
    sides: Option<Box<Sides>>,
    /// Whether all entries are rich, as there is more to do for each hit than to count it.
    are_rich: bool,
    pub(crate) flights: Flights<K, Flight<Arc<Ending<V>>>>,
    /// Of all entries.
    weight: u64,
    pinned: usize,
    /// The first of the empty slots, each of which names the next.
    vacant: u32,
    /// Where the sweep goes on.
    hand: usize,
    /// Slots that growth makes room for at once, at most beyond an eighth more.
    expected: usize,
}

/// The end of the list of empty slots.
const NONE: u32 = u32::MAX;

impl<K: Eq, V> Shard<K, V> {
    /// Of about so many entries. `is_idle_timed`: it is noted when an entry is read.
    pub(crate) fn new(eviction: Eviction, expected: usize, is_idle_timed: bool) -> Self {
        let policy = AnyPolicy::new(eviction);
        Self {
            are_rich: is_idle_timed || policy.is_told_of_hits(),
            index: HashTable::new(),
            slots: Vec::new(),
            vacant: NONE,
            policy,
            sides: is_idle_timed.then(|| Box::new(Sides::idle_timed())),
            flights: Flights::new(),
            weight: 0,
            pinned: 0,
            hand: 0,
            expected,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    pub(crate) fn weight(&self) -> u64 {
        self.weight
    }

    pub(crate) fn pinned(&self) -> usize {
        self.pinned
    }

    /// The slot of this key.
    #[inline]
    pub(crate) fn find<Q: Eq + ?Sized>(&self, hash: u32, key: &Q) -> Option<u32>
    where
        K: Borrow<Q>,
    {
        // Seven bits of the hash are alike already: keys are compared, not the rest of it.
        let is_it =
            |&slot: &u32| self.slots.get(slot as usize).and_then(Slot::key).is_some_and(|found| found.borrow() == key);
        self.index.find(spread(hash), is_it).copied()
    }

    /// The entry in a slot.
    #[inline]
    pub(crate) fn entry(&self, slot: u32) -> Option<Entry<'_, K, V>> {
        match self.slots.get(slot as usize)? {
            Slot::Vacant { .. } => None,
            Slot::Present { key, value, meta } => Some(Entry { key, value: Some(value), meta }),
            Slot::Absent { key, meta } => Some(Entry { key, value: None, meta }),
        }
    }

    /// The value in a slot, if there is one.
    #[inline]
    pub(crate) fn value(&self, slot: u32) -> Option<(&V, &Meta)> {
        match self.slots.get(slot as usize)? {
            Slot::Present { value, meta, .. } => Some((value, meta)),
            _ => None,
        }
    }

    /// What an entry weighs.
    pub(crate) fn weight_of(&self, slot: u32) -> u32 {
        self.sides.as_ref().map_or(1, |sides| sides.weights.get(slot))
    }

    /// What else is known of an entry.
    pub(crate) fn extra(&self, slot: u32) -> Option<&Extra> {
        self.sides.as_ref()?.extras.get(slot)
    }

    /// The same, to be changed.
    pub(crate) fn extra_mut(&mut self, slot: u32) -> Option<&mut Extra> {
        self.slots.get_mut(slot as usize)?.meta_mut()?.is_rich = true;
        Some(self.sides.get_or_insert_default().extras.entry(slot))
    }

    fn set_sides(&mut self, slot: u32, weight: u32, extra: Option<Extra>) {
        if self.sides.is_none() && weight == 1 && extra.is_none() {
            return;
        }
        let sides = self.sides.get_or_insert_default();
        sides.weights.set(slot, weight);
        match extra {
            Some(extra) => *sides.extras.entry(slot) = extra,
            None => sides.extras.remove(slot),
        }
    }

    fn is_idle_timed(&self) -> bool {
        self.sides.as_ref().is_some_and(|sides| sides.is_idle_timed())
    }

    /// When the entry was last read or put in; 0 if that isn't noted.
    pub(crate) fn last_read(&self, slot: u32) -> u64 {
        self.sides.as_ref().map_or(0, |sides| sides.last_read(slot))
    }

    /// A rich entry was read. For others it is enough that they [count](Meta::hit) it.
    pub(crate) fn hit_rich(&self, slot: u32, meta: &Meta, now: u64) {
        meta.hit();
        self.policy.hit(slot);
        if let Some(sides) = &self.sides {
            sides.note_read(slot, now);
        }
    }

    /// Puts another value in an entry's place; the entry keeps its standing.
    pub(crate) fn replace(
        &mut self,
        slot: u32,
        key: K,
        record: Record<V>,
        now: u64,
        cause: RemovalCause,
        removals: &mut Removals<K, V>,
    ) {
        let is_rich = record.extra.is_some() || self.are_rich;
        let Some(meta) = self.slots[slot as usize].meta() else { return };
        let meta = meta.renewed(record.expires, is_rich);
        self.hit_rich(slot, &meta, now);
        self.weight = self.weight - u64::from(self.weight_of(slot)) + u64::from(record.weight);
        self.set_sides(slot, record.weight, record.extra);
        let filled = Slot::new(key, record.value, meta);
        std::mem::replace(&mut self.slots[slot as usize], filled).leave(cause, removals);
    }

    /// Puts a new entry in. The key must not be there.
    pub(crate) fn put(&mut self, hash: u32, key: K, record: Record<V>, now: u64, is_roomy: bool) {
        let meta = Meta::new(hash, record.expires, record.extra.is_some() || self.are_rich);
        let filled = Slot::new(key, record.value, meta);
        let slot = match self.slots.get_mut(self.vacant as usize) {
            Some(place) => {
                let slot = self.vacant;
                if let Slot::Vacant { next } = *place {
                    self.vacant = next;
                }
                *place = filled;
                slot
            }
            None => {
                self.grow();
                self.slots.push(filled);
                // A shard of more than 2^32 slots would take 128 GiB.
                u32::try_from(self.slots.len() - 1).unwrap_or(NONE - 1)
            }
        };
        if let Some(sides) = &mut self.sides {
            sides.note_filled(slot, now, self.slots.len());
        }
        self.weight += u64::from(record.weight);
        self.set_sides(slot, record.weight, record.extra);
        let slots = &self.slots;
        self.index.insert_unique(spread(hash), slot, |&slot| spread(slots[slot as usize].hash()));
        self.policy.insert(slot, hash, is_roomy);
    }

    /// Doubled up to a little more than what is expected, and then in steps of an eighth: a
    /// cache that is full should not have room for as much again.
    fn grow(&mut self) {
        let len = self.slots.len();
        if len == self.slots.capacity() {
            let expected = self.expected + self.expected / 64 + 16;
            let wanted = (2 * len).clamp(16, expected).max(len + len / 8 + 1);
            self.slots.reserve_exact(wanted - len);
        }
    }

    /// Takes an entry out. Returns its weight.
    pub(crate) fn take(&mut self, slot: u32, cause: RemovalCause, removals: &mut Removals<K, V>) -> u32 {
        if !self.slots.get(slot as usize).and_then(Slot::meta).is_some_and(Meta::is_pinned) {
            self.policy.remove(slot);
        }
        self.take_unwatched(slot, cause, removals)
    }

    fn take_unwatched(&mut self, slot: u32, cause: RemovalCause, removals: &mut Removals<K, V>) -> u32 {
        let Some(meta) = self.slots.get(slot as usize).and_then(Slot::meta) else { return 0 };
        self.pinned -= usize::from(meta.is_pinned);
        if let Ok(entry) = self.index.find_entry(spread(meta.hash), |&found| found == slot) {
            entry.remove();
        }
        let weight = self.weight_of(slot);
        if meta.is_rich
            && let Some(sides) = &mut self.sides
        {
            sides.extras.remove(slot);
        }
        self.weight -= u64::from(weight);
        let vacant = Slot::Vacant { next: std::mem::replace(&mut self.vacant, slot) };
        std::mem::replace(&mut self.slots[slot as usize], vacant).leave(cause, removals);
        weight
    }

    /// Makes the policy choose who goes. Returns that one's weight; `None` if there is nobody.
    pub(crate) fn evict(&mut self, removals: &mut Removals<K, V>) -> Option<u32> {
        let slot = self.policy.evict(&mut self.slots[..])?;
        Some(self.take_unwatched(slot, RemovalCause::Evicted, removals))
    }

    /// The policy doesn't see the entry from now on, until [`watch`](Self::watch).
    pub(crate) fn unwatch(&mut self, slot: u32) {
        self.policy.remove(slot);
    }

    /// The policy sees the entry again.
    pub(crate) fn watch(&mut self, slot: u32) {
        if let Some(meta) = self.slots.get_mut(slot as usize).and_then(Slot::meta_mut) {
            *meta.hits.get_mut() = 0;
            self.policy.insert(slot, meta.hash, true);
        }
    }

    /// Pins an entry or lets it go again. Whether that changed anything.
    pub(crate) fn pin(&mut self, slot: u32, is_pinned: bool) -> bool {
        let Some(meta) = self.slots.get_mut(slot as usize).and_then(Slot::meta_mut) else { return false };
        if meta.is_pinned == is_pinned {
            return false;
        }
        meta.is_pinned = is_pinned;
        if is_pinned {
            self.pinned += 1;
            self.unwatch(slot);
        } else {
            self.pinned -= 1;
            self.watch(slot);
        }
        true
    }

    /// Whether an entry is past all use: its end plus `grace`, or not read for `idle`.
    pub(crate) fn is_over(&self, slot: u32, meta: &Meta, now: u64, grace: u64, idle: u64) -> bool {
        now >= meta.expires.saturating_add(grace) || now >= self.last_read(slot).saturating_add(idle)
    }

    /// Looks at the next so many slots, and takes out what is over, but not the spared one.
    /// Returns how many entries that were, and their weight.
    pub(crate) fn sweep(
        &mut self,
        limit: usize,
        spared: Option<u32>,
        removals: &mut Removals<K, V>,
        is_over: impl Fn(&Self, u32, &Meta) -> bool,
    ) -> (u64, u64) {
        let (mut entries, mut weight) = (0, 0);
        for _ in 0..limit.min(self.slots.len()) {
            self.hand = if self.hand + 1 < self.slots.len() { self.hand + 1 } else { 0 };
            let slot = u32::try_from(self.hand).unwrap_or(NONE);
            let meta = self.slots[self.hand].meta();
            if spared != Some(slot) && meta.is_some_and(|meta| is_over(self, slot, meta)) {
                entries += 1;
                weight += u64::from(self.take(slot, RemovalCause::Expired, removals));
            }
        }
        (entries, weight)
    }

    /// The slots, filled and empty.
    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Takes everything out at once. Returns it, to be dropped outside the lock.
    pub(crate) fn clear(&mut self, eviction: Eviction) -> Cleared<K, V> {
        let fresh = Self { hand: 0, ..Self::new(eviction, self.expected, self.is_idle_timed()) };
        Cleared(std::mem::replace(self, fresh))
    }
}

/// All that was in a shard.
#[must_use = "it is to be dropped outside the lock"]
pub(crate) struct Cleared<K, V>(Shard<K, V>);

impl<K: Eq, V> Cleared<K, V> {
    /// How many entries there were, and their weight.
    pub(crate) fn amount(&self) -> (u64, u64) {
        (self.0.len() as u64, self.0.weight)
    }

    pub(crate) fn into_removals(self, removals: &mut Removals<K, V>) {
        self.0.slots.into_iter().for_each(|slot| slot.leave(RemovalCause::Invalidated, removals));
    }
}

#[cfg(all(test, not(stanchion_loom)))]
mod tests {
    use super::*;
    use crate::policy::Entries;

    #[test]
    fn a_slot_of_two_numbers_takes_32_bytes() {
        assert_eq!(size_of::<Slot<u64, u64>>(), 32);
    }

    /// While nobody watched it, its hits meant nothing.
    #[test]
    fn an_entry_that_is_let_go_again_begins_without_hits() {
        let mut shard: Shard<u64, u64> = Shard::new(Eviction::Hybrid, 10, false);
        let record = Record { value: Some(1), expires: u64::MAX, weight: 1, extra: None };
        shard.put(7, 7, record, 0, true);
        assert!(shard.pin(0, true));
        shard.hit_rich(0, shard.value(0).unwrap().1, 0);
        assert_eq!(shard.slots[..].hits(0), 1);
        assert!(shard.pin(0, false));
        assert_eq!(shard.slots[..].hits(0), 0);
    }
}

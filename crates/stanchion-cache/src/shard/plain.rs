//! What is done to shards of which there is nothing out of the ordinary, in fewer steps.

use super::{Meta, Shard, Slot};
use crate::policy::{Policy, spread};

impl<K: Eq, V> Shard<K, V> {
    /// Whether all entries weigh 1 and have no more to them than a value and an end, and no load is
    /// under way.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.sides.is_none() && self.flights.len() == 0
    }

    /// [`replace`](Self::replace) where it is [plain](Self::is_plain). Returns what was there.
    pub(crate) fn replace_plain(&mut self, slot: u32, key: K, value: V, expires: u64) -> Slot<K, V> {
        let place = &mut self.slots[slot as usize];
        let renewed = |meta: &Meta| meta.renewed(expires, self.are_rich);
        let meta = place.meta().map_or_else(|| Meta::new(0, expires, self.are_rich), renewed);
        meta.hit();
        self.policy.hit(slot);
        std::mem::replace(place, Slot::Present { key, value, meta })
    }

    /// Puts a new entry in the place of one that the policy chooses, where it is
    /// [plain](Self::is_plain). Returns what was there.
    ///
    /// # Errors
    /// Gives back what can't be put in: there is nobody to go.
    #[inline]
    pub(crate) fn exchange(&mut self, hash: u32, key: K, value: V, expires: u64) -> Result<Slot<K, V>, (K, V)> {
        let Some(slot) = self.policy.exchange(&mut self.slots[..], hash) else { return Err((key, value)) };
        let slots = &self.slots;
        let hash_of = |slot: u32| spread(slots[slot as usize].hash());
        if let Ok(entry) = self.index.find_entry(hash_of(slot), |&found| found == slot) {
            entry.remove();
        }
        self.index.insert_unique(spread(hash), slot, |&slot| hash_of(slot));
        let meta = Meta::new(hash, expires, self.are_rich);
        Ok(std::mem::replace(&mut self.slots[slot as usize], Slot::Present { key, value, meta }))
    }

    /// Where the sweep's hand is when it has passed so many slots, if none of them is over.
    #[inline]
    pub(crate) fn hand_after(&self, slots: usize, now: u64, grace: u64) -> Option<usize> {
        let mut hand = self.hand;
        for _ in 0..slots.min(self.slots.len()) {
            hand = if hand + 1 < self.slots.len() { hand + 1 } else { 0 };
            if self.slots[hand].meta().is_some_and(|meta| now >= meta.expires.saturating_add(grace)) {
                return None;
            }
        }
        Some(hand)
    }

    /// The sweep goes on from there.
    #[inline]
    pub(crate) fn move_hand(&mut self, hand: usize) {
        self.hand = hand;
    }
}

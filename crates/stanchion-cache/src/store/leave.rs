//! How entries get out, other than to make room for one that comes in.

use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::atomic::Ordering;

use super::Store;
use crate::budget::Held;
use crate::hash::local;
use crate::removal::{RemovalCause, Removals};
use crate::shard::{Cleared, Shard};

impl<K: Eq + Hash, V> Store<K, V> {
    /// Takes an entry out, and the right from a load under way. Whether there was an
    /// entry.
    pub(crate) fn invalidate<Q: Hash + Eq + ?Sized>(
        &self,
        key: &Q,
        is_it: impl FnOnce(&Shard<K, V>, u32) -> bool,
        removals: &mut Removals<K, V>,
    ) -> bool
    where
        K: Borrow<Q>,
    {
        let hash = self.hash(key);
        let mut held = Held::nothing(&self.budget);
        let mut shard = self.write(hash);
        let slot = shard.find(local(hash), key);
        let voided = shard.flights.void(local(hash), key);
        let slot = slot.filter(|&slot| is_it(&shard, slot));
        if let Some(slot) = slot {
            held.add(1, shard.take(slot, RemovalCause::Invalidated, removals).into());
        }
        drop(shard);
        drop(voided);
        slot.is_some()
    }

    /// The same, by right of a load that brings nothing to keep. Whether there was the right.
    pub(crate) fn withdraw(
        &self,
        hash: u64,
        key: &K,
        load: u64,
        cause: RemovalCause,
        removals: &mut Removals<K, V>,
    ) -> bool {
        let mut held = Held::nothing(&self.budget);
        let mut shard = self.write(hash);
        let voided = shard.flights.land(local(hash), load);
        if voided.is_some()
            && let Some(slot) = shard.find(local(hash), key)
        {
            held.add(1, shard.take(slot, cause, removals).into());
        }
        drop(shard);
        let had_right = voided.is_some();
        drop(voided);
        had_right
    }

    /// Takes the right from a load that ended otherwise than it should.
    pub(crate) fn void_load(&self, hash: u64, load: u64) {
        let voided = self.write(hash).flights.land(local(hash), load);
        drop(voided);
    }

    /// Takes everything out of a shard at a time, at once.
    pub(crate) fn clear(&self, mut each: impl FnMut(Cleared<K, V>)) {
        for number in 0..self.shards.len() {
            let mut held = Held::nothing(&self.budget);
            let cleared = self.write_number(number).clear(self.eviction);
            let (entries, weight) = cleared.amount();
            held.add(entries, weight);
            drop(held);
            each(cleared);
        }
    }

    /// Takes the right from all loads under way.
    pub(crate) fn void_all_loads(&self) {
        for number in 0..self.shards.len() {
            let voided = self.write_number(number).flights.void_all();
            drop(voided);
        }
    }

    /// Looks at the next `limit` slots of all shards in turn, and takes out what is
    /// over. Returns how many entries that were.
    pub(crate) fn sweep_some(&self, limit: usize, removals: &mut Removals<K, V>) -> u64 {
        let now = self.now();
        let (mut left, mut swept) = (limit, 0);
        for _ in 0..self.shards.len() {
            if left == 0 {
                break;
            }
            let number = self.next_swept.fetch_add(1, Ordering::Relaxed) % self.shards.len();
            let mut held = Held::nothing(&self.budget);
            let mut shard = self.write_number(number);
            let looked_at = left.min(shard.slots());
            let (entries, weight) = self.sweep(&mut shard, looked_at, now, None, removals);
            drop(shard);
            held.add(entries, weight);
            left -= looked_at;
            swept += entries;
        }
        swept
    }

    /// Evicts until the budget is kept: after a resize.
    pub(crate) fn shrink(&self, removals: &mut Removals<K, V>) {
        let mut number = 0_u64;
        while self.budget.is_exceeded() {
            let mut held = Held::nothing(&self.budget);
            if !self.evict_elsewhere(number << 32, &mut held, removals) {
                return;
            }
            number += 1;
        }
    }
}

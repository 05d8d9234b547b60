//! The short way into a shard.

use std::hash::Hash;

use super::{SWEPT, ShardGuard, Store};
use crate::hash::local;
use crate::shard::{Record, Slot};

/// What became of a plain value, and what had to go.
pub(crate) enum Plainly<'a, K, V> {
    Put,
    Replaced(Slot<K, V>),
    Evicted(Slot<K, V>),
    /// Nothing has happened yet: this is for [`Store::admit_from`].
    Not(ShardGuard<'a, K, V>, K, V),
}

impl<K: Eq + Hash, V> Store<K, V> {
    /// Puts in a value that weighs 1 and has no more to it, if that can be done by what is in its shard:
    /// what [`admit`](Self::admit) would do, for a shard of such entries where no load is under way, nothing
    /// is over and, if somebody has to go, it is one of its own. Else nothing is changed.
    #[inline]
    pub(crate) fn admit_plain(&self, hash: u64, key: K, value: V, expires: u64, now: u64) -> Plainly<'_, K, V> {
        let mut guard = self.write(hash);
        let shard = &mut *guard;
        let swept = if now > 0 { SWEPT } else { 0 };
        let Some(hand) = shard.hand_after(swept, now, self.grace()).filter(|_| shard.is_plain()) else {
            return Plainly::Not(guard, key, value);
        };
        let what = if let Some(slot) = shard.find(local(hash), &key) {
            Plainly::Replaced(shard.replace_plain(slot, key, value, expires))
        } else if self.budget.try_take(1, 1) {
            let record = Record { value: Some(value), expires, weight: 1, extra: None };
            shard.put(local(hash), key, record, now, true);
            Plainly::Put
        } else if self.is_poor(shard) {
            return Plainly::Not(guard, key, value);
        } else {
            match shard.exchange(local(hash), key, value, expires) {
                Ok(gone) => Plainly::Evicted(gone),
                Err((key, value)) => return Plainly::Not(guard, key, value),
            }
        };
        shard.move_hand(hand);
        what
    }
}

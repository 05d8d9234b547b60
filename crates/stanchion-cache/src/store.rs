//! All shards together under one budget: how entries get in.

mod leave;
mod plain;

use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};
use std::time::Duration;

pub(crate) use plain::Plainly;

use crate::budget::{Budget, Held};
use crate::hash::{KeyHasher, local};
use crate::policy::Eviction;
use crate::removal::{RemovalCause, Removals};
use crate::shard::{Extra, Record, Shard};
use crate::tags::Tags;
use crate::timer::{NEVER, Timer};

/// Entries that one insert evicts under one lock, at most; for more it takes the lock again.
const EVICTIONS: usize = 64;
/// Slots that one insert looks at for what has expired.
const SWEPT: usize = 2;
/// Slots that are copied under one lock.
const COPIED: u32 = 64;
/// Other shards that an insert looks into while it holds its own lock.
const NEIGHBOURS: usize = 8;

/// The shards, and what they share.
pub(crate) struct Store<K, V> {
    shards: Box<[Padded<K, V>]>,
    hasher: KeyHasher,
    budget: Budget,
    eviction: Eviction,
    pub(crate) tags: Tags,
    pub(crate) timer: Timer,
    /// Whether any entry may expire; else no clock is read.
    is_timed: AtomicBool,
    /// How long an entry is kept after its end, and unread, in the timer's unit.
    grace: AtomicU64,
    idle: AtomicU64,
    /// Whether it is noted when entries are read.
    notes_reads: bool,
    /// Where the janitor goes on.
    next_swept: AtomicUsize,
}

/// A shard, alone in its cache lines.
#[repr(align(128))]
struct Padded<K, V>(RwLock<Shard<K, V>>);

/// By what right a value comes in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Right {
    /// Somebody says so: loads under way are void.
    Insert,
    /// The same, if it is newer than what is there.
    IfNewer,
    /// This load was not voided.
    Load(u64),
}

pub(crate) type ShardGuard<'a, K, V> = RwLockWriteGuard<'a, Shard<K, V>>;

/// What became of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admitted {
    Kept,
    /// There was no room, or a newer version is there.
    Refused,
    /// The load has no right any more.
    Voided,
}

impl<K: Eq + Hash, V> Store<K, V> {
    pub(crate) fn new(
        shards: usize,
        max: (u64, u64),
        eviction: Eviction,
        hasher: KeyHasher,
        timer: Timer,
        (grace, idle): (u64, Option<u64>),
    ) -> Self {
        let expected = usize::try_from(max.0).unwrap_or(usize::MAX) / shards;
        let shard = || Padded(RwLock::new(Shard::new(eviction, expected, idle.is_some())));
        Self {
            shards: (0..shards).map(|_| shard()).collect(),
            hasher,
            budget: Budget::new(max.0, max.1),
            eviction,
            tags: Tags::default(),
            timer,
            is_timed: AtomicBool::new(idle.is_some()),
            grace: grace.into(),
            idle: idle.unwrap_or(NEVER).into(),
            notes_reads: idle.is_some(),
            next_swept: AtomicUsize::new(0),
        }
    }

    #[inline]
    pub(crate) fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        self.hasher.hash(key)
    }

    /// The time, or 0 if nothing ever expires.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        if self.is_timed() { self.timer.now() } else { 0 }
    }

    /// Whether anything may expire.
    #[inline]
    pub(crate) fn is_timed(&self) -> bool {
        // Relaxed: an entry that expires and was put in a moment ago is fresh.
        self.is_timed.load(Ordering::Relaxed)
    }

    /// An entry that expires is going to be put in.
    #[inline]
    pub(crate) fn will_expire(&self) {
        // Read first: each `get` reads it, and what is written moves from core to core.
        if !self.is_timed.load(Ordering::Relaxed) {
            self.is_timed.store(true, Ordering::Relaxed);
        }
    }

    /// So long an entry is kept after its end.
    #[inline]
    pub(crate) fn grace(&self) -> u64 {
        // Relaxed, as below: nothing else follows from it.
        self.grace.load(Ordering::Relaxed)
    }

    /// So long an entry is kept unread.
    #[inline]
    pub(crate) fn idle(&self) -> u64 {
        self.idle.load(Ordering::Relaxed)
    }

    /// Whether entries can expire by not being read.
    pub(crate) fn notes_reads(&self) -> bool {
        self.notes_reads
    }

    /// Keeps entries for so long from now on.
    pub(crate) fn keep_for(&self, grace: Duration, idle: Option<Duration>) {
        self.grace.store(self.timer.after(0, grace), Ordering::Relaxed);
        self.idle.store(idle.map_or(NEVER, |idle| self.timer.after(0, idle)), Ordering::Relaxed);
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    #[inline]
    fn number(&self, hash: u64) -> usize {
        // The upper half of the hash: the lower one is the shard's own. A power of two of shards.
        (hash >> 32) as usize & (self.shards.len() - 1)
    }

    /// The shard of this hash, to be read. A panic of the user's `Eq` or `Clone`
    /// leaves nothing half done, so poison is no reason to stop.
    #[inline]
    pub(crate) fn read(&self, hash: u64) -> RwLockReadGuard<'_, Shard<K, V>> {
        self.shards[self.number(hash)].0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, if nobody writes to it.
    #[inline]
    pub(crate) fn try_read(&self, hash: u64) -> Option<RwLockReadGuard<'_, Shard<K, V>>> {
        match self.shards[self.number(hash)].0.try_read() {
            Ok(shard) => Some(shard),
            Err(TryLockError::Poisoned(shard)) => Some(shard.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    #[inline]
    pub(crate) fn write(&self, hash: u64) -> ShardGuard<'_, K, V> {
        self.write_number(self.number(hash))
    }

    #[inline]
    fn write_number(&self, number: usize) -> ShardGuard<'_, K, V> {
        self.shards[number].0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many shards there are.
    pub(crate) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Copies of some entries of a shard, and where to go on.
    pub(crate) fn copies(&self, number: usize, from: u32) -> (Vec<(K, V)>, Option<u32>)
    where
        K: Clone,
        V: Clone,
    {
        let shard = self.shards[number].0.read().unwrap_or_else(PoisonError::into_inner);
        let to = from.saturating_add(COPIED);
        let copy = |slot| shard.entry(slot).and_then(|entry| Some((entry.key.clone(), entry.value?.clone())));
        let copies = (from..to).filter_map(copy).collect();
        (copies, (shard.slots() > to as usize).then_some(to))
    }

    pub(crate) fn read_all(&self) -> impl Iterator<Item = RwLockReadGuard<'_, Shard<K, V>>> {
        self.shards.iter().map(|shard| shard.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a tag of the entry was invalidated since its load started.
    #[cold]
    pub(crate) fn is_disowned(&self, extra: Option<&Extra>) -> bool {
        extra.is_some_and(|extra| {
            if extra.tags.is_empty() {
                return false;
            }
            // Relaxed: whichever of these times is read, it is one up to which the tags hold.
            let since = extra.tags_hold_since.load(Ordering::Relaxed);
            let now = self.tags.now();
            let is_stale = self.tags.is_stale(&extra.tags, since);
            if !is_stale {
                extra.tags_hold_since.store(now.max(since), Ordering::Relaxed);
            }
            is_stale
        })
    }

    /// Puts a value in, if there is the right to it, and room.
    pub(crate) fn admit(
        &self,
        hash: u64,
        key: K,
        record: Record<V>,
        right: Right,
        removals: &mut Removals<K, V>,
    ) -> Admitted {
        self.admit_from(self.write(hash), hash, key, record, right, removals)
    }

    /// The same by somebody who has the shard's lock already.
    pub(crate) fn admit_from<'a>(
        &'a self,
        guard: ShardGuard<'a, K, V>,
        hash: u64,
        key: K,
        record: Record<V>,
        right: Right,
        removals: &mut Removals<K, V>,
    ) -> Admitted {
        if record.expires != NEVER {
            // Before the entry can be found.
            self.will_expire();
        }
        let now = self.now();
        let weight = u64::from(record.weight);
        let version = record.extra.as_ref().map_or(0, |extra| extra.version);
        let mut held = Held::nothing(&self.budget);
        let mut is_roomy = true;
        // Dropped after the lock, as it is declared before.
        let mut voided = Vec::new();
        let mut is_hopeless = weight > self.budget.max_weight();
        let mut locked = Some(guard);
        loop {
            let mut guard = locked.take().unwrap_or_else(|| self.write(hash));
            let shard = &mut *guard;
            if let Right::Load(id) = right
                && !shard.flights.stands(local(hash), id)
            {
                return Admitted::Voided;
            }
            let slot = shard.find(local(hash), &key);
            let is_pinned = slot.and_then(|slot| shard.entry(slot)).is_some_and(|entry| entry.meta.is_pinned());
            let known = slot.and_then(|slot| shard.extra(slot)).map_or(0, |extra| extra.version);
            let is_older = known > version || matches!(right, Right::IfNewer) && slot.is_some() && known == version;
            // All that may panic of the user's has run before anything is reserved.
            voided.extend(match right {
                Right::Load(id) if is_hopeless || is_older => shard.flights.land(local(hash), id),
                Right::Insert | Right::IfNewer if !is_older => shard.flights.void(local(hash), &key),
                _ => None,
            });
            if is_hopeless || is_older {
                if let Some(slot) = slot.filter(|_| !is_older) {
                    held.add(1, shard.take(slot, RemovalCause::Replaced, removals).into());
                }
                drop(guard);
                removals.push(key, record.value, RemovalCause::Refused);
                return Admitted::Refused;
            }
            if now > 0 {
                let (entries, weight) = self.sweep(shard, SWEPT, now, slot, removals);
                held.add(entries, weight);
            }
            let old = slot.map(|slot| u64::from(shard.weight_of(slot)));
            let wanted = (u64::from(slot.is_none()), weight.saturating_sub(old.unwrap_or(0)));
            let (mut is_ours, mut evictions) = (held.try_use(wanted.0, wanted.1), 0);
            if !is_ours {
                is_roomy = false;
                // It must not have to go to make room for itself.
                let watched = slot.filter(|_| !is_pinned);
                if let Some(slot) = watched {
                    shard.unwatch(slot);
                }
                if self.is_poor(shard) && self.rob(hash, &mut held, removals) {
                    is_ours = held.try_use(wanted.0, wanted.1);
                }
                while !is_ours && evictions < EVICTIONS {
                    let Some(gone) = shard.evict(removals) else { break };
                    held.add(1, gone.into());
                    evictions += 1;
                    is_ours = held.try_use(wanted.0, wanted.1);
                }
                if let Some(slot) = watched {
                    shard.watch(slot);
                }
            }
            if is_ours {
                held.add(0, old.unwrap_or(0).saturating_sub(weight));
                if let Right::Load(id) = right {
                    voided.extend(shard.flights.land(local(hash), id));
                }
                match slot {
                    Some(slot) => shard.replace(slot, key, record, now, RemovalCause::Replaced, removals),
                    None => shard.put(local(hash), key, record, now, is_roomy),
                }
                return Admitted::Kept;
            }
            drop(guard);
            if evictions < EVICTIONS && !self.evict_elsewhere(hash, &mut held, removals) {
                is_hopeless = true;
            }
        }
    }

    fn sweep(
        &self,
        shard: &mut Shard<K, V>,
        limit: usize,
        now: u64,
        spared: Option<u32>,
        removals: &mut Removals<K, V>,
    ) -> (u64, u64) {
        shard.sweep(limit, spared, removals, |shard, slot, meta| {
            shard.is_over(slot, meta, now, self.grace(), self.idle())
                || meta.is_rich() && self.is_disowned(shard.extra(slot))
        })
    }

    /// Whether the shard has less than half of what the others have on average.
    fn is_poor(&self, shard: &Shard<K, V>) -> bool {
        2 * shard.len() as u64 * (self.shards.len() as u64) < self.budget.entries()
    }

    /// Evicts from a shard that is rich and free, without waiting for any lock: the caller has one.
    fn rob(&self, hash: u64, held: &mut Held<'_>, removals: &mut Removals<K, V>) -> bool {
        let own = self.number(hash);
        (1..self.shards.len().min(NEIGHBOURS + 1)).any(|step| {
            let Ok(mut shard) = self.shards[(own + step) % self.shards.len()].0.try_write() else { return false };
            if self.is_poor(&shard) {
                return false;
            }
            let gone = shard.evict(removals);
            held.add(u64::from(gone.is_some()), gone.unwrap_or(0).into());
            gone.is_some()
        })
    }

    /// Evicts from any shard that has somebody, waiting for locks: the caller has none.
    fn evict_elsewhere(&self, hash: u64, held: &mut Held<'_>, removals: &mut Removals<K, V>) -> bool {
        let own = self.number(hash);
        (1..=self.shards.len()).any(|step| {
            let gone = self.write_number((own + step) % self.shards.len()).evict(removals);
            held.add(u64::from(gone.is_some()), gone.unwrap_or(0).into());
            gone.is_some()
        })
    }
}

#[cfg(all(test, not(stanchion_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_was_emptied_takes_from_the_others_until_it_has_half_of_the_average() {
        let hasher = KeyHasher::new(Some(1));
        let store = Store::new(4, (1_000, u64::MAX), Eviction::Hybrid, hasher, Timer::Coarse, (0, None));
        let mut removals = Removals::none();
        let mut put = |key: u64| {
            let record = Record { value: Some(()), expires: NEVER, weight: 1, extra: None };
            assert_eq!(store.admit(store.hash(&key), key, record, Right::Insert, &mut removals), Admitted::Kept);
        };
        let (poor, rich): (Vec<u64>, Vec<u64>) = (0..8_000).partition(|key| store.number(store.hash(key)) == 0);
        // The first shard has nothing, the others all.
        rich[..1_000].iter().for_each(|key| put(*key));
        poor[..500].iter().for_each(|key| put(*key));
        let lengths: Vec<usize> = store.read_all().map(|shard| shard.len()).collect();
        assert_eq!(lengths.iter().sum::<usize>(), 1_000);
        assert!((124..=126).contains(&lengths[0]), "{lengths:?}");
    }
}

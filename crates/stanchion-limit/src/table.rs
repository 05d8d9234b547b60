//! The states of many keys, in a fixed table without a lock on the way of a
//! known key.
//!
//! # The idea
//! A key whose bucket is full is worth nothing: to forget it and to remember it
//! are the same. So the table never sweeps. Whoever needs room for a new key
//! takes the place of one that is out of debt, and all that is ever kept is the
//! keys in debt.
//!
//! # The layout
//! A *set* is two cache lines of eight *slots*; a slot is a tag and a state. The tag
//! is the key's 64-bit hash, with a secret seed, and stands
//! for the key: the key itself is never stored, whatever its length. Two keys
//! of one hash would share a bucket, which can only refuse; among a million keys
//! in debt that happens once in some 37 million tables, and nobody can aim for
//! it without the seed. A key may lie in either of two sets, and goes to the
//! emptier one once the first is crowded; so a table with seven slots for each
//! four keys turns none away (simulated: none of 4 * 10^9, 30 to 100,000 keys a table).
//!
//! # The protocol
//! A known key is one load of its state, and one compare-and-swap if it is
//! allowed. A new key takes a mutex, one of 64 chosen by its hash, so that one
//! key is never put in twice; then it claims a slot by swapping the slot's state
//! for `CLAIMED`, writes its tag, and publishes its state.
//!
//! 1. A reader loads the state, then the tag. If the state was published by
//!    another key's owner, the tag that it then reads is that owner's (Acquire
//!    and Release), and there is no match.
//! 2. A claim changes the state, and in a slot states only grow: a slot is
//!    claimed when its state is in the past, and published with one in the
//!    future. So a reader's swap fails if its slot has changed hands meanwhile.
//!    (Three things make a state shrink: the cut after a clock that stepped back;
//!    `WhenFull::Forget`, whose promise is weaker anyway; and units that are given back, by
//!    which a state still stays in the future.)
//! 3. A refusal swaps nothing; it loads the state once more instead.
//! 4. A new key's reading of the clock is made after the key was found absent.
//!    Whoever displaced its earlier state did so at a reading at which it was
//!    out of debt, and that reading came before; so nothing that matters was
//!    forgotten. (A timestamp counter may be read some nanoseconds before the
//!    instruction that comes before it: that much a new key may be early.)

mod ask;

use stanchion_core::{Decision, TokenBucket};

use crate::gcra::{Step, second_look, step};
use crate::returns::Returns;
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, fence};

/// What to do with a new key when no slot for it is out of debt.
///
/// As configuration: `"refuse"`, `"forget"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum WhenFull {
    /// Refuse it, so that the bound holds for every key whatever happens. The
    /// right one where keys are known: tenants, API keys.
    #[default]
    Refuse,
    /// Forget, of sixteen keys, the one that owes least, and admit the new one.
    /// The right one where strangers choose the keys, such as addresses: a flood
    /// of keys then displaces itself rather than everybody else. A forgotten key
    /// starts afresh, and so may exceed the bound by what it owed.
    Forget,
}

/// Slots of a set: two cache lines. Fewer for loom, which tries every order.
pub(crate) const SLOTS: usize = if cfg!(stanchion_loom) { 2 } else { 8 };
/// From so many slots in debt on, a new key goes to the emptier of its sets.
const CROWDED: usize = SLOTS / 2;
/// Mutexes for new keys.
const LOCKS: u64 = 64;
/// The state of a slot that is changing hands.
const CLAIMED: u64 = u64::MAX;
/// The tag of a slot that was never used.
const UNUSED: u64 = 0;

/// The states of many keys.
#[derive(Debug)]
pub(crate) struct Table {
    sets: Box<[Set]>,
    locks: Box<[Mutex<()>]>,
    /// What has been given back, each for the keys of its own.
    returns: Box<[Mutex<Returns>]>,
    when_full: WhenFull,
    turned_away: AtomicU64,
    forgotten: AtomicU64,
}

/// Eight slots, four to a cache line.
#[derive(Debug)]
#[repr(align(128))]
struct Set([Slot; SLOTS]);

#[derive(Debug)]
struct Slot {
    tag: AtomicU64,
    tat: AtomicU64,
}

/// A slot as somebody saw it.
#[derive(Clone, Copy)]
struct Seen<'a> {
    tag: &'a AtomicU64,
    tat: &'a AtomicU64,
    /// What `tat` was.
    state: u64,
}

impl Table {
    /// A table with room for `max_keys` keys in debt: seven slots for each four,
    /// and some more for small tables, since the sets don't fill evenly.
    pub(crate) fn new(max_keys: usize, when_full: WhenFull) -> Self {
        let sets = if max_keys == 0 { 0 } else { max_keys.saturating_mul(7).div_ceil(4 * SLOTS) + 8 };
        Self::with_sets(sets, when_full)
    }

    /// A table of so many sets.
    pub(crate) fn with_sets(sets: usize, when_full: WhenFull) -> Self {
        let locks = if sets == 0 { 0 } else { LOCKS };
        Self {
            sets: (0..sets).map(|_| Set::unused()).collect(),
            locks: (0..locks).map(|_| Mutex::new(())).collect(),
            returns: (0..locks).map(|_| Mutex::new(Returns::default())).collect(),
            when_full,
            turned_away: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
        }
    }

    /// Takes `cost` ticks from the bucket of the key with this hash, if they
    /// are there. `now` reads the clock, in ticks; `again` once more, should the
    /// state be impossible.
    #[inline]
    pub(crate) fn take(
        &self,
        hash: u64,
        bucket: &TokenBucket,
        cost: u64,
        now: impl Fn() -> u64,
        again: impl Fn() -> Option<u64>,
    ) -> Decision {
        let tag = if hash == UNUSED { 1 } else { hash };
        // The slot may be far away. It is sent for before the clock is read, so that
        // both are waited for together; nothing is made of what comes.
        std::hint::black_box(self.home(tag).0[favourite(tag)].tag.load(Ordering::Relaxed));
        let reading = now();
        loop {
            let Some(slot) = self.find(tag) else {
                match self.insert(tag, bucket, cost, &now) {
                    Some((decision, _)) => return decision,
                    None => continue,
                }
            };
            let (next, decision) = match step(bucket, slot.state, reading, cost) {
                Step::Take { tat: next, debt } => (next, Decision::allowed_by(bucket, debt)),
                Step::Cut { .. } => {
                    let step = second_look(bucket, slot.state, reading, cost, again());
                    match step.state() {
                        Some(next) => (next, step.decision(bucket, cost)),
                        None => return step.decision(bucket, cost),
                    }
                }
                Step::Look { debt } => return Decision::allowed_by(bucket, debt),
                // Relaxed: the loads of `find` came before; see point 3 above.
                Step::Refuse { debt } if slot.tat.load(Ordering::Relaxed) == slot.state => {
                    return Decision::refused_by(bucket, debt, cost);
                }
                Step::Refuse { .. } => continue,
            };
            // Relaxed: a swap continues the release sequence of the publication that it
            // changes, so whoever acquires its state sees that one's tag.
            if slot.swap(publishable(next), Ordering::Relaxed) {
                return decision;
            }
        }
    }

    /// The slot with this tag.
    #[inline]
    fn find(&self, tag: u64) -> Option<Seen<'_>> {
        self.home(tag).find(tag).or_else(|| self.home(tag.rotate_left(32)).find(tag))
    }

    /// Puts a new key in; `None` if it isn't new after all, or if somebody was
    /// faster at the slot.
    #[cold]
    fn insert(&self, tag: u64, bucket: &TokenBucket, cost: u64, now: &impl Fn() -> u64) -> Option<(Decision, u64)> {
        if cost == 0 {
            return Some((Decision::allowed_by(bucket, 0), now()));
        }
        let _alone = self.alone(tag);
        if self.find(tag).is_some() {
            return None;
        }
        // Whoever displaced this key's earlier state has read the clock before;
        // having seen that it is gone, this thread reads no less. See point 4.
        fence(Ordering::Acquire);
        let now = now();
        let (slot, ahead) = self.place_for(tag, now);
        if slot.state == CLAIMED {
            // All are changing hands this instant.
            return None;
        }
        if ahead > 0 {
            if self.when_full == WhenFull::Refuse {
                // Relaxed, and below: counts for humans.
                self.turned_away.fetch_add(1, Ordering::Relaxed);
                return Some((Decision::keys_full(bucket, bucket.duration(ahead.unsigned_abs())), now));
            }
            self.forgotten.fetch_add(1, Ordering::Relaxed);
        }
        // Release: whoever learns of the claim, and so that the slot's key is gone,
        // reads the clock no earlier than this thread did. See point 4.
        if !slot.swap(CLAIMED, Ordering::Release) {
            return None;
        }
        // Release: whoever sees this tag sees the claim.
        slot.tag.store(tag, Ordering::Release);
        // Release: whoever sees this state sees the tag.
        let tat = publishable(now.wrapping_add(cost));
        slot.tat.store(tat, Ordering::Release);
        Some((Decision::allowed_by(bucket, cost), tat))
    }

    /// The lock for the key with this tag.
    fn alone(&self, tag: u64) -> MutexGuard<'_, ()> {
        let index = usize::try_from(tag % LOCKS).expect("below 64");
        // A poisoned lock guards nothing that could be half done: the only thing
        // that can panic inside is a user's clock, before anything is changed.
        self.locks[index].lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The slot for a new key, and how far its state is ahead of now: the one
    /// that was never used, or else has been out of debt longest, or else owes
    /// least. In the first of the key's two sets if that is not crowded and has
    /// one to spare, else in the better one.
    fn place_for(&self, tag: u64, now: u64) -> (Seen<'_>, i64) {
        let (slot, ahead, in_debt) = self.home(tag).cheapest(favourite(tag), now);
        if in_debt < CROWDED && ahead == i64::MIN {
            return (slot, ahead);
        }
        let (other, others_ahead, others_in_debt) = self.home(tag.rotate_left(32)).cheapest(favourite(tag), now);
        let one_is_full = in_debt.max(others_in_debt) == SLOTS;
        let first_is_better =
            if in_debt < CROWDED || one_is_full { ahead <= others_ahead } else { in_debt <= others_in_debt };
        if first_is_better { (slot, ahead) } else { (other, others_ahead) }
    }

    /// The first of the two sets in which a key may lie; the second is that of
    /// the hash with its halves exchanged.
    #[inline]
    fn home(&self, hash: u64) -> &Set {
        // Scales the hash to the number of sets, by its upper bits (Lemire 2019).
        let index = (u128::from(hash) * self.sets.len() as u128) >> 64;
        #[allow(clippy::cast_possible_truncation, reason = "below the number of sets, a usize")]
        &self.sets[index as usize]
    }

    /// The bytes of the table.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.sets) + size_of_val(&*self.locks)
    }

    /// How many new keys were refused for want of room.
    pub(crate) fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    /// How many keys in debt were forgotten for new ones.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// How many keys are in debt at `now`, in ticks. Walks the table.
    pub(crate) fn in_debt(&self, now: u64) -> usize {
        self.sets.iter().map(|set| set.cheapest(0, now).2).sum()
    }
}

impl Set {
    fn unused() -> Self {
        Self(std::array::from_fn(|_| Slot { tag: AtomicU64::new(UNUSED), tat: AtomicU64::new(0) }))
    }

    /// The slot with this tag, if its owner has published it.
    #[inline]
    fn find(&self, tag: u64) -> Option<Seen<'_>> {
        self.published(favourite(tag), tag).or_else(|| self.search(tag))
    }

    /// The same, wherever it is.
    #[inline]
    fn search(&self, tag: u64) -> Option<Seen<'_>> {
        // All tags are compared before any branch is taken: which slot it is
        // can't be predicted, that it is one of them can.
        let mut matches = 0_u32;
        for (place, slot) in self.0.iter().enumerate() {
            // Relaxed: only a first look, which `published` confirms.
            matches |= u32::from(slot.tag.load(Ordering::Relaxed) == tag) << place;
        }
        while matches != 0 {
            let place = matches.trailing_zeros() as usize % SLOTS;
            matches &= matches - 1;
            if let Some(slot) = self.published(place, tag) {
                return Some(slot);
            }
        }
        None
    }

    /// The slot in this place, if it has this tag and its owner has published it.
    #[inline]
    fn published(&self, place: usize, tag: u64) -> Option<Seen<'_>> {
        let Slot { tag: own_tag, tat } = &self.0[place];
        // Acquire, twice: see points 1 and 3 above.
        let state = tat.load(Ordering::Acquire);
        (own_tag.load(Ordering::Acquire) == tag && state != CLAIMED).then_some(Seen { tag: own_tag, tat, state })
    }

    /// The slot that is best to take, how far its state is ahead of `now`, and
    /// how many slots are in debt.
    ///
    /// A slot that was never used is as far behind as can be, and one that is
    /// changing hands as far ahead. Of equals it is the first, counted from `first` on.
    fn cheapest(&self, first: usize, now: u64) -> (Seen<'_>, i64, usize) {
        let slots: [_; SLOTS] = std::array::from_fn(|place| {
            let place = (first + place) % SLOTS;
            let Slot { tag, tat } = &self.0[place];
            // Acquire: a state that was published is not seen beside the tag of before.
            let state = tat.load(Ordering::Acquire);
            let ahead = match state {
                CLAIMED => i64::MAX,
                _ if tag.load(Ordering::Relaxed) == UNUSED => i64::MIN,
                _ => state.wrapping_sub(now).cast_signed(),
            };
            (Seen { tag, tat, state }, ahead)
        });
        let in_debt = slots.iter().filter(|(_, ahead)| *ahead > 0).count();
        let (slot, ahead) = slots.into_iter().min_by_key(|(_, ahead)| *ahead).expect("a set has slots");
        (slot, ahead, in_debt)
    }
}

impl Seen<'_> {
    /// Replaces the state, if it still is what was seen.
    #[inline]
    fn swap(&self, state: u64, success: Ordering) -> bool {
        // Relaxed: a failure is looked at again from the start.
        self.tat.compare_exchange(self.state, state, success, Ordering::Relaxed).is_ok()
    }
}

/// The slot of a set that a key takes if it can, and is looked for first.
#[inline]
fn favourite(tag: u64) -> usize {
    // The lowest bits: they have the least say in the choice of either set.
    usize::try_from(tag % SLOTS as u64).expect("below 8")
}

/// A state that isn't mistaken for a claim: one tick later, towards refusal.
#[inline]
const fn publishable(tat: u64) -> u64 {
    if tat == CLAIMED { 0 } else { tat }
}

#[cfg(all(test, not(stanchion_loom)))]
mod tests {
    use super::*;
    use std::time::Duration;

    /// One token each second, so that a key is in debt for a second.
    fn bucket() -> TokenBucket {
        TokenBucket::new(1, Duration::from_secs(1), 1).expect("representable")
    }

    fn spread(key: u64) -> u64 {
        use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
        BuildHasherDefault::<DefaultHasher>::default().hash_one(key)
    }

    #[test]
    fn a_set_is_two_cache_lines_and_a_key_costs_28_bytes() {
        assert_eq!(size_of::<Set>(), 128);
        let table = Table::new(100_000, WhenFull::Refuse);
        assert_eq!(size_of_val(&*table.sets) / 100_000, 28);
    }

    #[test]
    fn max_keys_in_debt_fit() {
        for max_keys in [1, 10, 1_000, 100_000] {
            let table = Table::new(max_keys, WhenFull::Refuse);
            let bucket = bucket();
            for key in 0..max_keys as u64 {
                assert!(
                    table.take(spread(key), &bucket, bucket.interval(), || 7, || None).allowed(),
                    "{key} of {max_keys}"
                );
            }
            assert_eq!((table.turned_away(), table.in_debt(7)), (0, max_keys));
        }
    }

    #[test]
    fn a_full_table_refuses_new_keys_and_keeps_its_promises() {
        let table = Table::with_sets(1, WhenFull::Refuse);
        let bucket = bucket();
        let take = |key, now| table.take(key, &bucket, bucket.interval(), || now, || None);
        for key in 1..=8 {
            assert!(take(key, key).allowed());
        }
        let refused = take(9, 10);
        assert_eq!(refused.verdict(), stanchion_core::Verdict::KeysFull);
        // Key 1 is out of debt first, a second after its only token.
        assert_eq!(refused.retry_after(), Some(Duration::from_nanos(1_000_000_001 - 10)));
        assert_eq!(take(9, 1_000_000_000).verdict(), stanchion_core::Verdict::KeysFull);
        assert!(take(9, 1_000_000_001).allowed());
        // The others are remembered.
        assert!((2..=8).all(|key| !take(key, 1_000_000_001).allowed()));
        assert_eq!(table.turned_away(), 2);
    }

    #[test]
    fn a_table_that_forgets_drops_the_key_that_owes_least() {
        let table = Table::with_sets(1, WhenFull::Forget);
        let bucket = TokenBucket::new(1, Duration::from_secs(1), 10).unwrap();
        for (key, tokens) in [(1, 3), (2, 1), (3, 2), (4, 4), (5, 5), (6, 6), (7, 7), (8, 8)] {
            assert!(table.take(key, &bucket, tokens * bucket.interval(), || 0, || None).allowed());
        }
        assert!(table.take(9, &bucket, bucket.interval(), || 0, || None).allowed());
        assert_eq!(table.forgotten(), 1);
        let remaining = |key| table.take(key, &bucket, 0, || 0, || None).remaining();
        assert_eq!([1, 2, 3, 4, 9].map(remaining), [7, 10, 8, 6, 9]);
    }

    #[test]
    fn to_look_at_a_new_key_leaves_no_trace() {
        let table = Table::with_sets(1, WhenFull::Refuse);
        let decision = table.take(1, &bucket(), 0, || 5, || None);
        assert!(decision.allowed() && decision.remaining() == 1);
        assert!(table.sets[0].0.iter().all(|slot| slot.tag.load(Ordering::Relaxed) == UNUSED));
    }

    #[test]
    fn hash_zero_and_state_claimed_are_as_good_as_any() {
        let table = Table::with_sets(1, WhenFull::Refuse);
        let bucket = bucket();
        let just_before = CLAIMED.wrapping_sub(bucket.interval());
        assert!(table.take(0, &bucket, bucket.interval(), || just_before, || None).allowed());
        assert!(!table.take(0, &bucket, bucket.interval(), || just_before, || None).allowed());
        assert!(table.take(0, &bucket, bucket.interval(), || 0, || None).allowed());
    }
}

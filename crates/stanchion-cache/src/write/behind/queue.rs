//! What is to be written, in order: the pure part. It reads no clock and writes nothing.
//!
//! A write has the number of its acceptance. Of each key there are two at most: one that
//! is being written, and the newest of those that came since, which has the number of the first of them.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ops::Range;

use hashbrown::HashTable;
use tokio::time::{Duration, Instant};

use crate::loaded::Loaded;
use crate::write::Write;

/// The writes that are accepted and not settled.
pub(super) struct Queue<K, V> {
    held: BTreeMap<u64, Held<K, V>>,
    index: HashTable<Place>,
    next: u64,
    /// Those that are being written.
    flying: usize,
    /// Writes of lower numbers don't wait for others to go with.
    hurried: u64,
}

/// A write that isn't settled.
pub(super) struct Held<K, V> {
    pub(super) number: u64,
    hash: u64,
    pub(super) key: K,
    pub(super) loaded: Loaded<V>,
    accepted: Instant,
    is_flying: bool,
}

impl<K, V> Held<K, V> {
    pub(super) fn into_write(self) -> Write<K, V> {
        match self.loaded.value {
            Some(value) => Write::Put { key: self.key, value },
            None => Write::Remove { key: self.key },
        }
    }
}

/// Where a key's write is.
struct Place {
    hash: u64,
    number: u64,
}

/// Writes that go together, and what the cache is to have of them.
pub(super) struct Batch<K, V> {
    pub(super) numbers: Vec<u64>,
    pub(super) writes: Vec<Write<K, V>>,
    pub(super) loaded: Vec<Loaded<V>>,
}

/// What is to be done next.
pub(super) enum Next<K, V> {
    Write(Batch<K, V>),
    WaitUntil(Instant),
    Nothing,
}

impl<K, V> Batch<K, V> {
    /// Some of it: the key and the value of each.
    pub(super) fn part(&self, part: Range<usize>) -> impl Iterator<Item = (&K, &Loaded<V>)> {
        self.writes[part.clone()].iter().map(Write::key).zip(&self.loaded[part])
    }
}

impl<K, V> Queue<K, V> {
    pub(super) fn new() -> Self {
        Self { held: BTreeMap::new(), index: HashTable::new(), next: 0, flying: 0, hurried: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn waiting(&self) -> usize {
        self.held.len() - self.flying
    }

    pub(super) fn flying(&self) -> usize {
        self.flying
    }

    /// When the oldest write was accepted.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.held.first_key_value().map(|(_, held)| held.accepted)
    }

    /// Whether all writes of lower numbers are settled.
    pub(super) fn is_settled(&self, mark: u64) -> bool {
        self.held.first_key_value().is_none_or(|(&number, _)| number >= mark)
    }

    /// All that is there doesn't wait for others to go with. Returns the number of the next write.
    pub(super) fn hurry(&mut self) -> u64 {
        self.hurried = self.next;
        self.next
    }

    /// What is to be done now. A batch flies from now on; none may fly before.
    pub(super) fn next(&mut self, now: Instant, max_batch: usize, max_delay: Duration) -> Next<K, V>
    where
        K: Clone,
        V: Clone,
    {
        let Some((&first, oldest)) = self.held.first_key_value() else { return Next::Nothing };
        let due = oldest.accepted + max_delay;
        if self.held.len() < max_batch && first >= self.hurried && now < due {
            return Next::WaitUntil(due);
        }
        // The user's `Clone` runs before anything is changed.
        let mut batch = Batch { numbers: Vec::new(), writes: Vec::new(), loaded: Vec::new() };
        for (&number, held) in self.held.iter().take(max_batch) {
            batch.numbers.push(number);
            batch.writes.push(Write::of(held.key.clone(), &held.loaded));
            batch.loaded.push(held.loaded.clone());
        }
        self.held.values_mut().take(max_batch).for_each(|held| held.is_flying = true);
        self.flying = batch.numbers.len();
        Next::Write(batch)
    }

    /// Takes a write out. Whether it was there, and the write, to be dropped outside the lock.
    pub(super) fn take(&mut self, number: u64) -> Option<Held<K, V>> {
        let held = self.held.remove(&number)?;
        if let Ok(place) = self.index.find_entry(held.hash, |place| place.number == number) {
            place.remove();
        }
        self.flying -= usize::from(held.is_flying);
        Some(held)
    }
}

impl<K: Eq, V> Queue<K, V> {
    fn number<Q: Eq + ?Sized>(&self, hash: u64, key: &Q, is_flying: bool) -> Option<u64>
    where
        K: Borrow<Q>,
    {
        let is_it = |place: &Place| {
            place.hash == hash
                && self
                    .held
                    .get(&place.number)
                    .is_some_and(|held| held.is_flying == is_flying && held.key.borrow() == key)
        };
        self.index.find(hash, is_it).map(|place| place.number)
    }

    /// The newest value of this key that isn't settled.
    pub(super) fn newest<Q: Eq + ?Sized>(&self, hash: u64, key: &Q) -> Option<&Loaded<V>>
    where
        K: Borrow<Q>,
    {
        let number = self.number(hash, key, false);
        let number = if self.flying > 0 { number.or_else(|| self.number(hash, key, true)) } else { number };
        self.held.get(&number?).map(|held| &held.loaded)
    }

    /// Whether a newer write of the key of this one waits.
    pub(super) fn is_outdated(&self, number: u64) -> bool {
        self.held.get(&number).is_some_and(|held| held.is_flying && self.number(held.hash, &held.key, false).is_some())
    }

    /// Puts a newer value in the place of one that waits. Returns the older one, to be dropped
    /// outside the lock; or `loaded` if none waits.
    pub(super) fn replace(&mut self, hash: u64, key: &K, loaded: Loaded<V>) -> Result<Loaded<V>, Loaded<V>> {
        let waiting = self.number(hash, key, false).and_then(|number| self.held.get_mut(&number));
        match waiting {
            Some(held) => Ok(std::mem::replace(&mut held.loaded, loaded)),
            None => Err(loaded),
        }
    }

    /// Adds the write of a key of which none waits.
    pub(super) fn push(&mut self, hash: u64, key: K, loaded: Loaded<V>, now: Instant) {
        let number = self.next;
        self.next += 1;
        self.held.insert(number, Held { number, hash, key, loaded, accepted: now, is_flying: false });
        self.index.insert_unique(hash, Place { hash, number }, |place| place.hash);
    }

    /// Takes all out, of each key the newest; `needless` are those that these take the place of.
    pub(super) fn take_all(&mut self, needless: &mut Vec<Held<K, V>>) -> Vec<Held<K, V>> {
        *needless = self.land();
        self.index = HashTable::new();
        std::mem::take(&mut self.held).into_values().collect()
    }

    /// Those that were being written wait again, the oldest first. Returns those that a newer
    /// one makes needless.
    pub(super) fn land(&mut self) -> Vec<Held<K, V>> {
        let flying: Vec<u64> = if self.flying > 0 {
            self.held.iter().filter(|held| held.1.is_flying).map(|held| *held.0).collect()
        } else {
            Vec::new()
        };
        let mut needless = Vec::new();
        for number in flying {
            let newer = self.held.get(&number).and_then(|held| self.number(held.hash, &held.key, false));
            let newer = newer.and_then(|newer| self.take(newer));
            if let Some(held) = self.held.get_mut(&number) {
                held.is_flying = false;
                self.flying -= 1;
                needless.extend(newer.map(|mut newer| {
                    // The number of the older, which somebody may wait for.
                    std::mem::swap(&mut held.loaded, &mut newer.loaded);
                    newer
                }));
            }
        }
        needless
    }
}

#[cfg(all(test, not(stanchion_loom)))]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_millis(200);

    /// Keys are their own hashes, but for their last bit, so that two of them collide.
    fn push(queue: &mut Queue<u64, u64>, key: u64, value: u64, now: Instant) {
        if let Err(loaded) = queue.replace(key / 2, &key, Loaded::new(value)) {
            queue.push(key / 2, key, loaded, now);
        }
    }

    fn newest(queue: &Queue<u64, u64>, key: u64) -> Option<u64> {
        queue.newest(key / 2, &key).and_then(|loaded| loaded.value)
    }

    fn batch(next: Next<u64, u64>) -> Batch<u64, u64> {
        let Next::Write(batch) = next else { unreachable!("there is no batch") };
        batch
    }

    fn values(batch: &Batch<u64, u64>) -> Vec<(u64, u64)> {
        batch.writes.iter().map(|write| (*write.key(), write.value().copied().unwrap_or(0))).collect()
    }

    #[test]
    fn a_batch_goes_when_it_is_full_or_when_its_first_write_has_waited_exactly_so_long() {
        let (mut queue, now) = (Queue::new(), Instant::now());
        assert!(matches!(queue.next(now, 3, DELAY), Next::Nothing));
        push(&mut queue, 1, 10, now);
        push(&mut queue, 2, 20, now + DELAY / 2);
        let early = now + DELAY - Duration::from_nanos(1);
        assert!(matches!(queue.next(early, 3, DELAY), Next::WaitUntil(until) if until == now + DELAY));
        push(&mut queue, 3, 30, early);
        let full = batch(queue.next(early, 3, DELAY));
        assert_eq!(values(&full), [(1, 10), (2, 20), (3, 30)]);
        full.numbers.iter().for_each(|number| drop(queue.take(*number)));
        push(&mut queue, 4, 40, now);
        assert_eq!(values(&batch(queue.next(now + DELAY, 3, DELAY))), [(4, 40)]);
    }

    #[test]
    fn who_is_in_a_hurry_does_not_wait_and_those_after_do() {
        let (mut queue, now) = (Queue::new(), Instant::now());
        push(&mut queue, 1, 10, now);
        assert_eq!(queue.hurry(), 1);
        assert_eq!(values(&batch(queue.next(now, 3, DELAY))), [(1, 10)]);
        queue.take(0);
        push(&mut queue, 2, 20, now);
        assert!(matches!(queue.next(now, 3, DELAY), Next::WaitUntil(_)));
    }

    #[test]
    fn the_newest_value_of_a_key_is_what_is_told_and_what_is_written() {
        let (mut queue, now) = (Queue::new(), Instant::now());
        for value in [10, 11, 12] {
            push(&mut queue, 2, value, now);
            push(&mut queue, 3, value + 10, now);
        }
        assert_eq!((queue.len(), newest(&queue, 2), newest(&queue, 3)), (2, Some(12), Some(22)));
        assert_eq!(values(&batch(queue.next(now + DELAY, 9, DELAY))), [(2, 12), (3, 22)]);
        assert_eq!(newest(&queue, 2), Some(12), "while it is being written");
        push(&mut queue, 2, 13, now);
        assert_eq!((queue.len(), queue.waiting(), newest(&queue, 2)), (3, 1, Some(13)));
        assert!(queue.is_outdated(0) && !queue.is_outdated(1) && !queue.is_outdated(2));
        assert!(!queue.is_settled(1) && queue.is_settled(0));
        assert!(queue.take(0).is_some() && queue.take(1).is_some());
        assert_eq!((newest(&queue, 2), newest(&queue, 3)), (Some(13), None));
        assert!(queue.is_settled(2) && !queue.is_settled(3));
        assert!(queue.take(0).is_none());
    }

    #[test]
    fn what_could_not_be_written_waits_again_under_its_number_with_the_newest_value() {
        let (mut queue, now) = (Queue::new(), Instant::now());
        push(&mut queue, 1, 10, now);
        push(&mut queue, 2, 20, now);
        batch(queue.next(now + DELAY, 9, DELAY));
        push(&mut queue, 2, 21, now);
        let needless: Vec<u64> = queue.land().iter().map(|held| held.loaded.value.unwrap()).collect();
        assert_eq!((needless, queue.len(), queue.flying()), (vec![20], 2, 0));
        let again = batch(queue.next(now + DELAY, 9, DELAY));
        assert_eq!((values(&again), again.numbers), (vec![(1, 10), (2, 21)], vec![0, 1]));
        push(&mut queue, 2, 22, now);
        let values = |held: Vec<Held<u64, u64>>| held.iter().map(|held| held.loaded.value.unwrap()).collect::<Vec<_>>();
        let mut needless = Vec::new();
        let all = queue.take_all(&mut needless);
        assert_eq!((values(all), values(needless)), (vec![10, 22], vec![21]));
        assert_eq!((queue.len(), queue.flying(), newest(&queue, 2)), (0, 0, None));
    }
}

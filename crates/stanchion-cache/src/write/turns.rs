//! Who writes a key: one at a time, in order of arrival.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;
use tokio::sync::OwnedMutexGuard;

/// The keys that are being written, and who waits to write them.
pub(crate) struct Turns<K>(Arc<Mutex<HashTable<Line<K>>>>);

/// Those who write one key.
struct Line<K> {
    hash: u64,
    key: K,
    turn: Arc<tokio::sync::Mutex<()>>,
    length: usize,
}

/// The right to write a key, until dropped.
pub(crate) struct Turn<K> {
    // In this order: whoever is next has it before the line is left.
    _guard: OwnedMutexGuard<()>,
    _place: Place<K>,
}

/// A place in a key's line.
struct Place<K> {
    turns: Turns<K>,
    hash: u64,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl<K: Eq> Turns<K> {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    /// Waits until nobody before writes the key any more.
    ///
    /// # Cancellation
    /// Dropping the future gives the place in line to the next.
    pub(crate) async fn take(&self, hash: u64, key: K) -> Turn<K> {
        let place = self.join(hash, key);
        let guard = place.turn.clone().lock_owned().await;
        Turn { _guard: guard, _place: place }
    }

    fn join(&self, hash: u64, key: K) -> Place<K> {
        let mut lines = self.lock();
        let found = lines.find_mut(hash, |line| line.hash == hash && line.key == key);
        let turn = match found {
            Some(line) => {
                line.length += 1;
                line.turn.clone()
            }
            None => {
                let turn = Arc::<tokio::sync::Mutex<()>>::default();
                let line = Line { hash, key, turn: turn.clone(), length: 1 };
                lines.insert_unique(hash, line, |line| line.hash);
                turn
            }
        };
        drop(lines);
        Place { turns: Self(self.0.clone()), hash, turn }
    }

    #[cfg(all(test, not(stanchion_loom)))]
    fn len(&self) -> usize {
        self.lock().len()
    }
}

impl<K> Turns<K> {
    fn lock(&self) -> MutexGuard<'_, HashTable<Line<K>>> {
        // A key's `Eq` that panics has changed nothing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> Clone for Turns<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K> Drop for Place<K> {
    fn drop(&mut self) {
        let mut lines = self.turns.lock();
        // By its mutex: nothing of the user's runs here.
        let found = lines.find_entry(self.hash, |line| Arc::ptr_eq(&line.turn, &self.turn));
        let left = found.ok().and_then(|mut found| {
            found.get_mut().length -= 1;
            (found.get().length == 0).then(|| found.remove().0)
        });
        drop(lines);
        // A key is dropped after the lock.
        drop(left);
    }
}

#[cfg(all(test, not(stanchion_loom)))]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn a_key_is_written_by_one_at_a_time_and_forgotten_after_the_last() {
        let turns = Turns::new();
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(first) = pin!(turns.take(1, "a")).poll(&mut context) else { panic!("nobody is there") };
        // Of the same hash, and another key.
        let Poll::Ready(other) = pin!(turns.take(1, "b")).poll(&mut context) else { panic!("nobody is there") };
        {
            let mut second = pin!(turns.take(1, "a"));
            let mut third = pin!(turns.take(1, "a"));
            assert!(second.as_mut().poll(&mut context).is_pending());
            assert!(third.as_mut().poll(&mut context).is_pending());
            drop(first);
            assert!(third.as_mut().poll(&mut context).is_pending(), "it isn't its turn");
            let Poll::Ready(second) = second.poll(&mut context) else { panic!("it is its turn") };
            assert_eq!(turns.len(), 2);
            drop(second);
            assert_eq!(turns.len(), 2, "the third is in line");
        }
        assert_eq!(turns.len(), 1);
        drop(other);
        assert_eq!(turns.len(), 0);
    }
}

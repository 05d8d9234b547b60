//! What was invalidated here and the store may not know of yet.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Whoever sends again and has not been at it for so long stands still: its runtime doesn't run.
const STANDSTILL: Duration = Duration::from_secs(5);

/// What somebody invalidated.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum What {
    Key(Arc<[u8]>),
    Tag(Arc<str>),
    All,
}

/// The invalidations that the store hasn't confirmed. As long as one is in here, this instance
/// takes nothing from the store that it might be about.
#[derive(Debug)]
pub(super) struct Pending {
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    by_what: HashMap<What, Entry>,
    /// When somebody who sends again was last at it.
    resending: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Of the latest that is on its way: it covers those before.
    number: u64,
    on_the_way: u32,
    /// Whether one was lost, so that it must be sent again.
    is_lost: bool,
}

impl Pending {
    pub(super) fn new(most: usize) -> Self {
        Self { most, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One is on its way from now on.
    pub(super) fn begin(&self, what: What) -> u64 {
        let mut state = self.lock();
        state.next += 1;
        let number = state.next;
        let entry = state.by_what.entry(what).or_insert(Entry { number, on_the_way: 0, is_lost: false });
        entry.number = number;
        entry.on_the_way += 1;
        number
    }

    /// It has arrived: what was invalidated by it or before it is done with.
    pub(super) fn arrived(&self, what: &What, number: u64) {
        let mut state = self.lock();
        let Some(entry) = state.by_what.get_mut(what) else { return };
        entry.on_the_way = entry.on_the_way.saturating_sub(1);
        if entry.number == number {
            entry.is_lost = false;
        }
        if entry.on_the_way == 0 && !entry.is_lost {
            state.by_what.remove(what);
        }
    }

    /// Nobody knows whether it has arrived. It must be sent again.
    pub(super) fn lost(&self, what: What) {
        let mut state = self.lock();
        if let Some(entry) = state.by_what.get_mut(&what) {
            entry.on_the_way = entry.on_the_way.saturating_sub(1);
            entry.is_lost = true;
        }
        if state.by_what.len() > self.most {
            // Too many to remember: one that covers all.
            state.next += 1;
            let number = state.next;
            state.by_what.retain(|_, entry| entry.on_the_way > 0);
            let all = state.by_what.entry(What::All).or_insert(Entry { number, on_the_way: 0, is_lost: true });
            // One of everything that is on its way already doesn't cover what was lost after it was sent.
            (all.number, all.is_lost) = (number, true);
        }
    }

    /// Whether a key is not to be asked for.
    pub(super) fn covers(&self, key: &[u8]) -> bool {
        let state = self.lock();
        !state.by_what.is_empty()
            && (state.by_what.contains_key(&What::All) || state.by_what.contains_key(&What::Key(key.into())))
    }

    /// Whether a key is not to be asked for just now: what is about it is on its way, and nothing
    /// is lost.
    pub(super) fn is_on_the_way(&self, key: &[u8]) -> bool {
        let state = self.lock();
        let entries = [&What::All, &What::Key(key.into())].map(|what| state.by_what.get(what));
        entries.iter().any(Option::is_some) && entries.iter().flatten().all(|entry| !entry.is_lost)
    }

    /// Whether a value with these tags is not to be taken.
    pub(super) fn covers_tags<T: AsRef<str>>(&self, tags: &[T]) -> bool {
        if tags.is_empty() {
            return false;
        }
        let state = self.lock();
        tags.iter().any(|tag| state.by_what.contains_key(&What::Tag(tag.as_ref().into())))
    }

    /// The tags that values are not to be taken with.
    pub(super) fn tags(&self) -> Vec<Arc<str>> {
        let tag = |what: &What| if let What::Tag(tag) = what { Some(tag.clone()) } else { None };
        self.lock().by_what.keys().filter_map(tag).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.lock().by_what.len()
    }

    /// Whether the caller is the one to send again what was lost: until it says that it is over.
    pub(super) fn start_resending(&self) -> bool {
        let mut state = self.lock();
        let is_at_it = state.resending.is_some_and(|last| last.elapsed() < STANDSTILL);
        let starts = !is_at_it && state.by_what.values().any(|entry| entry.is_lost);
        if starts {
            state.resending = Some(Instant::now());
        }
        starts
    }

    /// What is to be sent again, as on its way: at most `limit`, of which none has been tried since any that is
    /// left. Nothing: sending again is over.
    pub(super) fn take_lost(&self, limit: usize) -> Vec<(What, u64)> {
        let mut state = self.lock();
        let lost = state.by_what.iter().filter(|(_, entry)| entry.is_lost);
        let mut lost: Vec<(u64, What)> = lost.map(|(what, entry)| (entry.number, what.clone())).collect();
        lost.sort_unstable_by_key(|(number, _)| *number);
        lost.truncate(limit);
        let mut taken = Vec::with_capacity(lost.len());
        for (_, what) in lost {
            state.next += 1;
            let number = state.next;
            if let Some(entry) = state.by_what.get_mut(&what) {
                entry.number = number;
                entry.on_the_way += 1;
                taken.push((what, number));
            }
        }
        state.resending = (!taken.is_empty()).then(Instant::now);
        taken
    }

    /// Whoever sent again has stopped.
    pub(super) fn stop_resending(&self) {
        self.lock().resending = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> What {
        What::Key(Arc::from([byte]))
    }

    #[test]
    fn what_arrived_is_forgotten_and_what_was_lost_is_sent_again() {
        let pending = Pending::new(10);
        let number = pending.begin(key(1));
        assert!(pending.covers(&[1]) && !pending.covers(&[2]));
        pending.arrived(&key(1), number);
        assert!(!pending.covers(&[1]));

        pending.begin(key(1));
        pending.lost(key(1));
        assert!(pending.start_resending() && !pending.start_resending());
        let lost = pending.take_lost(10);
        assert_eq!(lost.len(), 1);
        assert!(pending.covers(&[1]), "until it has arrived");
        pending.arrived(&lost[0].0, lost[0].1);
        assert!(!pending.covers(&[1]));
        assert!(pending.take_lost(10).is_empty());
    }

    #[test]
    fn a_later_one_covers_an_earlier_one_and_not_the_other_way() {
        let pending = Pending::new(10);
        let (first, second) = (pending.begin(key(1)), pending.begin(key(1)));
        pending.lost(key(1));
        pending.arrived(&key(1), second);
        assert_eq!(pending.len(), 0, "the second was sent after the first had begun");
        let _ = first;

        let (first, _second) = (pending.begin(key(1)), pending.begin(key(1)));
        pending.lost(key(1));
        pending.arrived(&key(1), first);
        assert!(pending.covers(&[1]) && pending.start_resending());
    }

    #[test]
    fn too_many_that_are_lost_after_a_clearing_was_sent_are_not_done_with_when_it_arrives() {
        let pending = Pending::new(3);
        let clearing = pending.begin(What::All);
        for byte in 0..4 {
            pending.begin(key(byte));
            pending.lost(key(byte));
        }
        pending.arrived(&What::All, clearing);
        assert!(pending.covers(&[200]) && pending.start_resending());
    }

    #[test]
    fn what_was_tried_least_lately_is_next() {
        let pending = Pending::new(10);
        for byte in 0..4 {
            pending.begin(key(byte));
            pending.lost(key(byte));
        }
        for expected in [[key(0), key(1)], [key(2), key(3)], [key(0), key(1)]] {
            let taken: Vec<What> = pending.take_lost(2).into_iter().map(|(what, _)| what).collect();
            assert_eq!(taken, expected);
            taken.into_iter().for_each(|what| pending.lost(what));
        }
    }

    #[test]
    fn too_many_become_one_that_covers_all() {
        let pending = Pending::new(3);
        for byte in 0..4 {
            pending.begin(key(byte));
            pending.lost(key(byte));
        }
        assert_eq!(pending.len(), 1);
        assert!(pending.covers(&[200]));
        assert_eq!(pending.take_lost(10)[0].0, What::All);
    }
}

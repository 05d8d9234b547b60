//! What has been given back of late to buckets that are kept as one number.
//!
//! `state.rs` shows how much an admission `i` may give back: what its bucket has not
//! refilled by itself, less what *earlier* admissions have given back since `i` was made. (What later ones
//! give back takes as much from those after `i` as from the state.) So reservations are numbered
//! in the order in which they were made, under the lock that is held while they are, and what each
//! gives back is remembered with its number. What is too old to be remembered counts as everybody's.

use std::collections::VecDeque;

/// So much is remembered; what matters is what is outstanding beside a reservation of one key.
const RECENT: usize = 128;

/// What has been given back.
#[derive(Debug, Default)]
pub(crate) struct Returns {
    /// Numbers reservations and what they give back.
    events: u64,
    recent: VecDeque<Return>,
    /// The ticks of those that are not remembered.
    forgotten: u64,
}

#[derive(Debug)]
struct Return {
    key: u64,
    /// The numbers of the reservation, and of its giving back.
    of: u64,
    at: u64,
    ticks: u64,
}

impl Returns {
    /// The mark of a reservation that is being made.
    pub(crate) fn mark(&mut self) -> [u64; 2] {
        self.events += 1;
        [self.events, self.forgotten]
    }

    /// The ticks that a reservation of this mark must not give back.
    pub(crate) fn against(&self, key: u64, mark: [u64; 2]) -> u64 {
        let [number, forgotten] = mark;
        let earlier = |event: &&Return| event.key == key && event.of < number && event.at > number;
        let recent: u64 = self.recent.iter().filter(earlier).map(|event| event.ticks).sum();
        recent.saturating_add(self.forgotten.wrapping_sub(forgotten))
    }

    /// The reservation of this mark has given back so much.
    pub(crate) fn note(&mut self, key: u64, mark: [u64; 2], ticks: u64) {
        self.events += 1;
        if self.recent.len() == RECENT
            && let Some(oldest) = self.recent.pop_front()
        {
            self.forgotten = self.forgotten.wrapping_add(oldest.ticks);
        }
        self.recent.push_back(Return { key, of: mark[0], at: self.events, ticks });
    }
}

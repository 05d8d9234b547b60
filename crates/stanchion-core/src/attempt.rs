//! Where an operation stands among its attempts.

use std::time::Duration;

use crate::{Moment, Outcome};

/// What an operation is told when a driver runs it: which attempt this is, how
/// much time is left, and how the last attempt ended.
///
/// ```
/// use std::time::Duration;
/// use stanchion_core::{Attempt, Moment, Outcome};
///
/// let now = Moment::from_nanos(5_000_000_000);
/// let first = Attempt::first().until(now + Duration::from_secs(2), now);
/// assert_eq!((first.number(), first.remaining()), (1, Some(Duration::from_secs(2))));
///
/// let second = first.next(Outcome::TimedOut, now + Duration::from_secs(3));
/// assert_eq!((second.number(), second.remaining()), (2, Some(Duration::ZERO)));
/// assert_eq!(second.last(), Some(Outcome::TimedOut));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    number: u32,
    deadline: Option<Moment>,
    begun: Option<Moment>,
    last: Option<Outcome>,
    hedge: u32,
}

impl Attempt {
    /// The first attempt, without a deadline.
    pub const fn first() -> Self {
        Self { number: 1, deadline: None, begun: None, last: None, hedge: 0 }
    }

    /// The same attempt, begun at `now`, to be over by `deadline`: the call's, or
    /// that of the attempt if it is earlier.
    pub const fn until(mut self, deadline: Moment, now: Moment) -> Self {
        self.deadline = Some(deadline);
        self.begun = Some(now);
        self
    }

    /// The attempt after this one, begun at `now` because this one ended as `last`.
    pub const fn next(mut self, last: Outcome, now: Moment) -> Self {
        self.number = self.number.saturating_add(1);
        self.last = Some(last);
        self.begun = Some(now);
        self
    }

    /// The same attempt as part of a hedge: 0 for the first try, 1 for the first
    /// hedge, and so on.
    pub const fn of_hedge(mut self, hedge: u32) -> Self {
        self.hedge = hedge;
        self
    }

    /// Which of several concurrent tries it belongs to: 0 for the first, else the
    /// hedge's number.
    pub const fn hedge(&self) -> u32 {
        self.hedge
    }

    /// Which attempt this is, counted from 1. Hedges count their own.
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// How the attempt before this one ended; `None` on the first.
    pub const fn last(&self) -> Option<Outcome> {
        self.last
    }

    /// When it must be over, if there is such a moment.
    pub const fn deadline(&self) -> Option<Moment> {
        self.deadline
    }

    /// The time that was left when this attempt began; `None` without a deadline.
    ///
    /// Give it to whatever the operation calls: nobody should work on an
    /// answer that nobody waits for.
    pub fn remaining(&self) -> Option<Duration> {
        Some(self.deadline? - self.begun.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_attempt_number_saturates() {
        let last = Attempt { number: u32::MAX, ..Attempt::first() };
        assert_eq!(last.next(Outcome::Transient, Moment::default()).number(), u32::MAX);
    }

    #[test]
    fn without_a_deadline_nothing_remains_to_be_told() {
        assert_eq!(Attempt::first().remaining(), None);
    }
}

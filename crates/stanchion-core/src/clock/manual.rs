//! A clock that tests turn by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Clock, Moment};

/// A clock that stands still until told otherwise. Clones turn together.
///
/// As a [`Clock`] it is advanced only: no clock steps back.
///
/// ```
/// use std::time::Duration;
/// use stanchion_core::ManualClock;
///
/// let clock = ManualClock::new();
/// let began = clock.now();
/// clock.advance(Duration::from_millis(5));
/// assert_eq!(clock.now() - began, Duration::from_millis(5));
/// ```
#[derive(Debug, Clone, Default)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock at its start.
    pub fn new() -> Self {
        Self::default()
    }

    /// A clock at `start`.
    pub fn at(start: Moment) -> Self {
        Self(Arc::new(AtomicU64::new(start.as_nanos())))
    }

    /// The time that it shows.
    #[inline]
    pub fn now(&self) -> Moment {
        // Acquire, with `advance`: what was done before the clock was turned is
        // seen by whoever sees the new time.
        Moment::from_nanos(self.0.load(Ordering::Acquire))
    }

    /// Turns it forward, at most to [`Moment::MAX`].
    pub fn advance(&self, by: Duration) {
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| Some((Moment::from_nanos(now) + by).as_nanos()))
            .ok();
    }

    /// Turns it back, at most to the first moment: for tests of what goes by a clock that
    /// does step back, such as the time of day, or a server's.
    pub fn turn_back(&self, by: Duration) {
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| {
                Some((Moment::from_nanos(now) - (Moment::default() + by)).as_nanos().try_into().unwrap_or(0))
            })
            .ok();
    }

    /// This clock as a [`Clock`], to hand to a policy.
    pub fn clock(&self) -> Clock {
        self.clone().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stops_at_the_last_moment() {
        let clock = ManualClock::at(Moment::from_nanos(7));
        clock.advance(Duration::MAX);
        assert_eq!(clock.now(), Moment::MAX);
        clock.turn_back(Duration::from_nanos(3));
        assert_eq!(clock.now(), Moment::from_nanos(u64::MAX - 3));
        clock.turn_back(Duration::MAX);
        assert_eq!(clock.now(), Moment::default());
    }
}

//! A point in time.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point in time, as nanoseconds since a start that each clock chooses for
/// itself.
///
/// Moments of two clocks mean nothing to each other. All arithmetic saturates:
/// the last moment is some 584 years after the first, and stands for "never".
///
/// ```
/// use std::time::Duration;
/// use stanchion_core::Moment;
///
/// let opened = Moment::from_nanos(1_000);
/// let now = opened + Duration::from_nanos(250);
/// assert_eq!(now - opened, Duration::from_nanos(250));
/// assert_eq!(opened - now, Duration::ZERO);
/// assert_eq!(now + Duration::MAX, Moment::MAX);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(u64);

impl Moment {
    /// The last moment: never.
    pub const MAX: Self = Self(u64::MAX);

    /// The moment this many nanoseconds after its clock's start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The nanoseconds since its clock's start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Moment {
    type Output = Duration;

    /// The time from `earlier` to this; zero if `earlier` is later.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

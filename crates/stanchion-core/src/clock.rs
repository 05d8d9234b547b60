//! Time, handed in.

mod manual;
mod moment;
mod system;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use manual::ManualClock;
pub use moment::Moment;
use system::SystemClock;

/// A handle on time that does not step back. Cheap to clone; the clones agree.
///
/// The default, [`Clock::system`], reads a monotonic clock of the operating
/// system, or the CPU's timestamp counter with the feature `fast-clock`, or
/// tokio's clock with the feature `test-util`. Tests of pure code use a
/// [`ManualClock`].
///
/// Two threads that read the system clock at the same instant may differ by
/// what the hardware differs, a few nanoseconds. Each thread by itself, and
/// whoever was told of an earlier reading, never sees time go backwards, as
/// far as the CPU keeps that promise; see `fast-clock` below.
///
/// # The feature `fast-clock`
/// On Linux the counter is used only if, at the process's first reading, the
/// kernel offers it as a clock source, which it ceases to do once it has seen two
/// cores disagree. Its rate is measured then against the system's clock, to some
/// millionths: a limit that is enforced by it is off by as much.
/// Hibernation resets the counter: a process that must survive that should use
/// `Clock::custom` with `std::time::Instant`.
///
/// ```
/// use std::time::Duration;
/// use stanchion_core::{Clock, ManualClock};
///
/// let manual = ManualClock::new();
/// let clock: Clock = manual.clock();
/// let before = clock.now();
/// manual.advance(Duration::from_secs(1));
/// assert_eq!(clock.now() - before, Duration::from_secs(1));
/// ```
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System(&'static SystemClock),
    Manual(ManualClock),
    Custom(Arc<Custom>),
}

struct Custom {
    latest: AtomicU64,
    source: Box<dyn TimeSource>,
}

/// A source of time of the user's own, for [`Clock::custom`].
pub trait TimeSource: Send + Sync {
    /// The time now. Should it step back, the clock stands still until it has
    /// caught up.
    fn now(&self) -> Moment;

    /// The time of day, as the time since 1970 began, in UTC; it may step. Default: the system's.
    fn since_1970(&self) -> Duration {
        system::since_1970()
    }
}

impl<F: Fn() -> Moment + Send + Sync> TimeSource for F {
    fn now(&self) -> Moment {
        self()
    }
}

impl Clock {
    /// The system's monotonic clock.
    ///
    /// The first call in a process may take some milliseconds, while the
    /// timestamp counter is calibrated; `now` never waits.
    pub fn system() -> Self {
        Self(Source::System(SystemClock::global()))
    }

    /// A clock that asks `source`, and holds still where `source` steps back.
    pub fn custom(source: impl TimeSource + 'static) -> Self {
        Self(Source::Custom(Arc::new(Custom { latest: AtomicU64::new(0), source: Box::new(source) })))
    }

    /// The time now.
    #[inline]
    pub fn now(&self) -> Moment {
        match &self.0 {
            Source::System(system) => system.now(),
            Source::Manual(manual) => manual.now(),
            Source::Custom(custom) => custom.now(),
        }
    }
}

impl Clock {
    /// The time of day, as the time since 1970 began, in UTC: what calendars go by. Unlike
    /// [`now`](Self::now) it steps when somebody sets the clock.
    ///
    /// A [`ManualClock`]'s first moment is the beginning of 1970. With the feature
    /// `test-util` the system clock's time of day is advanced with tokio's clock.
    pub fn since_1970(&self) -> Duration {
        match &self.0 {
            Source::System(system) => system.since_1970(),
            Source::Manual(manual) => Duration::from_nanos(manual.now().as_nanos()),
            Source::Custom(custom) => custom.source.since_1970(),
        }
    }
}

impl Custom {
    #[cold]
    fn now(&self) -> Moment {
        let read = self.source.now().as_nanos();
        // AcqRel: whoever is told of a reading by another thread must not read less.
        Moment::from_nanos(self.latest.fetch_max(read, Ordering::AcqRel).max(read))
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl From<ManualClock> for Clock {
    fn from(manual: ManualClock) -> Self {
        Self(Source::Manual(manual))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Source::System(_) => "Clock(system)",
            Source::Manual(_) => "Clock(manual)",
            Source::Custom(_) => "Clock(custom)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_custom_clock_stands_still_where_its_source_steps_back() {
        let readings = [5, 9, 3, 8, 10];
        let next = AtomicU64::new(0);
        let clock = Clock::custom(move || {
            let index = next.fetch_add(1, Ordering::Relaxed);
            Moment::from_nanos(readings[usize::try_from(index).unwrap()])
        });
        let read: Vec<u64> = readings.iter().map(|_| clock.now().as_nanos()).collect();
        assert_eq!(read, [5, 9, 9, 9, 10]);
    }

    #[test]
    fn the_system_clock_goes_forward() {
        let clock = Clock::system();
        let mut last = clock.now();
        for _ in 0..10_000 {
            let now = clock.now();
            assert!(now >= last);
            last = now;
        }
    }

    /// The rate, compared with std's over a tenth of a second of work.
    #[cfg(not(feature = "test-util"))]
    #[test]
    fn the_system_clock_keeps_the_systems_pace() {
        let clock = Clock::system();
        let (began, began_std) = (clock.now(), std::time::Instant::now());
        while began_std.elapsed() < Duration::from_millis(100) {
            std::hint::spin_loop();
        }
        let (ours, theirs) = (clock.now() - began, began_std.elapsed());
        let apart = ours.abs_diff(theirs);
        // A hundredth is far more than a calibration is off and far less than a wrong unit.
        assert!(apart < theirs / 100 || apart < Duration::from_millis(20), "{ours:?} against {theirs:?}");
    }

    #[test]
    fn the_time_of_day_is_the_systems_or_the_tests() {
        let seen = Clock::system().since_1970();
        let theirs = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert!(seen.abs_diff(theirs) < Duration::from_secs(60), "{seen:?} against {theirs:?}");
        let manual = ManualClock::at(Moment::from_nanos(5));
        assert_eq!(manual.clock().since_1970(), Duration::from_nanos(5));
    }

    #[cfg(feature = "test-util")]
    #[tokio::test(start_paused = true)]
    async fn with_test_util_the_system_clock_follows_tokio() {
        let clock = Clock::system();
        let (before, time_of_day) = (clock.now(), clock.since_1970());
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(clock.now() - before, Duration::from_secs(3600));
        assert_eq!(clock.since_1970() - time_of_day, Duration::from_secs(3600));
    }
}

//! What entries expire by.

use std::time::Duration;

use stanchion_core::{Clock, Moment};

/// Reads time as numbers in a unit of its own, so that a hit compares what it reads as
/// it is.
///
/// The system's coarse clock is the default: 3 ns where the timestamp counter takes 8
/// and std 40. It moves by a tick of the kernel's, 1 to 10 ms. A clock that was handed
/// in is read as it is, and so is tokio's under `test-util`.
#[derive(Debug, Clone)]
pub(crate) enum Timer {
    Coarse,
    Exact(Clock),
}

/// Never.
pub(crate) const NEVER: u64 = u64::MAX;

impl Timer {
    pub(crate) fn new(clock: Option<Clock>) -> Self {
        match clock {
            Some(clock) => Self::Exact(clock),
            None if cfg!(feature = "test-util") => Self::Exact(Clock::system()),
            None => Self::Coarse,
        }
    }

    #[inline]
    pub(crate) fn now(&self) -> u64 {
        match self {
            // The plain `now` stores what it has read where all threads would contend for it.
            Self::Coarse => coarsetime::Instant::now_without_cache_update().as_ticks(),
            Self::Exact(clock) => exact(clock),
        }
    }

    /// The time so long after another, at most [`NEVER`].
    pub(crate) fn after(&self, time: u64, wait: Duration) -> u64 {
        time.saturating_add(match self {
            Self::Coarse => ticks(wait),
            Self::Exact(_) => u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX),
        })
    }

    /// The same time as a moment.
    pub(crate) fn moment(&self, time: u64) -> Moment {
        Moment::from_nanos(match self {
            Self::Exact(_) | Self::Coarse if time == NEVER => u64::MAX,
            Self::Exact(_) => time,
            // Less than 2^33 seconds, so no more than 2^63 nanoseconds.
            Self::Coarse => (time >> 32) * NANOS + (((time & 0xffff_ffff) * NANOS) >> 32),
        })
    }
}

/// Out of line, so that whoever reads the coarse clock has no code of the others around it.
#[cold]
fn exact(clock: &Clock) -> u64 {
    clock.now().as_nanos()
}

const NANOS: u64 = 1_000_000_000;

/// In 2^-32 seconds, rounded down.
fn ticks(wait: Duration) -> u64 {
    u64::try_from((u128::from(wait.as_secs()) << 32) + (u128::from(wait.subsec_nanos()) << 32) / u128::from(NANOS))
        .unwrap_or(u64::MAX)
}

#[cfg(all(test, not(stanchion_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_tick_of_the_coarse_clock_is_converted_there_and_back() {
        let timer = Timer::Coarse;
        let now = timer.now();
        for wait in [1, 999, 1_000_000, 86_400_000_000_000].map(Duration::from_nanos) {
            let passed = timer.moment(timer.after(now, wait)) - timer.moment(now);
            assert!(passed.abs_diff(wait) <= Duration::from_nanos(2), "{wait:?} became {passed:?}");
        }
        assert_eq!(timer.after(now, Duration::MAX), NEVER);
        assert_eq!(timer.moment(NEVER), Moment::MAX);
    }

    /// The rate of the coarse clock, against std's over a twentieth of a second.
    #[test]
    fn the_coarse_clock_keeps_the_systems_pace() {
        let (began, coarse) = (std::time::Instant::now(), Timer::Coarse.now());
        while began.elapsed() < Duration::from_millis(50) {
            std::hint::spin_loop();
        }
        let (ours, theirs) =
            (Timer::Coarse.moment(Timer::Coarse.now()) - Timer::Coarse.moment(coarse), began.elapsed());
        assert!(ours.abs_diff(theirs) < Duration::from_millis(25), "{ours:?} against {theirs:?}");
    }
}

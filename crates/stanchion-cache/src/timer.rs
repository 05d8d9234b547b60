//! What entries expire by.

use std::time::Duration;

use stanchion_core::{Clock, Moment};

/// Reads time as numbers of nanoseconds, so that a hit compares what it reads as it is.
///
/// The system's coarse clock is the default: 2 ns where the timestamp counter takes 9
/// and std 21. It moves by a tick of the kernel's, 1 to 10 ms. A clock that was handed
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
            Self::Coarse => coarse(),
            Self::Exact(clock) => exact(clock),
        }
    }

    /// The time so long after another, at most [`NEVER`].
    pub(crate) fn after(&self, time: u64, wait: Duration) -> u64 {
        time.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(NEVER))
    }

    /// The time so long before another, at least the beginning.
    #[cfg(feature = "tier")]
    pub(crate) fn before(&self, time: u64, wait: Duration) -> u64 {
        time.saturating_sub(u64::try_from(wait.as_nanos()).unwrap_or(NEVER))
    }

    /// The same time as a moment.
    pub(crate) fn moment(&self, time: u64) -> Moment {
        Moment::from_nanos(time)
    }
}

/// Out of line, so that whoever reads the coarse clock has no code of the others around it.
#[cold]
fn exact(clock: &Clock) -> u64 {
    clock.now().as_nanos()
}

const NANOS: u64 = 1_000_000_000;

/// Asked of the kernel's page directly: through libc and a crate around it takes twice as long.
#[cfg(target_os = "linux")]
#[inline]
#[allow(clippy::cast_sign_loss, reason = "the kernel counts from when it started")]
fn coarse() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    // 2^64 nanoseconds are 584 years.
    (time.tv_sec as u64).wrapping_mul(NANOS).wrapping_add(time.tv_nsec as u64)
}

#[cfg(not(target_os = "linux"))]
fn coarse() -> u64 {
    // The plain `now` stores what it has read where all threads would contend for it.
    let time = coarsetime::Instant::now_without_cache_update().as_ticks();
    // In 2^-32 seconds, of which there were less than 2^33 seconds: no more than 2^63 nanoseconds.
    (time >> 32) * NANOS + (((time & 0xffff_ffff) * NANOS) >> 32)
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

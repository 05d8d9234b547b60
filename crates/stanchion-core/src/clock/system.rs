//! What the system clock reads. The only file that knows the three sources.

use std::sync::OnceLock;
use std::time::Duration;

use super::Moment;

/// The system clock's start lies about this long before its first reading, so
/// that whatever began shortly before can still be told: a paused runtime of
/// tokio's, a reading on a core whose counter lags.
const HEAD_START: Duration = Duration::from_secs(3600);

/// The process's one system clock.
pub(super) struct SystemClock {
    source: source::Source,
    /// What the time of day is ahead of `source` by, as it was at the first reading.
    #[cfg(feature = "test-util")]
    ahead: Duration,
}

/// The system's time of day, as the time since 1970 began.
pub(super) fn since_1970() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

impl SystemClock {
    pub(super) fn global() -> &'static Self {
        static GLOBAL: OnceLock<SystemClock> = OnceLock::new();
        GLOBAL.get_or_init(|| {
            let source = source::Source::new();
            #[cfg(feature = "test-util")]
            let ahead = since_1970().saturating_sub(Duration::from_nanos(source.nanos()));
            Self {
                source,
                #[cfg(feature = "test-util")]
                ahead,
            }
        })
    }

    /// tokio's clock may be paused and advanced, and the day goes with it.
    #[cfg(feature = "test-util")]
    pub(super) fn since_1970(&self) -> Duration {
        self.ahead + Duration::from_nanos(self.source.nanos())
    }

    #[cfg(not(feature = "test-util"))]
    #[allow(clippy::unused_self, reason = "with test-util it has a self")]
    pub(super) fn since_1970(&self) -> Duration {
        since_1970()
    }

    #[inline]
    pub(super) fn now(&self) -> Moment {
        Moment::from_nanos(self.source.nanos())
    }
}

#[cfg(feature = "test-util")]
mod source {
    /// tokio's clock: paused and advanced where tokio's is, else std's.
    pub(super) struct Source(tokio::time::Instant);

    impl Source {
        pub(super) fn new() -> Self {
            let now = std::time::Instant::now();
            // A runtime may have been paused before the first reading; an hour covers that.
            let start = now.checked_sub(super::HEAD_START).unwrap_or(now);
            Self(tokio::time::Instant::from_std(start))
        }

        pub(super) fn nanos(&self) -> u64 {
            let since = tokio::time::Instant::now().saturating_duration_since(self.0);
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        }
    }
}

#[cfg(all(feature = "fast-clock", not(feature = "test-util")))]
mod source {
    use super::std_nanos;

    /// The timestamp counter where the system vouches for it, else std's clock.
    pub(super) enum Source {
        Counter { clock: quanta::Clock, start: u64 },
        Std(std::time::Instant),
    }

    impl Source {
        pub(super) fn new() -> Self {
            if counter_is_trusted() {
                let clock = quanta::Clock::new();
                // A counter ticks some times in a nanosecond: ten at most.
                let head_start = 10_000_000_000 * super::HEAD_START.as_secs();
                let start = clock.raw().saturating_sub(head_start);
                Self::Counter { clock, start }
            } else {
                Self::Std(super::std_start())
            }
        }

        #[inline]
        pub(super) fn nanos(&self) -> u64 {
            match self {
                // Saturating: a core whose counter lags may be behind the start itself.
                Self::Counter { clock, start } => clock.delta_as_nanos(0, clock.raw().saturating_sub(*start)),
                Self::Std(start) => std_nanos(*start),
            }
        }
    }

    /// Linux lists the counter among its sources for as long as its watchdog
    /// finds the cores in step. Elsewhere quanta asks the CPU by itself.
    fn counter_is_trusted() -> bool {
        if !cfg!(target_os = "linux") {
            return true;
        }
        if !cfg!(target_arch = "x86_64") {
            // quanta reads other counters through the kernel's own interface or not at all.
            return cfg!(target_arch = "aarch64");
        }
        std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/available_clocksource")
            .is_ok_and(|sources| sources.split_whitespace().any(|source| source == "tsc"))
    }
}

#[cfg(not(any(feature = "fast-clock", feature = "test-util")))]
mod source {
    use super::std_nanos;

    /// std's monotonic clock.
    pub(super) struct Source(std::time::Instant);

    impl Source {
        pub(super) fn new() -> Self {
            Self(super::std_start())
        }

        #[inline]
        pub(super) fn nanos(&self) -> u64 {
            std_nanos(self.0)
        }
    }
}

#[cfg(not(feature = "test-util"))]
fn std_start() -> std::time::Instant {
    let now = std::time::Instant::now();
    now.checked_sub(HEAD_START).unwrap_or(now)
}

#[cfg(not(feature = "test-util"))]
#[inline]
fn std_nanos(start: std::time::Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

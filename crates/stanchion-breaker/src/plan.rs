//! The settings, checked and in numbers to count with.

use std::fmt::Display;
use std::time::Duration;

use stanchion_core::{ConfigError, Outcome};

use crate::config::{Abandoned, BreakerConfig, Permanent, Window};

/// A time window is kept in so many buckets.
pub(crate) const BUCKETS: u32 = 10;
/// A rate of one.
const MILLION: u64 = 1_000_000;
/// The largest window.
const MOST_CALLS: u32 = 10_000_000;

/// A [`BreakerConfig`] that can be honoured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    pub(crate) span: Span,
    pub(crate) minimum: u32,
    pub(crate) failure_rate: Option<Share>,
    pub(crate) slow_rate: Option<Share>,
    pub(crate) slow_after: Duration,
    pub(crate) consecutive: Option<u32>,
    permanent: Permanent,
    abandoned: Abandoned,
    pub(crate) probes: u32,
    /// So many failed probes open it again.
    pub(crate) probes_to_fail: u32,
    pub(crate) probe_max_wait: Duration,
    pub(crate) open_for: Duration,
    open_for_max: Duration,
    open_growth: f64,
    open_jitter: f64,
    pub(crate) forgive_after: Duration,
}

/// A window, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Span {
    Count {
        calls: u32,
    },
    Time {
        bucket_nanos: u64,
    },
    /// The largest number that a call's weight is one part of.
    Ewma {
        parts: u32,
    },
}

/// A share of calls, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share(u32);

impl Share {
    /// Whether `part` of `whole` is as much as this.
    pub(crate) fn is_reached(self, part: u64, whole: u64) -> bool {
        u128::from(part) * u128::from(MILLION) >= u128::from(self.0) * u128::from(whole)
    }

    fn new(field: &'static str, rate: f64) -> Result<Self, ConfigError> {
        // NaN is neither.
        if !(rate > 0.0 && rate <= 1.0) {
            let limit =
                if rate > 1.0 { "must be at most 1: more can never fail" } else { "must be above 0 and at most 1" };
            return Err(ConfigError::new(field, rate, limit));
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and a million")]
        let millionths = (rate * 1e6).round() as u32;
        Ok(Self(millionths.max(1)))
    }

    /// The least part of `whole` that reaches it.
    pub(crate) fn of(self, whole: u32) -> u32 {
        let part = (u64::from(self.0) * u64::from(whole)).div_ceil(MILLION);
        u32::try_from(part).expect("a share of a whole is no more than it").max(1)
    }
}

/// What a call counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The other side is well.
    Success,
    /// It answered, or was given up by its caller, in a way that speaks against it.
    Failure,
    /// It was dropped without an answer, and that counts as a failure.
    Silent,
    /// It says nothing.
    Nothing,
}

impl Verdict {
    /// Whether it speaks against the other side.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Failure | Self::Silent)
    }
}

impl Plan {
    /// The settings in numbers.
    ///
    /// # Errors
    /// Names the first field that can't be honoured, or that can never trip.
    pub fn new(config: &BreakerConfig) -> Result<Self, ConfigError> {
        let (span, most) = match config.window {
            Window::Count(calls) => {
                within("window", calls, 1, MOST_CALLS)?;
                (Span::Count { calls }, calls)
            }
            Window::Time(length) => {
                let (least, most) = (Duration::from_millis(100), Duration::from_secs(86_400));
                if length < least || length > most {
                    return Err(ConfigError::new("window", format_args!("{length:?}"), "must be 100 ms to a day"));
                }
                let nanos = u64::try_from(length.as_nanos()).expect("a day is 2^47 nanoseconds");
                (Span::Time { bucket_nanos: nanos / u64::from(BUCKETS) }, MOST_CALLS)
            }
            Window::Ewma(calls) => {
                within("window", calls, 1, MOST_CALLS)?;
                (Span::Ewma { parts: calls.div_ceil(2) }, MOST_CALLS)
            }
        };
        if !(1..=most).contains(&config.minimum_calls) {
            let limit =
                format!("must be at least 1 and at most {most}: a window never holds more, so no rate could trip");
            return Err(ConfigError::new("minimum_calls", config.minimum_calls, limit));
        }
        let failure_rate = config.failure_rate.map(|rate| Share::new("failure_rate", rate)).transpose()?;
        let slow_rate = config.slow_rate.map(|rate| Share::new("slow_rate", rate)).transpose()?;
        if let Some(times) = config.consecutive_failures {
            within("consecutive_failures", times, 1, u32::MAX)?;
        }
        if failure_rate.is_none() && slow_rate.is_none() && config.consecutive_failures.is_none() {
            let limit = "set at least one of failure_rate, slow_rate and consecutive_failures: it could never trip";
            return Err(ConfigError::new("failure_rate", "none", limit));
        }
        if slow_rate.is_some() {
            positive("slow_after", config.slow_after)?;
        }
        within("probes", config.probes, 1, 10_000)?;
        let probe_rate = Share::new("probe_failure_rate", config.probe_failure_rate)?;
        at_least_a_millisecond("probe_max_wait", config.probe_max_wait)?;
        at_least_a_millisecond("open_for", config.open_for)?;
        if config.open_for_max < config.open_for {
            let limit = format!("must be at least open_for, {:?}", config.open_for);
            return Err(ConfigError::new("open_for_max", format_args!("{:?}", config.open_for_max), limit));
        }
        if !(1.0..=100.0).contains(&config.open_growth) {
            return Err(ConfigError::new("open_growth", config.open_growth, "must be 1 to 100"));
        }
        if !(0.0..1.0).contains(&config.open_jitter) {
            return Err(ConfigError::new("open_jitter", config.open_jitter, "must be at least 0 and below 1"));
        }
        Ok(Self {
            span,
            minimum: config.minimum_calls,
            failure_rate,
            slow_rate,
            slow_after: config.slow_after,
            consecutive: config.consecutive_failures,
            permanent: config.permanent,
            abandoned: config.abandoned,
            probes: config.probes,
            probes_to_fail: probe_rate.of(config.probes),
            probe_max_wait: config.probe_max_wait,
            open_for: config.open_for,
            open_for_max: config.open_for_max,
            open_growth: config.open_growth,
            open_jitter: config.open_jitter,
            forgive_after: config.forgive_after,
        })
    }

    /// Whether it matters how long a call took.
    #[inline]
    pub fn needs_elapsed(&self) -> bool {
        self.slow_rate.is_some() || matches!(self.abandoned, Abandoned::FailureIfOlderThan(_))
    }

    /// What a call counts as that ended like this.
    #[inline]
    pub fn verdict(&self, outcome: Outcome, elapsed: Duration) -> Verdict {
        match outcome {
            Outcome::Success => Verdict::Success,
            Outcome::Abandoned => match self.abandoned {
                Abandoned::Ignore => Verdict::Nothing,
                Abandoned::Failure => Verdict::Silent,
                Abandoned::FailureIfOlderThan(age) if elapsed >= age => Verdict::Silent,
                Abandoned::FailureIfOlderThan(_) => Verdict::Nothing,
            },
            Outcome::Permanent => match self.permanent {
                Permanent::Ignore => Verdict::Nothing,
                Permanent::Success => Verdict::Success,
                Permanent::Failure => Verdict::Failure,
            },
            other if other.is_failure() => Verdict::Failure,
            _ => Verdict::Nothing,
        }
    }

    /// Whether a call that took so long is slow.
    #[inline]
    pub fn is_slow(&self, elapsed: Duration) -> bool {
        self.slow_rate.is_some() && elapsed >= self.slow_after
    }

    /// So many successful probes close it: as soon as the others can't open it.
    pub(crate) fn probes_to_close(&self) -> u32 {
        self.probes - self.probes_to_fail + 1
    }

    /// How long it stays open that has opened `flaps` times in a row before;
    /// `chance` is from 0 to 1.
    pub(crate) fn open_time(&self, flaps: u32, chance: f64) -> Duration {
        let most = self.open_for_max.as_secs_f64();
        let exponent = i32::try_from(flaps).unwrap_or(i32::MAX);
        // Infinity is above any maximum.
        let grown = (self.open_for.as_secs_f64() * self.open_growth.powi(exponent)).min(most);
        let drawn = grown * (1.0 - self.open_jitter * chance.clamp(0.0, 1.0));
        Duration::try_from_secs_f64(drawn).unwrap_or(self.open_for_max).min(self.open_for_max)
    }

    /// So many failures are what trips a breaker that has seen only the fewest
    /// calls that can.
    #[cfg(feature = "fleet")]
    pub(crate) fn fewest_failures(&self) -> u32 {
        let by_rate = self.failure_rate.map(|share| share.of(self.minimum));
        by_rate.into_iter().chain(self.consecutive).min().unwrap_or(self.minimum)
    }
}

fn within(field: &'static str, value: u32, least: u32, most: u32) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(out_of_range(field, value, least, most))
}

fn out_of_range(field: &'static str, value: impl Display, least: u32, most: u32) -> ConfigError {
    ConfigError::new(field, value, format_args!("must be {least} to {most}"))
}

fn positive(field: &'static str, duration: Duration) -> Result<(), ConfigError> {
    if duration.is_zero() {
        return Err(ConfigError::new(field, "0", "must be above 0"));
    }
    Ok(())
}

fn at_least_a_millisecond(field: &'static str, duration: Duration) -> Result<(), ConfigError> {
    if duration < Duration::from_millis(1) {
        return Err(ConfigError::new(field, format_args!("{duration:?}"), "must be at least 1 ms"));
    }
    Ok(())
}

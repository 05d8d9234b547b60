//! The numbers of the limits that count in windows of time.
//!
//! Their arithmetic is in integers and rounds towards refusal, and a window is a
//! whole number of microseconds, so that a store whose clock shows no less decides
//! alike.

use std::time::Duration;

use super::CalendarUnit;
use crate::ConfigError;

/// The longest window: ten years of 365 days.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// A count and its overdraft stay below this: the estimate of a sliding counter is
/// computed in numbers that Lua holds exactly.
const MOST_UNITS: u64 = 1 << 32;
/// The most units of a sliding log, which remembers each admission.
const MOST_LOGGED: u64 = 100_000;
/// A state may lie this far in the future before it is taken for the trace of a
/// clock that stepped back.
pub(super) const TOLERANCE: u64 = 1_000_000_000;

/// `limit` units in each window, one window after another.
///
/// **A window of length W may straddle two, and admit 2 × `limit`.** A window begins with
/// the first admission after the last one is over, or with a [`CalendarUnit`].
///
/// ```
/// use std::time::Duration;
/// use stanchion_core::FixedWindow;
///
/// let window = FixedWindow::new(100, Duration::from_secs(60))?;
/// assert_eq!(window.limit(), 100);
/// # Ok::<(), stanchion_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FixedWindow {
    units: Units,
    span: Span,
}

/// How long a fixed window is, and when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Span {
    /// So many nanoseconds, from the first admission on.
    Nanos(u64),
    /// A unit of the calendar, in UTC.
    Calendar(CalendarUnit),
}

/// `limit` units in a window that slides, estimated of two counts: those of the
/// present window of the clock, and those of the last one, weighted by how much of it
/// the sliding window still covers (Cloudflare, 2017).
///
/// It takes some 50 bytes, and is exact where requests come evenly: in 400 million of
/// Cloudflare's, 0.003 % were judged wrongly. **Against somebody who knows it, it is not**:
/// `limit` at the very end of a window and `limit` at the very end of the next one's beginning
/// make some window of length W admit close to 2 × `limit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SlidingCounter {
    units: Units,
    window: u64,
}

/// **At most `limit` units in every window** of length W, with nothing held back: each
/// admission is remembered until it is W old.
///
/// It is exact and fair, and takes 16 bytes in memory, some 20 on Redis, for each
/// admission of each key: `limit` is 100,000 at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SlidingLog {
    units: Units,
    window: u64,
}

/// How many units, and how many more for those who may overdraw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Units {
    limit: u64,
    most: u64,
}

impl Units {
    fn new(limit: u64, most: u64) -> Result<Self, ConfigError> {
        if limit == 0 {
            return Err(ConfigError::new("count", limit, "must be at least 1"));
        }
        if limit > most {
            return Err(ConfigError::new("count", limit, format!("must be at most {most}")));
        }
        Ok(Self { limit, most: limit })
    }

    fn overdraft(self, units: u64, most: u64) -> Result<Self, ConfigError> {
        match self.limit.checked_add(units).filter(|sum| *sum <= most) {
            Some(most) => Ok(Self { most, ..self }),
            None => Err(ConfigError::new("overdraft", units, format!("with the count, must be at most {most}"))),
        }
    }

    fn share(self, instances: u32) -> Result<Self, ConfigError> {
        let parts = u64::from(instances);
        let limit =
            self.limit.checked_div(parts).ok_or_else(|| ConfigError::new("instances", 0, "must be at least 1"))?;
        if limit == 0 {
            let limit = format!("the count of {} leaves nothing for each", self.limit);
            return Err(ConfigError::new("instances", instances, limit));
        }
        Ok(Self { limit, most: limit + (self.most - self.limit) / parts })
    }
}

fn nanos(window: Duration) -> Result<u64, ConfigError> {
    let error = |limit| Err(ConfigError::new("period", format_args!("{window:?}"), limit));
    if window.is_zero() {
        return error("must be longer than zero");
    }
    if window > LONGEST {
        return error("must be at most ten years");
    }
    if !window.subsec_nanos().is_multiple_of(1_000) {
        return error("must be a whole number of microseconds");
    }
    Ok(u64::try_from(window.as_nanos()).expect("ten years are below 2^64 ns"))
}

/// What all three have.
macro_rules! counted {
    ($($rule:ident $most:ident)*) => {$(
        impl $rule {
            /// The most units in a window.
            pub const fn limit(&self) -> u64 {
                self.units.limit
            }

            /// The most units that may be counted in a window: the limit and the overdraft.
            pub const fn most_units(&self) -> u64 {
                self.units.most
            }

            /// The same limit, which [`Ask::Overdraw`](crate::Ask::Overdraw) may exceed by `units`. Default: none.
            ///
            /// # Errors
            /// Names `overdraft` when it is too large.
            pub fn overdraft(self, units: u64) -> Result<Self, ConfigError> {
                Ok(Self { units: self.units.overdraft(units, $most)?, ..self })
            }

            /// The same for one of `instances` that share it: ⌊limit / instances⌋.
            ///
            /// # Errors
            /// Names `instances` when it is zero or above the limit.
            pub fn share(&self, instances: u32) -> Result<Self, ConfigError> {
                Ok(Self { units: self.units.share(instances)?, ..*self })
            }
        }
    )*};
}

counted! { FixedWindow MOST_UNITS SlidingCounter MOST_UNITS SlidingLog MOST_LOGGED }

impl FixedWindow {
    /// `count` units in `period`, which begins with the first admission.
    ///
    /// # Errors
    /// Names `count` when it is zero or above 2³², and `period` when it is zero, above
    /// ten years, or no whole number of microseconds.
    pub fn new(count: u64, period: Duration) -> Result<Self, ConfigError> {
        Ok(Self { units: Units::new(count, MOST_UNITS)?, span: Span::Nanos(nanos(period)?) })
    }

    /// `count` units in each such unit of the calendar.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn calendar(count: u64, unit: CalendarUnit) -> Result<Self, ConfigError> {
        Ok(Self { units: Units::new(count, MOST_UNITS)?, span: Span::Calendar(unit) })
    }

    /// How long a window is, and when it begins.
    pub const fn span(&self) -> Span {
        self.span
    }

    /// The longest that a window can be, in nanoseconds.
    pub const fn longest(&self) -> u64 {
        match self.span {
            Span::Nanos(nanos) => nanos,
            Span::Calendar(unit) => unit.longest() * 1_000_000_000,
        }
    }

    /// When a window that begins with an admission at `now` ends; both in nanoseconds,
    /// and since 1970 where the calendar rules.
    pub const fn end(&self, now: u64) -> u64 {
        match self.span {
            Span::Nanos(nanos) => now.saturating_add(nanos),
            Span::Calendar(unit) => unit.around(now / 1_000_000_000).1.saturating_mul(1_000_000_000),
        }
    }

    /// Whether the end of a window lies further off than that of any window which begins
    /// within a second, so that a clock has stepped back, or the window was a longer one.
    pub const fn is_beyond(&self, end: u64, now: u64) -> bool {
        end > self.end(now.saturating_add(TOLERANCE))
    }
}

/// The weight of a past window that counts in full.
const WHOLE: u128 = 1 << 20;

impl SlidingCounter {
    /// `count` units in `period`.
    ///
    /// # Errors
    /// As [`FixedWindow::new`].
    pub fn new(count: u64, period: Duration) -> Result<Self, ConfigError> {
        Ok(Self { units: Units::new(count, MOST_UNITS)?, window: nanos(period)? })
    }

    /// The window, in nanoseconds.
    pub const fn window(&self) -> u64 {
        self.window
    }

    /// How many units are counted: `current`, and of `previous` as much as the window
    /// still covers when `elapsed` nanoseconds of the present one are over. Rounded up
    /// twice: the share to a 2²⁰th, and the units.
    pub const fn estimate(&self, previous: u64, current: u64, elapsed: u64) -> u64 {
        current.saturating_add(Self::covered(self.window, previous, elapsed))
    }

    /// How many of the units of the window before still count when `elapsed` nanoseconds of
    /// this one are over, both of this length: the estimate's first part. A window of no
    /// length covers nothing.
    pub const fn covered(window: u64, previous: u64, elapsed: u64) -> u64 {
        let left = window.saturating_sub(elapsed);
        if left == 0 {
            return 0;
        }
        let weight = (left as u128 * WHOLE).div_ceil(window as u128);
        let covered = (previous as u128 * weight).div_ceil(WHOLE);
        // No more than `previous`, which is a u64.
        #[allow(clippy::cast_possible_truncation, reason = "see above")]
        let covered = covered as u64;
        covered
    }

    /// How many nanoseconds after `elapsed` the counts leave room for `cost` units of
    /// at most `most`, if nobody else asks; `None` if they never do.
    pub fn wait(&self, previous: u64, current: u64, elapsed: u64, cost: u64, most: u64) -> Option<u64> {
        let room = most.checked_sub(cost)?;
        // In the present window, in the next, in the one after.
        let rest = self.window.saturating_sub(elapsed);
        if let Some(room) = room.checked_sub(current) {
            return Some(self.elapsed_for(previous, room).saturating_sub(elapsed));
        }
        Some(rest.saturating_add(self.elapsed_for(current, room)))
    }

    /// How much of a window must be over for `previous` to count for `room` at most.
    fn elapsed_for(&self, previous: u64, room: u64) -> u64 {
        if previous <= room {
            return 0;
        }
        // ⌈previous * weight / WHOLE⌉ <= room, and weight = ⌈left * WHOLE / window⌉.
        let weight = u128::from(room) * WHOLE / u128::from(previous);
        let left = weight * u128::from(self.window) / WHOLE;
        self.window - u64::try_from(left).unwrap_or(self.window)
    }
}

impl SlidingLog {
    /// `count` units in `period`.
    ///
    /// # Errors
    /// As [`FixedWindow::new`], but for `count`: at most 100,000.
    pub fn new(count: u64, period: Duration) -> Result<Self, ConfigError> {
        Ok(Self { units: Units::new(count, MOST_LOGGED)?, window: nanos(period)? })
    }

    /// The window, in nanoseconds. An admission counts until it is this old.
    pub const fn window(&self) -> u64 {
        self.window
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn the_estimate_is_the_one_of_the_paper() {
        let counter = SlidingCounter::new(50, MINUTE).unwrap();
        // 42 * 45/60 + 18 = 49.5
        assert_eq!(counter.estimate(42, 18, 15_000_000_000), 50);
        assert_eq!(counter.estimate(42, 18, 0), 60);
        assert_eq!(counter.estimate(42, 18, 60_000_000_000), 18);
    }

    #[test]
    fn what_cannot_be_kept_is_refused_by_name() {
        let error = |count, period| SlidingCounter::new(count, period).unwrap_err().to_string();
        assert_eq!(error(0, MINUTE), "count is 0: must be at least 1");
        assert_eq!(error(1, Duration::ZERO), "period is 0ns: must be longer than zero");
        assert_eq!(error(1, Duration::from_nanos(1_500)), "period is 1.5µs: must be a whole number of microseconds");
        assert!(error(1, Duration::MAX).ends_with("must be at most ten years"));
        assert!(error(u64::MAX, MINUTE).ends_with("must be at most 4294967296"));
        assert!(SlidingLog::new(100_001, MINUTE).unwrap_err().to_string().ends_with("must be at most 100000"));
        let window = FixedWindow::new(1, MINUTE).unwrap();
        assert_eq!(window.overdraft(u64::MAX).unwrap_err().field(), "overdraft");
        assert_eq!(window.share(0).unwrap_err().field(), "instances");
        assert!(window.share(2).unwrap_err().to_string().ends_with("the count of 1 leaves nothing for each"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// After exactly the wait it fits, and a microsecond earlier it doesn't.
        #[test]
        fn the_wait_is_exact(
            limit in 1..200_u64, micros in 1..100_000_u64, counts in (0..200_u64, 0..200_u64),
            elapsed in 0.0..1.0_f64, cost in 1..220_u64,
        ) {
            let counter = SlidingCounter::new(limit, Duration::from_micros(micros)).unwrap();
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a share of a small number")]
            let elapsed = (counter.window() as f64 * elapsed) as u64;
            let (previous, current) = counts;
            let fits = |wait: u64| {
                let later = elapsed + wait;
                let windows = later / counter.window();
                let (previous, current) = match windows {
                    0 => (previous, current),
                    1 => (current, 0),
                    _ => (0, 0),
                };
                counter.estimate(previous, current, later % counter.window()) + cost <= limit
            };
            match counter.wait(previous, current, elapsed, cost, limit) {
                None => prop_assert!(cost > limit),
                Some(wait) => {
                    prop_assert!(fits(wait), "not after {wait}");
                    prop_assert!(wait == 0 || !fits(wait - 1), "already before {wait}");
                }
            }
        }
    }
}

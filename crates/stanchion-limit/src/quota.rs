//! Quotas in the user's words.

mod several;

use std::time::Duration;

use stanchion_core::{CalendarUnit, ConfigError, FixedWindow, RateRule, SlidingCounter, SlidingLog, TokenBucket};

pub use several::Quotas;

/// So many units per period, counted by one of the [algorithms](RateAlgorithm).
///
/// It is plain data: what it says is checked when a limiter is built of it.
/// The promise of the default, a token bucket: **any window of length W admits at most
/// `burst + ⌊W · count / period⌋`**. Mind what that means for the default
/// burst: 100 per minute can admit 199 in its first minute, 100 at once and one
/// each 0.6 s after that. A smaller burst makes the limit tighter, down to 1,
/// which spaces the units evenly. Where no minute at all may see more than 100, say
/// [`strict`](Self::strict) or [`sliding_log`](Self::sliding_log).
///
/// ```
/// use std::time::Duration;
/// use stanchion_limit::{CalendarUnit, Quota};
///
/// let quota = Quota::per_minute(100).burst(20);
/// assert_eq!(quota, Quota::new(100, Duration::from_secs(60)).burst(20));
/// assert!(quota.rule().is_ok());
///
/// let _never_more_in_any_minute = Quota::per_minute(100).strict();
/// let _the_same_and_every_unit_of_it = Quota::per_minute(100).sliding_log();
/// let _from_the_first_to_the_first = Quota::per_calendar(100_000, CalendarUnit::Month);
///
/// let error = Quota::per_second(0).rule().unwrap_err();
/// assert_eq!(error.to_string(), "count is 0: must be at least 1");
/// ```
///
/// # As configuration
/// With the feature `serde`: `{ "count": 100, "period": "1m", "burst": 20 }`,
/// where `burst` may be left out, or `{ "count": 100, "period": "1m", "algorithm": "sliding_log" }`,
/// or `{ "count": 100000, "calendar": "month" }`. A period is written as in `humantime`: "250ms",
/// "1s", "1m", "1h", "1day"; mind that "1M" is a month. [`rule`](Self::rule)
/// tells whether the quota can be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Quota {
    /// Units per period.
    count: u64,
    /// The period: "250ms", "1s", "1m", "1day".
    #[cfg_attr(
        feature = "serde",
        serde(default, with = "stanchion_core::duration_text::option", skip_serializing_if = "Option::is_none")
    )]
    period: Option<Duration>,
    /// The period, as a unit of the calendar: "day", "month".
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    calendar: Option<CalendarUnit>,
    /// How units are counted. Default: "token_bucket".
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "is_default"))]
    algorithm: RateAlgorithm,
    /// Units at once. Default: `count`; if strict, a tenth of it.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    burst: Option<u64>,
    /// Units that may be owed. Default: 0.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "is_default"))]
    overdraft: u64,
}

/// How a [`Quota`] counts. N is its count, W its period.
///
/// Twelve in twelve seconds, where everybody asks all the time from second 6 on; how many are
/// admitted in each second, `c` for twelve. The minute of the last one begins at second 12.
/// ```text
/// second                0     6     12    18    24    30    36    42    48    54
/// token bucket          ······c11111111111111111111111111111111111111111111111111111
/// token bucket, burst 3 ······311111111111111111111111111111111111111111111111111111
/// strict                ······111111111111111111111111111111111111111111111111111111
/// strict, burst 6       ······61·1·11·1·1·11·1·11·1·1·11·1·11·1·1·11·1·11·1·1·11·1·1
/// sliding log           ······c···········c···········c···········c···········c·····
/// sliding counter       ······c······1111111111111111111111·11111111111·11111111111·
/// fixed window          ······c···········c···········c···········c···········c·····
/// fixed, by the minute  ······c·····c···············································
/// ```
///
/// As configuration: `"token_bucket"`, `"strict"`, `"sliding_log"`, `"sliding_counter"`, `"fixed_window"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum RateAlgorithm {
    /// A burst B, and N more evenly over each W: **any window of length W admits at most B + N**.
    #[default]
    TokenBucket,
    /// A token bucket that refills so slowly that **any window of length W admits at most N**, its
    /// burst included: N - B + 1 in each W. It takes the room of a token bucket, and
    /// pays with rate: 91 % of N with the default burst of N/10, all of it with a burst of 1.
    Strict,
    /// **Any window of length W admits at most N**, and all N at any time if none were
    /// before. Each admission is remembered: 16 bytes each in memory, some 100 on Redis.
    SlidingLog,
    /// The same, estimated of two counts. Off by little where requests come evenly;
    /// **2 N at worst**, by somebody who means it.
    SlidingCounter,
    /// N in each window, one after another, each begun by its first admission, or with
    /// the calendar. **A window of length W that straddles two admits up to 2 N**.
    FixedWindow,
}

#[cfg(feature = "serde")]
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Quota {
    const fn of(count: u64, period: Option<Duration>, calendar: Option<CalendarUnit>) -> Self {
        let algorithm = if calendar.is_some() { RateAlgorithm::FixedWindow } else { RateAlgorithm::TokenBucket };
        Self { count, period, calendar, algorithm, burst: None, overdraft: 0 }
    }

    /// `count` units per `period`.
    pub const fn new(count: u64, period: Duration) -> Self {
        Self::of(count, Some(period), None)
    }

    /// `count` units in each such unit of the calendar, in UTC, from its beginning on: a
    /// [fixed window](RateAlgorithm::FixedWindow).
    pub const fn per_calendar(count: u64, unit: CalendarUnit) -> Self {
        Self::of(count, None, Some(unit))
    }

    /// `count` units per second.
    pub const fn per_second(count: u64) -> Self {
        Self::new(count, Duration::from_secs(1))
    }

    /// `count` units per minute.
    pub const fn per_minute(count: u64) -> Self {
        Self::new(count, Duration::from_secs(60))
    }

    /// `count` units per hour.
    pub const fn per_hour(count: u64) -> Self {
        Self::new(count, Duration::from_secs(3_600))
    }

    /// `count` units per day of 24 hours.
    pub const fn per_day(count: u64) -> Self {
        Self::new(count, Duration::from_secs(86_400))
    }

    /// At most `units` at once, in a token bucket or a strict one. Default: `count`; if strict, a
    /// tenth of it, at least 1.
    pub const fn burst(mut self, units: u64) -> Self {
        self.burst = Some(units);
        self
    }

    /// Up to `units` more than are there may be taken by those who [charge](crate::Limiter::charge)
    /// what they have used already. Default: 0. The bound grows by as much: of each window, where it is
    /// windows that count. A bucket's debt is paid off before anybody else is served; a window's lapses with
    /// the window.
    pub const fn overdraft(mut self, units: u64) -> Self {
        self.overdraft = units;
        self
    }

    /// Counted so that no window at all sees more than `count`: [`RateAlgorithm::Strict`].
    pub const fn strict(self) -> Self {
        self.by(RateAlgorithm::Strict)
    }

    /// Counted by remembering each admission: [`RateAlgorithm::SlidingLog`].
    pub const fn sliding_log(self) -> Self {
        self.by(RateAlgorithm::SlidingLog)
    }

    /// Counted by an estimate of two counts: [`RateAlgorithm::SlidingCounter`].
    pub const fn sliding_counter(self) -> Self {
        self.by(RateAlgorithm::SlidingCounter)
    }

    /// Counted window by window: [`RateAlgorithm::FixedWindow`].
    pub const fn fixed_window(self) -> Self {
        self.by(RateAlgorithm::FixedWindow)
    }

    /// Counted by this algorithm.
    pub const fn by(mut self, algorithm: RateAlgorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// The quota as numbers to count with.
    ///
    /// # Errors
    /// Names the field that can't be honoured: see [`TokenBucket::new`], [`FixedWindow::new`]
    /// and [`SlidingLog::new`]. A `burst` is only for the two buckets, and of a strict one at most its
    /// `count`; a `calendar` takes the place of a `period`, and only has fixed windows.
    pub fn rule(&self) -> Result<RateRule, ConfigError> {
        let period = match (self.period, self.calendar) {
            (Some(period), None) => period,
            (None, Some(unit)) => return self.calendar_rule(unit),
            (None, None) => return Err(ConfigError::new("period", "not set", "there must be a period or a calendar")),
            (Some(_), Some(unit)) => {
                return Err(ConfigError::new("calendar", format_args!("{unit:?}"), "takes the place of the period"));
            }
        };
        if !matches!(self.algorithm, RateAlgorithm::TokenBucket | RateAlgorithm::Strict) {
            self.expect_no_burst()?;
        }
        Ok(match self.algorithm {
            RateAlgorithm::TokenBucket => {
                let burst = self.burst.unwrap_or(self.count);
                TokenBucket::new(self.count, period, burst)?.overdraft(self.overdraft)?.into()
            }
            RateAlgorithm::Strict => self.strict_bucket(period)?.overdraft(self.overdraft)?.into(),
            RateAlgorithm::SlidingLog => SlidingLog::new(self.count, period)?.overdraft(self.overdraft)?.into(),
            RateAlgorithm::SlidingCounter => SlidingCounter::new(self.count, period)?.overdraft(self.overdraft)?.into(),
            RateAlgorithm::FixedWindow => FixedWindow::new(self.count, period)?.overdraft(self.overdraft)?.into(),
        })
    }

    /// The same, of a token bucket.
    ///
    /// # Errors
    /// As [`rule`](Self::rule); and names `algorithm` where it counts in windows.
    pub fn bucket(&self) -> Result<TokenBucket, ConfigError> {
        match self.rule()? {
            RateRule::TokenBucket(bucket) => Ok(bucket),
            _ => Err(ConfigError::new("algorithm", format_args!("{:?}", self.algorithm), "must be a token bucket's")),
        }
    }

    fn calendar_rule(&self, unit: CalendarUnit) -> Result<RateRule, ConfigError> {
        if !matches!(self.algorithm, RateAlgorithm::FixedWindow | RateAlgorithm::TokenBucket) {
            let limit = "a calendar only has fixed windows";
            return Err(ConfigError::new("algorithm", format_args!("{:?}", self.algorithm), limit));
        }
        self.expect_no_burst()?;
        Ok(FixedWindow::calendar(self.count, unit)?.overdraft(self.overdraft)?.into())
    }

    fn expect_no_burst(&self) -> Result<(), ConfigError> {
        match self.burst {
            Some(burst) => Err(ConfigError::new("burst", burst, "only a token bucket has one apart from its count")),
            None => Ok(()),
        }
    }

    /// B at once and one more each T admit at most B + ⌊W / T⌋ in a window. That is N at most where T
    /// is longer than W / (N - B + 1), if only by a part of a nanosecond.
    fn strict_bucket(&self, window: Duration) -> Result<TokenBucket, ConfigError> {
        let burst = self.burst.unwrap_or((self.count / 10).max(1));
        if burst == 0 {
            return Err(ConfigError::new("burst", burst, "must be at least 1"));
        }
        if self.count > 0 && burst > self.count {
            let limit = format!("must be at most the count of {}, if strict", self.count);
            return Err(ConfigError::new("burst", burst, limit));
        }
        if window.is_zero() {
            return TokenBucket::new(self.count, window, burst);
        }
        let rest = if self.count == 0 { 0 } else { self.count - burst + 1 };
        TokenBucket::new(rest, window.saturating_add(Duration::from_nanos(1)), burst)
    }
}

#[cfg(test)]
mod strict_tests {
    use super::*;

    #[test]
    fn a_strict_bucket_admits_its_count_in_any_window() {
        for (count, burst) in [(1, 1), (2, 1), (2, 2), (10, 1), (10, 9), (100, 10), (1_000, 100)] {
            for nanos in [999_999_937, 60_000_000_000, 86_400_000_000_000_u64] {
                let quota = Quota::new(count, Duration::from_nanos(nanos)).strict().burst(burst);
                let bucket = quota.bucket().unwrap();
                let window = u128::from(nanos) * u128::from(bucket.ticks_per_nano());
                let most = u128::from(burst) + window / u128::from(bucket.interval());
                assert!(most <= u128::from(count), "{count} with {burst}: {most}");
                // And hardly less than could be: one more in the window would be too many.
                let fewer = u128::from(burst) + (window + window / 1_000) / u128::from(bucket.interval());
                assert!(fewer >= u128::from(count), "{count} with {burst}: {fewer}");
            }
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused_by_name() {
        let field = |quota: Quota| quota.rule().unwrap_err().field().to_owned();
        assert_eq!(field(Quota::per_second(10).strict().burst(11)), "burst");
        assert_eq!(field(Quota::per_second(10).sliding_log().burst(1)), "burst");
        assert_eq!(field(Quota::per_calendar(10, CalendarUnit::Day).burst(1)), "burst");
        assert_eq!(field(Quota::per_calendar(10, CalendarUnit::Day).sliding_log()), "algorithm");
        assert_eq!(field(Quota::per_second(0).strict()), "count");
        assert_eq!(field(Quota::per_second(u64::MAX).strict().burst(0)), "burst");
        assert_eq!(field(Quota::per_second(10).sliding_log().overdraft(100_000)), "overdraft");
        assert_eq!(field(Quota::new(1, Duration::ZERO).strict()), "period");
        assert_eq!(field(Quota::per_second(1_000_000).sliding_log()), "count");
    }
}

#[cfg(all(test, feature = "serde"))]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_data() {
        let quota: Quota = serde_json::from_str(r#"{"count": 100, "period": "1m", "burst": 20}"#).unwrap();
        assert_eq!(quota, Quota::per_minute(100).burst(20));
        let text = serde_json::to_string(&Quota::per_day(5)).unwrap();
        assert_eq!(text, r#"{"count":5,"period":"1day"}"#);
        let monthly: Quota = serde_json::from_str(r#"{"count": 5, "calendar": "month"}"#).unwrap();
        assert_eq!(monthly.rule().unwrap(), Quota::per_calendar(5, CalendarUnit::Month).rule().unwrap());
        let log: Quota = serde_json::from_str(r#"{"count": 5, "period": "1s", "algorithm": "sliding_log"}"#).unwrap();
        assert_eq!(log, Quota::per_second(5).sliding_log());
        assert_eq!(serde_json::from_str::<Quota>(&text).unwrap(), Quota::per_day(5));
    }

    #[test]
    fn a_config_that_makes_no_sense_says_where() {
        let error = |text: &str| serde_json::from_str::<Quota>(text).unwrap_err().to_string();
        assert!(error(r#"{"count": 1, "period": "soon"}"#).starts_with("\"soon\" is no duration"));
        assert!(error(r#"{"count": -1, "period": "1s"}"#).contains("invalid value"));
        assert!(error(r#"{"count": 1, "period": "1s", "brust": 2}"#).contains("unknown field `brust`"));
    }
}

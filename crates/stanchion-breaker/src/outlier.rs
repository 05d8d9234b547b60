//! Ejecting the sick ones of a set of endpoints, as Envoy does.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stanchion_core::{Clock, ConfigError, Moment, Outcome};

/// How outliers are found; the defaults are Envoy's (`outlier_detection`).
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields, default))]
pub struct OutlierConfig {
    /// Ejects after so many failures without a success between; 0 for never. Default: 5.
    pub consecutive_failures: u32,
    /// The time between two looks at the rates: 10 ms to an hour. Default: 10 s.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub interval: Duration,
    /// The first ejection lasts so long, the nth `n` times as long. At least 1 ms.
    /// Default: 30 s.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub ejection_time: Duration,
    /// The longest. At least `ejection_time`. Default: 300 s.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub ejection_time_max: Duration,
    /// The largest share of endpoints that are ejected at a time, from 0 to 1; one may
    /// always be. Default: 0.1.
    pub max_ejected: f64,
    /// A rate is that of at least so many calls in an interval. At least 1. Default: 100.
    pub minimum_calls: u32,
    /// Rates are compared among at least so many endpoints. At least 1. Default: 5.
    pub minimum_endpoints: usize,
    /// Ejects whose success rate lies so many standard deviations below the mean.
    /// Above 0. Default: 1.9.
    pub deviations: Option<f64>,
    /// Ejects where so large a share of calls failed: above 0, at most 1. Default:
    /// none; Envoy's is 0.85, and off.
    pub failure_rate: Option<f64>,
}

impl Default for OutlierConfig {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            interval: Duration::from_secs(10),
            ejection_time: Duration::from_secs(30),
            ejection_time_max: Duration::from_secs(300),
            max_ejected: 0.1,
            minimum_calls: 100,
            minimum_endpoints: 5,
            deviations: Some(1.9),
            failure_rate: None,
        }
    }
}

/// The endpoints of one service, of which the sick ones are ejected for a while: **at
/// most [`max_ejected`](OutlierConfig::max_ejected) of them at a time, or one**, so
/// that an outage of all doesn't leave nobody.
///
/// Endpoints are numbers, from 0; which is which is the caller's. Tell it how calls
/// end, and ask it before choosing. An ejected endpoint is back by itself when its time
/// is over. For each interval after that a past ejection is forgiven.
///
/// Rates are looked at by whoever reports first after an interval: nothing runs in the
/// background. A report takes a lock for some dozen nanoseconds.
///
/// ```
/// use stanchion_breaker::{OutlierConfig, Outliers, Outcome};
///
/// let hosts = Outliers::new(10, OutlierConfig::default())?;
/// for _ in 0..5 {
///     hosts.record(3, Outcome::Transient);
/// }
/// assert!(hosts.is_ejected(3) && !hosts.is_ejected(4));
/// // A tenth are out already.
/// for _ in 0..5 {
///     hosts.record(4, Outcome::Transient);
/// }
/// assert!(!hosts.is_ejected(4));
/// # Ok::<(), stanchion_breaker::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct Outliers {
    config: OutlierConfig,
    clock: Clock,
    set: Mutex<Set>,
}

#[derive(Debug)]
struct Set {
    endpoints: Vec<Endpoint>,
    /// When the rates are looked at next.
    next_look: Moment,
}

#[derive(Debug, Clone, Copy, Default)]
struct Endpoint {
    streak: u32,
    calls: u32,
    failed: u32,
    /// How often it was ejected and not forgiven.
    times: u32,
    ejected_until: Option<Moment>,
}

impl Outliers {
    /// So many endpoints, none of them ejected.
    ///
    /// # Errors
    /// Names the first field that can't be honoured.
    pub fn new(endpoints: usize, config: OutlierConfig) -> Result<Self, ConfigError> {
        Self::with_clock(endpoints, config, Clock::system())
    }

    /// The same, with a clock of the caller's.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_clock(endpoints: usize, config: OutlierConfig, clock: impl Into<Clock>) -> Result<Self, ConfigError> {
        config.validate()?;
        let clock = clock.into();
        let next_look = clock.now() + config.interval;
        let set = Mutex::new(Set { endpoints: vec![Endpoint::default(); endpoints], next_look });
        Ok(Self { config, clock, set })
    }

    /// A call of this endpoint ended. What counts is success and failure, by
    /// [`Outcome::is_failure`]; a dropped call is a failure. An endpoint that there isn't is
    /// nobody's.
    pub fn record(&self, endpoint: usize, outcome: Outcome) {
        let failed = match outcome {
            Outcome::Success => false,
            Outcome::Abandoned => true,
            other if other.is_failure() => true,
            _ => return,
        };
        let now = self.clock.now();
        let mut set = self.lock();
        self.look(&mut set, now);
        let Some(each) = set.endpoints.get_mut(endpoint) else { return };
        each.calls = each.calls.saturating_add(1);
        each.failed = each.failed.saturating_add(failed.into());
        each.streak = if failed { each.streak.saturating_add(1) } else { 0 };
        if self.config.consecutive_failures > 0 && each.streak >= self.config.consecutive_failures {
            self.eject(&mut set, endpoint, now);
        }
    }

    /// Whether an endpoint is to be left alone now.
    pub fn is_ejected(&self, endpoint: usize) -> bool {
        self.comes_back_after(endpoint).is_some()
    }

    /// How long an endpoint is still to be left alone; `None` if it isn't.
    pub fn comes_back_after(&self, endpoint: usize) -> Option<Duration> {
        let now = self.clock.now();
        let until = self.lock().endpoints.get(endpoint)?.ejected_until?;
        (until > now).then(|| until - now)
    }

    /// The endpoints that are ejected now.
    pub fn ejected(&self) -> Vec<usize> {
        let now = self.clock.now();
        let set = self.lock();
        let out = set.endpoints.iter().enumerate().filter(|(_, each)| each.is_out(now));
        out.map(|(place, _)| place).collect()
    }

    /// Looks at the rates, if it is time.
    fn look(&self, set: &mut Set, now: Moment) {
        if now < set.next_look {
            return;
        }
        set.next_look = now + self.config.interval;
        let enough = |each: &Endpoint| each.calls >= self.config.minimum_calls;
        let rates: Vec<(usize, f64)> = set
            .endpoints
            .iter()
            .enumerate()
            .filter(|(_, each)| enough(each) && !each.is_out(now))
            .map(|(place, each)| (place, 1.0 - f64::from(each.failed) / f64::from(each.calls)))
            .collect();
        let mut sick: Vec<(usize, f64)> = Vec::new();
        if rates.len() >= self.config.minimum_endpoints {
            let count = rates.len() as f64;
            let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / count;
            let variance = rates.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / count;
            let least = self.config.deviations.map(|times| mean - times * variance.sqrt());
            let is_sick = |rate: f64| {
                least.is_some_and(|least| rate < least)
                    || self.config.failure_rate.is_some_and(|most| 1.0 - rate >= most)
            };
            sick.extend(rates.iter().copied().filter(|(_, rate)| is_sick(*rate)));
        }
        // The sickest first, since not all may be ejected.
        sick.sort_by(|one, other| one.1.total_cmp(&other.1));
        for (place, _) in sick {
            self.eject(set, place, now);
        }
        for each in &mut set.endpoints {
            (each.calls, each.failed) = (0, 0);
        }
    }

    /// Ejects an endpoint, if there is room among the ejected.
    fn eject(&self, set: &mut Set, place: usize, now: Moment) {
        let out = set.endpoints.iter().filter(|each| each.is_out(now)).count();
        // One more must be within the share; or be the first.
        let most = self.config.max_ejected * set.endpoints.len() as f64;
        let Some(each) = set.endpoints.get_mut(place) else { return };
        if each.is_out(now) || out > 0 && (out + 1) as f64 > most + 1e-9 {
            return;
        }
        // One ejection is forgiven for each interval since the last was over.
        let healthy = each.ejected_until.map_or(Duration::ZERO, |until| now - until);
        let forgiven = u32::try_from(healthy.as_nanos() / self.config.interval.as_nanos()).unwrap_or(u32::MAX);
        each.times = each.times.saturating_sub(forgiven).saturating_add(1);
        each.streak = 0;
        let time = self.config.ejection_time.saturating_mul(each.times).min(self.config.ejection_time_max);
        each.ejected_until = Some(now + time);
    }

    fn lock(&self) -> MutexGuard<'_, Set> {
        // Nothing of the user's runs inside, and nothing of ours panics.
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Endpoint {
    fn is_out(&self, now: Moment) -> bool {
        self.ejected_until.is_some_and(|until| until > now)
    }
}

impl OutlierConfig {
    /// Whether outliers can be found like this.
    ///
    /// # Errors
    /// Names the first field that can't be honoured.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let text = |duration: Duration| format!("{duration:?}");
        if !(Duration::from_millis(10)..=Duration::from_secs(3_600)).contains(&self.interval) {
            return Err(ConfigError::new("interval", text(self.interval), "must be 10 ms to an hour"));
        }
        if self.ejection_time < Duration::from_millis(1) {
            return Err(ConfigError::new("ejection_time", text(self.ejection_time), "must be at least 1 ms"));
        }
        if self.ejection_time_max < self.ejection_time {
            let limit = "must be at least ejection_time";
            return Err(ConfigError::new("ejection_time_max", text(self.ejection_time_max), limit));
        }
        if !(0.0..=1.0).contains(&self.max_ejected) {
            return Err(ConfigError::new("max_ejected", self.max_ejected, "must be 0 to 1"));
        }
        if self.minimum_calls == 0 {
            return Err(ConfigError::new("minimum_calls", 0, "must be at least 1"));
        }
        if self.minimum_endpoints == 0 {
            return Err(ConfigError::new("minimum_endpoints", 0, "must be at least 1"));
        }
        // NaN is neither.
        if let Some(times) = self.deviations.filter(|times| !(*times > 0.0 && times.is_finite())) {
            return Err(ConfigError::new("deviations", times, "must be above 0"));
        }
        if let Some(rate) = self.failure_rate.filter(|rate| !(*rate > 0.0 && *rate <= 1.0)) {
            return Err(ConfigError::new("failure_rate", rate, "must be above 0 and at most 1"));
        }
        if self.consecutive_failures == 0 && self.deviations.is_none() && self.failure_rate.is_none() {
            let limit = "set at least one of consecutive_failures, deviations and failure_rate: none could be ejected";
            return Err(ConfigError::new("consecutive_failures", 0, limit));
        }
        Ok(())
    }
}

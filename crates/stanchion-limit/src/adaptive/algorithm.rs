//! Which algorithm, what it sees, and what all of them share.

use std::time::Duration;

use stanchion_core::{ConfigError, Outcome};

use super::aimd::{Aimd, AimdState};
use super::gradient2::{Gradient2, Gradient2State};
use super::vegas::{Vegas, VegasState};

/// How a concurrency limit follows what the other side can bear. Plain data;
/// what it says is checked when a limiter is built of it.
///
/// With the feature `serde`: `{ "vegas": {} }`, `{ "aimd": { "timeout": "200ms" } }`,
/// `{ "gradient2": { "max": 500 } }`, `{ "fixed": 64 }`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Algorithm {
    /// The limit stays what it is: to pin one by configuration, or to shed by
    /// priority under a limit that is known.
    Fixed(u32),
    /// One more while all is well, a tenth less when it isn't.
    Aimd(Aimd),
    /// As many as keep the queue at the other side short.
    Vegas(Vegas),
    /// As many as keep the latency near its long-term average.
    Gradient2(Gradient2),
}

impl From<Aimd> for Algorithm {
    fn from(aimd: Aimd) -> Self {
        Self::Aimd(aimd)
    }
}

impl From<Vegas> for Algorithm {
    fn from(vegas: Vegas) -> Self {
        Self::Vegas(vegas)
    }
}

impl From<Gradient2> for Algorithm {
    fn from(gradient2: Gradient2) -> Self {
        Self::Gradient2(gradient2)
    }
}

/// What was seen of the other side since the last step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    /// Nanoseconds that answered calls took; `None` if none was answered.
    pub(crate) latency: Option<Latency>,
    /// The most units under way when one of the calls ended, its own included.
    pub(crate) in_flight: u32,
    /// Whether a call was dropped: refused, or not answered in time.
    pub(crate) dropped: bool,
}

/// Nanoseconds, at least one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Latency {
    pub(crate) mean: f64,
    pub(crate) least: f64,
}

/// How a call ended, as far as a limit is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It was answered: how long it took says how it goes there.
    Answered,
    /// It was refused, or not answered in time.
    Dropped,
    /// It was given up. That says something only if it had taken long.
    Abandoned,
}

impl Ending {
    /// `None` where it says nothing: a failure may be quick or slow for reasons
    /// that have nothing to do with load.
    pub(crate) fn of(outcome: Outcome) -> Option<Self> {
        match outcome {
            Outcome::Success => Some(Self::Answered),
            Outcome::Throttled { .. } | Outcome::TimedOut => Some(Self::Dropped),
            Outcome::Abandoned => Some(Self::Abandoned),
            _ => None,
        }
    }
}

/// An algorithm's state. Each algorithm has a pure step: state, sample → state.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum State {
    Fixed(u32),
    Aimd(Aimd, AimdState),
    Vegas(Vegas, VegasState),
    Gradient2(Gradient2, Gradient2State),
}

impl Algorithm {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        match self {
            Self::Fixed(0) => Err(ConfigError::new("fixed", 0, "must be at least 1")),
            Self::Fixed(_) => Ok(()),
            Self::Aimd(aimd) => aimd.check(),
            Self::Vegas(vegas) => vegas.check(),
            Self::Gradient2(gradient2) => gradient2.check(),
        }
    }

    /// The state before the first sample. `seed` is any number that other
    /// instances don't share.
    pub(crate) fn begin(self, seed: u64) -> State {
        match self {
            Self::Fixed(limit) => State::Fixed(limit),
            Self::Aimd(aimd) => State::Aimd(aimd, aimd.begin()),
            Self::Vegas(vegas) => State::Vegas(vegas, vegas.begin(seed)),
            Self::Gradient2(gradient2) => State::Gradient2(gradient2, gradient2.begin()),
        }
    }

    /// The most that the limit can become.
    pub(crate) fn most(&self) -> u32 {
        match self {
            Self::Fixed(limit) => *limit,
            Self::Aimd(aimd) => aimd.bounds().most,
            Self::Vegas(vegas) => vegas.bounds().most,
            Self::Gradient2(gradient2) => gradient2.bounds().most,
        }
    }

    /// Whether it learns from how calls end.
    pub(crate) const fn learns(&self) -> bool {
        !matches!(self, Self::Fixed(_))
    }
}

impl State {
    /// The same with this limit, as far as its bounds allow.
    pub(crate) fn at(mut self, limit: u32) -> Self {
        let limit = f64::from(limit);
        match &mut self {
            Self::Fixed(_) => {}
            Self::Aimd(aimd, state) => state.limit = aimd.bounds().clamp(limit),
            Self::Vegas(vegas, state) => state.limit = vegas.bounds().clamp(limit),
            Self::Gradient2(gradient2, state) => state.limit = gradient2.bounds().clamp(limit),
        }
        self
    }

    /// The next state.
    pub(crate) fn step(self, sample: Sample) -> Self {
        match self {
            Self::Fixed(_) => self,
            Self::Aimd(aimd, state) => Self::Aimd(aimd, aimd.step(state, sample)),
            Self::Vegas(vegas, state) => Self::Vegas(vegas, vegas.step(state, sample)),
            Self::Gradient2(gradient2, state) => Self::Gradient2(gradient2, gradient2.step(state, sample)),
        }
    }

    /// How many units may be under way.
    pub(crate) fn limit(&self) -> u32 {
        match self {
            Self::Fixed(limit) => *limit,
            Self::Aimd(aimd, state) => aimd.bounds().whole(state.limit),
            Self::Vegas(vegas, state) => vegas.limit(state),
            Self::Gradient2(gradient2, state) => gradient2.bounds().whole(state.limit),
        }
    }

    /// From how many nanoseconds on a call that was given up had taken long;
    /// `None` while nobody knows.
    pub(crate) fn slow(&self) -> Option<f64> {
        match self {
            Self::Fixed(_) => None,
            Self::Aimd(aimd, _) => Some(aimd.slow()),
            Self::Vegas(_, state) => state.unloaded.map(|unloaded| 2.0 * unloaded),
            Self::Gradient2(gradient2, state) => gradient2.slow(state),
        }
    }

    /// The latency that it compares with.
    pub(crate) fn baseline(&self) -> Option<Duration> {
        let nanos = match self {
            Self::Fixed(_) | Self::Aimd(..) => None,
            Self::Vegas(_, state) => state.unloaded,
            Self::Gradient2(_, state) => state.long_term(),
        }?;
        Duration::try_from_secs_f64(nanos / 1e9).ok()
    }
}

/// The least and the most that a limit can be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) least: u32,
    pub(crate) most: u32,
}

impl Bounds {
    /// The most that `max` may say: far more than one process has under way.
    const MOST: u32 = 1 << 24;

    pub(crate) fn check(self, initial: u32) -> Result<(), ConfigError> {
        if self.least == 0 {
            return Err(ConfigError::new("min", 0, "must be at least 1"));
        }
        if self.most < self.least || self.most > Self::MOST {
            let limit = format_args!("must be `min` ({}) to {}", self.least, Self::MOST).to_string();
            return Err(ConfigError::new("max", self.most, limit));
        }
        if !(self.least..=self.most).contains(&initial) {
            let limit = format_args!("must be `min` to `max` ({} to {})", self.least, self.most).to_string();
            return Err(ConfigError::new("initial", initial, limit));
        }
        Ok(())
    }

    pub(crate) fn clamp(self, limit: f64) -> f64 {
        limit.clamp(f64::from(self.least), f64::from(self.most))
    }

    /// The limit as a whole number.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between two numbers of 32 bits")]
    pub(crate) fn whole(self, limit: f64) -> u32 {
        self.clamp(limit) as u32
    }
}

/// Is it a number between these?
pub(crate) fn check_number(
    field: &'static str,
    value: f64,
    within: std::ops::RangeInclusive<f64>,
) -> Result<(), ConfigError> {
    if within.contains(&value) {
        return Ok(());
    }
    let limit = format_args!("must be {} to {}", within.start(), within.end()).to_string();
    Err(ConfigError::new(field, value, limit))
}

//! The settings of a client throttle, and its formula.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stanchion_core::{Clock, ConfigError, Gate, IntoGate, Name, Random};

use super::ring::{Counts, Ring};
use super::{ClientThrottle, Window};
use crate::trace::GateReporter;

/// What a client throttle's numbers are, as data. What it says is checked when a
/// [`ClientThrottle`] is built of it.
///
/// With the feature `serde`: `{ "k": 2.0, "window": "2m", "max_refused": 1.0 }`,
/// where all may be left out.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields, default))]
pub struct ClientThrottleConfig {
    /// How many requests an accept is good for. Default: 2.
    k: f64,
    /// How far back it looks. Default: 2 minutes.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub(super) window: Duration,
    /// The greatest probability. Default: 1.
    max_refused: f64,
}

impl Default for ClientThrottleConfig {
    fn default() -> Self {
        Self { k: 2.0, window: Duration::from_secs(120), max_refused: 1.0 }
    }
}

impl ClientThrottleConfig {
    /// As [`ClientThrottleBuilder::k`]. Default: 2.
    pub const fn k(mut self, requests: f64) -> Self {
        self.k = requests;
        self
    }

    /// As [`ClientThrottleBuilder::window`]. Default: 2 minutes.
    pub const fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// As [`ClientThrottleBuilder::max_refused`]. Default: 1.
    pub const fn max_refused(mut self, probability: f64) -> Self {
        self.max_refused = probability;
        self
    }

    /// The pure decision.
    #[allow(clippy::cast_precision_loss, reason = "requests of minutes")]
    pub(super) fn probability(&self, Counts { requests, accepts }: Counts) -> f64 {
        let (requests, accepts) = (requests as f64, accepts as f64);
        ((requests - self.k * accepts) / (requests + 1.0)).clamp(0.0, self.max_refused)
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if !(1.0..=1_000.0).contains(&self.k) {
            return Err(ConfigError::new("k", self.k, "must be 1 to 1000"));
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(86_400)).contains(&self.window) {
            return Err(ConfigError::new("window", format_args!("{:?}", self.window), "must be a second to a day"));
        }
        if !(0.0..=1.0).contains(&self.max_refused) {
            return Err(ConfigError::new("max_refused", self.max_refused, "must be 0 to 1"));
        }
        Ok(())
    }
}

/// Settings of a [`ClientThrottle`]. It is a gate in the making, too: a pipeline
/// takes it as it is.
#[derive(Debug, Clone)]
#[must_use = "a builder builds nothing until it is told to"]
pub struct ClientThrottleBuilder {
    config: ClientThrottleConfig,
    name: Name,
    random: Option<Random>,
    clock: Option<Clock>,
}

impl From<ClientThrottleConfig> for ClientThrottleBuilder {
    fn from(config: ClientThrottleConfig) -> Self {
        Self { config, name: "client-throttle".into(), random: None, clock: None }
    }
}

impl ClientThrottleBuilder {
    /// How many requests an accept is good for, 1 to 1,000: nothing is refused
    /// while at least `1 ÷ k` of the requests are accepted. Default: 2.
    pub const fn k(mut self, requests: f64) -> Self {
        self.config.k = requests;
        self
    }

    /// How far back it looks, to a 120th: a second to a day. Default: 2 minutes.
    pub const fn window(mut self, window: Duration) -> Self {
        self.config.window = window;
        self
    }

    /// The greatest probability, 0 to 1. Default: 1, as in the book.
    pub const fn max_refused(mut self, probability: f64) -> Self {
        self.config.max_refused = probability;
        self
    }

    /// What it is called in rejections and telemetry. Default: `client-throttle`.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = name.into();
        self
    }

    /// By which chance it refuses. Default: [`Random::system`].
    pub fn random(mut self, random: Random) -> Self {
        self.random = Some(random);
        self
    }

    /// Where it reads time. Default: [`Clock::system`].
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = Some(clock.into());
        self
    }

    /// The throttle, with an empty window.
    ///
    /// # Errors
    /// Names the field that can't be honoured.
    pub fn build(self) -> Result<ClientThrottle, ConfigError> {
        self.config.check()?;
        Ok(ClientThrottle {
            window: Mutex::new(Window { ring: Ring::new(self.config.window), config: self.config }),
            refused: AtomicU64::new(0),
            random: self.random.unwrap_or_default(),
            clock: self.clock.unwrap_or_default(),
            reporter: GateReporter::new(self.name),
        })
    }
}

impl IntoGate for ClientThrottleBuilder {
    fn into_gate(self) -> Result<Arc<dyn Gate>, ConfigError> {
        self.build()?.into_gate()
    }
}

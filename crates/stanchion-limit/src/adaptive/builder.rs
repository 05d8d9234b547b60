//! The settings of an adaptive limiter.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex};

use stanchion_core::{ConfigError, Gate, IntoGate, Name};

use super::estimate::Estimate;
use super::{AdaptiveLimiter, Algorithm};
use crate::hash::entropy;
use crate::trace::GateReporter;

/// What an adaptive limiter's numbers are, as data. What it says is checked when
/// an [`AdaptiveLimiter`] is built of it.
///
/// With the feature `serde`:
/// `{ "algorithm": { "aimd": { "max": 500, "timeout": "200ms" } }, "samples": 10 }`,
/// where all but `algorithm` may be left out, and each of the algorithm's numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct AdaptiveConfig {
    /// How the limit is found.
    pub(super) algorithm: Algorithm,
    /// How many calls make a step. Default: 10.
    #[cfg_attr(feature = "serde", serde(default = "AdaptiveConfig::default_samples"))]
    pub(super) samples: u32,
}

impl AdaptiveConfig {
    /// The most that `samples` takes.
    const MOST_SAMPLES: u32 = 10_000;

    /// A limit by this algorithm.
    pub fn new(algorithm: impl Into<Algorithm>) -> Self {
        Self { algorithm: algorithm.into(), samples: Self::default_samples() }
    }

    /// The same with steps of so many calls.
    pub const fn samples(mut self, calls: u32) -> Self {
        self.samples = calls;
        self
    }

    const fn default_samples() -> u32 {
        10
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if !(1..=Self::MOST_SAMPLES).contains(&self.samples) {
            let limit = format_args!("must be 1 to {}", Self::MOST_SAMPLES).to_string();
            return Err(ConfigError::new("samples", self.samples, limit));
        }
        self.algorithm.check()
    }
}

/// Settings of an [`AdaptiveLimiter`]. It is a gate in the making, too: a
/// pipeline takes it as it is.
#[derive(Debug, Clone)]
#[must_use = "a builder builds nothing until it is told to"]
pub struct AdaptiveLimiterBuilder {
    config: AdaptiveConfig,
    name: Name,
    seed: Option<u64>,
}

impl From<AdaptiveConfig> for AdaptiveLimiterBuilder {
    fn from(config: AdaptiveConfig) -> Self {
        Self { config, name: "adaptive-limiter".into(), seed: None }
    }
}

impl AdaptiveLimiterBuilder {
    /// How many answered calls make a step, 1 to 10,000. Default: 10, as in
    /// Netflix' `WindowedLimit`. More are a steadier latency and slower steps.
    pub const fn samples(mut self, calls: u32) -> Self {
        self.config.samples = calls;
        self
    }

    /// What it is called in rejections and telemetry. Default: `adaptive-limiter`.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = name.into();
        self
    }

    /// What the times of [`Vegas`](super::Vegas)' probes depend on. Default: by
    /// chance, so that instances don't probe together.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The limiter, at its initial limit.
    ///
    /// # Errors
    /// Names the field that can't be honoured.
    pub fn build(self) -> Result<AdaptiveLimiter, ConfigError> {
        let AdaptiveConfig { algorithm, samples } = self.config;
        self.config.check()?;
        let estimate = Estimate::new(algorithm, samples, self.seed.unwrap_or_else(entropy));
        let reporter = GateReporter::new(self.name);
        reporter.limit_is(estimate.limit());
        Ok(AdaptiveLimiter {
            in_flight: AtomicU32::new(0),
            limit: AtomicU32::new(estimate.limit()),
            generation: AtomicU64::new(estimate.generation()),
            refused: AtomicU64::new(0),
            estimate: Mutex::new(estimate),
            most: AtomicU32::new(algorithm.most()),
            learns: AtomicBool::new(algorithm.learns()),
            reporter,
        })
    }
}

impl IntoGate for AdaptiveLimiterBuilder {
    fn into_gate(self) -> Result<Arc<dyn Gate>, ConfigError> {
        self.build()?.into_gate()
    }
}

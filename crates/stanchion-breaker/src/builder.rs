//! The settings of one breaker, step by step.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use stanchion_core::{Clock, ConfigError, Gate, IntoGate, Name, Random};

use crate::config::{Abandoned, BreakerConfig, Permanent, Window};
use crate::machine::Change;
use crate::notices::{Listener, Notices};
use crate::plan::Plan;
use crate::{Breaker, KeyedBreakerBuilder};

/// Settings of a [`Breaker`]; the defaults are those of [`BreakerConfig`], where
/// each is said. It is a gate in the making, too: a pipeline takes it as it is.
#[derive(Clone)]
#[must_use = "a builder builds nothing until it is told to"]
pub struct BreakerBuilder {
    name: Name,
    config: BreakerConfig,
    clock: Option<Clock>,
    random: Option<Random>,
    listeners: Vec<Listener>,
}

impl BreakerBuilder {
    pub(crate) fn new(name: Name) -> Self {
        Self { name, config: BreakerConfig::default(), clock: None, random: None, listeners: Vec::new() }
    }

    /// All settings at once, from a file for instance.
    pub fn config(mut self, config: BreakerConfig) -> Self {
        self.config = config;
        self
    }

    /// The calls that count for the rates.
    pub fn window(self, window: Window) -> Self {
        self.with(|config| config.window = window)
    }

    /// The calls that a rate needs at least.
    pub fn minimum_calls(self, calls: u32) -> Self {
        self.with(|config| config.minimum_calls = calls)
    }

    /// Trips at this share of failures, or never by that.
    pub fn failure_rate(self, rate: impl Into<Option<f64>>) -> Self {
        let rate = rate.into();
        self.with(|config| config.failure_rate = rate)
    }

    /// Trips at this share of calls that took so long.
    pub fn slow_rate(self, rate: f64, slow_after: Duration) -> Self {
        self.with(|config| (config.slow_rate, config.slow_after) = (Some(rate), slow_after))
    }

    /// Trips after so many failures without a success between them.
    pub fn consecutive_failures(self, times: u32) -> Self {
        self.with(|config| config.consecutive_failures = Some(times))
    }

    /// What a permanent failure counts as.
    pub fn permanent(self, permanent: Permanent) -> Self {
        self.with(|config| config.permanent = permanent)
    }

    /// What a dropped call counts as.
    pub fn abandoned(self, abandoned: Abandoned) -> Self {
        self.with(|config| config.abandoned = abandoned)
    }

    /// So many probes decide.
    pub fn probes(self, probes: u32) -> Self {
        self.with(|config| config.probes = probes)
    }

    /// The share of failed probes that opens it again.
    pub fn probe_failure_rate(self, rate: f64) -> Self {
        self.with(|config| config.probe_failure_rate = rate)
    }

    /// A probe without an answer for so long has hung.
    pub fn probe_max_wait(self, wait: Duration) -> Self {
        self.with(|config| config.probe_max_wait = wait)
    }

    /// How long it stays open: at first, and at most.
    pub fn open_for(self, first: Duration, most: Duration) -> Self {
        self.with(|config| (config.open_for, config.open_for_max) = (first, most))
    }

    /// By what the open time grows, and the share of it that is left to chance.
    pub fn open_growth(self, growth: f64, jitter: f64) -> Self {
        self.with(|config| (config.open_growth, config.open_jitter) = (growth, jitter))
    }

    /// Closed for so long, its open time begins anew.
    pub fn forgive_after(self, healthy: Duration) -> Self {
        self.with(|config| config.forgive_after = healthy)
    }

    /// Where it reads time. Default: [`Clock::system`].
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = Some(clock.into());
        self
    }

    /// Where its jitter comes from. Default: [`Random::system`].
    pub fn random(mut self, random: Random) -> Self {
        self.random = Some(random);
        self
    }

    /// Calls `listener` after each transition, on the thread that caused it and
    /// outside of any lock. A panic in it is caught. Of two transitions at once
    /// either may be told first: the later has the greater generation.
    pub fn on_change(mut self, listener: impl Fn(&Change) + Send + Sync + 'static) -> Self {
        self.listeners.push(Arc::new(listener));
        self
    }

    /// One such breaker for each key.
    pub fn keyed(self) -> KeyedBreakerBuilder {
        KeyedBreakerBuilder::new(self.name, self.config, self.clock, self.random, self.listeners)
    }

    /// The breaker, closed.
    ///
    /// # Errors
    /// Names the first field that can't be honoured, or that can never trip.
    pub fn build(self) -> Result<Breaker, ConfigError> {
        let plan = Plan::new(&self.config)?;
        let (clock, random) = (self.clock.unwrap_or_default(), self.random.unwrap_or_default());
        Ok(Breaker::of(self.name, plan, clock, &random, Notices::new(self.listeners)))
    }

    fn with(mut self, change: impl FnOnce(&mut BreakerConfig)) -> Self {
        change(&mut self.config);
        self
    }
}

impl IntoGate for BreakerBuilder {
    fn into_gate(self) -> Result<Arc<dyn Gate>, ConfigError> {
        self.build()?.into_gate()
    }
}

impl fmt::Debug for BreakerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerBuilder").field("name", &self.name).field("config", &self.config).finish_non_exhaustive()
    }
}

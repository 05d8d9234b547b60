//! The settings of a keyed breaker.

use std::fmt;
use std::hash::RandomState;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stanchion_core::{Clock, ConfigError, Gate, IntoGate, Name, Random};

use super::shard::Shard;
use super::{KEYS_PER_SHARD, KeyedBreaker, SHARDS};
use crate::config::BreakerConfig;
use crate::notices::{Listener, Notices};
use crate::plan::Plan;

/// Settings of a [`KeyedBreaker`], from [`BreakerBuilder::keyed`](crate::BreakerBuilder::keyed).
#[derive(Clone)]
#[must_use = "a builder builds nothing until it is told to"]
pub struct KeyedBreakerBuilder {
    name: Name,
    config: BreakerConfig,
    clock: Option<Clock>,
    random: Option<Random>,
    listeners: Vec<Listener>,
    max_keys: usize,
    idle_after: Duration,
}

impl KeyedBreakerBuilder {
    pub(crate) fn new(
        name: Name,
        config: BreakerConfig,
        clock: Option<Clock>,
        random: Option<Random>,
        listeners: Vec<Listener>,
    ) -> Self {
        Self { name, config, clock, random, listeners, max_keys: 10_000, idle_after: Duration::from_secs(600) }
    }

    /// The most keys at a time: 1 to 16,777,216. Default: 10,000.
    pub fn max_keys(mut self, keys: usize) -> Self {
        self.max_keys = keys;
        self
    }

    /// A key that nobody has asked for in so long may be forgotten, whatever the
    /// state of its breaker, unless somebody has forced that. Default: ten minutes.
    pub fn idle_after(mut self, idle: Duration) -> Self {
        self.idle_after = idle;
        self
    }

    /// The registry, without keys.
    ///
    /// # Errors
    /// Names the first field that can't be honoured.
    pub fn build(self) -> Result<KeyedBreaker, ConfigError> {
        let plan = Plan::new(&self.config)?;
        if !(1..=1 << 24).contains(&self.max_keys) {
            return Err(ConfigError::new("max_keys", self.max_keys, "must be 1 to 16777216"));
        }
        let shards = (self.max_keys / KEYS_PER_SHARD).clamp(1, SHARDS);
        Ok(KeyedBreaker {
            name: self.name,
            shards: (0..shards).map(|_| Mutex::new(Shard::new(plan))).collect(),
            hasher: RandomState::new(),
            clock: self.clock.unwrap_or_default(),
            random: self.random.unwrap_or_default(),
            notices: Notices::new(self.listeners),
            max_keys: self.max_keys,
            idle_after: self.idle_after,
            keys: AtomicUsize::new(0),
            is_timed: AtomicBool::new(plan.needs_elapsed()),
            untracked: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
        })
    }
}

impl IntoGate for KeyedBreakerBuilder {
    fn into_gate(self) -> Result<Arc<dyn Gate>, ConfigError> {
        self.build()?.into_gate()
    }
}

impl fmt::Debug for KeyedBreakerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedBreakerBuilder")
            .field("name", &self.name)
            .field("config", &self.config)
            .field("max_keys", &self.max_keys)
            .finish_non_exhaustive()
    }
}

//! The settings of a queue of writes, as data and as a builder.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use stanchion_core::{ConfigError, Name};
use stanchion_retry::{Retry, RetryConfig};

use super::{Listener, WriteBehind};
use crate::cache::Cache;
use crate::write::{Sink, Write, WriteError};

/// The settings of a [`WriteBehind`], as a configuration file has them; the builder fills the
/// same struct. Each field says its default.
///
#[cfg_attr(feature = "serde", doc = "```")]
#[cfg_attr(not(feature = "serde"), doc = "```text")]
/// use stanchion_cache::WriteBehindConfig;
///
/// let config: WriteBehindConfig =
///     serde_json::from_str(r#"{ "max_delay": "1s", "retry": { "max_attempts": 20, "max_elapsed": "5m" } }"#)?;
/// assert_eq!(config.max_queued, 10_000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct WriteBehindConfig {
    /// The most writes that are accepted and not in the store: 1 to 100,000,000. It is what a
    /// process that dies may lose. Default: 10,000.
    pub max_queued: usize,
    /// The most writes of one call to the store: 1 to 1,000,000. Default: 100.
    pub max_batch: usize,
    /// So long a write waits for others to go with, at most a day. Default: 200 ms.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub max_delay: Duration,
    /// So long a call waits for room in the queue before it is refused, at most a day. Default: 1 s.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub max_wait: Duration,
    /// A call to the store that takes so long has failed: 1 ms to a day. It is the retry's `attempt_timeout`,
    /// whatever that says. Default: 30 s.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub write_timeout: Duration,
    /// So long is still written after the last handle was dropped, at most a day. Default: 30 s.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub drain_timeout: Duration,
    /// When a batch that failed is written again. Default: ten attempts, 100 ms to 20 s apart, with full jitter:
    /// about 20 s of them, if the store fails at once. What is left out inside is as in [`RetryConfig`].
    pub retry: RetryConfig,
}

impl Default for WriteBehindConfig {
    fn default() -> Self {
        let mut retry = RetryConfig::default();
        retry.max_attempts = 10;
        Self {
            max_queued: 10_000,
            max_batch: 100,
            max_delay: Duration::from_millis(200),
            max_wait: Duration::from_secs(1),
            write_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
            retry,
        }
    }
}

const DAY: Duration = Duration::from_secs(86_400);

impl WriteBehindConfig {
    /// Whether a queue can be built of it.
    ///
    /// # Errors
    /// Names the first field that can't be honoured.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_own()?;
        self.to_retry().map(drop)
    }

    fn to_retry(&self) -> Result<Retry, ConfigError> {
        Retry::from_config(&self.retry).map_err(|error| error.inside("retry"))
    }

    fn validate_own(&self) -> Result<(), ConfigError> {
        if !(1..=100_000_000).contains(&self.max_queued) {
            return Err(ConfigError::new("max_queued", self.max_queued, "must be 1 to 100000000"));
        }
        if !(1..=1_000_000).contains(&self.max_batch) {
            return Err(ConfigError::new("max_batch", self.max_batch, "must be 1 to 1000000"));
        }
        let waits = [("max_delay", self.max_delay), ("max_wait", self.max_wait), ("drain_timeout", self.drain_timeout)];
        if let Some((field, wait)) = waits.into_iter().find(|(_, wait)| *wait > DAY) {
            return Err(ConfigError::new(field, format!("{wait:?}"), "must be at most 1day"));
        }
        if !(Duration::from_millis(1)..=DAY).contains(&self.write_timeout) {
            return Err(ConfigError::new("write_timeout", format!("{:?}", self.write_timeout), "must be 1ms to 1day"));
        }
        Ok(())
    }
}

/// Settings that can be honoured, and what follows from them.
pub(super) struct Settings {
    pub(super) config: WriteBehindConfig,
    pub(super) retry: Retry,
}

impl Settings {
    /// With this policy instead of the configured one, if there is one.
    pub(super) fn new(config: WriteBehindConfig, retry: Option<Retry>, name: &Name) -> Result<Self, ConfigError> {
        config.validate_own()?;
        let retry = match retry {
            Some(retry) => retry.validated().map_err(|error| error.inside("retry"))?,
            None => config.to_retry()?,
        };
        let retry = retry.attempt_timeout(config.write_timeout).name_or(name);
        Ok(Self { config, retry })
    }
}

/// Settings of a [`WriteBehind`], from [`WriteBehind::builder`]. Where no default is stated it
/// is that of the field of the same name in [`WriteBehindConfig`].
#[must_use = "a builder builds nothing until it is told to"]
pub struct WriteBehindBuilder<S: Sink> {
    pub(super) cache: Cache<S::Key, S::Value>,
    pub(super) sink: S,
    pub(super) config: WriteBehindConfig,
    retry: Option<Retry>,
    pub(super) listener: Option<Listener<S>>,
}

impl<S: Sink> WriteBehindBuilder<S> {
    pub(super) fn new(cache: Cache<S::Key, S::Value>, sink: S) -> Self {
        Self { cache, sink, config: WriteBehindConfig::default(), retry: None, listener: None }
    }

    /// All of these settings instead of those made so far.
    pub fn config(mut self, config: WriteBehindConfig) -> Self {
        self.config = config;
        self.retry = None;
        self
    }

    /// The most writes that are accepted and not in the store.
    pub fn max_queued(mut self, writes: usize) -> Self {
        self.config.max_queued = writes;
        self
    }

    /// The most writes of one call to the store.
    pub fn max_batch(mut self, writes: usize) -> Self {
        self.config.max_batch = writes;
        self
    }

    /// So long a write waits for others to go with.
    pub fn max_delay(mut self, delay: Duration) -> Self {
        self.config.max_delay = delay;
        self
    }

    /// So long a call waits for room in the queue before it is refused.
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.config.max_wait = wait;
        self
    }

    /// A call to the store that takes so long has failed.
    pub fn write_timeout(mut self, timeout: Duration) -> Self {
        self.config.write_timeout = timeout;
        self
    }

    /// So long is still written after the last handle was dropped.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.config.drain_timeout = timeout;
        self
    }

    /// When a batch that failed is written again, with a budget or a hook if it has one. Its `attempt_timeout`
    /// is the `write_timeout`.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = Some(retry);
        self
    }

    /// Told of each write that is given up, and why, outside of locks, by the task that writes or by whoever shuts
    /// down. The store may have it all the same. Default: nobody; it is counted, and with the feature `tracing` an event.
    pub fn on_given_up(
        mut self,
        listener: impl Fn(&Write<S::Key, S::Value>, &WriteError<S::Error>) + Send + Sync + 'static,
    ) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// The queue, empty.
    ///
    /// # Errors
    /// Names the first setting that can't be honoured.
    pub fn build(mut self) -> Result<WriteBehind<S>, ConfigError> {
        let settings = Settings::new(self.config.clone(), self.retry.take(), &self.cache.0.name)?;
        Ok(WriteBehind::new(self, settings))
    }
}

impl<S: Sink> fmt::Debug for WriteBehindBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteBehindBuilder")
            .field("cache", &self.cache)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

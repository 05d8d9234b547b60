//! The settings of a bulkhead.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

use stanchion_core::{Clock, ConfigError, Gate, IntoGate, Name};
use tokio::sync::Semaphore;

use super::{Bulkhead, Settings, size};
use crate::trace::GateReporter;

/// What a bulkhead's numbers are, as data. What it says is checked when a
/// [`Bulkhead`] is built of it.
///
/// With the feature `serde`: `{ "permits": 64, "queue": 128, "max_wait": "250ms" }`,
/// where all but `permits` may be left out.
///
/// ```
/// use stanchion_limit::{BulkheadBuilder, BulkheadConfig};
///
/// let error = BulkheadBuilder::from(BulkheadConfig::new(0)).build().unwrap_err();
/// assert_eq!(error.to_string(), "permits is 0: must be 1 to 268435455");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct BulkheadConfig {
    /// Units at a time.
    pub(super) permits: u32,
    /// Calls in line. Default: 0.
    #[cfg_attr(feature = "serde", serde(default))]
    pub(super) queue: u32,
    /// How long a call waits in line. Default: 1 s.
    #[cfg_attr(
        feature = "serde",
        serde(default, with = "stanchion_core::duration_text::option", skip_serializing_if = "Option::is_none")
    )]
    pub(super) max_wait: Option<Duration>,
}

impl BulkheadConfig {
    /// The default of `max_wait`.
    const MAX_WAIT: Duration = Duration::from_secs(1);
    /// The most that `max_wait` takes.
    const MOST_WAIT: Duration = Duration::from_secs(86_400);
    /// The most permits, on any machine: a semaphore's on one of 32 bits, halved.
    const MOST_PERMITS: u32 = (1 << 28) - 1;

    /// `permits` units at a time, without a line.
    pub const fn new(permits: u32) -> Self {
        Self { permits, queue: 0, max_wait: None }
    }

    /// Room in line for so many calls, for so long each.
    pub const fn queue(mut self, calls: u32, max_wait: Duration) -> Self {
        self.queue = calls;
        self.max_wait = Some(max_wait);
        self
    }

    fn patience(&self) -> Duration {
        self.max_wait.unwrap_or(Self::MAX_WAIT)
    }

    /// A day at most, which fits.
    pub(super) fn patience_nanos(&self) -> u64 {
        u64::try_from(self.patience().as_nanos()).unwrap_or(u64::MAX)
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if !(1..=Self::MOST_PERMITS).contains(&self.permits) {
            let limit = format_args!("must be 1 to {}", Self::MOST_PERMITS).to_string();
            return Err(ConfigError::new("permits", self.permits, limit));
        }
        if self.queue == 0 && self.max_wait.is_some() {
            return Err(ConfigError::new("queue", 0, "must be at least 1 where `max_wait` is set"));
        }
        let patience = self.patience();
        if patience.is_zero() || patience > Self::MOST_WAIT {
            let limit = "must be longer than zero and at most a day; to refuse at once, have no queue";
            return Err(ConfigError::new("max_wait", format_args!("{patience:?}"), limit));
        }
        Ok(())
    }
}

/// Settings of a [`Bulkhead`]. It is a gate in the making, too: a pipeline takes
/// it as it is.
#[derive(Debug, Clone)]
#[must_use = "a builder builds nothing until it is told to"]
pub struct BulkheadBuilder {
    config: BulkheadConfig,
    name: Name,
    clock: Option<Clock>,
}

impl From<BulkheadConfig> for BulkheadBuilder {
    fn from(config: BulkheadConfig) -> Self {
        Self { config, name: "bulkhead".into(), clock: None }
    }
}

impl BulkheadBuilder {
    /// At most so many calls wait in line; what comes then is refused at once.
    /// Default: 0, nobody waits.
    pub const fn queue(mut self, calls: u32) -> Self {
        self.config.queue = calls;
        self
    }

    /// How long a call waits in line, to tokio's millisecond. Default: 1 s. Needs a
    /// [`queue`](Self::queue).
    pub const fn max_wait(mut self, wait: Duration) -> Self {
        self.config.max_wait = Some(wait);
        self
    }

    /// What it is called in rejections and telemetry. Default: `bulkhead`.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = name.into();
        self
    }

    /// The clock of the calls' deadlines; it is read only for a call that must wait
    /// and has one. Default: [`Clock::system`].
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = Some(clock.into());
        self
    }

    /// The bulkhead, with all its permits.
    ///
    /// # Errors
    /// Names the field that can't be honoured: `permits` of 0, a `max_wait` of zero
    /// or without a `queue`.
    pub fn build(self) -> Result<Bulkhead, ConfigError> {
        self.config.check()?;
        let reporter = GateReporter::new(self.name);
        reporter.limit_is(self.config.permits);
        Ok(Bulkhead {
            semaphore: Semaphore::new(size(self.config.permits)),
            settings: Settings {
                permits: AtomicU32::new(self.config.permits),
                queue: AtomicU32::new(self.config.queue),
                max_wait: AtomicU64::new(self.config.patience_nanos()),
            },
            owed: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            refused: AtomicU64::new(0),
            clock: self.clock.unwrap_or_default(),
            reporter,
        })
    }
}

impl IntoGate for BulkheadBuilder {
    fn into_gate(self) -> Result<Arc<dyn Gate>, ConfigError> {
        self.build()?.into_gate()
    }
}

//! The settings of a limiter.

use std::sync::{Arc, Mutex};
#[cfg(feature = "tokio")]
use std::time::Duration;

use stanchion_core::{Clock, ConfigError, Gate, IntoGate, Name, RateLimit};

use super::{Limiter, States};
use crate::ledger::Ledger;
#[cfg(feature = "tokio")]
use crate::line::Line;
use crate::quota::Quotas;
use crate::reservoir::Reservoirs;
use crate::table::WhenFull;
use crate::trace::Reporter;
use crate::{Quota, gcra};

/// Settings of a [`Limiter`]. It is a gate in the making, too: a pipeline takes
/// it as it is.
#[derive(Debug, Clone)]
#[must_use = "a builder builds nothing until it is told to"]
pub struct LimiterBuilder {
    quotas: Quotas,
    name: Name,
    clock: Option<Clock>,
    #[cfg(feature = "tokio")]
    max_wait: Duration,
    #[cfg(feature = "tokio")]
    queue: usize,
}

impl Limiter {
    /// Settings beyond the quota, or the quotas, which then hold all at once.
    pub fn builder(quotas: impl Into<Quotas>) -> LimiterBuilder {
        LimiterBuilder {
            quotas: quotas.into(),
            name: "limiter".into(),
            clock: None,
            #[cfg(feature = "tokio")]
            max_wait: Duration::ZERO,
            #[cfg(feature = "tokio")]
            queue: LimiterBuilder::QUEUE,
        }
    }

    /// Settings for `count` units a second.
    pub fn per_second(count: u64) -> LimiterBuilder {
        Self::builder(Quota::per_second(count))
    }

    /// Settings for `count` units a minute.
    pub fn per_minute(count: u64) -> LimiterBuilder {
        Self::builder(Quota::per_minute(count))
    }

    /// Settings of a leaky bucket that shapes: `count` units a second leave it evenly; those that come too
    /// early wait in a line of at most `queue`, for as long as that takes. As a gate, and by
    /// [`acquire`](Self::acquire).
    ///
    /// tokio's timers tick in milliseconds and are late. So that the rate is reached all the same, its burst is one
    /// more than what falls due in two milliseconds: 2 for 100 a second, 3 for 1,000. After a pause so many leave at once.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use stanchion_limit::Limiter;
    ///
    /// let shaper = Limiter::shaper(100, 10).build()?;
    /// let began = tokio::time::Instant::now();
    /// for _ in 0..5 {
    ///     shaper.acquire(Duration::from_secs(1)).await?;
    /// }
    /// // Two at once, then one each 10 ms.
    /// assert_eq!(began.elapsed(), Duration::from_millis(30));
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tokio")]
    pub fn shaper(count: u64, queue: usize) -> LimiterBuilder {
        let in_line = u64::try_from(queue).unwrap_or(u64::MAX).saturating_add(1);
        // No count is refused before it is looked at.
        let seconds = in_line.div_ceil(count.max(1)).saturating_mul(2).saturating_add(1);
        let due = count.saturating_mul(2).div_ceil(1_000).saturating_add(1);
        Self::builder(Quota::per_second(count).burst(due)).queue(queue).max_wait(Duration::from_secs(seconds))
    }
}

impl LimiterBuilder {
    #[cfg(feature = "tokio")]
    const QUEUE: usize = 10_000;

    /// At most `units` at once, whatever the (first) quota says. Default: the quota's burst.
    pub fn burst(mut self, units: u64) -> Self {
        self.quotas.burst(units);
        self
    }

    /// What it is called in rejections and telemetry. Default: `limiter`.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = name.into();
        self
    }

    /// Where it reads time. Default: [`Clock::system`].
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = Some(clock.into());
        self
    }

    /// As a gate, it lets calls wait in line so long, and not beyond their deadlines. Default: not at all.
    #[cfg(feature = "tokio")]
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = wait;
        self
    }

    /// How many may wait in line. Default: 10,000.
    #[cfg(feature = "tokio")]
    pub fn queue(mut self, calls: usize) -> Self {
        self.queue = calls;
        self
    }

    /// The limiter, of which nothing has been taken.
    ///
    /// # Errors
    /// Names the field of the quota that can't be honoured.
    pub fn build(self) -> Result<Limiter, ConfigError> {
        let limits = self.quotas.limits(&self.name)?;
        let clock = self.clock.unwrap_or_default();
        let states = match limits.first().and_then(RateLimit::bucket) {
            Some(bucket) if limits.len() == 1 => States::Bucket {
                cell: Reservoirs::full(bucket, gcra::ticks(bucket, clock.now())),
                bucket: *bucket,
                returns: Mutex::default(),
            },
            _ => States::Ledger(Mutex::new(Ledger::new(usize::MAX, WhenFull::Refuse))),
        };
        Ok(Limiter {
            states,
            limits: limits.into(),
            names: self.quotas.names().map(Option::<&Name>::cloned).collect(),
            clock,
            reporter: Reporter::new(self.name),
            #[cfg(feature = "tokio")]
            line: Line::new(),
            #[cfg(feature = "tokio")]
            waiting: (self.max_wait, self.queue),
        })
    }
}

impl IntoGate for LimiterBuilder {
    fn into_gate(self) -> Result<Arc<dyn Gate>, ConfigError> {
        self.build()?.into_gate()
    }
}

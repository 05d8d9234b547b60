//! The settings that can be changed while a cache runs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::config::{Abandoned, CacheConfig};
use crate::freshness::Ladder;

/// Each setting is an atomic of its own, so that whoever reads one pays no more than for a plain
/// field; several that are changed together may be seen changed one by one.
pub(crate) struct Live {
    ttl: Wait,
    ttl_jitter: Number,
    refresh_ahead: Number,
    early_refresh: Number,
    stale_while_revalidate: Wait,
    stale_if_error: Wait,
    failure_throttle: Wait,
    negative_ttl: Wait,
    load_timeout_soft: Wait,
    load_timeout: Wait,
    load_cost: Number,
    is_abandoned_aborted: AtomicBool,
    refreshes_early: AtomicBool,
}

impl Live {
    pub(crate) fn new(config: &CacheConfig) -> Self {
        let live = Self {
            ttl: Wait::default(),
            ttl_jitter: Number::default(),
            refresh_ahead: Number::default(),
            early_refresh: Number::default(),
            stale_while_revalidate: Wait::default(),
            stale_if_error: Wait::default(),
            failure_throttle: Wait::default(),
            negative_ttl: Wait::default(),
            load_timeout_soft: Wait::default(),
            load_timeout: Wait::default(),
            load_cost: Number::default(),
            is_abandoned_aborted: AtomicBool::default(),
            refreshes_early: AtomicBool::default(),
        };
        live.set(config);
        live
    }

    /// Follows these from now on.
    pub(crate) fn set(&self, config: &CacheConfig) {
        self.ttl.set(config.ttl);
        self.ttl_jitter.set(config.ttl_jitter);
        self.refresh_ahead.set(config.refresh_ahead.unwrap_or(0.0));
        self.early_refresh.set(config.early_refresh.unwrap_or(0.0));
        self.stale_while_revalidate.set(Some(config.stale_while_revalidate));
        self.stale_if_error.set(Some(config.stale_if_error));
        self.failure_throttle.set(Some(config.failure_throttle));
        self.negative_ttl.set(config.negative_ttl);
        self.load_timeout_soft.set(config.load_timeout_soft);
        self.load_timeout.set(Some(config.load_timeout));
        self.load_cost.set(config.load_cost);
        self.is_abandoned_aborted.store(config.abandoned == Abandoned::Abort, Ordering::Relaxed);
        let refreshes_early = config.refresh_ahead.or(config.early_refresh).is_some();
        self.refreshes_early.store(refreshes_early, Ordering::Relaxed);
    }

    pub(crate) fn ttl(&self) -> Option<Duration> {
        self.ttl.get()
    }

    /// Whether values that say nothing of it expire, or the news that there is none.
    pub(crate) fn has_ttl(&self) -> bool {
        self.ttl.is_some() || self.negative_ttl.is_some()
    }

    pub(crate) fn ttl_jitter(&self) -> f64 {
        self.ttl_jitter.get()
    }

    pub(crate) fn negative_ttl(&self) -> Option<Duration> {
        self.negative_ttl.get()
    }

    pub(crate) fn failure_throttle(&self) -> Duration {
        self.failure_throttle.get_or_longest()
    }

    #[cfg_attr(not(feature = "tokio"), allow(dead_code, reason = "only tasks need it"))]
    pub(crate) fn aborts_abandoned(&self) -> bool {
        self.is_abandoned_aborted.load(Ordering::Relaxed)
    }

    pub(crate) fn load_timeout(&self) -> Duration {
        self.load_timeout.get_or_longest()
    }

    pub(crate) fn load_timeout_soft(&self) -> Option<Duration> {
        self.load_timeout_soft.get()
    }

    pub(crate) fn load_cost(&self) -> f64 {
        self.load_cost.get()
    }

    /// Whether entries that come in now need to know when they were born.
    #[inline]
    pub(crate) fn refreshes_early(&self) -> bool {
        self.refreshes_early.load(Ordering::Relaxed)
    }

    pub(crate) fn ladder(&self) -> Ladder {
        let share = |number: &Number| Some(number.get()).filter(|share| *share > 0.0);
        Ladder {
            refresh_ahead: share(&self.refresh_ahead),
            early_refresh: share(&self.early_refresh),
            stale_while_revalidate: self.stale_while_revalidate.get_or_longest(),
            stale_if_error: self.stale_if_error.get_or_longest(),
        }
    }
}

/// In nanoseconds; those that are too many are none.
#[derive(Debug, Default)]
struct Wait(AtomicU64);

impl Wait {
    fn set(&self, wait: Option<Duration>) {
        let nanos = wait.and_then(|wait| u64::try_from(wait.as_nanos()).ok());
        // Relaxed, here and below: nothing else follows from a setting.
        self.0.store(nanos.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn is_some(&self) -> bool {
        self.0.load(Ordering::Relaxed) != u64::MAX
    }

    fn get(&self) -> Option<Duration> {
        let nanos = self.0.load(Ordering::Relaxed);
        (nanos != u64::MAX).then_some(Duration::from_nanos(nanos))
    }

    /// One that is always there. What is too long for a number of nanoseconds, 584 years, is for ever.
    fn get_or_longest(&self) -> Duration {
        self.get().unwrap_or(Duration::MAX)
    }
}

/// As its bits.
#[derive(Debug, Default)]
struct Number(AtomicU64);

impl Number {
    fn set(&self, number: f64) {
        self.0.store(number.to_bits(), Ordering::Relaxed);
    }

    fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

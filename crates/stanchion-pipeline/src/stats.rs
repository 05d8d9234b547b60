//! What a pipeline counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stanchion_core::{Clock, Moment, Name, Outcome};
use stanchion_retry::Latencies;

/// Latencies of the last one to two minutes are told.
const WINDOW: Duration = Duration::from_secs(60);

/// What a pipeline counts. All is relaxed: numbers for people.
#[derive(Debug)]
pub(crate) struct Stats {
    pub(crate) begun: AtomicU64,
    pub(crate) ended: [AtomicU64; Ended::COUNT],
    pub(crate) retries: AtomicU64,
    pub(crate) hedges: AtomicU64,
    pub(crate) fallbacks: AtomicU64,
    pub(crate) would_reject: AtomicU64,
    pub(crate) would_time_out: AtomicU64,
    pub(crate) latencies: Latencies,
    counters: crate::trace::Counters,
}

/// How a call ended, for the count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Success,
    Ignored,
    Transient,
    Throttled,
    TimedOut,
    Permanent,
    Unauthenticated,
    Abandoned,
    Rejected,
}

impl Ended {
    pub(crate) const COUNT: usize = 9;
}

impl From<Outcome> for Ended {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Success => Self::Success,
            Outcome::Ignored => Self::Ignored,
            Outcome::Transient => Self::Transient,
            Outcome::Throttled { .. } => Self::Throttled,
            Outcome::TimedOut => Self::TimedOut,
            Outcome::Unauthenticated => Self::Unauthenticated,
            Outcome::Abandoned => Self::Abandoned,
            // An outcome of a later core that this one doesn't know fails for good.
            _ => Self::Permanent,
        }
    }
}

impl Stats {
    pub(crate) fn new(name: &Name) -> Self {
        Self {
            begun: AtomicU64::new(0),
            ended: [const { AtomicU64::new(0) }; Ended::COUNT],
            retries: AtomicU64::new(0),
            hedges: AtomicU64::new(0),
            fallbacks: AtomicU64::new(0),
            would_reject: AtomicU64::new(0),
            would_time_out: AtomicU64::new(0),
            latencies: Latencies::new(WINDOW).expect("a minute is longer than a millisecond"),
            counters: crate::trace::Counters::new(name),
        }
    }

    /// A call begins: one that is dropped before it ends is abandoned.
    pub(crate) fn begin(&self, began: Moment) -> UnderWay<'_> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        UnderWay { stats: self, began, ended: Ended::Abandoned }
    }

    pub(crate) fn ended(&self, ended: Ended) -> u64 {
        self.ended[ended as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// A call under way.
pub(crate) struct UnderWay<'a> {
    stats: &'a Stats,
    began: Moment,
    ended: Ended,
}

impl UnderWay<'_> {
    /// It ended so.
    pub(crate) fn end(mut self, ended: Ended) {
        self.ended = ended;
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.stats.ended[self.ended as usize].fetch_add(1, Ordering::Relaxed);
        self.stats.counters.ended(self.ended);
        // A refusal says nothing about how long calls take; a call that was given up took
        // at least so long.
        if self.ended != Ended::Rejected {
            let now = Clock::system().now();
            self.stats.latencies.record(now, now - self.began);
        }
    }
}

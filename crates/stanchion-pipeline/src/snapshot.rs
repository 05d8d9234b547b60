//! How a pipeline stands.

use std::sync::atomic::Ordering;
use std::time::Duration;

use stanchion_core::Clock;

use crate::Mode;
use crate::pipeline::Shared;
use crate::stats::Ended;

/// How a [`Pipeline`](crate::Pipeline) stands: traffic, errors, latency, saturation.
///
/// Counts are those since it was built. Read while calls go on, they may differ
/// among each other by the calls of that moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PipelineSnapshot {
    /// The pipeline's name.
    pub name: String,
    /// Whether its policies are applied.
    pub mode: Mode,
    /// Calls begun.
    pub calls: u64,
    /// Calls under way.
    pub in_flight: u64,
    /// Calls by how they ended, retries and hedges included.
    pub outcomes: OutcomeCounts,
    /// Attempts beyond the first.
    pub retries: u64,
    /// Attempts beside a late one.
    pub hedges: u64,
    /// Calls that were answered by something else instead.
    pub fallbacks: u64,
    /// In shadow mode: calls that a gate would have refused.
    pub would_reject: u64,
    /// In shadow mode: calls that took longer than the total timeout.
    pub would_time_out: u64,
    /// How many retries the budget would grant now, if there is one.
    pub budget: Option<u64>,
    /// How long calls took in the last one to two minutes, refused ones aside. One that was
    /// given up counts with the time that it had taken.
    pub latency: LatencySnapshot,
}

/// Calls by how they ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
#[allow(missing_docs, reason = "the words of `Outcome`, and calls that a gate refused")]
pub struct OutcomeCounts {
    pub success: u64,
    pub ignored: u64,
    pub transient: u64,
    pub throttled: u64,
    pub timed_out: u64,
    pub permanent: u64,
    pub unauthenticated: u64,
    pub abandoned: u64,
    pub rejected: u64,
}

impl OutcomeCounts {
    /// All of them.
    pub const fn total(&self) -> u64 {
        let failed = self.transient + self.throttled + self.timed_out + self.permanent + self.unauthenticated;
        self.success + self.ignored + failed + self.abandoned + self.rejected
    }
}

/// How long calls took: each at most 6.25 % above the true one. As data, seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LatencySnapshot {
    /// How many calls are known.
    pub count: u64,
    /// The median.
    #[cfg_attr(feature = "serde", serde(serialize_with = "seconds"))]
    pub p50: Option<Duration>,
    /// Nine of ten took no longer.
    #[cfg_attr(feature = "serde", serde(serialize_with = "seconds"))]
    pub p90: Option<Duration>,
    /// All but one of a hundred took no longer.
    #[cfg_attr(feature = "serde", serde(serialize_with = "seconds"))]
    pub p99: Option<Duration>,
}

/// As a number, for dashboards.
#[cfg(feature = "serde")]
fn seconds<S: serde::Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    serde::Serialize::serialize(&duration.map(|duration| duration.as_secs_f64()), serializer)
}

impl PipelineSnapshot {
    pub(crate) fn of(shared: &Shared) -> Self {
        let (stats, now) = (&shared.stats, Clock::system().now());
        let settings = shared.settings.load();
        let outcomes = OutcomeCounts {
            success: stats.ended(Ended::Success),
            ignored: stats.ended(Ended::Ignored),
            transient: stats.ended(Ended::Transient),
            throttled: stats.ended(Ended::Throttled),
            timed_out: stats.ended(Ended::TimedOut),
            permanent: stats.ended(Ended::Permanent),
            unauthenticated: stats.ended(Ended::Unauthenticated),
            abandoned: stats.ended(Ended::Abandoned),
            rejected: stats.ended(Ended::Rejected),
        };
        let calls = stats.begun.load(Ordering::Relaxed);
        let percentile = |percent| stats.latencies.percentile(now, percent);
        Self {
            name: shared.name.as_str().to_owned(),
            mode: settings.mode,
            calls,
            // What ended between the two readings is not counted below nothing.
            in_flight: calls.saturating_sub(outcomes.total()),
            outcomes,
            retries: stats.retries.load(Ordering::Relaxed),
            hedges: stats.hedges.load(Ordering::Relaxed),
            fallbacks: stats.fallbacks.load(Ordering::Relaxed),
            would_reject: stats.would_reject.load(Ordering::Relaxed),
            would_time_out: stats.would_time_out.load(Ordering::Relaxed),
            budget: settings.budgets.first().map(|budget| budget.balance(now)),
            latency: LatencySnapshot {
                count: stats.latencies.count(now),
                p50: percentile(50.0),
                p90: percentile(90.0),
                p99: percentile(99.0),
            },
        }
    }
}

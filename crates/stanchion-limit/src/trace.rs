//! Telemetry: the only file that knows `tracing` and `metrics`. Without the
//! features every function here is empty.

use stanchion_core::{Decision, Name, Rejection, RejectionKind, StoreError};

/// What a limiter reports, under its name.
///
/// Counters are registered when the limiter is built, so that a check looks
/// nothing up and allocates nothing: install the recorder before.
#[derive(Clone)]
pub(crate) struct Reporter {
    name: Name,
    #[cfg(feature = "metrics")]
    counters: Counters,
}

#[cfg(feature = "metrics")]
#[derive(Clone)]
struct Counters {
    allowed: metrics::Counter,
    refused: metrics::Counter,
    never_fits: metrics::Counter,
    keys_full: metrics::Counter,
    store_unavailable: metrics::Counter,
    degraded: metrics::Counter,
    store_failures: metrics::Counter,
}

#[cfg(feature = "metrics")]
impl Counters {
    fn new(name: &Name) -> Self {
        let decisions = |verdict: &'static str| {
            let limiter = name.as_str().to_owned();
            metrics::counter!("stanchion_limit_decisions_total", "limiter" => limiter, "verdict" => verdict)
        };
        Self {
            allowed: decisions("allowed"),
            refused: decisions("refused"),
            never_fits: decisions("never_fits"),
            keys_full: decisions("keys_full"),
            store_unavailable: decisions("store_unavailable"),
            degraded: metrics::counter!("stanchion_limit_degraded_total", "limiter" => name.as_str().to_owned()),
            store_failures: metrics::counter!(
                "stanchion_limit_store_failures_total", "limiter" => name.as_str().to_owned()
            ),
        }
    }

    fn decided(&self, decision: &Decision) {
        use stanchion_core::Verdict;
        if decision.degraded() {
            self.degraded.increment(1);
        }
        match decision.verdict() {
            Verdict::Allowed => self.allowed.increment(1),
            Verdict::NeverFits => self.never_fits.increment(1),
            Verdict::KeysFull => self.keys_full.increment(1),
            Verdict::StoreUnavailable => self.store_unavailable.increment(1),
            _ => self.refused.increment(1),
        }
    }
}

impl Reporter {
    pub(crate) fn new(name: Name) -> Self {
        Self {
            #[cfg(feature = "metrics")]
            counters: Counters::new(&name),
            name,
        }
    }

    /// The name under which it reports.
    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    /// A decision was made: a count, and an event if it is a refusal.
    #[inline]
    pub(crate) fn decided(&self, decision: &Decision) {
        #[cfg(feature = "tracing")]
        if !decision.allowed() {
            tracing::debug!(
                limiter = self.name.as_str(),
                verdict = ?decision.verdict(),
                retry_after = ?decision.retry_after(),
                degraded = decision.degraded(),
                "rate limiter refused"
            );
        }
        #[cfg(feature = "metrics")]
        self.counters.decided(decision);
        let _ = decision;
    }

    /// The store gave no answer; until it does again, the outage policy decides.
    pub(crate) fn store_failed(&self, error: &StoreError) {
        #[cfg(feature = "tracing")]
        tracing::warn!(limiter = self.name.as_str(), kind = ?error.kind(), %error, "rate store gave no answer");
        #[cfg(feature = "metrics")]
        self.counters.store_failures.increment(1);
        let _ = error;
    }

    /// The store answers again.
    pub(crate) fn store_recovered(&self) {
        #[cfg(feature = "tracing")]
        tracing::info!(limiter = self.name.as_str(), "rate store answers again");
    }
}

impl std::fmt::Debug for Reporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.name, f)
    }
}

/// What a concurrency limit reports, under its name. Counters as in [`Reporter`].
#[derive(Clone)]
pub(crate) struct GateReporter {
    name: Name,
    #[cfg(feature = "metrics")]
    counters: GateCounters,
}

#[cfg(feature = "metrics")]
#[derive(Clone)]
struct GateCounters {
    admitted: metrics::Counter,
    saturated: metrics::Counter,
    never_fits: metrics::Counter,
    deadline: metrics::Counter,
    shed: metrics::Counter,
    limit: metrics::Gauge,
}

#[cfg(feature = "metrics")]
impl GateCounters {
    fn new(name: &Name) -> Self {
        let admissions = |verdict: &'static str| {
            let gate = name.as_str().to_owned();
            metrics::counter!("stanchion_limit_admissions_total", "gate" => gate, "verdict" => verdict)
        };
        Self {
            admitted: admissions("admitted"),
            saturated: admissions("saturated"),
            never_fits: admissions("never_fits"),
            deadline: admissions("deadline_too_short"),
            shed: admissions("shed"),
            limit: metrics::gauge!("stanchion_limit_concurrency_limit", "gate" => name.as_str().to_owned()),
        }
    }

    fn refused(&self, kind: RejectionKind) {
        match kind {
            RejectionKind::NeverFits => self.never_fits.increment(1),
            RejectionKind::DeadlineTooShort => self.deadline.increment(1),
            RejectionKind::Shed => self.shed.increment(1),
            _ => self.saturated.increment(1),
        }
    }
}

impl GateReporter {
    pub(crate) fn new(name: Name) -> Self {
        Self {
            #[cfg(feature = "metrics")]
            counters: GateCounters::new(&name),
            name,
        }
    }

    /// The name under which it reports.
    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    /// A call was let in.
    #[inline]
    pub(crate) fn admitted(&self) {
        #[cfg(feature = "metrics")]
        self.counters.admitted.increment(1);
    }

    /// A call was refused: a count and an event. Returns the refusal.
    pub(crate) fn refused(&self, kind: RejectionKind) -> Rejection {
        #[cfg(feature = "tracing")]
        tracing::debug!(gate = self.name.as_str(), reason = kind.as_str(), "gate refused");
        #[cfg(feature = "metrics")]
        self.counters.refused(kind);
        Rejection::new(&self.name, kind)
    }

    /// So many units may be under way from now on: a gauge, and an event.
    pub(crate) fn limit_is(&self, limit: u32) {
        #[cfg(feature = "tracing")]
        tracing::trace!(gate = self.name.as_str(), limit, "concurrency limit");
        #[cfg(feature = "metrics")]
        self.counters.limit.set(f64::from(limit));
        let _ = limit;
    }
}

impl std::fmt::Debug for GateReporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.name, f)
    }
}

//! Telemetry: the only file that knows `tracing` and `metrics`. Without the
//! features every function here is empty.

use stanchion_core::{Decision, Name, StoreError};

/// A decision was made: an event if it is a refusal, a count in any case.
#[inline]
pub(crate) fn decided(name: &Name, decision: &Decision) {
    #[cfg(feature = "tracing")]
    if !decision.allowed() {
        tracing::debug!(
            limiter = name.as_str(),
            verdict = ?decision.verdict(),
            retry_after = ?decision.retry_after(),
            degraded = decision.degraded(),
            "rate limiter refused"
        );
    }
    #[cfg(feature = "metrics")]
    {
        use stanchion_core::Verdict;
        let verdict = match decision.verdict() {
            Verdict::Allowed => "allowed",
            Verdict::Refused => "refused",
            Verdict::NeverFits => "never_fits",
            Verdict::KeysFull => "keys_full",
            Verdict::StoreUnavailable => "store_unavailable",
            _ => "other",
        };
        let limiter = name.as_str().to_owned();
        metrics::counter!("stanchion_limit_decisions_total", "limiter" => limiter, "verdict" => verdict).increment(1);
    }
    let _ = (name, decision);
}

/// The store gave no answer; until it does again, the outage policy decides.
pub(crate) fn store_failed(name: &Name, error: &StoreError) {
    #[cfg(feature = "tracing")]
    tracing::warn!(limiter = name.as_str(), kind = ?error.kind(), %error, "rate store gave no answer");
    #[cfg(feature = "metrics")]
    metrics::counter!("stanchion_limit_store_failures_total", "limiter" => name.as_str().to_owned()).increment(1);
    let _ = (name, error);
}

/// The store answers again.
pub(crate) fn store_recovered(name: &Name) {
    #[cfg(feature = "tracing")]
    tracing::info!(limiter = name.as_str(), "rate store answers again");
    let _ = name;
}

//! Telemetry: the only file that knows `tracing` and `metrics`. Without the
//! features every function here is empty. None is called for a call that
//! succeeds at once.

use stanchion_core::{Name, Outcome};

use crate::{Retrying, Stop};

/// An attempt failed, and there will be another.
pub(crate) fn retrying(name: &Name, retrying: &Retrying) {
    #[cfg(feature = "tracing")]
    tracing::debug!(
        retry = name.as_str(),
        attempt = retrying.attempt,
        outcome = retrying.outcome.as_str(),
        delay = ?retrying.delay,
        "trying again"
    );
    #[cfg(feature = "metrics")]
    metrics::counter!(
        "stanchion_retry_retries_total",
        "retry" => name.as_str().to_owned(), "outcome" => retrying.outcome.as_str()
    )
    .increment(1);
    let _ = (name, retrying);
}

/// An attempt failed, and there will be no other.
pub(crate) fn gave_up(name: &Name, attempts: u32, outcome: Outcome, stop: Stop) {
    #[cfg(feature = "tracing")]
    tracing::debug!(retry = name.as_str(), attempts, outcome = outcome.as_str(), reason = stop.as_str(), "gave up");
    #[cfg(feature = "metrics")]
    metrics::counter!(
        "stanchion_retry_gave_up_total", "retry" => name.as_str().to_owned(), "reason" => stop.as_str()
    )
    .increment(1);
    let _ = (name, attempts, outcome, stop);
}

/// A call is late, and is asked once more beside the first.
#[cfg(feature = "tokio")]
pub(crate) fn hedging(name: &Name, hedge: u32) {
    #[cfg(feature = "tracing")]
    tracing::debug!(hedge = name.as_str(), number = hedge, "asking again beside");
    #[cfg(feature = "metrics")]
    metrics::counter!("stanchion_retry_hedges_total", "hedge" => name.as_str().to_owned()).increment(1);
    let _ = (name, hedge);
}

//! Telemetry: the only file that knows `tracing`. Without the feature every
//! function here is empty.

use crate::machine::Change;

/// A breaker changed its state: INFO when it closes, WARN for anything else that
/// isn't its own recovery.
pub(crate) fn changed(name: &str, change: &Change) {
    #[cfg(feature = "tracing")]
    {
        use crate::machine::State;
        let (from, to, cause) = (change.from.as_str(), change.to.as_str(), change.cause.as_str());
        match change.to {
            State::Closed | State::HalfOpen => {
                tracing::info!(breaker = name, from, to, cause, generation = change.generation, "circuit breaker");
            }
            _ => tracing::warn!(breaker = name, from, to, cause, generation = change.generation, "circuit breaker"),
        }
    }
    let _ = (name, change);
}

/// The store of a fleet gives no answer; until it does the breaker is on its own.
#[cfg(feature = "fleet")]
pub(crate) fn not_sharing(name: &str, error: Option<&stanchion_core::StoreError>) {
    #[cfg(feature = "tracing")]
    tracing::warn!(breaker = name, error = error.map(tracing::field::display), "trip store gave no answer");
    let _ = (name, error);
}

/// The store answers again.
#[cfg(feature = "fleet")]
pub(crate) fn sharing_again(name: &str) {
    #[cfg(feature = "tracing")]
    tracing::info!(breaker = name, "trip store answers again");
    let _ = name;
}

//! Telemetry: the only file that knows `tracing` and `metrics`. Without the
//! features every function here is empty.

use stanchion_core::Name;

use crate::stats::Ended;

/// A counter for each way to end. They are registered when a pipeline is built:
/// install the recorder before.
pub(crate) struct Counters {
    #[cfg(feature = "metrics")]
    ended: [metrics::Counter; Ended::COUNT],
    #[cfg(feature = "tracing")]
    name: Name,
}

impl Counters {
    pub(crate) fn new(name: &Name) -> Self {
        #[cfg(feature = "metrics")]
        let counter = |ended: Ended| {
            let pipeline = name.as_str().to_owned();
            metrics::counter!("stanchion_pipeline_calls_total", "pipeline" => pipeline, "outcome" => word(ended))
        };
        let _ = name;
        Self {
            #[cfg(feature = "metrics")]
            ended: ALL.map(counter),
            #[cfg(feature = "tracing")]
            name: name.clone(),
        }
    }

    /// A call ended: a count, and an event unless it went well.
    #[inline]
    pub(crate) fn ended(&self, ended: Ended) {
        #[cfg(feature = "tracing")]
        if !matches!(ended, Ended::Success | Ended::Ignored) {
            tracing::debug!(pipeline = self.name.as_str(), outcome = word(ended), "call failed");
        }
        #[cfg(feature = "metrics")]
        self.ended[ended as usize].increment(1);
        let _ = ended;
    }
}

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Counters")
    }
}

/// The configuration was changed.
pub(crate) fn reloaded(name: &Name) {
    #[cfg(feature = "tracing")]
    tracing::info!(pipeline = name.as_str(), "configuration reloaded");
    let _ = name;
}

/// Every way to end, in the order of their numbers.
#[cfg(feature = "metrics")]
const ALL: [Ended; Ended::COUNT] = [
    Ended::Success,
    Ended::Ignored,
    Ended::Transient,
    Ended::Throttled,
    Ended::TimedOut,
    Ended::Permanent,
    Ended::Unauthenticated,
    Ended::Abandoned,
    Ended::Rejected,
];

/// A way to end in a word.
#[cfg(any(feature = "tracing", feature = "metrics"))]
const fn word(ended: Ended) -> &'static str {
    match ended {
        Ended::Success => "success",
        Ended::Ignored => "ignored",
        Ended::Transient => "transient",
        Ended::Throttled => "throttled",
        Ended::TimedOut => "timed_out",
        Ended::Permanent => "permanent",
        Ended::Unauthenticated => "unauthenticated",
        Ended::Abandoned => "abandoned",
        Ended::Rejected => "rejected",
    }
}

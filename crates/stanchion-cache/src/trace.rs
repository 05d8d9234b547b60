//! Telemetry: the only file that knows `tracing` and `metrics`. Without the
//! features every function here is empty.

use std::time::Duration;

use stanchion_core::Name;

/// What a cache reports, under its name. Hits are counted in the snapshot only.
pub(crate) struct Reporter {
    #[cfg(feature = "tracing")]
    name: Name,
    #[cfg(feature = "metrics")]
    counters: Counters,
}

#[cfg(feature = "metrics")]
struct Counters {
    loaded: metrics::Counter,
    failed: metrics::Counter,
    voided: metrics::Counter,
    seconds: metrics::Histogram,
}

#[cfg(feature = "metrics")]
impl Counters {
    fn new(name: &Name) -> Self {
        let loads = |ending: &'static str| metrics::counter!("stanchion_cache_loads_total", "cache" => name.as_str().to_owned(), "ending" => ending);
        Self {
            loaded: loads("loaded"),
            failed: loads("failed"),
            voided: loads("voided"),
            seconds: metrics::histogram!("stanchion_cache_load_seconds", "cache" => name.as_str().to_owned()),
        }
    }
}

impl Reporter {
    pub(crate) fn new(name: &Name) -> Self {
        let _ = name;
        Self {
            #[cfg(feature = "tracing")]
            name: name.clone(),
            #[cfg(feature = "metrics")]
            counters: Counters::new(name),
        }
    }

    /// A load brought a value, or the news that there is none. `is_void`: it was invalidated
    /// meanwhile, and isn't kept.
    pub(crate) fn loaded(&self, took: Duration, is_void: bool) {
        #[cfg(feature = "tracing")]
        if is_void {
            tracing::debug!(cache = self.name.as_str(), ?took, "load was invalidated while under way");
        }
        #[cfg(feature = "metrics")]
        {
            if is_void { &self.counters.voided } else { &self.counters.loaded }.increment(1);
            self.counters.seconds.record(took.as_secs_f64());
        }
        let _ = (took, is_void);
    }

    /// A load failed. `is_covered`: an old value is served in its place.
    pub(crate) fn failed(&self, reason: &'static str, took: Duration, is_covered: bool) {
        #[cfg(feature = "tracing")]
        tracing::warn!(cache = self.name.as_str(), reason, ?took, is_covered, "load failed");
        #[cfg(feature = "metrics")]
        {
            self.counters.failed.increment(1);
            self.counters.seconds.record(took.as_secs_f64());
        }
        let _ = (reason, took, is_covered);
    }

    /// A change couldn't be told to the store.
    #[cfg(feature = "tier")]
    pub(crate) fn pending(&self) {
        #[cfg(feature = "tracing")]
        tracing::warn!(cache = self.name.as_str(), "the store can't be told of a change: it will be, when it answers");
    }

    /// A change that the store couldn't be told of has arrived.
    #[cfg(feature = "tier")]
    pub(crate) fn resent(&self) {
        #[cfg(feature = "tracing")]
        tracing::info!(cache = self.name.as_str(), "the store was told of a change that was pending");
    }
}

/// What a queue of writes reports, under its cache's name.
#[cfg(feature = "write-behind")]
pub(crate) struct WriteReporter {
    #[cfg(feature = "tracing")]
    name: Name,
    #[cfg(feature = "metrics")]
    writes: WriteCounters,
}

#[cfg(all(feature = "write-behind", feature = "metrics"))]
struct WriteCounters {
    written: metrics::Counter,
    coalesced: metrics::Counter,
    given_up: metrics::Counter,
    refused: metrics::Counter,
}

#[cfg(feature = "write-behind")]
impl WriteReporter {
    pub(crate) fn new(name: &Name) -> Self {
        let _ = name;
        #[cfg(feature = "metrics")]
        let writes = |ending: &'static str| metrics::counter!("stanchion_cache_writes_total", "cache" => name.as_str().to_owned(), "ending" => ending);
        Self {
            #[cfg(feature = "tracing")]
            name: name.clone(),
            #[cfg(feature = "metrics")]
            writes: WriteCounters {
                written: writes("written"),
                coalesced: writes("coalesced"),
                given_up: writes("given_up"),
                refused: writes("refused"),
            },
        }
    }

    /// So many writes are in the store.
    pub(crate) fn written(&self, writes: usize) {
        #[cfg(feature = "metrics")]
        self.writes.written.increment(writes as u64);
        let _ = writes;
    }

    /// Newer ones of their keys took the place of so many.
    pub(crate) fn coalesced(&self, writes: usize) {
        #[cfg(feature = "metrics")]
        self.writes.coalesced.increment(writes as u64);
        let _ = writes;
    }

    /// So many writes never get into the store.
    pub(crate) fn given_up(&self, writes: usize, reason: &'static str) {
        #[cfg(feature = "tracing")]
        tracing::error!(cache = self.name.as_str(), writes, reason, "writes were given up");
        #[cfg(feature = "metrics")]
        self.writes.given_up.increment(writes as u64);
        let _ = (writes, reason);
    }

    /// A write found no room.
    pub(crate) fn refused(&self) {
        #[cfg(feature = "tracing")]
        tracing::warn!(cache = self.name.as_str(), "queue of writes is full");
        #[cfg(feature = "metrics")]
        self.writes.refused.increment(1);
    }
}

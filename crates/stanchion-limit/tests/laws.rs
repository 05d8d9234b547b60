//! The memory store keeps the laws of a rate store.

use std::sync::Arc;

use stanchion_conformance::{rate, rate_laws};
use stanchion_limit::{ManualClock, MemoryRateStore};

async fn subject() -> rate::Subject {
    let clock = ManualClock::new();
    rate::Subject { store: Arc::new(MemoryRateStore::with_clock(1_000, clock.clone())), clock }
}

rate_laws!(subject);

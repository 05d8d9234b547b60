//! The memory store keeps the laws of a trip store.

use std::sync::Arc;

use stanchion_breaker::{ManualClock, MemoryTripStore};
use stanchion_conformance::{trip, trip_laws};

async fn subject() -> trip::Subject {
    let clock = ManualClock::new();
    trip::Subject { store: Arc::new(MemoryTripStore::with_clock(clock.clone())), clock }
}

trip_laws!(subject);

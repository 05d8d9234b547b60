//! The Redis store keeps the laws of a rate store, on a real server.

use std::sync::Arc;
use std::time::Duration;

use stanchion_conformance::{RedisServer, rate, rate_laws};
use stanchion_core::{Answer, Decision, ManualClock, Moment, RateRequest, RateStore, Receipt, StoreError};
use stanchion_redis::RedisRateStore;

/// The store with its server, which ends with the last law that holds it.
struct Held {
    store: RedisRateStore,
    _server: Arc<RedisServer>,
}

impl RateStore for Held {
    fn decide(&self, request: RateRequest<'_>) -> Answer<'_, Result<Decision, StoreError>> {
        self.store.decide(request)
    }

    fn reserve(&self, request: RateRequest<'_>) -> Answer<'_, Result<(Decision, Receipt), StoreError>> {
        self.store.reserve(request)
    }

    fn give_back(&self, request: RateRequest<'_>, receipt: &Receipt) -> Answer<'_, Result<u64, StoreError>> {
        self.store.give_back(request, receipt)
    }
}

async fn subject() -> rate::Subject {
    // A time of this century: its size is part of what is tested.
    let clock = ManualClock::at(Moment::from_nanos(1_800_000_000_000_000_000));
    let server = RedisServer::shared();
    let store = RedisRateStore::connect(&server.url()).unwrap().deadline(Duration::from_secs(20)).clock(clock.clone());
    rate::Subject { store: Arc::new(Held { store, _server: server }), clock }
}

rate_laws!(subject);

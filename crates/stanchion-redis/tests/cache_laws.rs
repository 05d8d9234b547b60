//! The Redis store keeps the laws of a cache store, on a real server.

use std::sync::Arc;
use std::time::Duration;

use stanchion_conformance::{RedisServer, cache, cache_laws};
use stanchion_core::{ManualClock, Moment};
use stanchion_redis::RedisCacheStore;

async fn subject() -> cache::Subject {
    // A time of this century: its size is part of what is tested.
    let clock = ManualClock::at(Moment::from_nanos(1_800_000_000_000_000_000));
    let (server, of_stores) = (RedisServer::shared(), clock.clone());
    let open = move |name: &str| -> Arc<dyn stanchion_core::CacheStore> {
        let store = RedisCacheStore::connect(&server.url(), name).unwrap();
        Arc::new(store.deadline(Duration::from_secs(20)).clock(of_stores.clone()))
    };
    cache::Subject { open: Arc::new(open), clock }
}

cache_laws!(subject);

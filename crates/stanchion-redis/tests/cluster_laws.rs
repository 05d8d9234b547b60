//! The laws of all stores, on a real cluster of three masters.

use std::sync::Arc;
use std::time::Duration;

use stanchion_conformance::{RedisCluster, cache, cache_laws, rate, rate_laws, trip, trip_laws};
use stanchion_core::{
    Answer, CacheStore, Decision, FleetView, ManualClock, Moment, RateRequest, RateStore, Receipt, StoreError,
    TripReport, TripStore,
};
use stanchion_redis::{Cluster, RedisCacheStore, RedisRateStore, RedisTripStore};

/// A store with its cluster, which ends with the last law that holds it.
struct Held<S> {
    store: S,
    _cluster: Arc<RedisCluster>,
}

impl RateStore for Held<RedisRateStore<Cluster>> {
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

impl TripStore for Held<RedisTripStore<Cluster>> {
    fn report(&self, report: TripReport<'_>) -> Answer<'_, Result<FleetView, StoreError>> {
        self.store.report(report)
    }
}

/// A time of this century: its size is part of what is tested.
fn clock() -> ManualClock {
    ManualClock::at(Moment::from_nanos(1_800_000_000_000_000_000))
}

fn on_the_cluster<S>(connect: impl FnOnce(&[&str]) -> Result<S, StoreError>) -> (S, Arc<RedisCluster>) {
    let cluster = RedisCluster::shared();
    let urls = cluster.urls();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    (connect(&urls).unwrap(), cluster)
}

async fn rates() -> rate::Subject {
    let (clock, (store, cluster)) = (clock(), on_the_cluster(RedisRateStore::connect_cluster));
    let store = store.deadline(Duration::from_secs(20)).clock(clock.clone());
    rate::Subject { store: Arc::new(Held { store, _cluster: cluster }), clock }
}

async fn trips() -> trip::Subject {
    let (clock, (store, cluster)) = (clock(), on_the_cluster(RedisTripStore::connect_cluster));
    let store = store.deadline(Duration::from_secs(20)).clock(clock.clone());
    trip::Subject { store: Arc::new(Held { store, _cluster: cluster }), clock }
}

async fn caches() -> cache::Subject {
    let clock = clock();
    let (cluster, of_stores) = (RedisCluster::shared(), clock.clone());
    let open = move |name: &str| -> Arc<dyn CacheStore> {
        let urls = cluster.urls();
        let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
        let store = RedisCacheStore::connect_cluster(&urls, name).unwrap();
        Arc::new(store.deadline(Duration::from_secs(20)).clock(of_stores.clone()))
    };
    cache::Subject { open: Arc::new(open), clock }
}

mod cache_store {
    use super::{cache_laws, caches};
    cache_laws!(caches);
}

mod rate_store {
    use super::{rate_laws, rates};
    rate_laws!(rates);
}

mod trip_store {
    use super::{trip_laws, trips};
    trip_laws!(trips);
}

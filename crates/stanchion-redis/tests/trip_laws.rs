//! The Redis store keeps the laws of a trip store, on a real server, in one round trip.

use std::sync::Arc;
use std::time::Duration;

use stanchion_conformance::{RedisServer, trip, trip_laws};
use stanchion_core::{Answer, FleetView, ManualClock, Moment, StoreError, TripQuorum, TripReport, TripStore};
use stanchion_redis::RedisTripStore;

/// The store with its server, which ends with the last law that holds it.
struct Held {
    store: RedisTripStore,
    _server: Arc<RedisServer>,
}

impl TripStore for Held {
    fn report(&self, report: TripReport<'_>) -> Answer<'_, Result<FleetView, StoreError>> {
        self.store.report(report)
    }
}

async fn subject() -> trip::Subject {
    // A time of this century: its size is part of what is tested.
    let clock = ManualClock::at(Moment::from_nanos(1_800_000_000_000_000_000));
    let server = RedisServer::shared();
    let store = RedisTripStore::connect(&server.url()).unwrap().deadline(Duration::from_secs(20)).clock(clock.clone());
    trip::Subject { store: Arc::new(Held { store, _server: server }), clock }
}

trip_laws!(subject);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_is_one_round_trip_and_its_key_dies_by_itself() {
    let server = RedisServer::start();
    let store = RedisTripStore::connect(&server.url()).unwrap().deadline(Duration::from_secs(20));
    let report = |instance, keep| TripReport {
        name: b"payments",
        instance,
        open: true,
        calls: u32::MAX,
        failed: u32::MAX,
        keep: Duration::from_millis(keep),
        quorum: TripQuorum::new(2, 1.0, 1.0, u32::MAX).unwrap(),
    };
    store.report(report(1, 5_000)).await.unwrap();
    server.command(&["CONFIG", "RESETSTAT"]);
    for instance in 0..10 {
        store.report(report(instance, 300)).await.unwrap();
    }
    assert_eq!(
        ["evalsha", "eval", "hgetall", "hset", "time"].map(|command| server.calls(command)),
        [10, 0, 10, 10, 10]
    );
    assert_eq!(server.command(&["DBSIZE"]).trim(), ":1");
    let left: u64 =
        server.command(&["PTTL", "stanchion:trip:{payments}:fleet"]).trim().trim_start_matches(':').parse().unwrap();
    // Instance 1 has said something else since: its last word lives 300 ms, and a second of grace.
    assert!((1..=1_301).contains(&left), "{left}");
}

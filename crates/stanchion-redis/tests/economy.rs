//! What a decision costs the server: one round trip, no write for a refusal,
//! keys that go away by themselves, about a hundred bytes each.

use std::time::Duration;

use stanchion_conformance::RedisServer;
use stanchion_core::{RateLimit, RateRequest, RateStore};
use stanchion_limit::{KeyedLimiter, Outage, Quota};
use stanchion_redis::RedisRateStore;

fn store(server: &RedisServer) -> RedisRateStore {
    RedisRateStore::connect(&server.url()).unwrap().deadline(Duration::from_secs(20))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_is_one_round_trip_and_a_refusal_writes_nothing() {
    let server = RedisServer::start();
    let limiter: KeyedLimiter<str, _> =
        KeyedLimiter::builder(Quota::per_hour(10)).name("api").on(store(&server), Outage::Refuse).build().unwrap();
    // Connects, and makes the script known.
    assert!(limiter.check("other").await.unwrap().allowed());
    server.command(&["CONFIG", "RESETSTAT"]);
    for _ in 0..10 {
        assert!(limiter.check("k").await.unwrap().allowed());
    }
    let (reads, writes) = (server.calls("get"), server.calls("set"));
    for _ in 0..90 {
        assert!(!limiter.check("k").await.unwrap().allowed());
    }
    assert!(limiter.check_n("k", 0).await.unwrap().allowed());
    assert_eq!((reads, writes), (10, 10));
    // Each of these is one command from the client; GET, SET and TIME are the script's own.
    let calls = ["evalsha", "eval", "get", "set", "time"].map(|command| server.calls(command));
    assert_eq!(calls, [101, 0, 101, 10, 101]);
    assert_eq!(server.calls("script|load"), 0);
    // Nothing else was called, but for what this test itself asked.
    let stats = server.command(&["INFO", "commandstats"]);
    let commands: Vec<&str> =
        stats.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split(':').next()).collect();
    let known = ["evalsha", "get", "set", "time", "info", "config|resetstat", "quit"];
    assert!(commands.iter().all(|command| known.contains(command)), "{commands:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_limits_are_one_round_trip_too() {
    let server = RedisServer::start();
    let store = store(&server);
    let limits = [
        RateLimit::new("second", Quota::per_second(10).bucket().unwrap()),
        RateLimit::new("hour", Quota::per_hour(1_000).bucket().unwrap()),
        RateLimit::new("day", Quota::per_day(20_000).bucket().unwrap()),
    ];
    let request = RateRequest::new(b"tenant-7", 1, &limits).unwrap();
    assert!(store.decide(request).await.unwrap().allowed());
    server.command(&["CONFIG", "RESETSTAT"]);
    assert!(store.decide(request).await.unwrap().allowed());
    assert_eq!(["evalsha", "get", "set", "time"].map(|command| server.calls(command)), [1, 3, 3, 1]);
}

/// Milliseconds that a key has left.
fn time_to_live(server: &RedisServer, key: &str) -> i64 {
    server.command(&["PTTL", key]).trim().trim_start_matches(':').parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_key_outlives_its_debt_and_then_goes_away() {
    let server = RedisServer::start();
    let store = store(&server);
    for (name, quota, cost, debt_millis) in [
        ("hour", Quota::per_hour(1), 1, 3_600_000),
        ("fraction", Quota::per_second(7).burst(3), 2, 285),
        ("fast", Quota::per_second(3_000_000).burst(10), 1, 0),
        ("century", Quota::new(1, Duration::from_secs(3_000_000_000)), 1, 3_000_000_000_000),
    ] {
        let limit = RateLimit::new(name, quota.bucket().unwrap());
        assert!(store.decide(RateRequest::single(b"k", cost, &limit)).await.unwrap().allowed());
        let left = time_to_live(&server, &format!("stanchion:rate:{{k}}:{name}"));
        // A second of grace, of which some has passed.
        assert!((debt_millis + 1..=debt_millis + 1_001).contains(&left), "{name}: {left}");
    }
    let keys = server.command(&["DBSIZE"]);
    assert_eq!(keys.trim(), ":4");
}

/// Stated in the docs: some 100 bytes a key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_takes_some_hundred_bytes() {
    let server = RedisServer::start();
    let store = store(&server);
    for (name, quota) in [("api", Quota::per_hour(10)), ("odd", Quota::per_second(7))] {
        let limit = RateLimit::new(name, quota.bucket().unwrap());
        assert!(store.decide(RateRequest::single(b"tenant-0123456789", 1, &limit)).await.unwrap().allowed());
        let reply = server.command(&["MEMORY", "USAGE", &format!("stanchion:rate:{{tenant-0123456789}}:{name}")]);
        let bytes: u32 = reply.trim().trim_start_matches(':').parse().unwrap();
        assert!((64..=136).contains(&bytes), "{name}: {bytes}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_share_a_limit_by_name_and_prefix() {
    let server = RedisServer::start();
    let instance = |name: &'static str, prefix: &str| -> KeyedLimiter<str, RedisRateStore> {
        let store = store(&server).prefix(prefix).unwrap();
        KeyedLimiter::builder(Quota::per_hour(10)).name(name).on(store, Outage::Refuse).build().unwrap()
    };
    let (one, two) = (instance("api", "shop"), instance("api", "shop"));
    let mut admitted = 0;
    for _ in 0..10 {
        admitted += u32::from(one.check("k").await.unwrap().allowed());
        admitted += u32::from(two.check("k").await.unwrap().allowed());
    }
    assert_eq!(admitted, 10);
    assert!(instance("other", "shop").check("k").await.unwrap().allowed());
    assert!(instance("api", "other").check("k").await.unwrap().allowed());
}

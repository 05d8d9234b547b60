//! What a decision costs the server: one round trip, no write for a refusal,
//! keys that go away by themselves, and as many bytes for each as is stated.

use std::sync::Arc;
use std::time::Duration;

use stanchion_conformance::RedisServer;
use stanchion_core::{Ask, FixedWindow, RateLimit, RateRequest, RateRule, RateStore, SlidingCounter, SlidingLog};
use stanchion_limit::{KeyedLimiter, Outage, Quota, Quotas};
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

/// A tenant's limits on all routes, and those of each route, by a limiter for each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_and_a_route_are_asked_for_in_one_round_trip_all_or_nothing() {
    let server = RedisServer::start();
    let store = Arc::new(store(&server));
    let tenant = Quotas::from([
        ("second", Quota::per_second(10)),
        ("hour", Quota::per_hour(1_000)),
        ("day", Quota::per_day(20_000)),
    ]);
    let on_route = |own: [(&'static str, Quota); 2]| {
        let quotas = tenant.clone().and(own);
        KeyedLimiter::<str>::builder(quotas).name("api").on(store.clone(), Outage::Refuse).build().unwrap()
    };
    let search = on_route([("search/second", Quota::per_second(8)), ("search/hour", Quota::per_hour(500))]);
    let export = on_route([("export/hour", Quota::per_hour(2)), ("export/day", Quota::per_day(5))]);
    // Connects, and makes the script known.
    assert!(search.check("other").await.unwrap().allowed());
    server.command(&["CONFIG", "RESETSTAT"]);
    assert!(export.check_n("alice", 2).await.unwrap().allowed());
    assert_eq!(["evalsha", "get", "set"].map(|command| server.calls(command)), [1, 5, 5]);
    for _ in 0..20 {
        let refused = export.check("alice").await.unwrap();
        assert_eq!((refused.allowed(), export.limit_name(&refused)), (false, Some("export/hour".into())));
    }
    assert_eq!(["evalsha", "eval", "get", "set"].map(|command| server.calls(command)), [21, 0, 105, 5]);
    // Of the day's nine are taken, which were admitted; 20 refusals took none. One drips in each 4.3 s.
    assert!(search.check_n("alice", 7).await.unwrap().allowed());
    let day = RateLimit::new("api/day", Quota::per_day(20_000).bucket().unwrap());
    let left = store.decide(RateRequest::single(b"alice", 0, &day)).await.unwrap().remaining();
    assert!((20_000 - 9..20_000 - 4).contains(&left), "{left}");
    // All of a tenant's keys are in one slot, and there is one for each limit.
    let keys = server.command(&["KEYS", "stanchion:rate:{alice}:api/*"]);
    let names = ["second", "hour", "day", "search/second", "search/hour", "export/hour", "export/day"];
    assert_eq!(keys.matches("{alice}").count(), names.len(), "{keys}");
    assert!(names.iter().all(|name| keys.contains(&format!("{{alice}}:api/{name}"))), "{keys}");
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

fn every_rule(count: u64, period: Duration) -> [(&'static str, RateRule); 5] {
    [
        ("rate", Quota::new(count, period).bucket().unwrap().into()),
        ("rate", Quota::new(count, period * 6 / 7).bucket().unwrap().overdraft(3).unwrap().into()),
        ("rate-window", FixedWindow::new(count, period).unwrap().into()),
        ("rate-counter", SlidingCounter::new(count, period).unwrap().into()),
        ("rate-log", SlidingLog::new(count, period).unwrap().into()),
    ]
}

/// What a script may call that changes a key.
const WRITES: [&str; 9] = ["set", "del", "rpush", "ltrim", "lset", "lrem", "pexpire", "lpop", "eval"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rule_and_all_of_them_are_one_round_trip_and_their_refusals_write_nothing() {
    let server = RedisServer::start();
    let store = store(&server);
    let hour = Duration::from_secs(3_600);
    let names = ["a", "b", "c", "d", "e"];
    let all: Vec<RateLimit> =
        every_rule(10, hour).iter().zip(names).map(|((_, rule), name)| RateLimit::new(name, *rule)).collect();
    let mut sets: Vec<&[RateLimit]> = all.chunks(1).collect();
    sets.push(&all);
    for (number, limits) in sets.into_iter().enumerate() {
        let key = format!("k{number}");
        let request = |cost| RateRequest::new(key.as_bytes(), cost, limits).unwrap();
        // Makes the scripts known.
        let (_, receipt) = store.reserve(request(1)).await.unwrap();
        store.give_back(request(1), &receipt).await.unwrap();
        assert!(store.decide(request(0)).await.unwrap().allowed());
        server.command(&["CONFIG", "RESETSTAT"]);
        assert!(store.decide(request(1)).await.unwrap().allowed());
        assert_eq!(store.decide(request(3).ask(Ask::UpTo)).await.unwrap().granted(), 3);
        assert!(store.decide(request(1).ask(Ask::Overdraw)).await.unwrap().allowed());
        let (_, receipt) = store.reserve(request(5)).await.unwrap();
        assert_eq!(store.give_back(request(1), &receipt).await.unwrap(), 1);
        assert_eq!(store.decide(request(9).ask(Ask::UpTo)).await.unwrap().granted(), 1);
        assert_eq!(["evalsha", "eval", "time"].map(|command| server.calls(command)), [6, 0, 6], "{limits:?}");
        server.command(&["CONFIG", "RESETSTAT"]);
        for cost in [1, 2, 0] {
            assert_eq!(store.decide(request(cost)).await.unwrap().granted(), 0);
            assert_eq!(store.decide(request(cost).ask(Ask::UpTo)).await.unwrap().granted(), 0);
            assert_eq!(store.reserve(request(cost)).await.unwrap().1.units(), 0);
        }
        assert_eq!(server.calls("evalsha"), 9);
        let writes = WRITES.map(|command| server.calls(command));
        assert_eq!(writes, [0; 9], "{limits:?}: {WRITES:?}");
        for ((family, _), limit) in every_rule(10, hour).iter().zip(names).filter(|_| limits.len() == all.len()) {
            let left = time_to_live(&server, &format!("stanchion:{family}:{{{key}}}:{limit}"));
            // A counter's last window counts in the next one, too.
            let longest = if *family == "rate-counter" { 7_201_001 } else { 3_601_001 };
            assert!((1_000_000..=longest).contains(&left), "{family}: {left}");
        }
    }
}

/// Stated in the docs of `RedisRateStore`: what a key takes, for a key of 17 bytes and a name of three.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_takes_as_many_bytes_as_stated() {
    let server = RedisServer::start();
    let store = store(&server);
    let hour = Duration::from_secs(3_600);
    let key = b"tenant-0123456789";
    let measure = |what: &'static str, family: &str, stated: u32| {
        let name = format!("stanchion:{family}:{{tenant-0123456789}}:api");
        let reply = server.command(&["MEMORY", "USAGE", &name, "SAMPLES", "0"]);
        let bytes: u32 = reply.trim().trim_start_matches(':').parse().unwrap();
        server.command(&["DEL", &name]);
        // Within a quarter: servers of another version allocate otherwise.
        assert!(bytes.abs_diff(stated) <= stated / 4, "{what}: {bytes} bytes, where {stated} are stated");
    };
    let [(_, bucket), (_, odd), (_, window), (_, counter), _] = every_rule(10, hour);
    for (what, family, rule, stated) in [
        ("a bucket", "rate", bucket, 88),
        ("a bucket with fractions of a microsecond", "rate", odd, 120),
        ("a window", "rate-window", window, 136),
        ("a counter", "rate-counter", counter, 136),
    ] {
        let limit = RateLimit::new("api", rule);
        assert!(store.decide(RateRequest::single(key, 1, &limit)).await.unwrap().allowed());
        measure(what, family, stated);
    }
    let limit = RateLimit::new("api", bucket);
    assert!(store.reserve(RateRequest::single(key, 1, &limit)).await.unwrap().0.allowed());
    measure("a bucket with receipts", "rate", 136);
    for (entries, stated) in [(1, 200), (100, 2_200), (1_000, 21_000), (10_000, 202_000)] {
        let limit = RateLimit::new("api", SlidingLog::new(10_000, hour).unwrap());
        for _ in 0..entries {
            assert!(store.decide(RateRequest::single(key, 1, &limit)).await.unwrap().allowed());
        }
        measure("a log", "rate-log", stated);
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

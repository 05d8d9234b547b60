//! What a cache costs the server: one round trip a call, keys that go away by themselves, and
//! as many bytes for each as is stated.

use std::time::Duration;

use stanchion_conformance::{RedisCluster, RedisServer};
use stanchion_core::{CacheStore, Fence, Found, Lease, LeaseStore, ManualClock, Moment, NewValue};
use stanchion_redis::RedisCacheStore;

const SECOND: Duration = Duration::from_secs(1);

fn store(server: &RedisServer, name: &str) -> RedisCacheStore {
    RedisCacheStore::connect(&server.url(), name).unwrap().deadline(20 * SECOND)
}

const fn value<'a>(bytes: &'a [u8], tags: &'a [&'a str]) -> NewValue<'a> {
    NewValue { bytes, fresh_for: SECOND, keep_for: Duration::from_secs(60), tags }
}

async fn lease(store: &dyn CacheStore, key: &[u8]) -> Fence {
    match store.acquire(key, 10 * SECOND).await.unwrap() {
        Lease::Held(fence) => fence,
        Lease::Taken { .. } => unreachable!("nobody else asks"),
    }
}

/// Each of the ten calls once.
async fn everything(store: &dyn CacheStore, value: NewValue<'_>) {
    assert_eq!(store.get(b"k").await.unwrap(), None);
    let Found::Stale { lease: Lease::Held(fence), .. } = store.get_or_lease(b"k", SECOND).await.unwrap() else {
        unreachable!("there is nothing yet, and nobody else");
    };
    assert!(store.renew(b"k", fence, SECOND).await.unwrap());
    assert!(store.put(b"k", fence, value).await.unwrap());
    let fence = lease(store, b"k").await;
    assert!(store.release(b"k", fence).await.unwrap());
    store.insert(b"k", value).await.unwrap();
    assert!(matches!(store.get_or_lease(b"k", SECOND).await.unwrap(), Found::Fresh(_)));
    store.invalidate(b"k").await.unwrap();
    store.invalidate_tag("tag").await.unwrap();
    store.clear().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_one_round_trip_and_its_text_is_sent_only_when_the_server_has_forgotten_it() {
    let server = RedisServer::start();
    let store = store(&server, "users");
    let large = vec![7; 1 << 20];
    for bytes in [&b"v"[..], &large] {
        server.command(&["SCRIPT", "FLUSH"]);
        for texts in [5, 0] {
            server.command(&["CONFIG", "RESETSTAT"]);
            everything(&store, value(bytes, &["tag", "other"])).await;
            // Sent by its hash each time, and then by its text where that was unknown.
            assert_eq!((server.calls("evalsha"), server.calls("eval")), (11, texts));
            // The script's own, but for what this test itself asked.
            let stats = server.command(&["INFO", "commandstats"]);
            let commands = stats.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split(':').next());
            let known = [
                "evalsha",
                "eval",
                "time",
                "zmscore",
                "getrange",
                "strlen",
                "zadd",
                "pexpire",
                "set",
                "del",
                "publish",
                "zrangebyscore",
                "info",
                "config|resetstat",
                "quit",
                "client|setinfo",
                "script|flush",
            ];
            let others: Vec<&str> = commands.filter(|command| !known.contains(command)).collect();
            assert!(others.is_empty(), "{others:?}");
        }
    }
    // A failed look writes nothing.
    server.command(&["CONFIG", "RESETSTAT"]);
    assert_eq!(store.get(b"nobody").await.unwrap(), None);
    assert_eq!(["zmscore", "getrange", "set", "del", "zadd"].map(|command| server.calls(command)), [1, 1, 0, 0, 0]);
}

/// A call on a key is one on a cluster, too. What concerns all keys is one for each slot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_cluster_a_tag_is_a_call_for_each_slot_and_told_once() {
    let cluster = RedisCluster::shared();
    let urls = cluster.urls();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let store = RedisCacheStore::connect_cluster(&urls, "economy").unwrap().deadline(20 * SECOND).slots(16).unwrap();
    everything(&store, value(b"v", &["tag"])).await;
    let count = || (cluster.calls("evalsha"), cluster.calls("publish"));
    let before = count();
    everything(&store, value(b"v", &["tag"])).await;
    let after = count();
    assert_eq!((after.0 - before.0, after.1 - before.1), (9 + 2 * 16, 2 + 2));
}

/// Whatever it is, and for as long as it is worth something and a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_key_goes_away_by_itself() {
    let server = RedisServer::start();
    let store = store(&server, "users");
    let days = Duration::from_secs(86_400);
    store.insert(b"minute", value(b"v", &["tag"])).await.unwrap();
    store.insert(b"long", NewValue { keep_for: 400 * days, ..value(b"v", &[]) }).await.unwrap();
    store.insert(b"none", NewValue { keep_for: Duration::ZERO, ..value(b"v", &[]) }).await.unwrap();
    let fence = lease(&store, b"put").await;
    assert!(store.put(b"put", fence, NewValue { keep_for: 10 * SECOND, ..value(b"v", &[]) }).await.unwrap());
    lease(&store, b"lease").await;
    let fence = lease(&store, b"renewed").await;
    assert!(store.renew(b"renewed", fence, 30 * SECOND).await.unwrap());
    assert!(matches!(store.acquire(b"endless", Duration::MAX).await.unwrap(), Lease::Held(_)));
    store.invalidate_tag("tag").await.unwrap();
    store.clear().await.unwrap();
    let left = |key: &str| -> i64 {
        let key = format!("stanchion:cache1:{{users.0}}:{key}");
        server.command(&["PTTL", &key]).trim().trim_start_matches(':').parse().unwrap()
    };
    let month = 30 * 86_400_000;
    let known = [
        ("e:minute", 60_000),
        ("e:long", month),
        ("e:put", 10_000),
        ("l:lease", 10_000),
        ("l:renewed", 30_000),
        ("l:endless", month),
        ("s", month),
    ];
    for (key, most) in known {
        assert!((most - 5_000..=most + 1_001).contains(&left(key)) && left(key) > 0, "{key}: {} ms", left(key));
    }
    assert_eq!(server.command(&["DBSIZE"]).trim(), format!(":{}", known.len()));

    // What took long to load has so much less.
    let clock = ManualClock::at(Moment::from_nanos(1_800_000_000_000_000_000));
    let by_clock = self::store(&server, "users").clock(clock.clone());
    let fence = lease(&by_clock, b"slow").await;
    clock.advance(SECOND / 2);
    assert!(by_clock.put(b"slow", fence, value(b"v", &[])).await.unwrap());
    // A test's keys live for an hour more.
    assert!((3_655_000..=3_659_501).contains(&left("e:slow")), "{}", left("e:slow"));

    // The ledger outlives whatever is written.
    let fence = lease(&store, b"put").await;
    for write in 0..4 {
        server.command(&["PEXPIRE", "stanchion:cache1:{users.0}:s", "5000"]);
        match write {
            0 => assert!(store.put(b"put", fence, value(b"v", &[])).await.unwrap()),
            1 => store.insert(b"insert", value(b"v", &[])).await.unwrap(),
            2 => store.invalidate_tag("tag").await.unwrap(),
            _ => drop(lease(&store, b"put").await),
        }
        assert!(left("s") > month - 5_000, "{write}");
    }
}

/// As stated at the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_leases_and_tags_take_as_many_bytes_as_is_stated() {
    let server = RedisServer::start();
    let store = store(&server, "users");
    let used = || -> i64 {
        let memory = server.command(&["INFO", "memory"]);
        memory.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().trim().parse().unwrap()
    };
    let key = |number: u32| format!("session-{number:08}").into_bytes();
    const MANY: u32 = 4_000;
    let stored = vec![b'v'; 200];
    for (what, stated) in [("200 bytes", 430), ("200 bytes with two tags", 485), ("a lease", 220), ("a tag", 130)] {
        server.command(&["FLUSHALL"]);
        store.clear().await.unwrap();
        let before = used();
        let mut calls = Vec::new();
        for number in 0..MANY {
            let key = key(number);
            calls.push(match what {
                "200 bytes" => store.insert(&key, value(&stored, &[])),
                "200 bytes with two tags" => store.insert(&key, value(&stored, &["team-7", "eu"])),
                "a tag" => store.invalidate_tag(std::str::from_utf8(&key).unwrap()),
                _ => store.acquire(&key, 60 * SECOND).map(|lease| lease.map(drop)),
            });
        }
        for call in calls {
            call.await.unwrap();
        }
        let each = (used() - before) / i64::from(MANY);
        println!("{what}: {each} bytes each");
        // Another version or allocator may have it otherwise, but not by much.
        assert!((stated - 25..=stated + 25).contains(&each), "{what}: {each} bytes each");
    }
}

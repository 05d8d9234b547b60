//! What lies under a cache's keys and isn't its own, values that are too large, and a server that
//! has forgotten something, or has no room.

use std::time::{Duration, Instant};

use stanchion_conformance::RedisServer;
use stanchion_core::{CacheStore, Fence, Found, Lease, LeaseStore, ManualClock, Moment, NewValue, StoreErrorKind};
use stanchion_redis::RedisCacheStore;

const SECOND: Duration = Duration::from_secs(1);

fn store(server: &RedisServer) -> RedisCacheStore {
    RedisCacheStore::connect(&server.url(), "users").unwrap().deadline(20 * SECOND)
}

const fn value<'a>(bytes: &'a [u8], tags: &'a [&'a str]) -> NewValue<'a> {
    NewValue { bytes, fresh_for: SECOND, keep_for: Duration::from_secs(60), tags }
}

async fn lease(store: &RedisCacheStore, key: &[u8]) -> Fence {
    match store.get_or_lease(key, 10 * SECOND).await.unwrap() {
        Found::Stale { value: None, lease: Lease::Held(fence) } => fence,
        found => panic!("there is nothing, but {found:?}"),
    }
}

const KEYS: [&str; 3] =
    ["stanchion:cache1:{users.0}:s", "stanchion:cache1:{users.0}:e:k", "stanchion:cache1:{users.0}:l:k"];

/// Read as if it weren't there, and written over: under each of the three keys, by each call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_elses_value_is_none_and_gives_way() {
    let server = RedisServer::start();
    let store = store(&server);
    let strange: [&[&str]; 21] = [
        &["SET", "hello"],
        &["SET", ""],
        &["SET", "1:2:3:4:5:6:"],
        &["SET", "1:0:9999999999:9999999999:0:5:ab"],
        &["SET", "1:0:9999999999:9999999999:0:1:ab"],
        &["SET", "9000000000000000:0:9999999999:9999999999:3:2:9:xab"],
        &["SET", "9000000000000000:0:9999999999:9999999999:3:0:::x"],
        &["SET", "99999999999999999999999:0:1:1:0:0:"],
        &["SET", "9000000000000000:0:9000000000000000"],
        &["SET", "99999999999999999999:0:99999999999999999999"],
        &["SET", "-1:nan:inf"],
        &["RPUSH", "x", "y"],
        &["HSET", "bytes", "value"],
        &["SADD", "latest", "cleared"],
        &["ZADD", "1", "x"],
        &["ZADD", "inf", "latest", "inf", "cleared"],
        &["ZADD", "-5", "latest", "-5", "cleared"],
        &["ZADD", "1.5", "latest", "0.5", "cleared"],
        &["ZADD", "1", "latest", "2", "cleared"],
        &["ZADD", "1", "latest", "8000000000000000", "cleared"],
        &["ZADD", "9007199254740991", "latest", "9007199254740991", "cleared"],
    ];
    for (key, with_ledger) in [(KEYS[0], false), (KEYS[1], false), (KEYS[2], false), (KEYS[1], true), (KEYS[2], true)] {
        for words in strange {
            let put_there = || {
                server.command(&["FLUSHALL"]);
                if with_ledger {
                    server.command(&["ZADD", KEYS[0], "5", "latest", "5", "cleared"]);
                }
                let command: Vec<&str> = [words[0], key].into_iter().chain(words[1..].iter().copied()).collect();
                server.command(&command);
            };
            put_there();
            assert_eq!(store.get(b"k").await.unwrap(), None, "{key} {words:?}");
            // What looks like an entry, of a lost ledger's or with garbled tags, is cleared away; nothing else is.
            let entry_like = key == KEYS[1] && words[1].starts_with("9000000000000000:0:9999999999");
            assert_eq!(server.command(&["EXISTS", key]).trim() == ":1", !entry_like, "{key} {words:?}");
            assert!(!store.renew(b"k", Fence::new(1), SECOND).await.unwrap(), "{key} {words:?}");
            assert!(!store.release(b"k", Fence::new(1)).await.unwrap(), "{key} {words:?}");
            assert!(!store.put(b"k", Fence::new(1), value(b"v", &["tag"])).await.unwrap(), "{key} {words:?}");
            let fence = lease(&store, b"k").await;
            assert!(store.renew(b"k", fence, SECOND).await.unwrap(), "{key} {words:?}");
            assert!(store.put(b"k", fence, value(b"put", &["tag"])).await.unwrap(), "{key} {words:?}");
            assert_eq!(store.get(b"k").await.unwrap().unwrap().bytes, b"put", "{key} {words:?}");
            put_there();
            store.insert(b"k", value(b"inserted", &["tag"])).await.unwrap();
            assert_eq!(store.get(b"k").await.unwrap().unwrap().bytes, b"inserted", "{key} {words:?}");
            put_there();
            store.invalidate(b"k").await.unwrap();
            assert_eq!(store.get(b"k").await.unwrap(), None, "{key} {words:?}");
            put_there();
            store.invalidate_tag("tag").await.unwrap();
            assert_eq!(store.get(b"k").await.unwrap(), None, "{key} {words:?}");
            put_there();
            store.clear().await.unwrap();
            assert_eq!(store.get(b"k").await.unwrap(), None, "{key} {words:?}");
            // And all is well from then on.
            for _ in 0..2 {
                store.insert(b"k", value(b"again", &["tag"])).await.unwrap();
                assert!(store.get(b"k").await.unwrap().is_some(), "{key} {words:?}");
                store.invalidate_tag("tag").await.unwrap();
                assert_eq!(store.get(b"k").await.unwrap(), None, "{key} {words:?}");
            }
        }
    }
}

/// Not sent, not fetched, and said in plain words.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_is_too_large_is_an_error_to_store_and_none_to_look_at() {
    let server = RedisServer::start();
    let generous = store(&server).max_value_bytes(32 << 20);
    let large = vec![b'x'; (16 << 20) + 1];
    let fence = lease(&generous, b"k").await;
    assert!(generous.put(b"k", fence, value(&large, &["tag"])).await.unwrap());
    let found = generous.get(b"k").await.unwrap().unwrap();
    assert!(found.bytes == large && found.tags == ["tag"]);
    generous.insert(b"k", value(&large, &[])).await.unwrap();
    assert!(matches!(generous.get_or_lease(b"k", SECOND).await.unwrap(), Found::Fresh(found) if found.bytes == large));

    // Of these the tags count, too: 3 bytes and what says how many they are.
    generous.insert(b"tagged", value(&[b'x'; 100], &["tag"])).await.unwrap();
    let cases =
        [(&b"k"[..], 16 << 20, false), (b"k", (16 << 20) - 1, true), (b"tagged", 104, false), (b"tagged", 103, true)];
    for (key, more, too_large) in cases {
        let store = store(&server).max_value_bytes(more + 1);
        assert_eq!(store.get(key).await.unwrap().is_none(), too_large, "{more}");
    }
    let store = store(&server).max_value_bytes(105);
    server.command(&["CONFIG", "RESETSTAT"]);
    for bytes in [101, 200] {
        let large = vec![b'x'; bytes];
        for error in [
            store.insert(b"k", value(&large, &["tag"])).await.unwrap_err(),
            store.put(b"k", fence, value(&large, &["tag"])).await.unwrap_err(),
        ] {
            assert_eq!((error.kind(), error.is_temporary()), (StoreErrorKind::Unsupported, false));
            assert!(error.to_string().contains("above the cache's max_value_bytes, 105"), "{error}");
        }
    }
    assert_eq!(server.calls("evalsha"), 0);
    store.insert(b"small", value(&[b'x'; 100], &["tag"])).await.unwrap();
    assert!(store.get(b"small").await.unwrap().is_some());
    // It is no value to look at, but it can be loaded anew.
    let fence = lease(&store, b"k").await;
    assert!(store.put(b"k", fence, value(b"v", &[])).await.unwrap());
    assert_eq!(generous.get(b"k").await.unwrap().unwrap().bytes, b"v");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_flush_nothing_is_found_no_lease_stands_and_no_load_of_before_is_stored() {
    let server = RedisServer::start();
    let store = store(&server);
    for flush in [&["FLUSHALL"][..], &["SCRIPT", "FLUSH"], &["DEL", KEYS[0]], &["DEL", KEYS[0], KEYS[2]]] {
        server.command(&["FLUSHALL"]);
        store.insert(b"k", value(b"before", &["tag"])).await.unwrap();
        let Lease::Held(fence) = store.acquire(b"k", 10 * SECOND).await.unwrap() else { unreachable!("it is free") };
        server.command(flush);
        let kept = flush[0] == "SCRIPT";
        assert_eq!(store.get(b"k").await.unwrap().is_some(), kept, "{flush:?}");
        assert_eq!(store.renew(b"k", fence, SECOND).await.unwrap(), kept, "{flush:?}");
        assert_eq!(store.put(b"k", fence, value(b"after", &["tag"])).await.unwrap(), kept, "{flush:?}");
        let Lease::Held(next) = store.acquire(b"k", SECOND).await.unwrap() else { unreachable!("it is free") };
        assert!(next > fence, "{flush:?}");
        assert!(!store.put(b"k", fence, value(b"late", &[])).await.unwrap(), "{flush:?}");
        assert!(store.put(b"k", next, value(b"next", &["tag"])).await.unwrap(), "{flush:?}");
        assert_eq!(store.get(b"k").await.unwrap().unwrap().bytes, b"next", "{flush:?}");
    }
}

/// A ledger may be evicted before the values that it speaks of: what was invalidated stays so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lost_ledger_spoke_of_does_not_come_back() {
    let server = RedisServer::start();
    let store = store(&server);
    store.insert(b"k", value(b"invalid", &["tag"])).await.unwrap();
    let held = lease(&store, b"other").await;
    store.invalidate_tag("tag").await.unwrap();
    server.command(&["DEL", KEYS[0]]);
    // A new one is begun, by whatever is written first.
    store.insert(b"new", value(b"v", &[])).await.unwrap();
    assert_eq!(store.get(b"k").await.unwrap(), None);
    assert!(!store.put(b"other", held, value(b"invalid", &["tag"])).await.unwrap());
    assert!(store.get(b"new").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_room_is_an_outage_and_what_is_invalidated_goes_all_the_same() {
    let server = RedisServer::start();
    let store = store(&server);
    store.insert(b"k", value(b"v", &["tag"])).await.unwrap();
    let fence = lease(&store, b"other").await;
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    for error in [
        store.insert(b"k", value(b"new", &[])).await.unwrap_err(),
        store.put(b"other", fence, value(b"new", &[])).await.unwrap_err(),
        store.invalidate_tag("tag").await.unwrap_err(),
        store.clear().await.unwrap_err(),
        store.acquire(b"free", SECOND).await.unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.is_temporary()), (StoreErrorKind::Unavailable, true), "{error}");
    }
    // What is there is there, and needs no room to go.
    assert_eq!(store.get(b"k").await.unwrap().unwrap().bytes, b"v");
    store.invalidate(b"k").await.unwrap();
    assert_eq!(store.get(b"k").await.unwrap(), None);
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    // Nothing was changed by what was refused.
    assert!(store.put(b"other", fence, value(b"v", &["tag"])).await.unwrap());
    store.insert(b"k", value(b"new", &["tag"])).await.unwrap();
    store.invalidate_tag("tag").await.unwrap();
    assert_eq!(store.get(b"k").await.unwrap(), None);
}

/// A missing right wants a person.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_forbids_it_says_so() {
    let server = RedisServer::start();
    let store = store(&server);
    for rule in ["-publish", "resetchannels", "-set", "-evalsha"] {
        server.command(&["ACL", "SETUSER", "default", "+@all", "allchannels"]);
        store.insert(b"k", value(b"v", &[])).await.unwrap();
        server.command(&["ACL", "SETUSER", "default", rule]);
        let error = store.insert(b"k", value(b"v", &[])).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Refused, "{rule}: {error}");
    }
}

/// What concerns all slots is done in those that can do it, and is told, and is an error all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_fails_is_an_error_and_the_others_are_done() {
    let server = RedisServer::start();
    let [store, other] = [(); 2].map(|()| store(&server).slots(8).unwrap());
    for key in 0..32_u8 {
        store.insert(&[key], value(b"v", &["tag"])).await.unwrap();
    }
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let _subscription = other.subscribe(std::sync::Arc::new(move |change| drop(tell.send(format!("{change:?}")))));
    assert_eq!(told.recv().await.unwrap(), "Resumed");
    server.command(&["ACL", "SETUSER", "default", "resetkeys", "~*.[0-6]}*"]);
    assert_eq!(store.invalidate_tag("tag").await.unwrap_err().kind(), StoreErrorKind::Refused);
    assert_eq!(told.recv().await.unwrap(), "Tag(\"tag\")");
    server.command(&["ACL", "SETUSER", "default", "allkeys"]);
    let mut left = 0;
    for key in 0..32_u8 {
        left += usize::from(store.get(&[key]).await.unwrap().is_some());
    }
    assert!((1..16).contains(&left), "{left} of an eighth of 32");
    store.invalidate_tag("tag").await.unwrap();
    for key in 0..32_u8 {
        assert_eq!(store.get(&[key]).await.unwrap(), None);
    }
}

/// The fate of a call that is late is unknown, and it is as late as was allowed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_ends_within_its_deadline() {
    let server = RedisServer::start();
    let store = store(&server).deadline(SECOND / 20).slots(4).unwrap();
    store.insert(b"k", value(b"v", &[])).await.ok();
    server.freeze();
    let fence = Fence::new(1);
    let began = Instant::now();
    let errors = [
        store.get(b"k").await.unwrap_err(),
        store.get_or_lease(b"k", SECOND).await.unwrap_err(),
        store.acquire(b"k", SECOND).await.unwrap_err(),
        store.renew(b"k", fence, SECOND).await.unwrap_err(),
        store.release(b"k", fence).await.unwrap_err(),
        store.put(b"k", fence, value(b"v", &[])).await.unwrap_err(),
        store.insert(b"k", value(b"v", &[])).await.unwrap_err(),
        store.invalidate(b"k").await.unwrap_err(),
        store.invalidate_tag("tag").await.unwrap_err(),
        store.clear().await.unwrap_err(),
    ];
    // Twelve deadlines are 600 ms; the rest is for a busy machine.
    assert!(began.elapsed() < 5 * SECOND, "{:?}", began.elapsed());
    assert!(errors.iter().all(|error| error.kind() == StoreErrorKind::TimedOut), "{errors:?}");
}

/// A server whose clock steps back, as a promoted replica's may: marks grow all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_steps_back_brings_nothing_back() {
    let server = RedisServer::start();
    let clock = ManualClock::at(Moment::from_nanos(1_800_000_000_000_000_000));
    let store = store(&server).clock(clock.clone());
    let first = lease(&store, b"first").await;
    store.insert(b"k", value(b"v", &["tag"])).await.unwrap();
    clock.turn_back(3_600 * SECOND);
    assert_eq!(store.get(b"k").await.unwrap().unwrap().age, Duration::ZERO);
    store.invalidate_tag("tag").await.unwrap();
    assert_eq!(store.get(b"k").await.unwrap(), None);
    assert!(!store.put(b"first", first, value(b"v", &["tag"])).await.unwrap());
    assert!(lease(&store, b"k").await > first);
    store.insert(b"k", value(b"v", &["tag"])).await.unwrap();
    let found = store.get(b"k").await.unwrap().unwrap();
    assert_eq!((found.age, found.is_fresh()), (Duration::ZERO, true));
    clock.advance(60 * SECOND);
    assert_eq!(store.get(b"k").await.unwrap(), None);
}

/// A year of tags: the ledger keeps those of thirty days.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_forgets_what_is_over() {
    let server = RedisServer::start();
    let clock = ManualClock::at(Moment::from_nanos(1_800_000_000_000_000_000));
    let store = store(&server).clock(clock.clone());
    let days = 86_400 * SECOND;
    let long = NewValue { fresh_for: 40 * days, keep_for: 40 * days, ..value(b"v", &["day-0"]) };
    for day in 0..365 {
        if day % 29 == 0 {
            store.insert(b"k", long).await.unwrap();
        }
        if day == 29 {
            store.invalidate_tag("day-0").await.unwrap();
            assert_eq!(store.get(b"k").await.unwrap(), None);
        }
        for part in 0..3 {
            store.invalidate_tag(&format!("day-{day}-{part}")).await.unwrap();
        }
        clock.advance(days);
    }
    let kept: u64 = server.command(&["ZCARD", KEYS[0]]).trim().trim_start_matches(':').parse().unwrap();
    assert!((90..=100).contains(&kept), "{kept}");
    // Of the last of the insertions, at the day 348.
    assert!(store.get(b"k").await.unwrap().is_some());
    clock.advance(13 * days - SECOND / 1_000);
    assert!(store.get(b"k").await.unwrap().is_some_and(|value| value.is_fresh()));
    clock.advance(SECOND / 1_000);
    assert_eq!(store.get(b"k").await.unwrap(), None);
}

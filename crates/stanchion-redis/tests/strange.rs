//! What lies under our keys and isn't ours, scripts that the server has forgotten, and states
//! that are larger than anybody should have them.

use std::time::Duration;

use stanchion_conformance::RedisServer;
use stanchion_core::{
    Ask, FixedWindow, ManualClock, Moment, RateLimit, RateRequest, RateStore, SlidingCounter, SlidingLog,
    StoreErrorKind, TokenBucket,
};
use stanchion_redis::RedisRateStore;

const HOUR: Duration = Duration::from_secs(3_600);

fn store(server: &RedisServer) -> RedisRateStore {
    RedisRateStore::connect(&server.url()).unwrap().deadline(Duration::from_secs(20))
}

fn every_rule() -> [(&'static str, RateLimit); 5] {
    let limit = |rule: stanchion_core::RateRule| RateLimit::new("api", rule);
    [
        ("rate", limit(TokenBucket::new(10, HOUR, 10).unwrap().into())),
        ("rate", limit(TokenBucket::new(7, HOUR, 10).unwrap().into())),
        ("rate-window", limit(FixedWindow::new(10, HOUR).unwrap().into())),
        ("rate-counter", limit(SlidingCounter::new(10, HOUR).unwrap().into())),
        ("rate-log", limit(SlidingLog::new(10, HOUR).unwrap().into())),
    ]
}

/// Whatever it is, the error says so, needs a person, and nothing is written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_elses_value_is_a_clear_error_and_stays_as_it_is() {
    let server = RedisServer::start();
    let store = store(&server);
    let garbage: [&[&str]; 8] = [
        &["SET", "hello"],
        &["SET", ""],
        &["SET", "1:2:3:4:5:6:7:8"],
        &["SET", "1:2:3:"],
        &["RPUSH", "x", "y"],
        &["RPUSH", "12"],
        &["HSET", "field", "value"],
        &["SADD", "member"],
    ];
    for (family, limit) in every_rule() {
        let key = format!("stanchion:{family}:{{k}}:api");
        for words in garbage {
            let command: Vec<&str> = [words[0], &key].into_iter().chain(words[1..].iter().copied()).collect();
            server.command(&["DEL", &key]);
            server.command(&command);
            let before = server.command(&["DUMP", &key]);
            let request = RateRequest::single(b"k", 1, &limit);
            let error = store.decide(request).await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Refused, "{limit:?}, {words:?}: {error}");
            assert!(error.to_string().contains("not the state of a rate limit"), "{words:?}: {error}");
            let error = store.reserve(request.ask(Ask::UpTo)).await.unwrap_err();
            assert!(error.to_string().contains("not the state of a rate limit"), "{words:?}: {error}");
            assert_eq!(server.command(&["DUMP", &key]), before);
        }
        server.command(&["DEL", &key]);
        let (_, receipt) = store.reserve(RateRequest::single(b"k", 1, &limit)).await.unwrap();
        server.command(&["DEL", &key]);
        server.command(&["SADD", &key, "x"]);
        let error = store.give_back(RateRequest::single(b"k", 1, &limit), &receipt).await.unwrap_err();
        assert!(error.to_string().contains("not the state of a rate limit"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushed_scripts_are_sent_again_within_the_call() {
    let server = RedisServer::start();
    let store = store(&server);
    let limits: Vec<RateLimit> = every_rule()
        .into_iter()
        .zip(["a", "b", "c", "d", "e"])
        .map(|((_, limit), name)| RateLimit::new(name, limit.rule()))
        .collect();
    let request = |units| RateRequest::new(b"k", units, &limits).unwrap();
    for round in 1..=3 {
        let (taken, receipt) = store.reserve(request(4)).await.unwrap();
        assert_eq!((taken.allowed(), server.calls("eval")), (true, 2 * round - 1));
        server.command(&["SCRIPT", "FLUSH"]);
        assert_eq!(store.give_back(request(4), &receipt).await.unwrap(), 4);
        assert_eq!(server.calls("eval"), 2 * round);
    }
    assert_eq!(store.decide(request(0)).await.unwrap().remaining(), 10);
}

/// A hundred thousand admissions in one log: nobody reads them all, and what has expired is
/// passed by once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_log_is_not_read_through_by_anybody() {
    let server = RedisServer::start();
    let clock = ManualClock::at(Moment::from_nanos(1_800_000_000_000_000_000));
    let store = store(&server).clock(clock.clone());
    let log = [RateLimit::new("api", SlidingLog::new(100_000, HOUR).unwrap())];
    let both = [log[0].clone(), RateLimit::new("day", FixedWindow::new(1, 24 * HOUR).unwrap())];
    let ask = |units| store.decide(RateRequest::new(b"k", units, &log).unwrap());
    assert!(store.decide(RateRequest::new(b"k", 1, &both).unwrap()).await.unwrap().allowed());
    // As the script writes them: one a millisecond.
    let mut list = vec!["RPUSH".to_owned(), "stanchion:rate-log:{k}:api".to_owned()];
    list.extend((1..100_000).map(|place| format!("{}:1", 1_800_000_000_000_000_u64 + place * 1_000)));
    list.push("100000".to_owned());
    server.command(&["RPOP", "stanchion:rate-log:{k}:api"]);
    server.command(&list.iter().map(String::as_str).collect::<Vec<_>>());
    clock.advance(Duration::from_secs(200));
    let reads = || server.calls("lrange");
    for (units, most) in [(1, 3), (0, 3), (100, 8)] {
        let before = reads();
        assert_eq!(ask(units).await.unwrap().remaining(), 0);
        assert!(reads() - before <= most, "{units} units: {} reads", reads() - before);
    }
    // Half have expired, and the other limit keeps everybody from an admission.
    clock.advance(HOUR - Duration::from_secs(150));
    let first = reads();
    assert!(!store.decide(RateRequest::new(b"k", 1, &both).unwrap()).await.unwrap().allowed());
    assert_eq!(ask(0).await.unwrap().remaining(), 50_001);
    let second = reads();
    for _ in 0..10 {
        assert!(!store.decide(RateRequest::new(b"k", 1, &both).unwrap()).await.unwrap().allowed());
    }
    assert!(reads() - second <= 30 && second - first < 300, "{} and {}", second - first, reads() - second);
    assert_eq!(server.command(&["LLEN", "stanchion:rate-log:{k}:api"]).trim(), ":50000");
    // A weighted request is one entry.
    assert!(ask(50_001).await.unwrap().allowed());
    assert_eq!(server.command(&["LLEN", "stanchion:rate-log:{k}:api"]).trim(), ":50001");
}

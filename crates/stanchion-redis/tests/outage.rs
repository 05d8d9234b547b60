//! What happens to decisions while the server is killed, paused, frozen,
//! flushed, restarted, or answers nonsense.

use std::time::{Duration, Instant};

use stanchion_conformance::RedisServer;
use stanchion_core::{RateLimit, RateRequest, RateStore, StoreErrorKind, Verdict};
use stanchion_limit::{Decision, KeyedLimiter, Outage, Quota};
use stanchion_redis::RedisRateStore;

/// Short for a person, long for this machine.
const DEADLINE: Duration = Duration::from_millis(300);

fn limiter(server: &RedisServer, outage: Outage) -> KeyedLimiter<str, RedisRateStore> {
    let store = RedisRateStore::connect(&server.url()).unwrap().deadline(DEADLINE);
    KeyedLimiter::builder(Quota::per_hour(9)).name("api").on(store, outage).build().unwrap()
}

/// Asks until the decision is what is wanted: recovery takes its pause, and
/// the connection its time.
async fn until(limiter: &KeyedLimiter<str, RedisRateStore>, wanted: impl Fn(&Decision) -> bool) -> Decision {
    let began = Instant::now();
    loop {
        let decision = limiter.check_n("probe", 0).await.unwrap();
        if wanted(&decision) {
            return decision;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "still {decision:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Each policy while the server is away, whatever keeps it away.
async fn the_policies_hold(server: &mut RedisServer, break_it: impl FnOnce(&mut RedisServer)) {
    let open = limiter(server, Outage::Admit);
    let closed = limiter(server, Outage::Refuse);
    let share = limiter(server, Outage::LocalShare { instances: 3 });
    for limiter in [&open, &closed, &share] {
        assert!(!limiter.check("k").await.unwrap().degraded());
    }
    break_it(server);
    for _ in 0..20 {
        let decision = open.check("k").await.unwrap();
        assert!(decision.allowed() && decision.degraded());
        let decision = closed.check("k").await.unwrap();
        assert!(decision.verdict() == Verdict::StoreUnavailable && decision.retry_after().is_some());
    }
    let mut shared = 0;
    for _ in 0..20 {
        shared += u32::from(share.check("k").await.unwrap().allowed());
    }
    assert_eq!(shared, 3, "a third of nine");
    // One question each: the others were decided at once.
    for limiter in [&open, &closed, &share] {
        assert!(limiter.snapshot().store_is_ill && limiter.snapshot().store_failures <= 3, "{limiter:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_is_survived_and_its_return_noticed() {
    let mut server = RedisServer::start();
    let survivor = limiter(&server, Outage::Admit);
    assert!(!survivor.check("k").await.unwrap().degraded());
    server.kill();
    assert!(until(&survivor, Decision::degraded).await.allowed());
    server.restart();
    let decision = until(&survivor, |decision| !decision.degraded()).await;
    assert_eq!(decision.remaining(), 9);
    // The script is unknown to the new server; that was one EVAL.
    assert_eq!(server.calls("eval"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_policies_hold_while_the_server_is_dead() {
    let mut server = RedisServer::start();
    the_policies_hold(&mut server, RedisServer::kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_policies_hold_while_the_server_is_paused() {
    let mut server = RedisServer::start();
    the_policies_hold(&mut server, |server| server.pause()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_policies_hold_while_the_server_is_frozen() {
    let mut server = RedisServer::start();
    the_policies_hold(&mut server, |server| server.freeze()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thawed_server_decides_again() {
    let server = RedisServer::start();
    let limiter = limiter(&server, Outage::Refuse);
    assert!(limiter.check("k").await.unwrap().allowed());
    server.freeze();
    assert_eq!(limiter.check("k").await.unwrap().verdict(), Verdict::StoreUnavailable);
    server.thaw();
    assert!(until(&limiter, |decision| !decision.degraded()).await.allowed());
    // The late request may have been carried out: its token is lost, not given twice.
    let left = limiter.check_n("k", 0).await.unwrap().remaining();
    assert!((7..=8).contains(&left), "{left}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushed_scripts_are_sent_again_within_the_call() {
    let server = RedisServer::start();
    let limiter = limiter(&server, Outage::Refuse);
    for round in 1..=3 {
        assert!(limiter.check("k").await.unwrap().allowed());
        assert!(limiter.check("k").await.unwrap().allowed());
        assert_eq!(server.calls("eval"), round);
        server.command(&["SCRIPT", "FLUSH"]);
    }
    assert_eq!(limiter.check_n("k", 0).await.unwrap().remaining(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_starts_while_its_redis_is_away() {
    let mut server = RedisServer::start();
    server.kill();
    let limiter = limiter(&server, Outage::Admit);
    assert!(limiter.check("k").await.unwrap().degraded());
    server.restart();
    assert!(until(&limiter, |decision| !decision.degraded()).await.allowed());
}

/// A decision never takes longer than its deadline, by more than a machine's hiccup.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_has_a_deadline() {
    let server = RedisServer::start();
    let store = RedisRateStore::connect(&server.url()).unwrap().deadline(DEADLINE);
    let limit = RateLimit::new("deadline", Quota::per_second(1).bucket().unwrap());
    assert!(store.decide(RateRequest::single(b"k", 1, &limit)).await.is_ok());
    server.freeze();
    let error = store.decide(RateRequest::single(b"k", 1, &limit)).await.unwrap_err();
    server.thaw();
    assert_eq!(error.kind(), StoreErrorKind::TimedOut);
    assert_eq!(error.to_string(), "redis: no answer within 300ms");
}

/// What wants a person is handed on whatever the policy: a key of somebody
/// else's, a missing right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_elses_key_and_a_missing_right_are_errors() {
    let server = RedisServer::start();
    let limiter = limiter(&server, Outage::Admit);
    server.command(&["LPUSH", "stanchion:rate:{list}:api", "x"]);
    let error = limiter.check("list").await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Refused, "{error}");
    server.command(&["SET", "stanchion:rate:{text}:api", "hello"]);
    let error = limiter.check("text").await.unwrap_err();
    assert!(error.to_string().contains("not the state of a rate limit"), "{error}");
    server.command(&["ACL", "SETUSER", "default", "-evalsha"]);
    let error = limiter.check("k").await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Refused, "{error}");
}

/// A server that speaks something else, or closes in mid-reply: the policy decides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_talks_nonsense_is_an_outage() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    for nonsense in ["HTTP/1.1 400 Bad Request\r\n\r\n", "*3\r\n:1\r\n", ":7\r\n", "*1\r\n$3\r\nabc\r\n", "\0\0\0\0"] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}/", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                        if stream.write_all(nonsense.as_bytes()).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        let store = RedisRateStore::connect(&url).unwrap().deadline(DEADLINE);
        let limiter: KeyedLimiter<str, _> = KeyedLimiter::builder(Quota::per_hour(4))
            .name("api")
            .on(store, Outage::LocalShare { instances: 2 })
            .build()
            .unwrap();
        let decision = limiter.check("k").await.unwrap();
        assert!(decision.allowed() && decision.degraded() && decision.remaining() == 1, "{nonsense:?}: {decision:?}");
        server.abort();
    }
}

/// The first connection is swallowed, as by a load balancer whose backend is
/// gone; a new one would work. It is replaced, and decisions return.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_died_without_a_word_is_replaced() {
    let server = RedisServer::start();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}/", listener.local_addr().unwrap());
    let port = server.port();
    let proxy = tokio::spawn(async move {
        let mut swallowed = Vec::new();
        while let Ok((mut client, _)) = listener.accept().await {
            if swallowed.is_empty() {
                swallowed.push(client);
                continue;
            }
            tokio::spawn(async move {
                let mut backend = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                tokio::io::copy_bidirectional(&mut client, &mut backend).await.ok();
            });
        }
    });
    let store = RedisRateStore::connect(&url).unwrap().deadline(DEADLINE);
    let limiter = KeyedLimiter::builder(Quota::per_hour(9)).name("api").on(store, Outage::Admit).build().unwrap();
    assert!(limiter.check("probe").await.unwrap().degraded());
    assert!(until(&limiter, |decision| !decision.degraded()).await.allowed());
    proxy.abort();
}

/// A server that takes no more clients is full, not broken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_at_its_most_clients_is_an_outage() {
    let server = RedisServer::start();
    let first = limiter(&server, Outage::Refuse);
    assert!(first.check("k").await.unwrap().allowed());
    server.command(&["CONFIG", "SET", "maxclients", "1"]);
    let second = limiter(&server, Outage::Admit);
    assert!(second.check("k").await.unwrap().degraded());
}

/// Out of memory: the server says so, and it passes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_out_of_memory_is_an_outage() {
    let server = RedisServer::start();
    let limiter = limiter(&server, Outage::Admit);
    assert!(!limiter.check("k").await.unwrap().degraded());
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    assert!(limiter.check("k").await.unwrap().degraded());
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    assert!(until(&limiter, |decision| !decision.degraded()).await.allowed());
}

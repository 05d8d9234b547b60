//! What the way out does, over real sockets.

use super::*;
use crate::demand::Demanded;
use crate::server::Server;
use crate::trouble::Trouble;
use crate::upstream::Upstream;
use axum::Router;
use stanchion_cache::ManualClock;
use stanchion_retry::{Budget, RatioBudget};

/// Answers 500 so many times, then 200; `/missing` isn't there.
async fn upstream(failures: u64) -> (Server, Arc<AtomicU64>) {
    let asked = Arc::new(AtomicU64::new(0));
    let count = asked.clone();
    let answer = move |request: Request| async move {
        let before = count.fetch_add(1, Ordering::Relaxed);
        match request.uri().path() {
            "/missing" => StatusCode::NOT_FOUND,
            _ if before < failures => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::OK,
        }
    };
    (Server::start(Router::new().fallback(answer)).await.unwrap(), asked)
}

/// Without a hedge, which would come whenever this machine is slow, and with a
/// budget that grants the few retries of a test at once.
fn retrying(clock: &ManualClock) -> Option<Outgoing> {
    let retry = Retry::constant(Duration::from_millis(1));
    let budget = Budget::new(RatioBudget::finagle()).unwrap();
    let pipeline = Pipeline::named("test").retry(retry).budget(budget).build().unwrap();
    Some(Outgoing::of(pipeline, clock.clock()).unwrap())
}

fn asked(path: &str) -> Asked {
    Asked { tenant: None, path: path.to_owned(), repeatable: true }
}

#[tokio::test]
async fn what_passes_is_asked_again_and_what_does_not_is_not() {
    let (server, count) = upstream(1).await;
    let gateway = Gateway::to(server.address, retrying(&ManualClock::new()));
    let answer = gateway.own(&asked("/orders")).await.unwrap();
    assert_eq!((answer.status, answer.origin, count.load(Ordering::Relaxed)), (StatusCode::OK, Origin::New, 2));
    let answer = gateway.own(&asked("/missing")).await.unwrap();
    assert_eq!((answer.status, count.load(Ordering::Relaxed)), (StatusCode::NOT_FOUND, 3));
    assert_eq!(gateway.counts(), GatewayCounts { retries: 1, ..GatewayCounts::default() });
}

#[tokio::test]
async fn the_last_known_answer_comes_when_there_is_no_other_and_says_so() {
    let (server, _) = upstream(0).await;
    let clock = ManualClock::new();
    let mut gateway = Gateway::to(server.address, retrying(&clock));
    let of = |tenant| Asked { tenant: Some(HeaderValue::from_static(tenant)), ..asked("/orders") };
    assert_eq!(gateway.own(&of("a")).await.unwrap().origin, Origin::New);
    clock.advance(Duration::from_secs(7));
    // It is no hit, however well it is known.
    assert_eq!(gateway.own(&of("a")).await.unwrap().origin, Origin::New);
    // From now on it asks another upstream, which only fails.
    let (failing, _) = upstream(u64::MAX).await;
    gateway.upstream = failing.address;
    for age in [0, 5, 10].map(Duration::from_secs) {
        let answer = gateway.own(&of("a")).await.unwrap();
        // It doesn't become younger by being given out.
        assert_eq!((answer.status, answer.origin), (StatusCode::OK, Origin::LastKnown { age }));
        clock.advance(Duration::from_secs(5));
    }
    for unknown in [of("b"), asked("/orders"), Asked { path: "/bills".to_owned(), ..of("a") }] {
        let unknown = gateway.own(&unknown).await;
        assert!(matches!(unknown, Err(CallError::Inner { error: Fault::Answered(_), .. })), "{unknown:?}");
    }
    assert_eq!(gateway.counts().fallbacks, 3);
}

#[tokio::test]
async fn only_successes_are_kept() {
    let (server, count) = upstream(0).await;
    let gateway = Gateway::to(server.address, retrying(&ManualClock::new()));
    for _ in 0..2 {
        assert_eq!(gateway.own(&asked("/missing")).await.unwrap().status, StatusCode::NOT_FOUND);
        let answer = gateway.product(&asked("/missing")).await.unwrap();
        assert_eq!((answer.status, answer.origin), (StatusCode::NOT_FOUND, Origin::New));
    }
    assert_eq!(count.load(Ordering::Relaxed), 4);
    let Outgoing { products, last_known, .. } = gateway.stanchion.as_ref().unwrap();
    assert!(products.is_empty() && last_known.is_empty());
}

#[tokio::test]
async fn a_product_is_a_hit_while_it_is_fresh_and_then_only_for_want_of_a_new_one() {
    let (server, count) = upstream(0).await;
    let clock = ManualClock::new();
    let mut gateway = Gateway::to(server.address, retrying(&clock));
    let nanosecond = Duration::from_nanos(1);
    assert_eq!(gateway.product(&asked("/products/1")).await.unwrap().origin, Origin::New);
    clock.advance(FRESH - nanosecond);
    let hit = gateway.product(&asked("/products/1")).await.unwrap();
    assert_eq!(hit.origin, Origin::Hit { age: FRESH - nanosecond });
    clock.advance(nanosecond);
    assert_eq!(gateway.product(&asked("/products/1")).await.unwrap().origin, Origin::New);
    assert_eq!(count.load(Ordering::Relaxed), 2);

    let (failing, count) = upstream(u64::MAX).await;
    gateway.upstream = failing.address;
    clock.advance(FRESH);
    for _ in 0..10 {
        let stale = gateway.product(&asked("/products/1")).await.unwrap();
        assert_eq!((stale.status, stale.origin), (StatusCode::OK, Origin::LastKnown { age: FRESH }));
    }
    // One call with its retries.
    assert_eq!(count.load(Ordering::Relaxed), 3);
    assert!(gateway.product(&asked("/products/2")).await.is_err());
}

/// What an upstream sees of fifty who ask for the same at once, and again when that has expired.
async fn demanded(stanchion: Option<Outgoing>, clock: &ManualClock) -> Demanded {
    let upstream = Upstream::new(1, Instant::now(), Trouble::default());
    let server = Server::start(upstream.router()).await.unwrap();
    let gateway = Gateway::to(server.address, stanchion);
    for _ in 0..2 {
        let all: Vec<_> = (0..50)
            .map(|_| {
                let gateway = gateway.clone();
                tokio::spawn(async move { gateway.product(&asked("/products/0")).await.unwrap() })
            })
            .collect();
        for one in all {
            assert_eq!(one.await.unwrap().status, StatusCode::OK);
        }
        clock.advance(FRESH);
    }
    upstream.counts().products
}

#[tokio::test]
async fn however_many_ask_the_upstream_sees_one_call_for_each_expiry_and_without_the_cache_all() {
    let clock = ManualClock::new();
    let with = demanded(retrying(&clock), &clock).await;
    assert_eq!(with, Demanded { calls: 2, hottest: 2, at_once: 1 });
    // What is counted there isn't always one.
    let without = demanded(None, &clock).await;
    assert_eq!((without.calls, without.hottest), (100, 100));
    assert!(without.at_once > 10, "{without:?}");
}

#[test]
fn what_protects_the_way_out_can_be_honoured() {
    assert!(Outgoing::stanchion().is_ok());
}

#[tokio::test]
async fn without_stanchion_it_insists() {
    let (server, count) = upstream(u64::MAX).await;
    let failed = Gateway::to(server.address, None).own(&asked("/orders")).await;
    assert!(matches!(failed, Err(CallError::Inner { error: Fault::Answered(_), attempts: 4 })));
    assert_eq!(count.load(Ordering::Relaxed), 4);
}

#[tokio::test(start_paused = true)]
async fn only_an_attempt_without_time_left_has_timed_out() {
    let counters = Counters::default();
    let limit = Duration::from_millis(400);
    for (took, limit, over, timed_out) in
        [(399, Some(limit), false, 0), (400, Some(limit), false, 1), (400, Some(limit), true, 1), (1, None, false, 2)]
    {
        let under_way = UnderWay { counters: &counters, began: Instant::now(), limit, over };
        tokio::time::advance(Duration::from_millis(took)).await;
        drop(under_way);
        assert_eq!(counters.timed_out.load(Ordering::Relaxed), timed_out);
    }
}

//! The layer over a service, in memory and on a store.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use stanchion_limit::{
    Answer, Decision, KeyedLimiter, Limit, Limiter, ManualClock, MemoryRateStore, Outage, Quota, RateRequest,
    RateStore, StoreError,
};
use stanchion_tower::{Header, Headers, MissingKey, RateLimitLayer, RequestHead};
use tower::{Service, ServiceBuilder, ServiceExt};

/// A memory store that takes its time, as a remote one does.
struct Slow(MemoryRateStore);

impl RateStore for Slow {
    fn decide(&self, request: RateRequest<'_>) -> Answer<'_, Result<Decision, StoreError>> {
        let answer = self.0.decide(request);
        Answer::later(async {
            tokio::task::yield_now().await;
            answer.await
        })
    }
}

/// Sends requests of these keys through a layer; the statuses, and how many reached the service.
async fn statuses(layer: RateLimitLayer, keys: &[Option<&str>]) -> (Vec<u16>, u32) {
    let reached = Arc::new(AtomicU32::new(0));
    let counter = reached.clone();
    let mut service = ServiceBuilder::new().layer(layer).service_fn(move |_: Request<()>| {
        counter.fetch_add(1, SeqCst);
        std::future::ready(Ok::<_, Infallible>(Response::new(String::from("hello"))))
    });
    let mut statuses = Vec::new();
    for key in keys {
        let mut request = Request::builder();
        if let Some(key) = key {
            request = request.header("x-api-key", *key);
        }
        let response = service.ready().await.unwrap().call(request.body(()).unwrap()).await.unwrap();
        statuses.push(response.status().as_u16());
    }
    (statuses, reached.load(SeqCst))
}

fn by_header() -> Header {
    Header::new("x-api-key").unwrap()
}

const KEYS: [Option<&str>; 6] = [Some("a"), Some("a"), Some("b"), None, None, Some("a")];

#[tokio::test]
async fn in_memory_and_on_a_store_the_same_requests_are_refused() {
    let memory = KeyedLimiter::new(Quota::per_hour(1)).unwrap();
    let store =
        KeyedLimiter::builder(Quota::per_hour(1)).name("api").on(Slow(MemoryRateStore::new(100)), Outage::Refuse);
    let limiters: [Arc<dyn Limit>; 2] = [Arc::new(memory), Arc::new(store.build().unwrap())];
    for limiter in limiters {
        let outcome = statuses(RateLimitLayer::new(limiter, by_header()), &KEYS).await;
        assert_eq!(outcome, (vec![200, 429, 200, 200, 429, 429], 3));
    }
}

#[tokio::test]
async fn requests_without_a_key_go_as_they_are_told() {
    let layer = |missing| {
        let limiter = KeyedLimiter::new(Quota::per_hour(1)).unwrap();
        RateLimitLayer::new(limiter, by_header()).missing_key(missing)
    };
    assert_eq!(statuses(layer(MissingKey::Skip), &KEYS).await, (vec![200, 429, 200, 200, 200, 429], 4));
    assert_eq!(statuses(layer(MissingKey::Refuse), &KEYS).await, (vec![200, 429, 200, 400, 400, 429], 2));
}

#[tokio::test]
async fn one_limiter_for_all_and_a_cost_by_request() {
    let limiter = Limiter::builder(Quota::per_hour(5)).build().unwrap();
    let layer = RateLimitLayer::new(limiter, |_: &RequestHead<'_>| None)
        .cost(|head| if head.headers.contains_key("x-api-key") { 2 } else { 1 });
    assert_eq!(statuses(layer, &KEYS).await, (vec![200, 200, 429, 200, 429, 429], 3));
}

#[tokio::test]
async fn a_response_says_how_the_client_stands() {
    let clock = ManualClock::new();
    let limiter =
        KeyedLimiter::builder(Quota::per_minute(60).burst(2)).name("api").clock(clock.clone()).build().unwrap();
    let mut service = ServiceBuilder::new()
        .layer(RateLimitLayer::new(limiter, by_header()).headers(Headers::Both))
        .service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(())));
    let mut ask = async || {
        let response = service.ready().await.unwrap().call(Request::new(())).await.unwrap();
        let text = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let names = ["ratelimit-policy", "ratelimit", "x-ratelimit-remaining", "x-ratelimit-reset", "retry-after"];
        (response.status(), names.map(|name| text(name).unwrap_or_default()))
    };
    let policy = r#""api";q=2;w=2"#.to_owned();
    let said = |parts: [&str; 4]| [policy.clone(), parts[0].into(), parts[1].into(), parts[2].into(), parts[3].into()];
    assert_eq!(ask().await, (StatusCode::OK, said([r#""api";r=1;t=1"#, "1", "1", ""])));
    assert_eq!(ask().await, (StatusCode::OK, said([r#""api";r=0;t=1"#, "0", "2", ""])));
    clock.advance(Duration::from_millis(300));
    assert_eq!(ask().await, (StatusCode::TOO_MANY_REQUESTS, said([r#""api";r=0;t=1"#, "0", "2", "1"])));
}

/// A limit for each client around one for all: both say how they stand.
#[tokio::test]
async fn limits_within_limits_add_to_the_headers() {
    let layer = |name: &'static str, burst| {
        let limiter = KeyedLimiter::builder(Quota::per_hour(10).burst(burst)).name(name).build().unwrap();
        RateLimitLayer::new(limiter, by_header())
    };
    let mut service = ServiceBuilder::new()
        .layer(layer("outer", 5))
        .layer(layer("inner", 2))
        .service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(())));
    let response = service.ready().await.unwrap().call(Request::new(())).await.unwrap();
    let said: Vec<_> = response.headers().get_all("ratelimit").iter().map(|value| value.to_str().unwrap()).collect();
    assert_eq!(said, [r#""inner";r=1;t=360"#, r#""outer";r=4;t=360"#]);
}

#[tokio::test]
async fn what_is_not_the_clients_doing_is_503() {
    struct Away;
    impl RateStore for Away {
        fn decide(&self, _: RateRequest<'_>) -> Answer<'_, Result<Decision, StoreError>> {
            Answer::Ready(Err(StoreError::new(stanchion_core::StoreErrorKind::Unavailable, "away")))
        }
    }
    for (outage, expected) in [(Outage::Refuse, 503), (Outage::Admit, 200)] {
        let limiter = KeyedLimiter::builder(Quota::per_hour(1)).name("api").on(Away, outage).build().unwrap();
        let (statuses, _) = statuses(RateLimitLayer::new(limiter, by_header()), &KEYS).await;
        assert_eq!(statuses, [expected; 6]);
    }
}

/// Dropped while the store is asked, the request never reaches the service.
#[tokio::test]
async fn a_call_dropped_while_the_store_is_asked_is_not_made() {
    let limiter =
        KeyedLimiter::builder(Quota::per_hour(1)).name("api").on(Slow(MemoryRateStore::new(100)), Outage::Refuse);
    let reached = Arc::new(AtomicU32::new(0));
    let counter = reached.clone();
    let mut service = ServiceBuilder::new()
        .layer(RateLimitLayer::new(limiter.build().unwrap(), by_header()))
        .service_fn(move |_: Request<()>| {
            counter.fetch_add(1, SeqCst);
            std::future::ready(Ok::<_, Infallible>(Response::new(())))
        });
    let mut call = Box::pin(service.ready().await.unwrap().call(Request::new(())));
    let pending = std::future::poll_fn(|cx| std::task::Poll::Ready(call.as_mut().poll(cx).is_pending())).await;
    assert!(pending);
    drop(call);
    tokio::task::yield_now().await;
    assert_eq!(reached.load(SeqCst), 0);
}

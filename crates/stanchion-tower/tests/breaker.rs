//! The breaker's layer over a service.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use stanchion_breaker::{Breaker, KeyedBreaker, State};
use stanchion_core::CallError;
use stanchion_tower::{BreakerLayer, ByKey, ByStatus, Header};
use tower::{Service, ServiceBuilder, ServiceExt};

async fn send(
    layer: BreakerLayer<ByStatus, ByKey>,
    key: &str,
    status: StatusCode,
) -> Result<StatusCode, CallError<Infallible>> {
    let mut service = ServiceBuilder::new().layer(layer).service_fn(move |_: Request<()>| {
        let mut response = Response::new(());
        *response.status_mut() = status;
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let request = Request::builder().header("host", key).body(()).unwrap();
    service.ready().await?.call(request).await.map(|response| response.status())
}

#[tokio::test]
async fn each_key_has_its_breaker() {
    let hosts: Arc<KeyedBreaker> = Arc::new(Breaker::builder("hosts").consecutive_failures(2).keyed().build().unwrap());
    let layer = || BreakerLayer::new(hosts.clone()).key(Header::new("host").unwrap());
    for _ in 0..2 {
        assert_eq!(send(layer(), "sick", StatusCode::BAD_GATEWAY).await.unwrap(), 502);
    }
    let refused = send(layer(), "sick", StatusCode::OK).await.unwrap_err();
    assert_eq!(refused.rejection().unwrap().by(), "hosts");
    assert_eq!(send(layer(), "well", StatusCode::OK).await.unwrap(), 200);
    assert_eq!((hosts.state("sick"), hosts.state("well")), (State::Open, State::Closed));
}

/// An outer timeout drops the response future.
#[tokio::test(start_paused = true)]
async fn a_dropped_response_is_a_failure_and_a_dropped_probe_frees_its_slot() {
    let breaker = Arc::new(Breaker::builder("slow").consecutive_failures(3).probes(2).build().unwrap());
    let mut service = ServiceBuilder::new()
        .layer(BreakerLayer::new(breaker.clone()))
        .service_fn(|_: Request<()>| std::future::pending::<Result<Response<()>, Infallible>>());
    for _ in 0..3 {
        assert_eq!(breaker.state(), State::Closed);
        let call = service.ready().await.unwrap().call(Request::new(()));
        assert!(tokio::time::timeout(Duration::from_secs(1), call).await.is_err());
    }
    assert_eq!(breaker.state(), State::Open);
    breaker.force(State::HalfOpen);
    let [one, other] = [(); 2].map(|()| service.call(Request::new(())));
    assert!(service.call(Request::new(())).await.is_err());
    // Made ready by nobody, never polled: dropped.
    drop((one, other));
    assert_eq!(breaker.state(), State::Open);
}

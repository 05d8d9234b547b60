//! The layers, over a service that answers at once. Each future is polled to its end
//! here, without a runtime.

use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use stanchion_breaker::{Breaker, Outcome};
use stanchion_tower::BreakerLayer;
use tower_layer::Layer;
use tower_resilience_circuitbreaker::CircuitBreakerLayer;
use tower_service::Service;

use crate::runs::{self, Run};

/// Answers at once.
#[derive(Clone)]
struct Inner;

impl Service<u64> for Inner {
    type Response = u64;
    type Error = std::io::Error;
    type Future = std::future::Ready<Result<u64, std::io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Self::Future {
        std::future::ready(Ok(black_box(request)))
    }
}

fn call<S: Service<u64>>(service: &mut S) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(())) = service.poll_ready(&mut context) else { return false };
    let mut future = pin!(service.call(1));
    match future.as_mut().poll(&mut context) {
        Poll::Ready(result) => black_box(result).is_ok(),
        Poll::Pending => false,
    }
}

fn run<S: Service<u64> + 'static>(mut service: S) -> Run {
    assert!((0..200).all(|_| call(&mut service)));
    runs::one_thread(move || {
        black_box(call(&mut service));
    })
}

pub(super) fn ours() -> Run {
    let by_result = |result: &Result<u64, std::io::Error>| match result {
        Ok(_) => Outcome::Success,
        Err(_) => Outcome::Transient,
    };
    run(BreakerLayer::new(Breaker::new("bench")).classify_by(by_result).layer(Inner))
}

pub(super) fn tower_resilience() -> Run {
    let layer = CircuitBreakerLayer::builder()
        .failure_rate_threshold(0.5)
        .sliding_window_size(100)
        .wait_duration_in_open(Duration::from_secs(5))
        .build()
        .expect("valid");
    run(layer.layer(Inner))
}

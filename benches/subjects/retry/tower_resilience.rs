//! tower-resilience, of its single crates, which are ahead of the one that
//! unites them. A stack is made once and called again and again, as by one
//! client without a clone.

use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_resilience_bulkhead::BulkheadLayer;
use tower_resilience_circuitbreaker::CircuitBreakerLayer;
use tower_resilience_ratelimiter::RateLimiterLayer;
use tower_resilience_retry::RetryLayer;
use tower_resilience_timelimiter::TimeLimiterLayer;

use super::{AT_ONCE, ATTEMPT_TIMEOUT, ATTEMPTS, FIRST_DELAY, PER_SECOND, TOTAL_TIMEOUT, succeed};
use crate::runs::{self, Run};

pub(super) fn retry_happy() -> Run {
    called(ServiceBuilder::new().layer(retry()).service(service_fn(|()| succeed())))
}

/// Outermost first, in the order of our pipeline.
pub(super) fn pipeline_happy() -> Run {
    called(
        ServiceBuilder::new()
            .layer(TimeLimiterLayer::builder().timeout_duration(TOTAL_TIMEOUT).build())
            .layer(BulkheadLayer::builder().max_concurrent_calls(size(AT_ONCE)).build().expect("a valid bulkhead"))
            .layer(retry())
            .layer(CircuitBreakerLayer::builder().build().expect("a valid breaker"))
            .layer(RateLimiterLayer::burst(size(PER_SECOND), size(PER_SECOND)).build().expect("a valid quota"))
            .layer(TimeLimiterLayer::builder().timeout_duration(ATTEMPT_TIMEOUT).build())
            .service(service_fn(|()| succeed())),
    )
}

/// It needs to be told the error that the layers within make.
fn retry<E>() -> RetryLayer<(), u64, E> {
    RetryLayer::builder().max_attempts(size(ATTEMPTS)).exponential_backoff(FIRST_DELAY).build()
}

fn size(number: u32) -> usize {
    usize::try_from(number).expect("of 32 bits at least")
}

fn called<S>(mut service: S) -> Run
where
    S: Service<(), Response = u64> + 'static,
    S::Error: std::fmt::Debug,
{
    runs::polled(async move || {
        let result = service.ready().await.expect("its services are always ready").call(()).await;
        assert!(matches!(result, Ok(7)));
    })
}

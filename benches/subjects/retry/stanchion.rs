//! Ours.

use std::time::Duration;

use stanchion_breaker::Breaker;
use stanchion_limit::{Bulkhead, Limiter};
use stanchion_pipeline::Pipeline;
use stanchion_retry::{Backoff, Retry};

use super::{AT_ONCE, ATTEMPT_TIMEOUT, ATTEMPTS, FIRST_DELAY, PER_SECOND, TOTAL_TIMEOUT, succeed, succeed_at_third};
use crate::runs::{self, Run};

pub(super) fn retry_happy() -> Run {
    let retry = Retry::exponential();
    runs::polled(async move || {
        let result = retry.run(|_| succeed()).await;
        assert!(matches!(result, Ok(7)));
    })
}

/// No timer: where the delay is zero, others on the thread have their turn.
pub(super) fn three_attempts() -> Run {
    let retry = Retry::new(Backoff::exponential(Duration::ZERO)).max_attempts(3);
    runs::polled(async move || {
        let mut made = 0;
        let result = retry
            .run(|_| {
                made += 1;
                succeed_at_third(made)
            })
            .await;
        assert!(matches!(result, Ok(7)) && made == 3);
    })
}

pub(super) fn pipeline_happy() -> Run {
    let pipeline = Pipeline::named("bench")
        .total_timeout(TOTAL_TIMEOUT)
        .bulkhead(Bulkhead::new(AT_ONCE))
        .retry(Retry::new(Backoff::exponential(FIRST_DELAY)).max_attempts(ATTEMPTS))
        .breaker(Breaker::new("bench"))
        .rate_limit(Limiter::per_second(PER_SECOND.into()).burst(PER_SECOND.into()))
        .attempt_timeout(ATTEMPT_TIMEOUT)
        .build()
        .expect("valid policies");
    runs::polled(async move || {
        let result = pipeline.run(|_| succeed()).await;
        assert!(matches!(result, Ok(7)));
    })
}

//! The algorithms beside the token bucket, several quotas at once, and waiting.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota as GovernorQuota, RateLimiter};
use stanchion_limit::{Limiter, Quota};
use tower::{Service, ServiceExt, service_fn};
use tower_resilience_ratelimiter::{RateLimiterLayer, WindowType};

use crate::runs::{self, Run};

/// So many in each window that no check is refused, and the log holds some hundreds.
const LOGGED: (u32, Duration) = (100_000, Duration::from_micros(10));
/// So many that no check is refused.
const COUNTED: (u32, Duration) = (1_000_000_000, Duration::from_secs(1));

fn checked(quota: Quota) -> Run {
    let limiter = Limiter::new(quota).expect("a valid quota");
    assert!(limiter.check().allowed());
    runs::one_thread(move || {
        black_box(limiter.check().allowed());
    })
}

const fn of((count, period): (u32, Duration)) -> Quota {
    Quota::new(count as u64, period)
}

pub(super) fn log() -> Run {
    checked(of(LOGGED).sliding_log())
}

pub(super) fn counter() -> Run {
    checked(of(COUNTED).sliding_counter())
}

pub(super) fn window() -> Run {
    checked(of(COUNTED).fixed_window())
}

/// tower-resilience' limiter, which is a service: called again and again, as by one client without a clone.
fn called((count, period): (u32, Duration), window: WindowType) -> Run {
    let layer = RateLimiterLayer::builder()
        .limit_for_period(usize::try_from(count).expect("of 32 bits at least"))
        .refresh_period(period)
        .window_type(window)
        .build()
        .expect("a valid quota");
    let mut service =
        tower::ServiceBuilder::new().layer(layer).service(service_fn(async |()| Ok::<u64, std::io::Error>(7)));
    runs::polled(async move || {
        let result = service.ready().await.expect("its services are always ready").call(()).await;
        assert!(matches!(result, Ok(7)));
    })
}

pub(super) fn peers_log() -> Run {
    called(LOGGED, WindowType::SlidingLog)
}

pub(super) fn peers_counter() -> Run {
    called(COUNTED, WindowType::SlidingCounter)
}

pub(super) fn peers_window() -> Run {
    called(COUNTED, WindowType::Fixed)
}

pub(super) fn three_quotas() -> Run {
    let quotas = [
        ("second", Quota::per_second(1_000_000_000)),
        ("minute", Quota::per_minute(10_000_000_000)),
        ("hour", Quota::per_hour(100_000_000_000)),
    ];
    let limiter = Limiter::new(quotas).expect("valid quotas");
    runs::one_thread(move || {
        black_box(limiter.check().allowed());
    })
}

/// One after another, which takes from the first what the last refuses: governor has no other way.
pub(super) fn governor_three_times() -> Run {
    let limiter = || -> DefaultDirectRateLimiter {
        RateLimiter::direct(GovernorQuota::per_second(NonZeroU32::new(1_000_000_000).expect("not zero")))
    };
    let limiters = [limiter(), limiter(), limiter()];
    runs::one_thread(move || {
        black_box(limiters.iter().all(|limiter| limiter.check().is_ok()));
    })
}

pub(super) fn acquire() -> Run {
    let limiter = Limiter::per_second(1_000_000_000).build().expect("a valid quota");
    runs::polled(async move || {
        // What a caller's `?` looks at; theirs has nothing to look at.
        black_box(limiter.acquire(Duration::ZERO).await.is_ok());
    })
}

/// leaky-bucket's path without a lock, which is not fair.
pub(super) fn leaky_bucket_acquire() -> Run {
    let limiter = leaky_bucket::RateLimiter::builder()
        .initial(1_000_000_000)
        .max(1_000_000_000)
        .refill(1_000_000_000)
        .interval(Duration::from_secs(1))
        .fair(false)
        .build();
    runs::polled(async move || {
        limiter.acquire_one().await;
    })
}

//! leaky-bucket, fair to those who wait, as by default: each check takes a lock
//! and reads std's clock.

use std::hint::black_box;
use std::time::Duration;

use leaky_bucket::RateLimiter;

use crate::runs::{self, Run};

fn generous() -> RateLimiter {
    let limiter = RateLimiter::builder()
        .initial(1_000_000_000)
        .max(1_000_000_000)
        .refill(1_000_000_000)
        .interval(Duration::from_secs(1))
        .build();
    assert!(limiter.try_acquire(1));
    limiter
}

pub(super) fn direct_allow() -> Run {
    let limiter = generous();
    runs::one_thread(move || {
        black_box(limiter.try_acquire(1));
    })
}

pub(super) fn direct_refuse() -> Run {
    let limiter = RateLimiter::builder().initial(1).max(1).refill(1).interval(Duration::from_secs(3600)).build();
    assert!(limiter.try_acquire(1) && !limiter.try_acquire(1));
    runs::one_thread(move || {
        black_box(limiter.try_acquire(1));
    })
}

pub(super) fn two_threads() -> Run {
    runs::two_threads(generous, |limiter, count| {
        for _ in 0..count {
            black_box(limiter.try_acquire(1));
        }
    })
}

//! ratelimit, with its default clock, which is std's.

use std::hint::black_box;
use std::time::Duration;

use ratelimit::Ratelimiter;

use crate::runs::{self, Run};

fn generous() -> Ratelimiter {
    let limiter = Ratelimiter::builder(1_000_000_000)
        .max_tokens(1_000_000_000)
        .initial_available(1_000_000_000)
        .build()
        .expect("a valid quota");
    assert!(limiter.try_wait().is_ok());
    limiter
}

pub(super) fn direct_allow() -> Run {
    let limiter = generous();
    runs::one_thread(move || {
        black_box(limiter.try_wait().is_ok());
    })
}

pub(super) fn direct_refuse() -> Run {
    let limiter = Ratelimiter::builder(1)
        .period(Duration::from_secs(3600))
        .max_tokens(1)
        .initial_available(1)
        .build()
        .expect("a valid quota");
    assert!(limiter.try_wait().is_ok() && limiter.try_wait().is_err());
    runs::one_thread(move || {
        black_box(limiter.try_wait().is_ok());
    })
}

pub(super) fn two_threads() -> Run {
    runs::two_threads(generous, |limiter, count| {
        for _ in 0..count {
            black_box(limiter.try_wait().is_ok());
        }
    })
}

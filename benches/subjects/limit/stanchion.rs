//! Ours.

use std::hint::black_box;
use std::time::Duration;

use stanchion_limit::{KeyedLimiter, Limiter, Quota};

use super::{GENEROUS, SCARCE, workload};
use crate::runs::{self, Run};

fn generous() -> Limiter {
    let limiter = Limiter::per_second(1_000_000_000).burst(1_000_000_000).build().expect("a valid quota");
    assert!(limiter.check().allowed());
    limiter
}

pub(super) fn direct_allow() -> Run {
    let limiter = generous();
    runs::one_thread(move || {
        black_box(limiter.check().allowed());
    })
}

/// A burst that is too small for reservoirs, and a rate that is never used up.
pub(super) fn direct_small_burst() -> Run {
    let limiter = Limiter::per_second(1_000_000_000).burst(1_000).build().expect("a valid quota");
    runs::one_thread(move || {
        black_box(limiter.check().allowed());
    })
}

pub(super) fn direct_refuse() -> Run {
    let limiter = Limiter::new(Quota::new(1, Duration::from_secs(3600))).expect("a valid quota");
    assert!(limiter.check().allowed() && !limiter.check().allowed());
    runs::one_thread(move || {
        black_box(limiter.check().allowed());
    })
}

pub(super) fn two_threads() -> Run {
    runs::two_threads(generous, |limiter, count| {
        for _ in 0..count {
            black_box(limiter.check().allowed());
        }
    })
}

pub(super) fn filled_u64(per_second: u32) -> KeyedLimiter<u64> {
    let limiter = KeyedLimiter::<u64>::builder(Quota::per_second(per_second.into()).burst(1000))
        .max_keys(100_000)
        .build()
        .expect("a valid quota");
    assert!(workload::numbers().keys.iter().all(|key| limiter.check(key).allowed()));
    limiter
}

pub(super) fn filled_string() -> KeyedLimiter<str> {
    let limiter = KeyedLimiter::<str>::builder(Quota::per_second(GENEROUS.into()).burst(1000))
        .max_keys(100_000)
        .build()
        .expect("a valid quota");
    assert!(workload::strings().keys.iter().all(|key| limiter.check(key).allowed()));
    limiter
}

pub(super) fn keyed_u64() -> Run {
    number_after_number(filled_u64(GENEROUS))
}

pub(super) fn keyed_u64_mixed() -> Run {
    number_after_number(filled_u64(SCARCE))
}

fn number_after_number(limiter: KeyedLimiter<u64>) -> Run {
    let mut next = workload::numbers().cycle();
    runs::one_thread(move || {
        black_box(limiter.check(&next()).allowed());
    })
}

pub(super) fn keyed_string() -> Run {
    let limiter = filled_string();
    let mut next = workload::strings().cycle();
    runs::one_thread(move || {
        black_box(limiter.check(next()).allowed());
    })
}

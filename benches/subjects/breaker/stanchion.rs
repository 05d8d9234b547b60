//! Ours.

use std::hint::black_box;
use std::io;
use std::time::Duration;

use stanchion_breaker::{Breaker, Outcome, State, Window};

use crate::runs::{self, Run};

fn call(breaker: &Breaker) -> bool {
    breaker.call(|| Ok::<u64, io::Error>(black_box(1))).is_ok()
}

fn warm(window: Window) -> Breaker {
    let breaker = Breaker::builder("bench").window(window).failure_rate(0.5).build().expect("valid");
    assert!((0..200).all(|_| call(&breaker)));
    breaker
}

pub(super) fn closed_count() -> Run {
    let breaker = warm(Window::count(100));
    runs::one_thread(move || {
        black_box(call(&breaker));
    })
}

pub(super) fn closed_time() -> Run {
    let breaker = warm(Window::time(Duration::from_secs(30)));
    runs::one_thread(move || {
        black_box(call(&breaker));
    })
}

pub(super) fn two_threads() -> Run {
    runs::two_threads(
        || warm(Window::count(100)),
        |breaker, count| {
            for _ in 0..count {
                black_box(call(breaker));
            }
        },
    )
}

pub(super) fn open() -> Run {
    let breaker = Breaker::builder("bench")
        .open_for(Duration::from_secs(3600), Duration::from_secs(3600))
        .build()
        .expect("valid");
    breaker.force(State::Open);
    assert!(!call(&breaker));
    runs::one_thread(move || {
        black_box(call(&breaker));
    })
}

/// Every eighth call fails, so that bits change and rates are worked out.
fn mixed(window: u32) -> Run {
    let breaker = Breaker::builder("bench").window(Window::count(window)).failure_rate(0.9).build().expect("valid");
    let mut number = 0_u32;
    let mut next = move || {
        number = number.wrapping_add(1);
        let outcome = if number.is_multiple_of(8) { Outcome::Transient } else { Outcome::Success };
        let passed = breaker.try_acquire().map(|permit| permit.settle(outcome)).is_ok();
        black_box(passed)
    };
    // Past the first lap.
    assert!((0..window + window / 2).all(|_| next()));
    runs::one_thread(move || {
        next();
    })
}

pub(super) fn closed_million() -> Run {
    mixed(1_000_000)
}

pub(super) fn closed_mixed() -> Run {
    mixed(100)
}

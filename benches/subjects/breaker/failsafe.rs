//! failsafe: its default policy, five consecutive failures, or a success rate over a
//! time window.

use std::hint::black_box;
use std::time::Duration;

use failsafe::{CircuitBreaker, Config, FailurePolicy, StateMachine, backoff, failure_policy};

use crate::runs::{self, Run};

const HOUR: Duration = Duration::from_secs(3600);

fn call(breaker: &impl CircuitBreaker) -> bool {
    breaker.call(|| Ok::<u64, std::io::Error>(black_box(1))).is_ok()
}

fn consecutive() -> StateMachine<impl FailurePolicy, ()> {
    let breaker =
        Config::new().failure_policy(failure_policy::consecutive_failures(5, backoff::constant(HOUR))).build();
    assert!((0..200).all(|_| call(&breaker)));
    breaker
}

fn time() -> StateMachine<impl FailurePolicy, ()> {
    let over = Duration::from_secs(30);
    let policy = failure_policy::success_rate_over_time_window(0.5, 20, over, backoff::constant(HOUR));
    let breaker = Config::new().failure_policy(policy).build();
    assert!((0..200).all(|_| call(&breaker)));
    breaker
}

/// Its default: five consecutive failures, or less than 0.8 of 30 s succeed.
pub(super) fn closed_default() -> Run {
    let breaker = Config::new().build();
    assert!((0..200).all(|_| call(&breaker)));
    runs::one_thread(move || {
        black_box(call(&breaker));
    })
}

pub(super) fn closed_time() -> Run {
    let breaker = time();
    runs::one_thread(move || {
        black_box(call(&breaker));
    })
}

pub(super) fn two_threads() -> Run {
    runs::two_threads(consecutive, |breaker, count| {
        for _ in 0..count {
            black_box(call(breaker));
        }
    })
}

pub(super) fn open() -> Run {
    let breaker = consecutive();
    for _ in 0..10 {
        assert!(breaker.call(|| Err::<u64, _>(std::io::Error::from(std::io::ErrorKind::TimedOut))).is_err());
    }
    assert!(!call(&breaker));
    runs::one_thread(move || {
        black_box(call(&breaker));
    })
}

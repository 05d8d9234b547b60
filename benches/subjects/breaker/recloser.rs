//! recloser, with its default window of 100 calls.

use std::hint::black_box;
use std::time::Duration;

use recloser::Recloser;

use crate::runs::{self, Run};

fn call(breaker: &Recloser) -> bool {
    breaker.call(|| Ok::<u64, std::io::Error>(black_box(1))).is_ok()
}

fn warm() -> Recloser {
    let breaker = Recloser::custom().error_rate(0.5).closed_len(100).build();
    assert!((0..200).all(|_| call(&breaker)));
    breaker
}

pub(super) fn closed() -> Run {
    let breaker = warm();
    runs::one_thread(move || {
        black_box(call(&breaker));
    })
}

pub(super) fn two_threads() -> Run {
    runs::two_threads(warm, |breaker, count| {
        for _ in 0..count {
            black_box(call(breaker));
        }
    })
}

pub(super) fn open() -> Run {
    let breaker = Recloser::custom().error_rate(0.5).closed_len(10).open_wait(Duration::from_secs(3600)).build();
    for _ in 0..100 {
        assert!(breaker.call(|| Err::<u64, _>(std::io::Error::from(std::io::ErrorKind::TimedOut))).is_err());
    }
    assert!(!call(&breaker));
    runs::one_thread(move || {
        black_box(call(&breaker));
    })
}

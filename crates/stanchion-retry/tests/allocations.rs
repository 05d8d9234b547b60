//! The happy path allocates nothing; a retry only what a timer does.
#![cfg(feature = "tokio")]

use std::hint::black_box;
use std::time::Duration;

use stanchion_retry::{Budget, Hedge, Retry, timeout};

/// The allocations of a call that needs no timer.
fn allocations(future: impl Future) -> u64 {
    let mut future = std::pin::pin!(future);
    let info = allocation_counter::measure(|| {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        // A retry without a delay lets others have their turn.
        while black_box(future.as_mut().poll(&mut context)).is_pending() {}
    });
    info.count_total
}

fn all(retry: &Retry) -> u64 {
    allocations(retry.run(|_| async { Ok::<_, std::io::Error>(black_box(7)) }))
}

#[test]
fn a_call_that_succeeds_allocates_nothing() {
    let retry = Retry::exponential();
    // The process's clock is made when it is first read.
    all(&retry.clone().budget(Budget::default()));
    assert_eq!(all(&retry), 0);
    let everything = retry.budget(Budget::default()).max_elapsed(Duration::from_secs(9));
    assert_eq!(all(&everything.attempt_timeout(Duration::from_secs(1))), 0);
    let hedge = Hedge::at_percentile(95.0);
    assert_eq!(allocations(hedge.run(|_| async { Ok::<_, std::io::Error>(black_box(7)) })), 0);
    assert_eq!(allocations(timeout(Duration::from_secs(1), async { Ok::<_, std::io::Error>(()) })), 0);
}

/// A counter of `metrics` owns its labels, and is looked up for each retry.
#[cfg(not(feature = "metrics"))]
#[test]
fn retries_allocate_nothing_of_ours() {
    let retry = Retry::constant(Duration::ZERO).max_attempts(3).budget(Budget::default());
    let call = || {
        retry.run(|attempt| async move {
            if attempt.number() < 3 { Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)) } else { Ok(()) }
        })
    };
    allocations(call());
    assert_eq!(allocations(call()), 0);
}

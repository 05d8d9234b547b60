//! The future that `acquire` returns: what it does when, and what it doesn't.

#![cfg(all(feature = "tokio", feature = "test-util"))]

use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use stanchion_limit::{Acquire, Limiter, Quota, Rejection, RejectionKind, Verdict};

const SECOND: Duration = Duration::from_secs(1);

fn poll(future: Pin<&mut Acquire<'_>>) -> Poll<Result<(), Rejection>> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// A bucket without reservoirs, one with, and what is behind a lock; each of 10,000 at once.
fn all_kinds() -> [Limiter; 3] {
    let quota = Quota::per_second(1_000_000).burst(10_000);
    [
        Limiter::new(Quota::per_second(1_000).burst(10_000)).unwrap(),
        Limiter::new(quota).unwrap(),
        Limiter::new([("a", quota), ("b", quota)]).unwrap(),
    ]
}

#[tokio::test(start_paused = true)]
async fn nothing_is_taken_before_it_is_polled() {
    for limiter in all_kinds() {
        let later = limiter.acquire_n(4_000, Duration::ZERO);
        drop(limiter.acquire(Duration::ZERO));
        assert_eq!(limiter.peek().remaining(), 10_000);
        assert_eq!(limiter.acquire_n(6_000, Duration::ZERO).await, Ok(()));
        assert_eq!(later.await, Ok(()));
        assert_eq!(limiter.peek().remaining(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_there_is_had_by_the_first_poll_and_what_is_not_is_a_place_in_line() {
    for limiter in all_kinds() {
        assert_eq!(poll(pin!(limiter.acquire(Duration::ZERO))), Poll::Ready(Ok(())));
        assert!(limiter.check_n(limiter.peek().remaining()).allowed());
        let mut waiting = limiter.acquire(SECOND);
        assert!(poll(Pin::new(&mut waiting)).is_pending());
        assert_eq!(limiter.snapshot().waiting, 1);
        // Polled by somebody else: nothing has changed.
        assert!(poll(Pin::new(&mut waiting)).is_pending());
        assert_eq!(limiter.snapshot().waiting, 1);
        assert_eq!(waiting.await, Ok(()));
        assert_eq!(limiter.snapshot().waiting, 0);
    }
}

/// Though there is room for it, and for that matter in a reservoir of its own thread's.
#[tokio::test(start_paused = true)]
async fn who_comes_while_somebody_waits_does_not_overtake() {
    for limiter in all_kinds() {
        assert!(limiter.check_n(5_000).allowed());
        // A reservoir's, where there are any.
        assert!((0..20).all(|_| limiter.check().allowed()));
        let mut heavy = limiter.acquire_n(10_000, 60 * SECOND);
        assert!(poll(Pin::new(&mut heavy)).is_pending());
        let before = limiter.peek().remaining();
        assert!(before > 0);
        let mut light = limiter.acquire(60 * SECOND);
        assert!(poll(Pin::new(&mut light)).is_pending());
        let refused = limiter.acquire(Duration::ZERO).await.unwrap_err();
        assert_eq!(refused.kind(), RejectionKind::RateLimited);
        assert_eq!(limiter.check().verdict(), Verdict::Refused);
        assert_eq!((limiter.peek().remaining(), limiter.snapshot().waiting), (before, 2));
        // To look is no place in line.
        assert_eq!(poll(pin!(limiter.acquire_n(0, Duration::ZERO))), Poll::Ready(Ok(())));
        assert_eq!(heavy.await, Ok(()));
        assert_eq!(light.await, Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn what_never_fits_is_refused_by_the_first_poll() {
    for limiter in all_kinds() {
        let Poll::Ready(Err(refused)) = poll(pin!(limiter.acquire_n(10_001, SECOND))) else { panic!("it can't wait") };
        assert_eq!(refused.kind(), RejectionKind::NeverFits);
        assert_eq!(limiter.peek().remaining(), 10_000);
    }
}

/// Else a loop that polls once too often would take a second unit.
#[test]
#[should_panic(expected = "polled after it was ready")]
fn what_was_ready_is_not_polled_again() {
    let limiter = Limiter::per_second(10).build().unwrap();
    let mut acquired = limiter.acquire(Duration::ZERO);
    assert!(poll(Pin::new(&mut acquired)).is_ready());
    let _ = poll(Pin::new(&mut acquired));
}

/// Who need not wait carries nothing of what waiting takes.
#[test]
fn it_is_small_and_may_be_sent_and_moved() {
    fn any<T: Send + Unpin>(_: &T) -> usize {
        size_of::<T>()
    }
    let limiter = Limiter::per_second(10).build().unwrap();
    let future = limiter.acquire(Duration::ZERO);
    assert!(any(&future) <= 64);
    assert!(format!("{future:?}").contains("stage: New"));
}

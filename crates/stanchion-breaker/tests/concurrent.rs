//! The window under many threads: what it is off by while they run, and that it is
//! off by nothing when they rest.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use stanchion_breaker::{Breaker, Outcome, State, Window};

const THREADS: u32 = 4;

fn breaker(window: Window) -> Breaker {
    Breaker::builder("b").window(window).minimum_calls(1).failure_rate(1.0).build().unwrap()
}

/// All successes but one in four failures, by four threads; then as many successes as
/// the window holds, after which nothing of the failures is left.
#[test]
fn at_rest_the_count_is_exact_whatever_happened_at_once() {
    for calls in [32, 100, 1_000] {
        let breaker = breaker(Window::count(calls));
        // With a success in it, one failure isn't all.
        (0..calls).for_each(|_| breaker.record(Outcome::Success));
        let running = AtomicBool::new(true);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for call in 0..50_000_u32 {
                        breaker.record(if call % 4 == 0 { Outcome::Transient } else { Outcome::Success });
                    }
                    running.store(false, Relaxed);
                });
            }
            while running.load(Relaxed) {
                let snapshot = breaker.snapshot();
                // A quarter, but for who is ahead of whom; the count itself is off by at most
                // one for each thread.
                let failed = snapshot.failure_rate * snapshot.calls as f64;
                assert!(failed <= f64::from(calls + THREADS), "{snapshot:?}");
            }
        });
        assert_eq!(breaker.state(), State::Closed);
        assert_eq!(breaker.snapshot().calls, u64::from(calls));
        (0..calls).for_each(|_| breaker.record(Outcome::Success));
        assert_eq!(breaker.snapshot().failure_rate, 0.0);
        // And it counts on exactly: the whole window, and not one less.
        (0..calls - 1).for_each(|_| breaker.record(Outcome::Transient));
        assert_eq!(breaker.state(), State::Closed);
        breaker.record(Outcome::Transient);
        assert_eq!(breaker.state(), State::Open);
    }
}

/// Calls are neither lost nor doubled in a time window.
#[test]
fn every_call_of_every_thread_is_in_the_time_window() {
    let breaker = breaker(Window::time(Duration::from_secs(3_600)));
    breaker.record(Outcome::Success);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                (0..50_000_u32)
                    .for_each(|call| breaker.record(if call % 4 == 0 { Outcome::Transient } else { Outcome::Success }))
            });
        }
    });
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.calls, snapshot.failure_rate), (200_001, 50_000.0 / 200_001.0));
}

/// A dead upstream under many threads: it opens, and at most as many calls as threads
/// get through after the one that tripped it.
#[test]
fn a_dead_upstream_gets_the_threshold_and_a_call_for_each_thread() {
    for _ in 0..50 {
        let breaker = Breaker::builder("b").window(Window::count(100)).minimum_calls(20).build().unwrap();
        let passed: u32 = std::thread::scope(|scope| {
            let call = || {
                let mut passed = 0;
                while let Ok(permit) = breaker.try_acquire() {
                    passed += 1;
                    permit.settle(Outcome::TimedOut);
                }
                passed
            };
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(call)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!((20..=20 + THREADS).contains(&passed), "{passed}");
        assert_eq!(breaker.snapshot().opened, 1);
    }
}

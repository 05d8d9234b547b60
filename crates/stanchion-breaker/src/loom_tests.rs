//! The interleavings of the lock-free parts, with up to three preemptions, by loom.
//! Run by `cargo xtask loom`.

use loom::sync::Arc;
use loom::thread;
use stanchion_core::{ManualClock, Moment, Outcome, Random};

use crate::Breaker;
use crate::config::{BreakerConfig, Window};
use crate::machine::State;
use crate::plan::Plan;
use crate::tape::Tape;

fn explore(body: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.max_branches = 10_000;
    model.check(body);
}

fn config(window: Window, minimum_calls: u32) -> BreakerConfig {
    BreakerConfig { window, minimum_calls, failure_rate: Some(1.0), probes: 1, open_jitter: 0.0, ..Default::default() }
}

fn breaker(window: Window, minimum_calls: u32) -> Arc<Breaker> {
    let builder = Breaker::builder("loom").config(config(window, minimum_calls));
    Arc::new(builder.clock(ManualClock::new()).random(Random::seeded(1)).build().unwrap())
}

/// Two failures at once, of which two are wanted: one of the threads sees both, and
/// as many calls as failures. Fails with a Relaxed count, where each may see the
/// other's failure and not its call.
#[test]
fn loom_two_failures_at_once_trip_together() {
    for window in [Window::count(4), Window::time(std::time::Duration::from_secs(1))] {
        explore(move || {
            let breaker = breaker(window, 2);
            let other = {
                let breaker = breaker.clone();
                thread::spawn(move || breaker.record(Outcome::Transient))
            };
            breaker.record(Outcome::Transient);
            other.join().unwrap();
            assert_eq!(breaker.state(), State::Open);
        });
    }
}

/// At rest the count is that of the bits, however the laps met.
#[test]
fn loom_at_rest_the_count_is_that_of_the_bits() {
    explore(|| {
        // A ring of one: every call is a lap.
        let plan = Plan::new(&config(Window::count(1), 1)).unwrap();
        let tape = Arc::new(Tape::new(&plan, 1));
        let record = move |tape: &Tape, failed: bool| {
            let _ = tape.record(&plan, 1, Moment::default, failed, false);
        };
        let other = {
            let tape = tape.clone();
            thread::spawn(move || {
                record(&tape, true);
                record(&tape, false);
            })
        };
        record(&tape, true);
        other.join().unwrap();
        let counts = tape.counts(&plan, 1, Moment::default);
        assert!(counts.calls == 1 && counts.failed <= 1, "{counts:?}");
        // And no error outlives a lap.
        record(&tape, false);
        assert_eq!(tape.counts(&plan, 1, Moment::default).failed, 0);
        record(&tape, true);
        assert_eq!(tape.counts(&plan, 1, Moment::default).failed, 1);
    });
}

/// A result of the closed epoch is settled while the breaker opens, rests, probes and
/// closes: whenever it comes, the new window holds nothing of it.
#[test]
fn loom_a_late_result_never_lands_in_a_later_window() {
    for window in [Window::count(2), Window::ewma(2)] {
        explore(move || {
            let breaker = breaker(window, 1);
            let late = breaker.clone();
            let other = thread::spawn(move || late.try_acquire().map(|permit| permit.settle(Outcome::Transient)).ok());
            let before = breaker.snapshot().generation;
            breaker.force(State::HalfOpen);
            breaker.reset();
            other.join().unwrap();
            let after = breaker.snapshot();
            // Two transitions of ours; if the other's call was of either closed epoch
            // it has tripped that one, and of half-open it was the failed probe.
            let transitions = after.generation - before;
            match after.state {
                State::Closed => assert_eq!(after.calls, 0, "{after:?}"),
                State::Open => assert!(transitions >= 2, "{after:?}"),
                other => panic!("{other:?}"),
            }
        });
    }
}

/// Whoever is admitted by a closed generation finds its window begun: the call
/// counts. Fails where the generation is published by a Relaxed store, or read by a
/// Relaxed load.
#[test]
fn loom_a_call_of_a_new_generation_is_counted() {
    explore(|| {
        let breaker = breaker(Window::count(4), 4);
        let first = breaker.snapshot().generation;
        let other = {
            let breaker = breaker.clone();
            thread::spawn(move || {
                let ticket = breaker.try_acquire().unwrap();
                let generation = ticket.generation();
                ticket.settle(Outcome::Transient);
                generation
            })
        };
        breaker.reset();
        let generation = other.join().unwrap();
        // Of the new generation it counts; of the old one it doesn't.
        assert_eq!(breaker.snapshot().calls, u64::from(generation > first));
    });
}

/// Half-open with one slot: of two arrivals one is admitted; and its verdict and
/// the other's arrival end in the same state.
#[test]
fn loom_one_slot_is_given_once() {
    explore(|| {
        let breaker = breaker(Window::count(2), 1);
        breaker.force(State::HalfOpen);
        let other = {
            let breaker = breaker.clone();
            thread::spawn(move || breaker.try_acquire().map(std::mem::forget).is_ok())
        };
        let ours = breaker.try_acquire().map(std::mem::forget).is_ok();
        assert!(ours != other.join().unwrap());
    });
}

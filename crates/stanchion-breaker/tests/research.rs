//! The tests that a released crate fails today, by the numbers of the research.

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use stanchion_breaker::{Abandoned, Breaker, BreakerBuilder, Gate, ManualClock, Outcome, State, Window};
use stanchion_core::{Admission, Call};

const SECOND: Duration = Duration::from_secs(1);

fn breaker(clock: &ManualClock) -> BreakerBuilder {
    Breaker::builder("test").clock(clock.clone()).open_for(SECOND, SECOND).open_growth(1.0, 0.0)
}

fn settle(breaker: &Breaker, outcome: Outcome) {
    breaker.try_acquire().expect("it is closed, or has a slot").settle(outcome);
}

/// Opens it, and waits until its rest is over.
fn rested(breaker: &Breaker, clock: &ManualClock) {
    breaker.force(State::Open);
    clock.advance(SECOND);
}

#[test]
fn research_1_after_ten_thousand_successes_five_failures_open_a_window_of_ten() {
    let clock = ManualClock::new();
    let breaker = breaker(&clock).window(Window::count(10)).failure_rate(0.5).minimum_calls(10).build().unwrap();
    for _ in 0..10_000 {
        settle(&breaker, Outcome::Success);
    }
    for _ in 0..4 {
        settle(&breaker, Outcome::Transient);
    }
    assert_eq!(breaker.state(), State::Closed);
    settle(&breaker, Outcome::Transient);
    assert_eq!(breaker.state(), State::Open);
}

/// The cheapest of some rounds, so that a busy machine doesn't matter.
#[test]
fn research_2_a_call_costs_the_same_from_a_hundred_to_a_million_calls_per_window() {
    let cost = |window: Window| {
        let breaker = Breaker::builder("test").window(window).failure_rate(0.5).build().unwrap();
        // Every tenth fails, so that bits change and rates are worked out.
        let round = |calls: u32| {
            let began = Instant::now();
            for call in 0..calls {
                settle(&breaker, if call % 10 == 9 { Outcome::Transient } else { Outcome::Success });
            }
            began.elapsed() / calls
        };
        // Into the second lap first.
        round(if let Window::Count(calls) = window { calls + 100 } else { 1_000_000 });
        (0..20).map(|_| round(20_000)).min().unwrap()
    };
    let hundred = cost(Window::count(100));
    let million = cost(Window::count(1_000_000));
    assert!(million < 3 * hundred + Duration::from_nanos(20), "{hundred:?} and {million:?}");
    // All million calls lie in a minute; a few of them lie in a tenth of a second.
    let (few, many) = (cost(Window::time(SECOND / 10)), cost(Window::time(60 * SECOND)));
    assert!(many < 3 * few + Duration::from_nanos(20), "{few:?} and {many:?}");
}

#[test]
fn research_3_probes_further_apart_than_the_window_still_reach_a_verdict() {
    let clock = ManualClock::new();
    let breaker = breaker(&clock).window(Window::time(SECOND)).probes(5).build().unwrap();
    rested(&breaker, &clock);
    for _ in 0..3 {
        clock.advance(20 * SECOND);
        assert_ne!(breaker.state(), State::Closed);
        settle(&breaker, Outcome::Success);
    }
    // The other two can't make half of five any more.
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn research_4_a_result_of_the_closed_epoch_in_half_open_changes_nothing() {
    for outcome in [Outcome::Success, Outcome::Transient, Outcome::Abandoned] {
        let clock = ManualClock::new();
        let breaker = breaker(&clock).probes(1).build().unwrap();
        let late = breaker.try_acquire().unwrap();
        rested(&breaker, &clock);
        let probe = breaker.try_acquire().unwrap();
        assert_eq!(breaker.state(), State::HalfOpen);
        let before = breaker.snapshot();
        late.settle(outcome);
        assert_eq!(breaker.snapshot(), before);
        // Nor has it taken or given a slot.
        assert!(breaker.try_acquire().is_err());
        probe.settle(Outcome::Success);
        assert_eq!(breaker.state(), State::Closed);
        assert_eq!(breaker.snapshot().calls, 0);
    }
}

#[test]
fn research_5_of_64_simultaneous_arrivals_exactly_ten_are_admitted() {
    let clock = ManualClock::new();
    let breaker = Arc::new(breaker(&clock).probes(10).probe_max_wait(30 * SECOND).build().unwrap());
    rested(&breaker, &clock);
    let gate = Arc::new(Barrier::new(64));
    let arrivals: Vec<_> = (0..64)
        .map(|_| {
            let (breaker, gate) = (breaker.clone(), gate.clone());
            std::thread::spawn(move || {
                gate.wait();
                match breaker.try_admit(&Call::new()) {
                    Admission::Admitted(ticket) => Some(ticket),
                    _ => None,
                }
            })
        })
        .collect();
    let mut tickets: Vec<_> = arrivals.into_iter().filter_map(|arrival| arrival.join().unwrap()).collect();
    assert_eq!(tickets.len(), 10);
    assert!(breaker.try_acquire().is_err());
    // A dropped probe frees its slot at once, ...
    breaker.settle(tickets.pop().unwrap(), Outcome::Abandoned, Duration::ZERO);
    let another = breaker.try_acquire().unwrap();
    assert!(breaker.try_acquire().is_err());
    drop(another);
    // ... one that says nothing, too, ...
    let silent = breaker.try_acquire().unwrap();
    silent.settle(Outcome::Ignored);
    let last = breaker.try_acquire().unwrap();
    // ... and a hung one when its time is over, and not before. Nine have it then.
    clock.advance(30 * SECOND - Duration::from_nanos(1));
    assert!(breaker.try_acquire().is_err());
    assert_eq!(breaker.state(), State::HalfOpen);
    last.settle(Outcome::Success);
    clock.advance(Duration::from_nanos(1));
    // Two dropped and nine hung are more than half of ten: it opens again.
    assert!(breaker.try_acquire().is_err());
    assert_eq!(breaker.state(), State::Open);
    // What they say later changes nothing.
    let before = breaker.snapshot();
    tickets.into_iter().for_each(|ticket| breaker.settle(ticket, Outcome::Success, Duration::ZERO));
    assert_eq!(breaker.snapshot(), before);
}

#[test]
fn research_5_a_hung_probes_slot_is_free_for_another() {
    let clock = ManualClock::new();
    let breaker = breaker(&clock).probes(10).probe_max_wait(30 * SECOND).build().unwrap();
    rested(&breaker, &clock);
    let hung = breaker.try_acquire().unwrap();
    clock.advance(10 * SECOND);
    let mut others: Vec<_> = (0..9).map(|_| breaker.try_acquire().unwrap()).collect();
    assert_eq!(breaker.try_acquire().unwrap_err().come_back_after(), Some(SECOND));
    clock.advance(20 * SECOND);
    let another = breaker.try_acquire().unwrap();
    assert!(breaker.try_acquire().is_err());
    hung.settle(Outcome::Success);
    others.drain(..5).for_each(|probe| probe.settle(Outcome::Success));
    assert_eq!(breaker.state(), State::HalfOpen);
    another.settle(Outcome::Success);
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn research_6_twenty_outer_timeouts_open_it_when_drops_count_as_failures() {
    for (policy, state) in [
        (Abandoned::Failure, State::Open),
        (Abandoned::Ignore, State::Closed),
        (Abandoned::FailureIfOlderThan(SECOND), State::Open),
        (Abandoned::FailureIfOlderThan(SECOND + Duration::from_nanos(1)), State::Closed),
    ] {
        let clock = ManualClock::new();
        let breaker = breaker(&clock).abandoned(policy).build().unwrap();
        for _ in 0..20 {
            let hangs = breaker.run(|| async {
                clock.advance(SECOND);
                std::future::pending::<Result<(), std::io::Error>>().await
            });
            assert!(tokio::time::timeout(SECOND, hangs).await.is_err());
        }
        assert_eq!(breaker.state(), state, "{policy:?}");
    }
    // It is the default.
    assert_eq!(Abandoned::default(), Abandoned::Failure);
}

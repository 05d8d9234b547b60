//! A bulkhead against a naive line of people, over random histories; and ten
//! thousand, and a million, in line.
#![cfg(feature = "tokio")]

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proptest::prelude::*;
use stanchion_core::{Admission, BoxFuture, Outcome, Ticket};
use stanchion_limit::{Bulkhead, BulkheadConfig, Call, Gate, Rejection, RejectionKind};

type Waiting<'a> = BoxFuture<'a, Result<Ticket, Rejection>>;

fn poll(waiting: &mut Waiting<'_>) -> Poll<Result<Ticket, Rejection>> {
    waiting.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// The line as one would draw it: whoever is first takes what he needs, or all wait.
struct Model {
    /// Less than none where permits were taken away.
    free: i64,
    permits: u32,
    line: VecDeque<(usize, u32)>,
    admitted: Vec<(usize, u32)>,
}

impl Model {
    fn serve(&mut self) {
        while self.line.front().is_some_and(|(_, units)| i64::from(*units) <= self.free) {
            let (who, units) = self.line.pop_front().unwrap();
            self.free -= i64::from(units);
            self.admitted.push((who, units));
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Arrive { units: u32 },
    Leave { index: usize },
    Finish { index: usize },
    Resize { permits: u32 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..6_u32).prop_map(|units| Step::Arrive { units }),
        2 => any::<usize>().prop_map(|index| Step::Leave { index }),
        3 => any::<usize>().prop_map(|index| Step::Finish { index }),
    ];
    prop::collection::vec(step, 1..120)
}

/// Nobody leaves: what was set aside for one who leaves is the next one's, also
/// where there are too many permits.
fn steps_with_changes() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..6_u32).prop_map(|units| Step::Arrive { units }),
        4 => any::<usize>().prop_map(|index| Step::Finish { index }),
        1 => (1..8_u32).prop_map(|permits| Step::Resize { permits }),
    ];
    prop::collection::vec(step, 1..120)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// Lets in whoever can be, and tells who it was.
fn poll_all(line: &mut Vec<(usize, Waiting<'_>)>, inside: &mut Vec<(usize, Ticket)>) {
    let mut index = 0;
    while index < line.len() {
        match poll(&mut line[index].1) {
            Poll::Pending => index += 1,
            Poll::Ready(admitted) => inside.push((line.remove(index).0, admitted.unwrap())),
        }
    }
}

proptest! {
    #[test]
    fn it_does_as_a_line_of_people_does(steps in steps(), queue in 0..8_u32) {
        beside_a_line_of_people(steps, queue)?;
    }

    #[test]
    fn it_does_so_while_its_permits_change(steps in steps_with_changes(), queue in 0..8_u32) {
        beside_a_line_of_people(steps, queue)?;
    }
}

fn beside_a_line_of_people(steps: Vec<Step>, queue: u32) -> Result<(), TestCaseError> {
    let runtime = runtime();
    let _inside = runtime.enter();
    let bulkhead = Bulkhead::new(4).queue(queue).build().unwrap();
    let calls: [Call<'_>; 6] = std::array::from_fn(|units| Call::new().cost(units as u64));
    let mut model = Model { free: 4, permits: 4, line: VecDeque::new(), admitted: Vec::new() };
    let mut line: Vec<(usize, Waiting<'_>)> = Vec::new();
    let mut inside: Vec<(usize, Ticket)> = Vec::new();
    for (who, step) in steps.into_iter().enumerate() {
        match step {
            Step::Arrive { units } => {
                let answer = bulkhead.try_admit(&calls[units as usize]);
                let free_now = model.line.is_empty() && i64::from(units) <= model.free;
                match answer {
                    Admission::Admitted(ticket) => {
                        prop_assert!(units == 0 || free_now);
                        model.free -= i64::from(units);
                        model.admitted.push((who, units));
                        inside.push((who, ticket));
                    }
                    Admission::Wait => {
                        prop_assert!(!free_now && units > 0 && units <= model.permits);
                        prop_assert!(model.line.len() < queue as usize);
                        let mut waiting = bulkhead.admit(&calls[units as usize]);
                        prop_assert!(poll(&mut waiting).is_pending());
                        line.push((who, waiting));
                        model.line.push_back((who, units));
                    }
                    Admission::Rejected(refused) if units > model.permits => {
                        prop_assert_eq!(refused.kind(), RejectionKind::NeverFits);
                    }
                    Admission::Rejected(refused) => {
                        prop_assert_eq!(refused.kind(), RejectionKind::Saturated);
                        prop_assert!(!free_now && model.line.len() == queue as usize);
                    }
                }
            }
            Step::Leave { index } if !line.is_empty() => {
                let (who, waiting) = line.remove(index % line.len());
                drop(waiting);
                model.line.retain(|(other, _)| *other != who);
            }
            Step::Finish { index } if !inside.is_empty() => {
                let (who, ticket) = inside.remove(index % inside.len());
                let position = model.admitted.iter().position(|(other, _)| *other == who).unwrap();
                model.free += i64::from(model.admitted.remove(position).1);
                bulkhead.settle(ticket, Outcome::Success, Duration::ZERO);
            }
            Step::Resize { permits } => {
                let config = BulkheadConfig::new(permits);
                let config = if queue == 0 { config } else { config.queue(queue, Duration::from_secs(1)) };
                bulkhead.reconfigure(config).unwrap();
                model.free += i64::from(permits) - i64::from(model.permits);
                model.permits = permits;
            }
            Step::Leave { .. } | Step::Finish { .. } => {}
        }
        model.serve();
        poll_all(&mut line, &mut inside);
        let mut ours: Vec<usize> = inside.iter().map(|(who, _)| *who).collect();
        let mut theirs: Vec<usize> = model.admitted.iter().map(|(who, _)| *who).collect();
        ours.sort_unstable();
        theirs.sort_unstable();
        prop_assert_eq!(ours, theirs);
        prop_assert_eq!(bulkhead.snapshot().waiting as usize, model.line.len());
        if model.line.is_empty() {
            prop_assert_eq!(i64::from(bulkhead.snapshot().in_use), i64::from(model.permits) - model.free);
        }
    }
    line.clear();
    for (_, ticket) in inside {
        bulkhead.settle(ticket, Outcome::Success, Duration::ZERO);
    }
    let snapshot = bulkhead.snapshot();
    prop_assert_eq!((snapshot.permits, snapshot.in_use), (model.permits, 0));
    let all = Call::new().cost(u64::from(model.permits));
    prop_assert!(bulkhead.try_acquire_for(&all).is_ok());
    Ok(())
}

/// A sequence of numbers that look random, the same each time (Knuth's constants).
fn numbers() -> impl FnMut(usize) -> usize {
    let mut state = 42_u64;
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    }
}

#[test]
fn ten_thousand_waiters_with_random_drops_keep_their_order_and_lose_nothing() {
    const WAITERS: usize = 10_000;
    let runtime = runtime();
    let _inside = runtime.enter();
    let bulkhead = Bulkhead::new(8).queue(10_000).build().unwrap();
    let calls: [Call<'_>; 8] = std::array::from_fn(|units| Call::new().cost(units as u64 + 1));
    let all = bulkhead.try_acquire_for(&calls[7]).unwrap();
    let mut number = numbers();
    let mut line: VecDeque<(usize, Waiting<'_>)> = (0..WAITERS)
        .map(|who| {
            let mut waiting = bulkhead.admit(&calls[number(8)]);
            assert!(poll(&mut waiting).is_pending());
            (who, waiting)
        })
        .collect();
    assert_eq!(bulkhead.snapshot().waiting, 10_000);
    assert!(matches!(bulkhead.try_admit(&calls[0]), Admission::Rejected(_)));
    drop(all);
    let (mut admitted, mut dropped) = (0, 0);
    let mut inside: Vec<Ticket> = Vec::new();
    while !line.is_empty() {
        // Some lose patience, wherever they stand, the first one included, let in or not.
        for _ in 0..number(4) {
            if !line.is_empty() {
                drop(line.remove(number(line.len().min(50))));
                dropped += 1;
            }
        }
        // Those who have been let in are the first ones, whoever looks first.
        let looked = line.len().min(20);
        let mut answers: Vec<_> = (0..looked).rev().map(|place| poll(&mut line[place].1)).collect();
        answers.reverse();
        let let_in = answers.iter().take_while(|answer| answer.is_ready()).count();
        assert!(answers[let_in..].iter().all(Poll::is_pending), "somebody was overtaken");
        for answer in answers.into_iter().take(let_in) {
            let Poll::Ready(ticket) = answer else { unreachable!("counted as let in") };
            inside.push(ticket.unwrap());
            line.pop_front();
            admitted += 1;
        }
        assert!(!inside.is_empty() || line.is_empty(), "everything is free, and the first still waits");
        if !inside.is_empty() {
            bulkhead.settle(inside.swap_remove(number(inside.len())), Outcome::Success, Duration::ZERO);
        }
    }
    inside.into_iter().for_each(|ticket| bulkhead.settle(ticket, Outcome::Success, Duration::ZERO));
    assert_eq!(admitted + dropped, WAITERS);
    assert!(admitted > 3_000 && dropped > 3_000, "{admitted} {dropped}");
    let snapshot = bulkhead.snapshot();
    assert_eq!((snapshot.in_use, snapshot.waiting, snapshot.refused), (0, 0, 1));
    assert!(bulkhead.try_acquire_for(&calls[7]).is_ok());
}

/// A flood: the line holds what it was made for, and the rest is told at once.
#[test]
fn a_million_waiters_are_a_line_as_long_as_was_said() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let bulkhead = Bulkhead::new(1).queue(1_000).build().unwrap();
    let held = bulkhead.try_acquire().unwrap();
    let call = Call::new();
    let mut line: Vec<Waiting<'_>> = Vec::new();
    for _ in 0..1_000_000 {
        if let Admission::Wait = bulkhead.try_admit(&call) {
            let mut waiting = bulkhead.admit(&call);
            assert!(poll(&mut waiting).is_pending());
            line.push(waiting);
        }
    }
    let snapshot = bulkhead.snapshot();
    assert_eq!((line.len(), snapshot.waiting, snapshot.refused), (1_000, 1_000, 999_000));
    line.clear();
    drop(held);
    assert_eq!(bulkhead.snapshot().in_use, 0);
}

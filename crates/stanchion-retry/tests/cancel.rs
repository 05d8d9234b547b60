//! Dropped at every await: nothing is lost, and what wasn't used is given back.
#![cfg(feature = "tokio")]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use stanchion_retry::{
    Budget, CallError, Clock, Costs, Hedge, Jitter, RatioBudget, Retry, ThrottleBudget, TokensBudget,
};

/// Polls `future` so many times at most, advancing time in between, then drops it; whether it was done.
async fn drop_after(polls: usize, future: impl Future) -> bool {
    let mut future = pin!(future);
    for _ in 0..polls {
        let poll = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if poll.is_ready() {
            return true;
        }
        tokio::time::advance(Duration::from_millis(500)).await;
    }
    false
}

fn busy() -> std::io::Error {
    std::io::ErrorKind::ConnectionReset.into()
}

/// Fails twice, with a wait inside each attempt.
async fn operation(number: u32) -> std::io::Result<()> {
    tokio::task::yield_now().await;
    if number < 3 { Err(busy()) } else { Ok(()) }
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_was_granted_and_not_begun_is_given_back() {
    let budgets = [
        Budget::new(RatioBudget::finagle().percent(0.0).min_per_second(10)).unwrap(),
        Budget::new(TokensBudget::default().costs(Costs { transient: 5, throttled: 5, timed_out: 5 })).unwrap(),
    ];
    for budget in budgets {
        let retry = Retry::constant(Duration::from_secs(1)).jitter(Jitter::None).budget(&budget);
        let now = || Clock::system().now();
        let mut finished = false;
        for polls in 0.. {
            let before = budget.balance(now());
            let call = retry.run(|attempt| operation(attempt.number()));
            finished = drop_after(polls, call).await;
            let cost = before - budget.balance(now());
            // Attempt 2 begins in the poll after its delay of two half seconds.
            match polls {
                0..=3 => assert_eq!(cost, 0, "after {polls} polls"),
                4..=6 => assert_eq!(cost, 1, "after {polls} polls"),
                _ => assert!(cost <= 2, "after {polls} polls"),
            }
            // Everything is forgotten, or won back.
            tokio::time::advance(Duration::from_secs(60)).await;
            for _ in 0..10 {
                budget.succeeded(None);
            }
            if finished {
                break;
            }
        }
        assert!(finished);
    }
}

#[tokio::test(start_paused = true)]
async fn a_hedge_may_be_dropped_anywhere() {
    let budget = Budget::new(RatioBudget::finagle().percent(0.0).min_per_second(100)).unwrap();
    let hedge = Hedge::after(Duration::from_millis(700)).budget(&budget).max_hedges(2);
    for polls in 0..12 {
        drop_after(
            polls,
            hedge.run(|_| async {
                tokio::time::sleep(Duration::from_secs(4)).await;
                Err::<(), _>(busy())
            }),
        )
        .await;
    }
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(budget.balance(Clock::system().now()), 1_000);
}

#[tokio::test(start_paused = true)]
async fn throttling_counts_failures_and_not_drops() {
    let budget = Budget::new(ThrottleBudget::default()).unwrap();
    let retry = Retry::constant(Duration::from_secs(1)).budget(&budget);
    for _ in 0..20 {
        drop_after(1, retry.run(|_| std::future::pending::<Result<(), std::io::Error>>())).await;
    }
    assert_eq!(budget.balance(Clock::system().now()), 4);
}

#[tokio::test(start_paused = true)]
async fn a_future_may_be_polled_by_turns_with_others() {
    let retry = Retry::constant(Duration::from_secs(1)).jitter(Jitter::None);
    let calls = (0..50).map(|_| retry.run(|attempt| operation(attempt.number())));
    let mut calls: Vec<_> = calls.map(Box::pin).collect();
    let all = std::future::poll_fn(|context| {
        calls.retain_mut(|call| match call.as_mut().poll(context) {
            Poll::Ready(result) => {
                assert!(matches!(result, Ok::<(), CallError<std::io::Error>>(())));
                false
            }
            Poll::Pending => true,
        });
        if calls.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    });
    all.await;
}

#[tokio::test(start_paused = true)]
async fn a_result_that_is_not_the_last_is_dropped_before_the_delay() {
    let held = std::rc::Rc::new(());
    let retry = Retry::exponential().jitter(Jitter::None);
    let mut call = pin!(retry.when(|_: &std::rc::Rc<()>| true).run(|_| async { Err::<(), _>(held.clone()) }));
    assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert_eq!(std::rc::Rc::strong_count(&held), 1);
}

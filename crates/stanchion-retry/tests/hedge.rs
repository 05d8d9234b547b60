//! What a hedge does, in tokio's paused time.
#![cfg(feature = "tokio")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::Duration;

use stanchion_retry::{Budget, CallError, Clock, Hedge, Moment, Outcome, RatioBudget};

#[derive(Debug, Clone, Copy, PartialEq)]
struct Failed(Outcome);

impl stanchion_retry::Classify for Failed {
    fn outcome(&self) -> Outcome {
        self.0
    }
}

const BUSY: Failed = Failed(Outcome::Transient);
const WRONG: Failed = Failed(Outcome::Permanent);

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn now() -> Moment {
    Clock::system().now()
}

/// Each try takes so long and ends so; the last stands for all after it.
async fn run(hedge: &Hedge, tries: &[(u64, Result<u32, Failed>)]) -> (Result<u32, CallError<Failed>>, u32, Duration) {
    let (made, began) = (AtomicU32::new(0), now());
    let result = hedge
        .run(|attempt| {
            made.fetch_add(1, Ordering::Relaxed);
            let (takes, result) = tries[usize::try_from(attempt.hedge()).unwrap().min(tries.len() - 1)];
            async move {
                tokio::time::sleep(ms(takes)).await;
                result
            }
        })
        .await;
    (result, made.into_inner(), now() - began)
}

fn inner(error: Failed, attempts: u32) -> Result<u32, CallError<Failed>> {
    Err(CallError::Inner { error, attempts })
}

#[tokio::test(start_paused = true)]
async fn a_call_in_time_is_made_once() {
    assert_eq!(run(&Hedge::after(ms(50)), &[(49, Ok(0))]).await, (Ok(0), 1, ms(49)));
}

#[tokio::test(start_paused = true)]
async fn a_late_call_is_made_again_and_the_first_answer_counts() {
    assert_eq!(run(&Hedge::after(ms(50)), &[(900, Ok(0)), (20, Ok(1))]).await, (Ok(1), 2, ms(70)));
    assert_eq!(run(&Hedge::after(ms(50)), &[(60, Ok(0)), (20, Ok(1))]).await, (Ok(0), 2, ms(60)));
    let two = Hedge::after(ms(50)).max_hedges(2);
    assert_eq!(run(&two, &[(900, Ok(0)), (900, Ok(1)), (20, Ok(2))]).await, (Ok(2), 3, ms(120)));
}

/// tower's hedge hands out whichever result comes first, be it an error.
#[tokio::test(start_paused = true)]
async fn a_fast_failing_hedge_never_masks_a_pending_primary() {
    for failure in [BUSY, WRONG] {
        assert_eq!(run(&Hedge::after(ms(50)), &[(90, Ok(0)), (1, Err(failure))]).await, (Ok(0), 2, ms(90)));
    }
}

/// A refusal of a pipeline within says nothing, and is no answer to win with.
#[tokio::test(start_paused = true)]
async fn a_refused_hedge_does_not_win() {
    let refused = Failed(Outcome::Ignored);
    assert_eq!(run(&Hedge::after(ms(50)), &[(90, Ok(0)), (1, Err(refused))]).await, (Ok(0), 2, ms(90)));
    assert_eq!(run(&Hedge::after(ms(50)), &[(90, Err(BUSY)), (1, Err(refused))]).await, (inner(refused, 2), 2, ms(90)));
    assert_eq!(run(&Hedge::after(ms(50)), &[(9, Err(refused))]).await, (inner(refused, 1), 1, ms(9)));
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_may_pass_brings_the_hedge_at_once() {
    assert_eq!(run(&Hedge::after(ms(50)), &[(10, Err(BUSY)), (5, Ok(1))]).await, (Ok(1), 2, ms(15)));
    assert_eq!(run(&Hedge::after(ms(50)), &[(10, Err(BUSY)), (5, Err(WRONG))]).await, (inner(BUSY, 2), 2, ms(15)));
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_the_first_that_will_not_pass_ends_the_call() {
    assert_eq!(run(&Hedge::after(ms(50)), &[(10, Err(WRONG))]).await, (inner(WRONG, 1), 1, ms(10)));
    assert_eq!(run(&Hedge::after(ms(50)), &[(60, Err(WRONG)), (900, Ok(1))]).await, (inner(WRONG, 2), 2, ms(60)));
}

#[tokio::test(start_paused = true)]
async fn when_all_have_failed_the_first_error_is_told() {
    let tries = [(60, Err(BUSY)), (30, Err(Failed(Outcome::TimedOut)))];
    assert_eq!(run(&Hedge::after(ms(50)), &tries).await, (inner(BUSY, 2), 2, ms(80)));
}

#[tokio::test(start_paused = true)]
async fn hedges_come_out_of_the_budget() {
    let budget = Budget::new(RatioBudget::finagle().percent(0.0).min_per_second(1)).unwrap();
    let hedge = Hedge::after(ms(50)).budget(&budget).max_hedges(16);
    assert_eq!(run(&hedge, &[(5_000, Ok(0))]).await.1, 11, "ten are in the budget");
    assert_eq!(run(&hedge, &[(100, Err(BUSY))]).await.1, 1, "and it is empty now");
}

#[tokio::test(start_paused = true)]
async fn losers_are_dropped_with_the_answer_and_all_are_with_the_call() {
    struct Alive(Arc<AtomicI32>);
    impl Drop for Alive {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let alive = Arc::new(AtomicI32::new(0));
    let operation = |attempt: stanchion_retry::Attempt| {
        alive.fetch_add(1, Ordering::Relaxed);
        let guard = Alive(Arc::clone(&alive));
        async move {
            let _guard = guard;
            tokio::time::sleep(ms(if attempt.hedge() == 2 { 10 } else { 900 })).await;
            Ok::<_, Failed>(())
        }
    };
    let hedge = Hedge::after(ms(50)).max_hedges(2);
    hedge.run(operation).await.unwrap();
    assert_eq!(alive.load(Ordering::Relaxed), 0);

    // Dropped while three are under way.
    let cut = tokio::time::timeout(ms(105), hedge.run(operation));
    assert!(cut.await.is_err());
    assert_eq!(alive.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn the_percentile_is_learnt_and_slow_calls_that_were_given_up_count() {
    let hedge = Hedge::at_percentile(90.0).budget(Budget::new(RatioBudget::finagle().percent(100.0)).unwrap());
    assert_eq!(run(&hedge, &[(5_000, Ok(0))]).await.1, 1, "nothing is known");
    for _ in 0..99 {
        run(&hedge, &[(10, Ok(0))]).await.0.unwrap();
    }
    let learnt = hedge.delay().unwrap();
    assert!(learnt >= ms(10) && learnt <= ms(11), "{learnt:?}");
    // From now on each first try hangs, and a hedge answers 20 ms later.
    for _ in 0..200 {
        assert_eq!(run(&hedge, &[(60_000, Ok(0)), (20, Ok(1))]).await.1, 2);
    }
    let learnt = hedge.delay().unwrap();
    assert!(learnt > ms(28), "the losers' times have moved it: {learnt:?}");
}

/// 110 calls of 10 ms are known.
async fn learnt(percent: f64) -> Hedge {
    let hedge = Hedge::at_percentile(percent).budget(Budget::new(RatioBudget::finagle().percent(100.0)).unwrap());
    for _ in 0..110 {
        run(&hedge, &[(10, Ok(0))]).await.0.unwrap();
    }
    assert!(hedge.delay().unwrap() >= ms(10) && hedge.delay().unwrap() < ms(11));
    hedge
}

#[tokio::test(start_paused = true)]
async fn slow_failures_and_dropped_calls_move_the_percentile_and_quick_failures_do_not() {
    let cut = |hedge: Hedge| async move {
        for _ in 0..200 {
            let call = hedge.run(|_| std::future::pending::<Result<(), Failed>>());
            assert!(tokio::time::timeout(ms(90), call).await.is_err());
        }
        hedge.delay().unwrap()
    };
    assert!(cut(learnt(90.0).await).await > ms(60), "dropped");
    let hedge = learnt(90.0).await;
    for _ in 0..200 {
        assert!(run(&hedge, &[(90, Err(BUSY))]).await.0.is_err());
    }
    assert!(hedge.delay().unwrap() > ms(60), "failed slowly: {:?}", hedge.delay());
    let hedge = learnt(90.0).await;
    for failure in [BUSY, WRONG] {
        for _ in 0..500 {
            assert!(run(&hedge, &[(0, Err(failure))]).await.0.is_err());
        }
    }
    assert!(hedge.delay().unwrap() >= ms(10), "failed quickly: {:?}", hedge.delay());
}

#[tokio::test(start_paused = true)]
async fn what_was_learnt_is_forgotten_after_two_idle_windows_and_less_than_enough_is_nothing() {
    let hedge = learnt(90.0).await;
    tokio::time::advance(Duration::from_secs(121)).await;
    assert_eq!(hedge.delay(), None);
    // The next reading comes with the 128th call; eighteen are too few.
    for _ in 0..18 {
        run(&hedge, &[(10, Ok(0))]).await.0.unwrap();
    }
    assert_eq!(hedge.delay(), None);
}

#[tokio::test(start_paused = true)]
async fn no_hedge_is_earlier_than_the_least() {
    assert_eq!(learnt(50.0).await.at_least(ms(70)).delay(), Some(ms(70)));
    assert_eq!(Hedge::after(ms(5)).at_least(ms(70)).delay(), Some(ms(70)));
}

#[tokio::test(start_paused = true)]
async fn an_impossible_policy_does_not_hedge() {
    assert_eq!(run(&Hedge::after(ms(5)).max_hedges(17), &[(500, Ok(0))]).await.1, 1);
    assert_eq!(run(&Hedge::after(ms(5)).max_hedges(17), &[(500, Err(BUSY))]).await.1, 1);
}

#[test]
fn what_makes_no_sense_is_named() {
    let field = |hedge: Hedge| hedge.validated().unwrap_err().field().to_owned();
    assert_eq!([0, 17].map(|hedges| field(Hedge::after(ms(1)).max_hedges(hedges))), ["max_hedges"; 2]);
    for percent in [f64::NAN, 0.0, 100.0, -1.0, f64::INFINITY] {
        assert_eq!(field(Hedge::at_percentile(percent)), "at_percentile");
    }
}

//! What a retry does, in tokio's paused time.
#![cfg(feature = "tokio")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stanchion_retry::{
    Backoff, Budget, Call, CallError, Clock, Jitter, Moment, Outcome, RatioBudget, Retry, Retrying, Scope,
};

/// An error that says how it ended.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Failed(Outcome);

impl stanchion_retry::Classify for Failed {
    fn outcome(&self) -> Outcome {
        self.0
    }
}

const BUSY: Failed = Failed(Outcome::Transient);

fn throttled(retry_after: Duration) -> Failed {
    Failed(Outcome::Throttled { retry_after: Some(retry_after) })
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A second before each retry, exactly.
fn each_second() -> Retry {
    Retry::constant(secs(1)).jitter(Jitter::None)
}

fn now() -> Moment {
    Clock::system().now()
}

/// Runs an operation that fails as the list says, then succeeds; says the result, the attempts made
/// and the time passed.
async fn run(retry: &Retry, failures: &[Failed]) -> (Result<(), CallError<Failed>>, u32, Duration) {
    run_call(retry, &Call::new(), failures).await
}

async fn run_call(
    retry: &Retry,
    call: &Call<'_>,
    failures: &[Failed],
) -> (Result<(), CallError<Failed>>, u32, Duration) {
    let (made, began) = (AtomicU32::new(0), now());
    let operation = |_| {
        let number = made.fetch_add(1, Ordering::Relaxed);
        let failure = failures.get(usize::try_from(number).unwrap()).copied();
        async move { failure.map_or(Ok(()), Err) }
    };
    let result = retry.call(call).run(operation).await;
    (result, made.into_inner(), now() - began)
}

fn inner<T>(error: Failed, attempts: u32) -> Result<T, CallError<Failed>> {
    Err(CallError::Inner { error, attempts })
}

#[tokio::test(start_paused = true)]
async fn it_stops_at_the_first_success_and_at_the_last_attempt() {
    let retry = each_second().max_attempts(3);
    assert_eq!(run(&retry, &[]).await, (Ok(()), 1, secs(0)));
    assert_eq!(run(&retry, &[BUSY; 2]).await, (Ok(()), 3, secs(2)));
    assert_eq!(run(&retry, &[BUSY; 3]).await, (inner(BUSY, 3), 3, secs(2)));
}

#[tokio::test(start_paused = true)]
async fn what_is_final_is_not_tried_again() {
    for outcome in [Outcome::Permanent, Outcome::Unauthenticated, Outcome::Ignored, Outcome::Abandoned] {
        let (result, made, took) = run(&each_second(), &[Failed(outcome)]).await;
        assert_eq!((result, made, took), (inner(Failed(outcome), 1), 1, secs(0)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_of_delays_ends_the_call_with_its_last() {
    let retry = Retry::new(Backoff::list([secs(1), secs(5)])).jitter(Jitter::None).max_attempts(9);
    assert_eq!(run(&retry, &[BUSY; 9]).await, (inner(BUSY, 3), 3, secs(6)));
}

#[tokio::test(start_paused = true)]
async fn elapsed_time_counts_attempts_and_a_delay_that_cannot_end_in_time_is_not_begun() {
    // Attempts of 2 s, delays of 1 s: the second begins at 3 s, the third would at 6 s.
    for (max_elapsed, made) in [(secs(6), 2), (Duration::from_millis(6_001), 3)] {
        let retry = each_second().max_attempts(9).max_elapsed(max_elapsed);
        let (count, began) = (AtomicU32::new(0), now());
        let result: Result<(), _> = retry
            .run(|_| async {
                tokio::time::sleep(secs(2)).await;
                count.fetch_add(1, Ordering::Relaxed);
                Err(BUSY)
            })
            .await;
        let expected = if made == 2 { inner(BUSY, 2) } else { inner(BUSY, 3) };
        assert_eq!((result, count.into_inner()), (expected, made));
        assert_eq!(now() - began, secs(u64::from(made) * 3 - 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_bounds_the_retries_and_is_told_to_the_operation() {
    let call = Call::new().deadline(now() + Duration::from_millis(2_500));
    let left = Mutex::new(Vec::new());
    let operation = |attempt: stanchion_retry::Attempt| {
        left.lock().unwrap().push(attempt.remaining().unwrap().as_millis());
        async { Err::<(), _>(BUSY) }
    };
    let result = each_second().max_attempts(9).call(&call).run(operation).await;
    assert_eq!(result, inner(BUSY, 3));
    assert_eq!(*left.lock().unwrap(), [2_500, 1_500, 500]);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_hangs_is_cut_and_tried_again() {
    let retry = each_second().attempt_timeout(secs(3));
    let left = Mutex::new(Vec::new());
    let began = now();
    let result = retry
        .run(|attempt| {
            left.lock().unwrap().push((attempt.remaining(), attempt.last()));
            async move {
                if attempt.number() == 1 {
                    std::future::pending::<()>().await;
                }
                Ok::<_, Failed>(attempt.number())
            }
        })
        .await;
    assert_eq!((result, now() - began), (Ok(2), secs(4)));
    assert_eq!(*left.lock().unwrap(), [(Some(secs(3)), None), (Some(secs(3)), Some(Outcome::TimedOut))]);

    let hung: Result<(), CallError<Failed>> = retry.max_attempts(1).run(|_| std::future::pending()).await;
    assert_eq!(hung, Err(CallError::TimedOut { after: secs(3), scope: Scope::Attempt }));
}

#[tokio::test(start_paused = true)]
async fn it_waits_as_long_as_it_is_told_within_the_ceiling() {
    let retry = each_second().max_delay(secs(2)).max_retry_after(secs(30));
    assert_eq!(run(&retry, &[throttled(secs(30))]).await, (Ok(()), 2, secs(31)), "its own cap doesn't shorten that");
    assert_eq!(run(&retry, &[throttled(Duration::ZERO)]).await, (Ok(()), 2, secs(1)));
    let too_long = throttled(Duration::from_millis(30_001));
    assert_eq!(run(&retry, &[too_long]).await, (inner(too_long, 1), 1, secs(0)));
    let forever = throttled(Duration::MAX);
    assert_eq!(run(&retry.max_retry_after(Duration::MAX), &[forever, BUSY]).await.1, 3, "584 years in paused time");
}

#[tokio::test(start_paused = true)]
async fn throttling_may_have_delays_of_its_own() {
    let retry = each_second().throttled_backoff(Backoff::constant(secs(10))).jitter(Jitter::None).max_attempts(4);
    let plain = Failed(Outcome::Throttled { retry_after: None });
    assert_eq!(run(&retry, &[BUSY, plain, BUSY]).await, (Ok(()), 4, secs(12)));
}

#[tokio::test(start_paused = true)]
async fn credentials_are_refreshed_once_and_tried_at_once() {
    let denied = Failed(Outcome::Unauthenticated);
    let retry = each_second().again_after_refresh();
    assert_eq!(run(&retry, &[denied]).await, (Ok(()), 2, secs(0)));
    assert_eq!(run(&retry, &[denied, denied]).await, (inner(denied, 2), 2, secs(0)), "not twice");
    assert_eq!(run(&retry, &[BUSY, denied]).await, (Ok(()), 3, secs(1)));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_repeatable_is_not_repeated() {
    let call = Call::new().repeatable(false);
    assert_eq!(run_call(&each_second(), &call, &[BUSY]).await, (inner(BUSY, 1), 1, secs(0)));
}

#[tokio::test(start_paused = true)]
async fn the_hook_hears_of_each_retry_before_its_delay() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hook = Arc::clone(&heard);
    let retry = each_second().on_retry(move |retrying: &Retrying| hook.lock().unwrap().push((*retrying, now())));
    let began = now();
    assert!(run(&retry, &[BUSY; 3]).await.0.is_err());
    let heard: Vec<_> =
        heard.lock().unwrap().iter().map(|(each, at)| (each.attempt, each.delay, *at - began)).collect();
    assert_eq!(heard, [(1, secs(1), secs(0)), (2, secs(1), secs(1))]);
}

#[tokio::test(start_paused = true)]
async fn a_value_that_a_classifier_calls_a_failure_is_handed_out_as_it_is() {
    let by_status = |result: &Result<u16, Failed>| match result {
        Ok(503) => Outcome::Transient,
        Ok(_) => Outcome::Success,
        Err(error) => error.0,
    };
    assert_eq!(each_second().classify(by_status).run(|_| async { Ok(503) }).await, Ok(503));
}

#[tokio::test(start_paused = true)]
async fn an_impossible_policy_tries_nothing() {
    let retry = Retry::exponential().max_attempts(0);
    let (result, made, _) = run(&retry, &[]).await;
    assert_eq!(made, 0);
    assert!(matches!(result, Err(CallError::Misconfigured(error)) if error.field() == "max_attempts"));
    assert!(retry.max_attempts(1).validated().is_ok(), "a mistake can be mended");
    let field = |retry: Retry| retry.validated().unwrap_err().field().to_owned();
    assert_eq!(field(Retry::exponential().max_elapsed(Duration::ZERO)), "max_elapsed");
    assert_eq!(field(Retry::exponential().attempt_timeout(Duration::ZERO)), "attempt_timeout");
    assert_eq!(field(Retry::new(Backoff::exponential(secs(1)).factor(f64::NAN))), "backoff.factor");
    assert_eq!(field(Retry::exponential().jitter(Jitter::Fraction(-0.5))), "backoff.jitter");
    let infinite = Retry::constant(Duration::MAX).max_attempts(u32::MAX).max_elapsed(Duration::MAX);
    assert!(infinite.attempt_timeout(Duration::MAX).max_delay(Duration::MAX).validated().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_panic_goes_on_to_the_caller_and_costs_no_budget() {
    let budget = Budget::new(RatioBudget::finagle().percent(0.0).min_per_second(1)).unwrap();
    let retry = each_second().budget(&budget);
    let task = tokio::spawn(async move {
        retry.run(|_| async { if true { panic!("the operation fails") } else { Err::<(), _>(BUSY) } }).await
    });
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(budget.balance(now()), 10);
}

#[tokio::test(start_paused = true)]
async fn an_empty_budget_ends_the_retries_of_all_who_share_it() {
    let budget = Budget::new(RatioBudget::finagle().percent(0.0).min_per_second(1)).unwrap();
    let quick = || Retry::constant(Duration::from_millis(1)).jitter(Jitter::None).budget(&budget);
    let (one, other) = (quick(), quick().max_attempts(99));
    assert_eq!(run(&one, &[BUSY; 9]).await.1, 3);
    assert_eq!(run(&other, &[BUSY; 99]).await.1, 1 + 8);
    assert_eq!(run(&one, &[BUSY]).await, (inner(BUSY, 1), 1, secs(0)));
}

#[test]
fn blocking_is_the_same_decisions() {
    let (mut waited, mut made) = (Vec::new(), 0);
    let result = each_second().max_attempts(5).classify(stanchion_retry::ByError).run_blocking_with(
        |delay| waited.push(delay),
        |attempt| {
            made += 1;
            if attempt.number() < 3 { Err(BUSY) } else { Ok("done") }
        },
    );
    assert_eq!((result, made, waited), (Ok("done"), 3, vec![secs(1), secs(1)]));
}

/// Callers that were told the same second don't come back in it together.
#[tokio::test(start_paused = true)]
async fn a_told_wait_is_spread_by_the_jitter_on_top() {
    let retry = Retry::exponential();
    let mut waits = std::collections::HashSet::new();
    for _ in 0..100 {
        let (result, _, took) = run(&retry, &[throttled(secs(7))]).await;
        assert!(result.is_ok() && took >= secs(7) && took <= Duration::from_millis(7_101), "{took:?}");
        waits.insert(took);
    }
    assert!(waits.len() > 20, "{}", waits.len());
}

#[tokio::test(start_paused = true)]
async fn a_deadline_cuts_the_attempt_and_one_that_has_passed_begins_nothing() {
    let retry = each_second().attempt_timeout(secs(10));
    let began = now();
    let hanging = retry.until(began + secs(3)).run(|_| std::future::pending::<Result<(), Failed>>()).await;
    assert_eq!(hanging, Err(CallError::TimedOut { after: secs(3), scope: Scope::Total }));
    assert_eq!(now() - began, secs(3));
    let call = Call::new().deadline(began + secs(3));
    let late = Err(CallError::TimedOut { after: secs(0), scope: Scope::Total });
    assert_eq!(run_call(&retry, &call, &[]).await, (late.clone(), 0, secs(0)));
    // What a call doesn't say is as it was.
    let made = retry.until(began).call(&Call::new()).run(|_| async { Ok::<(), Failed>(()) }).await;
    assert_eq!(made, late);
    assert_eq!(retry.until(began).run_blocking_with(|_| {}, |_| Ok::<(), Failed>(())), late);
}

/// One that never waits would otherwise keep the thread to itself, and no timeout could end it.
#[tokio::test]
async fn retries_without_a_delay_let_others_have_their_turn() {
    let enough = std::sync::atomic::AtomicBool::new(false);
    let retry = Retry::constant(Duration::ZERO).max_attempts(10_000);
    let call = retry.run(|_| async { if enough.load(Ordering::Relaxed) { Ok(()) } else { Err(BUSY) } });
    let other = async { enough.store(true, Ordering::Relaxed) };
    assert_eq!(tokio::join!(call, other).0, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_timeout_ends_an_operation_that_always_uses_up_its_turn() {
    let greedy = async {
        loop {
            tokio::task::coop::consume_budget().await;
        }
    };
    // Real time passes here, none of which is measured: the clock is paused, so it is advanced beside.
    let cut = tokio::spawn(stanchion_retry::within::<_>(secs(1), greedy));
    tokio::task::yield_now().await;
    tokio::time::advance(secs(2)).await;
    assert_eq!(cut.await.unwrap(), Err(secs(1)));
}

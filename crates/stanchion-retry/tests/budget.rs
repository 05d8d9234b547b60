//! What retries and hedges take from a budget and bring to it, to the token.
#![cfg(feature = "tokio")]

use std::time::Duration;

use stanchion_retry::{
    Budget, BudgetConfig, Classify, Clock, Costs, Hedge, Outcome, RatioBudget, Retry, ThrottleBudget, TokensBudget,
};

#[derive(Debug, Clone, Copy)]
struct Failed(Outcome);

impl Classify for Failed {
    fn outcome(&self) -> Outcome {
        self.0
    }
}

const BUSY: Failed = Failed(Outcome::Transient);
const LATE: Failed = Failed(Outcome::TimedOut);

fn budget(config: impl Into<BudgetConfig>) -> Budget {
    Budget::new(config).unwrap()
}

fn balance(budget: &Budget) -> u64 {
    budget.balance(Clock::system().now())
}

fn at_once(budget: &Budget) -> Retry {
    Retry::constant(Duration::ZERO).max_attempts(9).budget(budget)
}

/// Fails as the list says, then succeeds.
async fn call(retry: &Retry, failures: &[Failed]) -> bool {
    let operation = |attempt: stanchion_retry::Attempt| {
        let failure = failures.get(usize::try_from(attempt.number()).unwrap() - 1).copied();
        async move { failure.map_or(Ok(()), Err) }
    };
    retry.run(operation).await.is_ok()
}

/// A token costs as much as it says: with costs of 1 the balance is the tokens.
fn tokens(capacity: u64) -> Budget {
    budget(TokensBudget::default().capacity(capacity).costs(Costs { transient: 1, throttled: 1, timed_out: 3 }))
}

#[tokio::test(start_paused = true)]
async fn a_retry_costs_by_the_outcome_before_it_and_a_success_brings_the_last_one_back() {
    let budget = tokens(20);
    let retry = at_once(&budget);
    assert!(call(&retry, &[BUSY, LATE, LATE]).await);
    assert_eq!(balance(&budget), 20 - 1 - 3 - 3 + 3);
    assert!(call(&retry, &[]).await);
    assert_eq!(balance(&budget), 17);
    // What says nothing about the other side brings nothing.
    assert!(!call(&retry, &[Failed(Outcome::Ignored)]).await);
    assert_eq!(balance(&budget), 17);
    assert!(!call(&retry, &[LATE; 9]).await);
    assert_eq!(balance(&budget), 17 - 15, "five more at three each");
}

#[tokio::test(start_paused = true)]
async fn throttling_counts_failures_that_may_pass_and_successes() {
    let budget = budget(ThrottleBudget::default().max_tokens(20).token_ratio(0.5));
    let retry = Retry::never().budget(&budget);
    assert_eq!(balance(&budget), 9);
    for failure in [BUSY, LATE] {
        assert!(!call(&retry, &[failure]).await);
    }
    assert_eq!(balance(&budget), 7, "though nothing was retried");
    for failure in [Outcome::Permanent, Outcome::Ignored, Outcome::Unauthenticated] {
        assert!(!call(&retry, &[Failed(failure)]).await);
    }
    assert_eq!(balance(&budget), 7);
    assert!(call(&retry, &[]).await && call(&retry, &[]).await);
    assert_eq!(balance(&budget), 8);
    for _ in 0..100 {
        assert!(call(&retry, &[]).await);
    }
    assert_eq!(balance(&budget), 9, "no more than its most");
}

#[tokio::test(start_paused = true)]
async fn a_share_is_a_share_of_the_calls_and_not_of_the_attempts() {
    let budget = budget(RatioBudget::finagle().percent(50.0).min_per_second(0));
    for _ in 0..10 {
        assert!(call(&at_once(&budget), &[]).await);
    }
    assert_eq!(balance(&budget), 5);
    // Its own half makes five and a half of which it takes all five.
    assert!(!call(&at_once(&budget), &[BUSY; 9]).await);
    assert_eq!(balance(&budget), 0);
    let hedge = Hedge::after(Duration::from_secs(1)).budget(&budget);
    hedge.run(|_| async { Ok::<(), Failed>(()) }).await.unwrap();
    assert_eq!(balance(&budget), 1, "a hedged call is a call, too");
}

#[tokio::test(start_paused = true)]
async fn a_hedge_costs_and_its_success_brings_that_back() {
    let budget = tokens(20);
    let hedge = Hedge::after(Duration::from_millis(50)).max_hedges(2).budget(&budget);
    let run = |takes: [u64; 3]| {
        hedge.run(move |attempt| async move {
            tokio::time::sleep(Duration::from_millis(takes[usize::try_from(attempt.hedge()).unwrap()])).await;
            Ok::<_, Failed>(())
        })
    };
    run([110, 900, 900]).await.unwrap();
    assert_eq!(balance(&budget), 20 - 2 + 1, "the first try has won: a reward, and both hedges are paid for");
    run([900, 900, 5]).await.unwrap();
    assert_eq!(balance(&budget), 19 - 2 + 1, "the second hedge has won, and is given back");
}

#[tokio::test(start_paused = true)]
async fn throttling_ends_hedges_too() {
    let budget = budget(ThrottleBudget::default());
    let hedge = Hedge::after(Duration::from_millis(50)).max_hedges(16).budget(&budget);
    let mut made = 0;
    for _ in 0..10 {
        let failed = hedge.run(|_| {
            made += 1;
            async { Err::<(), _>(BUSY) }
        });
        assert!(failed.await.is_err());
    }
    assert_eq!(made, 10 + 4, "as many beyond the first as failures are retried");
}

#[tokio::test(start_paused = true)]
async fn what_can_never_be_spent_is_refused_by_name() {
    let config = TokensBudget::aws_2_0().capacity(4);
    assert_eq!(Budget::new(config).unwrap_err().field(), "capacity");
    assert!(Budget::new(config.capacity(5)).is_ok());
}

//! Who is told what, who pays for what, and what is counted, where policies meet.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stanchion_core::{Admission, BoxFuture, Ticket};
use stanchion_limit::{Bulkhead, BulkheadConfig};
use stanchion_pipeline::{
    BackoffConfig, Budget, Call, CallError, Classify, Clock, Gate, Hedge, HedgeConfig, Moment, Outcome, Pipeline,
    PipelineConfig, Rejection, RejectionKind, Retry, RetryConfig,
};
use stanchion_retry::{Costs, Jitter, RatioBudget, ThrottleBudget, TokensBudget};

#[derive(Debug, Clone, Copy, PartialEq)]
struct Failed(Outcome);

impl Classify for Failed {
    fn outcome(&self) -> Outcome {
        self.0
    }
}

const BUSY: Failed = Failed(Outcome::Transient);

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn now() -> Moment {
    Clock::system().now()
}

fn each_second() -> Retry {
    Retry::constant(secs(1)).jitter(Jitter::None)
}

/// A fixed number of grants, whatever the calls.
fn grants(number: u32) -> Budget {
    Budget::new(RatioBudget::finagle().percent(0.0).min_per_second(number / 10)).unwrap()
}

/// Admits so many and refuses the others, at once or after a wait; notes what it is told.
#[derive(Clone, Default)]
struct Turnstile {
    admits: Arc<AtomicU32>,
    wait: Option<Duration>,
    told: Arc<Mutex<Vec<(Outcome, Duration)>>>,
}

impl Turnstile {
    fn admits(number: u32) -> Self {
        Self { admits: Arc::new(AtomicU32::new(number)), ..Self::default() }
    }
}

impl Gate for Turnstile {
    fn try_admit(&self, _: &Call<'_>) -> Admission {
        if self.wait.is_some() {
            Admission::Wait
        } else if self.admits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            Admission::Admitted(Ticket::new(0))
        } else {
            Admission::Rejected(Rejection::new("turnstile", RejectionKind::CircuitOpen).retry_after(secs(1)))
        }
    }

    fn admit<'a>(&'a self, _: &'a Call<'a>) -> BoxFuture<'a, Result<Ticket, Rejection>> {
        Box::pin(async {
            tokio::time::sleep(self.wait.unwrap()).await;
            Ok(Ticket::new(0))
        })
    }

    fn settle(&self, _: Ticket, outcome: Outcome, elapsed: Duration) {
        self.told.lock().unwrap().push((outcome, elapsed));
    }

    fn needs_elapsed(&self) -> bool {
        true
    }
}

async fn succeed(pipeline: &Pipeline) -> Result<(), CallError<Failed>> {
    pipeline.run(|_| async { Ok(()) }).await
}

/// Fails always; says how many attempts were made.
async fn fail(pipeline: &Pipeline) -> (Result<(), CallError<Failed>>, u32) {
    let made = AtomicU32::new(0);
    let result = pipeline.run(|_| {
        made.fetch_add(1, Ordering::Relaxed);
        async { Err(BUSY) }
    });
    (result.await, made.into_inner())
}

#[tokio::test(start_paused = true)]
async fn a_success_is_rewarded_once_whoever_spends_from_the_budget() {
    let ones = Costs { transient: 1, throttled: 1, timed_out: 1 };
    let kinds = [
        Budget::new(TokensBudget::default().capacity(100).costs(ones)).unwrap(),
        Budget::new(ThrottleBudget::default().max_tokens(100).token_ratio(1.0)).unwrap(),
    ];
    for budget in kinds {
        for with_retry in [true, false] {
            for _ in 0..20 {
                budget.failed(Outcome::Transient);
                if let Some(mut spent) = budget.try_spend(Outcome::Transient, now()) {
                    spent.made();
                }
            }
            let before = budget.balance(now());
            let builder = Pipeline::named("x").hedge(Hedge::after(secs(1))).budget(&budget).repeatable(true);
            let builder = if with_retry { builder.retry(each_second()) } else { builder };
            let pipeline = builder.build().unwrap();
            for _ in 0..10 {
                succeed(&pipeline).await.unwrap();
            }
            assert_eq!(budget.balance(now()), before + 10, "{budget:?}, {with_retry}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn throttling_ends_the_hedges_of_a_pipeline_without_retries() {
    let budget = Budget::new(ThrottleBudget::default()).unwrap();
    let hedge = Hedge::after(ms(50)).max_hedges(16);
    let pipeline = Pipeline::named("x").hedge(hedge).budget(&budget).repeatable(true).build().unwrap();
    let mut made = 0;
    for _ in 0..100 {
        made += fail(&pipeline).await.1;
    }
    assert_eq!(made, 100 + 4);
}

#[tokio::test(start_paused = true)]
async fn to_wait_out_refusals_costs_no_budget() {
    let gate = Turnstile::admits(0);
    let retry = each_second().max_attempts(9).retry_rejections();
    let budget = grants(0);
    let pipeline = Pipeline::named("x").breaker(gate.clone()).retry(retry).budget(&budget).build().unwrap();
    let opened = async {
        tokio::time::sleep(secs(5)).await;
        gate.admits.store(1, Ordering::Relaxed);
    };
    assert_eq!(tokio::join!(succeed(&pipeline), opened).0, Ok(()));
    assert_eq!(pipeline.snapshot().retries, 1, "one attempt, of a number above 1");
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_a_gate_refuses_leaves_the_operations_error_and_is_no_attempt() {
    let (outer, budget) = (Turnstile::admits(9), grants(10));
    let pipeline = Pipeline::named("x")
        .call_gate(outer.clone())
        .breaker(Turnstile::admits(1))
        .retry(each_second())
        .budget(&budget)
        .build()
        .unwrap();
    assert_eq!(fail(&pipeline).await, (Err(CallError::Inner { error: BUSY, attempts: 1 }), 1));
    let snapshot = pipeline.snapshot();
    assert_eq!((snapshot.retries, snapshot.outcomes.transient, snapshot.latency.count), (0, 1, 1));
    assert_eq!(outer.told.lock().unwrap()[0].0, Outcome::Transient);
    assert_eq!(budget.balance(now()), 10, "the grant is given back");
}

#[tokio::test(start_paused = true)]
async fn a_grant_for_an_attempt_that_has_no_time_left_is_given_back() {
    /// The second comer waits four seconds.
    struct Second(AtomicU32);
    impl Gate for Second {
        fn try_admit(&self, _: &Call<'_>) -> Admission {
            let first = self.0.fetch_add(1, Ordering::Relaxed) == 0;
            if first { Admission::Admitted(Ticket::new(0)) } else { Admission::Wait }
        }
        fn admit<'a>(&'a self, _: &'a Call<'a>) -> BoxFuture<'a, Result<Ticket, Rejection>> {
            Box::pin(async {
                tokio::time::sleep(secs(4)).await;
                Ok(Ticket::new(0))
            })
        }
        fn settle(&self, _: Ticket, _: Outcome, _: Duration) {}
    }
    let budget = grants(10);
    let builder = Pipeline::named("x").total_timeout(secs(5)).retry(each_second()).budget(&budget);
    let pipeline = builder.breaker(Second(AtomicU32::new(0))).build().unwrap();
    let (result, made) = fail(&pipeline).await;
    assert!(matches!(result, Err(CallError::TimedOut { .. })), "{result:?}");
    assert_eq!((made, budget.balance(now())), (1, 10));
}

#[tokio::test(start_paused = true)]
async fn a_gate_is_told_how_long_the_operation_took_and_not_the_line_behind_it() {
    let breaker = Turnstile::admits(9);
    let line = Turnstile { wait: Some(secs(5)), ..Turnstile::default() };
    let pipeline = Pipeline::named("x").breaker(breaker.clone()).rate_limit(line).build().unwrap();
    let slow = || async {
        tokio::time::sleep(ms(10)).await;
        Ok::<_, Failed>(())
    };
    pipeline.run(|_| slow()).await.unwrap();
    assert_eq!(*breaker.told.lock().unwrap(), [(Outcome::Success, ms(10))]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_hedge_of_a_pipeline_within_does_not_win() {
    let inner = Pipeline::named("inner").bulkhead(Bulkhead::new(1)).build().unwrap();
    let outer = Pipeline::named("outer").hedge(Hedge::after(ms(50))).repeatable(true).build().unwrap();
    let slow = || async {
        tokio::time::sleep(ms(90)).await;
        Ok::<_, Failed>(7)
    };
    assert_eq!(outer.run(|_| inner.run(|_| slow())).await, Ok(7));
}

#[tokio::test(start_paused = true)]
async fn a_first_try_that_will_not_pass_ends_a_hedged_call() {
    let builder = Pipeline::named("x").retry(each_second()).hedge(Hedge::after(ms(50))).repeatable(true);
    let pipeline = builder.build().unwrap();
    let began = now();
    let result = pipeline.run(|attempt| async move {
        tokio::time::sleep(if attempt.hedge() == 0 { ms(70) } else { secs(9) }).await;
        Err::<(), _>(Failed(Outcome::Permanent))
    });
    assert!(result.await.is_err());
    assert_eq!(now() - began, ms(70));
}

#[tokio::test(start_paused = true)]
async fn what_a_dropped_call_did_is_counted() {
    let pipeline = Pipeline::named("x").hedge(Hedge::after(secs(1))).repeatable(true).build().unwrap();
    for _ in 0..10 {
        let hanging = pipeline.run(|_| std::future::pending::<Result<(), Failed>>());
        assert!(tokio::time::timeout(secs(3), hanging).await.is_err());
    }
    let snapshot = pipeline.snapshot();
    assert_eq!((snapshot.hedges, snapshot.outcomes.abandoned), (10, 10));
    assert!(snapshot.latency.p50.unwrap() >= secs(3));
}

#[tokio::test(start_paused = true)]
async fn pipelines_of_one_builder_have_a_default_budget_each() {
    let builder = Pipeline::named("x").retry(Retry::constant(Duration::ZERO).max_attempts(9));
    let (one, other) = (builder.clone().build().unwrap(), builder.build().unwrap());
    let before = other.snapshot().budget;
    assert!(fail(&one).await.1 > 1);
    assert_eq!(other.snapshot().budget, before);
}

fn config(change: impl FnOnce(&mut PipelineConfig)) -> PipelineConfig {
    let mut config = PipelineConfig::default();
    change(&mut config);
    config
}

fn nine_at_once() -> RetryConfig {
    let mut retry = RetryConfig::default();
    retry.max_attempts = 9;
    retry.backoff = BackoffConfig::Constant { delay: Duration::ZERO, jitter: None };
    retry
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_the_budget_of_a_retry_and_of_a_hedge_by_themselves() {
    let ten = || Some(RatioBudget::finagle().percent(0.0).min_per_second(1).into());
    let mut settings = config(|config| {
        config.retry = Some(nine_at_once());
        config.retry.as_mut().unwrap().budget = ten();
    });
    let pipeline = Pipeline::named("x").config(&settings).build().unwrap();
    assert_eq!((fail(&pipeline).await.1, pipeline.snapshot().budget), (9, Some(2)));
    settings.retry.as_mut().unwrap().max_attempts = 5;
    pipeline.reload(&settings).unwrap();
    assert_eq!((fail(&pipeline).await.1, pipeline.snapshot().budget), (3, Some(0)));

    let mut settings = config(|config| {
        let mut hedge = HedgeConfig::default();
        hedge.after = Some(ms(50));
        hedge.budget = ten();
        config.hedge = Some(hedge);
    });
    let pipeline = Pipeline::named("x").repeatable(true).config(&settings).build().unwrap();
    assert_eq!((fail(&pipeline).await.1, pipeline.snapshot().budget), (2, Some(9)));
    settings.hedge.as_mut().unwrap().max_hedges = 2;
    pipeline.reload(&settings).unwrap();
    assert_eq!((fail(&pipeline).await.1, pipeline.snapshot().budget), (3, Some(7)));
}

#[tokio::test(start_paused = true)]
async fn a_configured_retry_keeps_what_only_code_can_say() {
    let heard = Arc::new(AtomicU32::new(0));
    let hook = Arc::clone(&heard);
    let shared = grants(10);
    let in_code = each_second().budget(&shared).on_retry(move |_| {
        hook.fetch_add(1, Ordering::Relaxed);
    });
    let pipeline = Pipeline::named("x").retry(in_code).build().unwrap();
    pipeline.reload(&config(|config| config.retry = Some(nine_at_once()))).unwrap();
    assert_eq!(fail(&pipeline).await.1, 9);
    assert_eq!((heard.load(Ordering::Relaxed), shared.balance(now())), (8, 2));
}

#[tokio::test(start_paused = true)]
async fn a_configured_bulkhead_takes_the_place_of_the_one_in_code() {
    let settings = config(|config| config.bulkhead = Some(BulkheadConfig::new(128)));
    let pipeline = Pipeline::http_api("x").config(&settings).build().unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let pipeline = pipeline.clone();
        calls.spawn(async move {
            let slow = || async {
                tokio::time::sleep(secs(1)).await;
                Ok::<_, Failed>(())
            };
            pipeline.run(|_| slow()).await.is_ok()
        });
    }
    assert_eq!(calls.join_all().await.into_iter().filter(|served| *served).count(), 128);
}

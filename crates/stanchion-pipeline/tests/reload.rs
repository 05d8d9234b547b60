//! Another configuration while calls go on.

use std::time::Duration;

use stanchion_breaker::BreakerConfig;
use stanchion_limit::{Bulkhead, BulkheadConfig, Limiter, Quota};
use stanchion_pipeline::{Call, CallError, Clock, Mode, Pipeline, PipelineConfig, RejectionKind, Retry, Scope};
use stanchion_retry::{BackoffConfig, HedgeConfig, RatioBudget, RetryConfig};

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn retry(max_attempts: u32) -> RetryConfig {
    let mut config = RetryConfig::default();
    config.max_attempts = max_attempts;
    config
}

fn config(change: impl FnOnce(&mut PipelineConfig)) -> PipelineConfig {
    let mut config = PipelineConfig::default();
    change(&mut config);
    config
}

async fn succeed(pipeline: &Pipeline) -> Result<(), CallError<std::io::Error>> {
    pipeline.run(|_| async { Ok(()) }).await
}

async fn hang(pipeline: &Pipeline) -> CallError<std::io::Error> {
    pipeline.run(|_| std::future::pending::<std::io::Result<()>>()).await.unwrap_err()
}

fn is_after(error: &CallError<std::io::Error>, limit: Duration) -> bool {
    matches!(error, CallError::TimedOut { after, scope: Scope::Total } if *after == limit)
}

#[tokio::test(start_paused = true)]
async fn calls_under_way_keep_what_they_began_with() {
    let pipeline = Pipeline::named("x").total_timeout(secs(5)).build().unwrap();
    let before = tokio::spawn({
        let pipeline = pipeline.clone();
        async move { hang(&pipeline).await }
    });
    tokio::task::yield_now().await;
    pipeline.reload(&config(|config| config.total_timeout = Some(secs(1)))).unwrap();
    assert!(is_after(&hang(&pipeline).await, secs(1)));
    assert!(is_after(&before.await.unwrap(), secs(5)));
    // What the configuration doesn't name is as in code.
    pipeline.reload(&PipelineConfig::default()).unwrap();
    assert!(is_after(&hang(&pipeline).await, secs(5)));
}

#[tokio::test(start_paused = true)]
async fn a_gate_whose_configuration_is_the_same_keeps_its_state() {
    let once = |config: &mut PipelineConfig| config.rate_limit = Some(Quota::per_hour(1).into());
    let pipeline = Pipeline::named("x").config(&config(once)).build().unwrap();
    assert!(succeed(&pipeline).await.is_ok() && succeed(&pipeline).await.is_err());
    let other = config(|config| {
        once(config);
        config.total_timeout = Some(secs(9));
    });
    pipeline.reload(&other).unwrap();
    assert!(succeed(&pipeline).await.is_err(), "the token is still gone");
    pipeline.reload(&config(|config| config.rate_limit = Some(Quota::per_hour(2).into()))).unwrap();
    assert!(succeed(&pipeline).await.is_ok() && succeed(&pipeline).await.is_ok() && succeed(&pipeline).await.is_err());
    pipeline.reload(&PipelineConfig::default()).unwrap();
    assert!(succeed(&pipeline).await.is_ok(), "and there is no limit any more");
}

#[tokio::test(start_paused = true)]
async fn a_budget_keeps_its_state_too() {
    let storm = config(|config| {
        let mut at_once = retry(9);
        at_once.backoff = BackoffConfig::Constant { delay: Duration::ZERO, jitter: None };
        config.retry = Some(at_once);
        config.budget = Some(RatioBudget::finagle().percent(0.0).min_per_second(1).into());
    });
    let pipeline = Pipeline::named("x").config(&storm).build().unwrap();
    let busy = || std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    assert!(pipeline.run(|_| async { Err::<(), _>(busy()) }).await.is_err());
    assert_eq!(pipeline.snapshot().budget, Some(10 - 8));
    let mut other = storm.clone();
    other.total_timeout = Some(secs(99));
    pipeline.reload(&other).unwrap();
    assert_eq!(pipeline.snapshot().budget, Some(2));
    other.budget = Some(RatioBudget::finagle().percent(0.0).min_per_second(2).into());
    pipeline.reload(&other).unwrap();
    assert_eq!(pipeline.snapshot().budget, Some(20));
}

#[tokio::test(start_paused = true)]
async fn gates_that_were_added_in_code_stay() {
    let pipeline = Pipeline::named("x").rate_limit(Limiter::per_minute(1)).build().unwrap();
    assert!(succeed(&pipeline).await.is_ok());
    pipeline.reload(&config(|config| config.repeatable = Some(true))).unwrap();
    let refused = succeed(&pipeline).await.unwrap_err();
    assert_eq!(refused.rejection().unwrap().kind(), RejectionKind::RateLimited);
    pipeline.reload(&config(|config| config.mode = Some(Mode::Disabled))).unwrap();
    assert!(succeed(&pipeline).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_configuration_that_makes_no_sense_is_refused_whole() {
    let good = config(|config| config.bulkhead = Some(BulkheadConfig::new(3)));
    let pipeline = Pipeline::named("x").config(&good).build().unwrap();
    let refused = |change: fn(&mut PipelineConfig)| {
        let bad = config(|config| {
            // Good in itself, and not taken all the same.
            config.total_timeout = Some(secs(1));
            change(config);
        });
        let field = pipeline.reload(&bad).unwrap_err().field().to_owned();
        assert_eq!(pipeline.config(), good);
        field
    };
    assert_eq!(refused(|config| config.total_timeout = Some(Duration::ZERO)), "total_timeout");
    assert_eq!(refused(|config| config.attempt_timeout = Some(Duration::ZERO)), "attempt_timeout");
    assert_eq!(refused(|config| config.rate_limit = Some(Quota::per_second(0).into())), "rate_limit.count");
    assert_eq!(
        refused(|config| config.breaker = Some(BreakerConfig { failure_rate: Some(1.5), ..BreakerConfig::default() })),
        "breaker.failure_rate"
    );
    assert_eq!(refused(|config| config.bulkhead = Some(BulkheadConfig::new(0))), "bulkhead.permits");
    assert_eq!(refused(|config| config.hedge = Some(HedgeConfig::default())), "hedge.after");
    assert_eq!(refused(|config| config.budget = Some(RatioBudget::finagle().percent(-1.0).into())), "budget.percent");
    assert_eq!(refused(move |config| config.retry = Some(retry(0))), "retry.max_attempts");
    let began = Clock::system().now();
    let hanging =
        pipeline.call(Call::new().deadline(began + secs(7))).run(|_| std::future::pending::<std::io::Result<()>>());
    assert!(is_after(&hanging.await.unwrap_err(), secs(7)), "the timeout of the refused one isn't there");
}

#[tokio::test(start_paused = true)]
async fn the_configuration_overlays_the_code() {
    let pipeline = Pipeline::named("x")
        .retry(Retry::constant(secs(1)).max_attempts(9))
        .bulkhead(Bulkhead::new(9))
        .config(&config(|config| config.retry = Some(retry(2))))
        .build()
        .unwrap();
    let attempts = |pipeline: Pipeline| async move {
        let failed =
            pipeline.run(|_| async { Err::<(), _>(std::io::Error::from(std::io::ErrorKind::ConnectionReset)) });
        match failed.await {
            Err(CallError::Inner { attempts, .. }) => attempts,
            other => unreachable!("{other:?}"),
        }
    };
    assert_eq!(attempts(pipeline.clone()).await, 2);
    pipeline.reload(&PipelineConfig::default()).unwrap();
    assert_eq!(attempts(pipeline).await, 9);
}

#[tokio::test(start_paused = true)]
async fn a_configured_breaker_trips_and_keeps_its_state_over_a_reload() {
    let mut settings = config(|config| {
        config.breaker = Some(BreakerConfig { consecutive_failures: Some(3), ..BreakerConfig::default() });
    });
    let pipeline = Pipeline::named("x").config(&settings).build().unwrap();
    let fail = || pipeline.run(|_| async { Err::<(), _>(std::io::Error::from(std::io::ErrorKind::ConnectionReset)) });
    for _ in 0..3 {
        assert!(fail().await.unwrap_err().into_inner().is_some());
    }
    settings.total_timeout = Some(secs(9));
    pipeline.reload(&settings).unwrap();
    let refused = fail().await.unwrap_err();
    assert_eq!(refused.rejection().unwrap().kind(), RejectionKind::CircuitOpen);
    tokio::time::advance(secs(6)).await;
    assert!(succeed(&pipeline).await.is_ok());
}

//! What a pipeline does, in tokio's paused time.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stanchion_core::{Admission, BoxFuture, Ticket};
use stanchion_limit::{Bulkhead, Limiter};
use stanchion_pipeline::{
    Budget, Call, CallError, Clock, Gate, Hedge, Mode, Moment, Outcome, Pipeline, Rejection, RejectionKind, Retry,
    Scope,
};
use stanchion_retry::{Jitter, RatioBudget};

#[derive(Debug, Clone, Copy, PartialEq)]
struct Failed(Outcome);

impl stanchion_pipeline::Classify for Failed {
    fn outcome(&self) -> Outcome {
        self.0
    }
}

const BUSY: Failed = Failed(Outcome::Transient);

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn now() -> Moment {
    Clock::system().now()
}

/// A second before each retry, exactly.
fn each_second() -> Retry {
    Retry::constant(secs(1)).jitter(Jitter::None)
}

/// What several gates were asked and told, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note(&self, what: String) {
        self.0.lock().unwrap().push(what);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn gate(&self, name: &'static str) -> Recorder {
        Recorder { name, log: self.clone(), refuse: Arc::default(), wait: None }
    }
}

/// A gate that notes what it is asked and told.
#[derive(Clone)]
struct Recorder {
    name: &'static str,
    log: Log,
    refuse: Arc<AtomicU32>,
    wait: Option<Duration>,
}

impl Gate for Recorder {
    fn try_admit(&self, _: &Call<'_>) -> Admission {
        if self.wait.is_some() {
            return Admission::Wait;
        }
        self.log.note(format!("ask {}", self.name));
        if self.refuse.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            return Admission::Rejected(Rejection::new(self.name, RejectionKind::CircuitOpen).retry_after(secs(3)));
        }
        Admission::Admitted(Ticket::new(0))
    }

    fn admit<'a>(&'a self, _: &'a Call<'a>) -> BoxFuture<'a, Result<Ticket, Rejection>> {
        Box::pin(async {
            tokio::time::sleep(self.wait.unwrap()).await;
            Ok(Ticket::new(0))
        })
    }

    fn settle(&self, _: Ticket, outcome: Outcome, _: Duration) {
        self.log.note(format!("{} {}", self.name, outcome.as_str()));
    }
}

#[tokio::test(start_paused = true)]
async fn gates_are_asked_in_the_order_of_the_picture_and_told_how_it_ended() {
    let log = Log::default();
    let pipeline = Pipeline::named("ordered")
        // In another order than that of the picture.
        .attempt_gate(log.gate("other"))
        .rate_limit(log.gate("limit"))
        .bulkhead(log.gate("bulkhead"))
        .call_gate(log.gate("call"))
        .breaker(log.gate("breaker"))
        .retry(each_second().max_attempts(2))
        .build()
        .unwrap();
    let result = pipeline
        .run(|attempt| {
            log.note(format!("attempt {}", attempt.number()));
            async move { if attempt.number() == 1 { Err(BUSY) } else { Ok(()) } }
        })
        .await;
    assert_eq!(result, Ok(()));
    let expected = [
        "ask call",
        "ask bulkhead",
        "ask breaker",
        "ask limit",
        "ask other",
        "attempt 1",
        "breaker transient",
        "limit transient",
        "other transient",
        "ask breaker",
        "ask limit",
        "ask other",
        "attempt 2",
        "breaker success",
        "limit success",
        "other success",
        "call success",
        "bulkhead success",
    ];
    assert_eq!(log.take(), expected);
}

#[tokio::test(start_paused = true)]
async fn retry_does_not_spend_attempts_on_a_refusal_and_earlier_gates_hear_that_nothing_was_made() {
    let log = Log::default();
    let closed = log.gate("closed");
    closed.refuse.store(1, Ordering::Relaxed);
    let pipeline =
        Pipeline::named("x").breaker(log.gate("open")).rate_limit(closed).retry(each_second()).build().unwrap();
    let began = now();
    let result = pipeline.run(|_| async { Ok::<_, Failed>(()) }).await;
    let rejection = result.unwrap_err().rejection().cloned().unwrap();
    assert_eq!((rejection.by(), rejection.come_back_after()), ("closed", Some(secs(3))));
    assert_eq!(now() - began, secs(0));
    assert_eq!(log.take(), ["ask open", "ask closed", "open ignored"]);
    let snapshot = pipeline.snapshot();
    assert_eq!((snapshot.outcomes.rejected, snapshot.retries, snapshot.latency.count), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn told_to_retry_refusals_it_comes_back_when_the_gate_says() {
    let log = Log::default();
    let closed = log.gate("closed");
    closed.refuse.store(1, Ordering::Relaxed);
    let pipeline =
        Pipeline::named("x").breaker(closed.clone()).retry(each_second().retry_rejections()).build().unwrap();
    let began = now();
    let result = pipeline.run(|attempt| async move { Ok::<_, Failed>(attempt.number()) }).await;
    // Its three seconds, and the backoff's one on top.
    assert_eq!((result, now() - began), (Ok(2), secs(4)));
    // It counts as an attempt.
    closed.refuse.store(9, Ordering::Relaxed);
    assert!(matches!(pipeline.run(|_| async { Ok::<_, Failed>(()) }).await, Err(CallError::Rejected(_))));
    assert_eq!(closed.refuse.load(Ordering::Relaxed), 6);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_is_cut_by_its_timeout_and_the_call_by_its_own() {
    let log = Log::default();
    let pipeline = Pipeline::named("x")
        .total_timeout(secs(5))
        .attempt_timeout(secs(2))
        .retry(each_second().max_attempts(9))
        .breaker(log.gate("breaker"))
        .build()
        .unwrap();
    let began = now();
    let left = Mutex::new(Vec::new());
    let result: Result<(), CallError<Failed>> = pipeline
        .run(|attempt| {
            left.lock().unwrap().push(attempt.remaining().unwrap());
            std::future::pending()
        })
        .await;
    // 2 s, a second's wait, 2 s that end with the call.
    assert_eq!((result, now() - began), (Err(CallError::TimedOut { after: secs(5), scope: Scope::Total }), secs(5)));
    assert_eq!(*left.lock().unwrap(), [secs(2), secs(2)]);
    // The breaker hears of a timeout, although it was the call's: nobody else knows better.
    assert_eq!(log.take(), ["ask breaker", "breaker timed_out", "ask breaker", "breaker timed_out"]);

    let one = Pipeline::named("y").attempt_timeout(secs(2)).build().unwrap();
    let result: Result<(), CallError<Failed>> = one.run(|_| std::future::pending()).await;
    assert_eq!(result, Err(CallError::TimedOut { after: secs(2), scope: Scope::Attempt }));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_a_call_is_as_good_as_a_timeout() {
    let pipeline = Pipeline::named("x").total_timeout(secs(5)).build().unwrap();
    let deadline = now() + secs(3);
    let result: Result<(), CallError<Failed>> =
        pipeline.call(Call::new().deadline(deadline)).run(|_| std::future::pending()).await;
    assert_eq!(result, Err(CallError::TimedOut { after: secs(3), scope: Scope::Total }));
    // It has passed: nothing is begun.
    let result = pipeline.call(Call::new().deadline(deadline)).run(|_| async { Ok::<_, Failed>(()) }).await;
    assert_eq!(result, Err(CallError::TimedOut { after: secs(0), scope: Scope::Total }));
}

#[tokio::test(start_paused = true)]
async fn a_wait_at_a_gate_ends_with_the_call() {
    let log = Log::default();
    let slow = Recorder { wait: Some(secs(60)), ..log.gate("slow") };
    let pipeline = Pipeline::named("x").total_timeout(secs(5)).bulkhead(slow).build().unwrap();
    let began = now();
    let result = pipeline.run(|_| async { Ok::<_, Failed>(()) }).await;
    assert_eq!(result, Err(CallError::TimedOut { after: secs(5), scope: Scope::Total }));
    assert_eq!(now() - began, secs(5));
}

#[tokio::test(start_paused = true)]
async fn time_spent_at_gates_is_the_calls_own() {
    let log = Log::default();
    let slow = |name| Recorder { wait: Some(secs(2)), ..log.gate(name) };
    let pipeline = Pipeline::named("x")
        .total_timeout(secs(5))
        .attempt_timeout(secs(3))
        .bulkhead(slow("call"))
        .breaker(slow("attempt"))
        .build()
        .unwrap();
    let (began, left) = (now(), Mutex::new(None));
    let result: Result<(), CallError<Failed>> = pipeline
        .run(|attempt| {
            *left.lock().unwrap() = attempt.remaining();
            std::future::pending()
        })
        .await;
    assert_eq!(result, Err(CallError::TimedOut { after: secs(5), scope: Scope::Total }));
    assert_eq!((now() - began, left.into_inner().unwrap()), (secs(5), Some(secs(1))));
}

#[tokio::test(start_paused = true)]
async fn a_bulkhead_holds_its_place_between_attempts_and_gives_it_back() {
    let pipeline = Pipeline::named("x").bulkhead(Bulkhead::new(1)).retry(each_second()).build().unwrap();
    let slow = tokio::spawn({
        let pipeline = pipeline.clone();
        async move { pipeline.run(|_| async { Err::<(), _>(BUSY) }).await }
    });
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let refused = pipeline.run(|_| async { Ok::<_, Failed>(()) }).await;
    assert_eq!(refused.unwrap_err().rejection().unwrap().kind(), RejectionKind::Saturated);
    assert_eq!(slow.await.unwrap(), Err(CallError::Inner { error: BUSY, attempts: 3 }));
    assert_eq!(pipeline.run(|_| async { Ok::<_, Failed>(()) }).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_counts_attempts() {
    let pipeline =
        Pipeline::named("x").rate_limit(Limiter::per_minute(2)).retry(each_second().max_attempts(9)).build().unwrap();
    let made = AtomicU32::new(0);
    let call = || {
        pipeline.run(|_| {
            made.fetch_add(1, Ordering::Relaxed);
            async { Err::<(), _>(BUSY) }
        })
    };
    // The third attempt is refused; what is told is how the second one failed.
    assert_eq!(call().await, Err(CallError::Inner { error: BUSY, attempts: 2 }));
    assert_eq!(call().await.unwrap_err().rejection().unwrap().kind(), RejectionKind::RateLimited);
    assert_eq!(made.into_inner(), 2);
}

#[tokio::test(start_paused = true)]
async fn only_what_is_declared_repeatable_is_hedged_and_what_is_declared_not_to_be_is_not_retried() {
    let pipeline = Pipeline::named("x").retry(each_second()).hedge(Hedge::after(secs(2))).build().unwrap();
    let made = AtomicU32::new(0);
    let slow = |_| {
        made.fetch_add(1, Ordering::Relaxed);
        async {
            tokio::time::sleep(secs(5)).await;
            Ok::<_, Failed>(())
        }
    };
    pipeline.run(slow).await.unwrap();
    assert_eq!(made.swap(0, Ordering::Relaxed), 1);
    pipeline.call(Call::new().repeatable(true)).run(slow).await.unwrap();
    assert_eq!(made.swap(0, Ordering::Relaxed), 2);

    let failing = |_| async { Err::<(), _>(BUSY) };
    let attempts = |result: Result<(), CallError<Failed>>| match result {
        Err(CallError::Inner { attempts, .. }) => attempts,
        other => unreachable!("{other:?}"),
    };
    assert_eq!(attempts(pipeline.run(failing).await), 3);
    assert_eq!(attempts(pipeline.call(Call::new().repeatable(false)).run(failing).await), 1);
    assert_eq!(pipeline.snapshot().hedges, 1);
}

/// A breaker that counts dropped calls as failures must not open because hedges win.
#[tokio::test(start_paused = true)]
async fn a_try_that_loses_is_no_failure_and_one_that_is_dropped_from_outside_is_abandoned() {
    let log = Log::default();
    let pipeline =
        Pipeline::named("x").breaker(log.gate("gate")).hedge(Hedge::after(secs(1))).repeatable(true).build().unwrap();
    let call = |takes: [u64; 2]| {
        pipeline.run(move |attempt| async move {
            tokio::time::sleep(secs(takes[usize::try_from(attempt.hedge()).unwrap()])).await;
            Ok::<_, Failed>(())
        })
    };
    call([60, 1]).await.unwrap();
    assert_eq!(log.take(), ["ask gate", "ask gate", "gate success", "gate ignored"]);
    call([2, 60]).await.unwrap();
    assert_eq!(log.take(), ["ask gate", "ask gate", "gate success", "gate ignored"]);
    assert!(tokio::time::timeout(secs(5), call([60, 60])).await.is_err());
    assert_eq!(log.take(), ["ask gate", "ask gate", "gate abandoned", "gate abandoned"]);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_does_not_begin_anew_what_has_used_up_its_retries() {
    let pipeline = Pipeline::named("x")
        .retry(each_second().max_attempts(3))
        .hedge(Hedge::after(secs(60)))
        .repeatable(true)
        .build()
        .unwrap();
    let made = AtomicU32::new(0);
    let result = pipeline
        .run(|_| {
            made.fetch_add(1, Ordering::Relaxed);
            async { Err::<(), _>(BUSY) }
        })
        .await;
    assert_eq!((result, made.into_inner()), (Err(CallError::Inner { error: BUSY, attempts: 3 }), 3));
}

#[tokio::test(start_paused = true)]
async fn the_default_budget_ends_the_retries_of_a_storm() {
    let pipeline = Pipeline::named("x").retry(Retry::constant(Duration::ZERO).max_attempts(4)).build().unwrap();
    let made = AtomicU32::new(0);
    for _ in 0..1_000 {
        let failed = pipeline
            .run(|_| {
                made.fetch_add(1, Ordering::Relaxed);
                async { Err::<(), _>(BUSY) }
            })
            .await;
        assert!(failed.is_err());
    }
    // A tenth of a thousand calls, and 1 a second for the 10 seconds of the budget: a quarter of it at once.
    assert_eq!(made.into_inner(), 1_000 + (100 + 10) / 4);
}

#[tokio::test(start_paused = true)]
async fn retry_and_hedge_spend_from_one_budget_and_a_call_counts_once() {
    let budget = Budget::new(RatioBudget::finagle().percent(50.0).min_per_second(0)).unwrap();
    let pipeline = Pipeline::named("x")
        .retry(Retry::constant(Duration::ZERO).max_attempts(4))
        .hedge(Hedge::after(secs(1)))
        .budget(&budget)
        .repeatable(true)
        .build()
        .unwrap();
    for _ in 0..10 {
        pipeline.run(|_| async { Ok::<_, Failed>(()) }).await.unwrap();
    }
    assert_eq!(budget.balance(now()), 5);
    let slow = pipeline.run(|attempt| async move {
        tokio::time::sleep(secs(2)).await;
        if attempt.hedge() == 0 { Err(BUSY) } else { Ok(()) }
    });
    assert_eq!(slow.await, Ok(()));
    // One hedge after a second, one retry of the first try after two; the new call brought half of one.
    assert_eq!(budget.balance(now()), 3);
}

#[tokio::test(start_paused = true)]
async fn a_fallback_has_the_reason_in_hand() {
    let pipeline = Pipeline::named("x").retry(Retry::never()).build().unwrap();
    let told = pipeline
        .run_or_else(
            |_| async { Err(BUSY) },
            |reason| async move {
                assert_eq!(reason, CallError::Inner { error: BUSY, attempts: 1 });
                Ok("something else")
            },
        )
        .await;
    assert_eq!(told, Ok("something else"));
    let passed_on = pipeline.run_or_else(|_| async { Err::<(), _>(BUSY) }, |reason| async { Err(reason) }).await;
    assert!(passed_on.is_err());
    let snapshot = pipeline.snapshot();
    assert_eq!((snapshot.fallbacks, snapshot.outcomes.transient), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn shadow_and_disabled_let_everything_through_and_count() {
    let log = Log::default();
    let closed = log.gate("closed");
    closed.refuse.store(u32::MAX, Ordering::Relaxed);
    let builder =
        Pipeline::named("x").total_timeout(secs(1)).retry(each_second()).call_gate(log.gate("open")).breaker(closed);
    let made = AtomicU32::new(0);
    let slow = |_| {
        made.fetch_add(1, Ordering::Relaxed);
        async {
            tokio::time::sleep(secs(2)).await;
            Err::<(), _>(BUSY)
        }
    };
    let shadow = builder.clone().mode(Mode::Shadow).build().unwrap();
    assert_eq!(shadow.run(slow).await, Err(CallError::Inner { error: BUSY, attempts: 1 }));
    assert_eq!(log.take(), ["ask open", "ask closed", "open transient"]);
    let snapshot = shadow.snapshot();
    assert_eq!((snapshot.would_reject, snapshot.would_time_out, snapshot.outcomes.transient), (1, 1, 1));

    // The caller's own deadline is told in any mode.
    let call = || Call::new().deadline(now() + secs(5));
    let left = |attempt: stanchion_pipeline::Attempt| async move { Ok::<_, Failed>(attempt.remaining()) };
    assert_eq!(shadow.call(call()).run(left).await, Ok(Some(secs(5))));
    log.take();

    let disabled = builder.mode(Mode::Disabled).build().unwrap();
    assert_eq!(disabled.call(call()).run(left).await, Ok(Some(secs(5))));
    assert!(disabled.run(slow).await.is_err());
    assert_eq!((log.take(), made.into_inner(), disabled.snapshot().calls), (vec![], 2, 2));
}

#[tokio::test(start_paused = true)]
async fn the_snapshot_tells_traffic_errors_latency_and_what_is_under_way() {
    let pipeline = Pipeline::named("x").build().unwrap();
    for millis in [10, 20, 30] {
        let slow = || async move {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            Ok::<_, Failed>(())
        };
        pipeline.run(|_| slow()).await.unwrap();
    }
    let hanging = tokio::spawn({
        let pipeline = pipeline.clone();
        async move { pipeline.run(|_| std::future::pending::<Result<(), Failed>>()).await }
    });
    tokio::task::yield_now().await;
    let snapshot = pipeline.snapshot();
    assert_eq!((snapshot.calls, snapshot.in_flight, snapshot.outcomes.success), (4, 1, 3));
    let p50 = snapshot.latency.p50.unwrap();
    assert!(p50 >= Duration::from_millis(20) && p50 < Duration::from_millis(22), "{p50:?}");
    hanging.abort();
    assert!(hanging.await.unwrap_err().is_cancelled());
    let snapshot = pipeline.snapshot();
    assert_eq!((snapshot.in_flight, snapshot.outcomes.abandoned), (0, 1));
}

#[test]
fn what_makes_no_sense_is_named() {
    let field = |builder: stanchion_pipeline::PipelineBuilder| builder.build().unwrap_err().field().to_owned();
    assert_eq!(field(Pipeline::named("x").total_timeout(Duration::ZERO)), "total_timeout");
    assert_eq!(field(Pipeline::named("x").attempt_timeout(Duration::ZERO)), "attempt_timeout");
    assert_eq!(field(Pipeline::named("x").retry(Retry::exponential().max_attempts(0))), "retry.max_attempts");
    assert_eq!(field(Pipeline::named("x").hedge(Hedge::after(secs(1)).max_hedges(0))), "hedge.max_hedges");
    assert_eq!(field(Pipeline::named("x").rate_limit(Limiter::per_second(0))), "rate_limit.count");
    assert!(Pipeline::named("x").total_timeout(Duration::MAX).attempt_timeout(Duration::MAX).build().is_ok());
}

//! Dropped at every await: every gate has back what it gave, and nothing is
//! counted as under way.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use stanchion_core::{Admission, BoxFuture, Ticket};
use stanchion_limit::Bulkhead;
use stanchion_pipeline::{Budget, Call, Clock, Gate, Hedge, Outcome, Pipeline, Rejection, Retry};
use stanchion_retry::{Jitter, RatioBudget};

/// Counts who is in, and makes everybody wait a while first.
#[derive(Default)]
struct Turnstile {
    inside: AtomicI64,
    passed: AtomicU64,
    abandoned: AtomicU64,
}

impl Gate for Turnstile {
    fn try_admit(&self, _: &Call<'_>) -> Admission {
        Admission::Wait
    }

    fn admit<'a>(&'a self, _: &'a Call<'a>) -> BoxFuture<'a, Result<Ticket, Rejection>> {
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            self.inside.fetch_add(1, Ordering::Relaxed);
            self.passed.fetch_add(1, Ordering::Relaxed);
            Ok(Ticket::new(0))
        })
    }

    fn settle(&self, _: Ticket, outcome: Outcome, _: Duration) {
        self.inside.fetch_sub(1, Ordering::Relaxed);
        if outcome == Outcome::Abandoned {
            self.abandoned.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Polls so many times at most, half a second apart, then drops; whether it was done.
async fn drop_after(polls: u32, future: impl Future) -> bool {
    let mut future = pin!(future);
    for _ in 0..polls {
        if future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            return true;
        }
        tokio::time::advance(Duration::from_millis(500)).await;
    }
    false
}

/// Drops `call` after each number of polls, and looks whether all is balanced.
async fn everywhere<F: Future>(pipeline: &Pipeline, gates: &[&Turnstile], bulkhead: &Bulkhead, call: impl Fn() -> F) {
    let mut polls = 0;
    while !drop_after(polls, call()).await {
        for gate in gates {
            assert_eq!(gate.inside.load(Ordering::Relaxed), 0, "after {polls} polls");
        }
        let (bulkhead, pipeline) = (bulkhead.snapshot(), pipeline.snapshot());
        assert_eq!((bulkhead.in_use, bulkhead.waiting), (0, 0), "after {polls} polls");
        assert_eq!(pipeline.in_flight, 0, "after {polls} polls");
        polls += 1;
    }
    // It was worth it: there were many places to drop it, and it was done in the end.
    assert!(polls > 8, "{polls}");
    assert_eq!(pipeline.snapshot().outcomes.success, 1);
    // A future that is never polled isn't a call.
    assert_eq!(pipeline.snapshot().outcomes.abandoned, u64::from(polls) - 1);
}

struct Fixture {
    pipeline: Pipeline,
    call_gate: Arc<Turnstile>,
    attempt_gate: Arc<Turnstile>,
    bulkhead: Arc<Bulkhead>,
    budget: Budget,
}

fn fixture(hedge: bool) -> Fixture {
    let (call_gate, attempt_gate) = (Arc::<Turnstile>::default(), Arc::<Turnstile>::default());
    let bulkhead = Arc::new(Bulkhead::new(1).queue(4).max_wait(Duration::from_secs(60)).build().unwrap());
    let budget = Budget::new(RatioBudget::finagle().percent(0.0).min_per_second(100)).unwrap();
    let builder = Pipeline::named("dropped")
        .total_timeout(Duration::from_secs(60))
        .attempt_timeout(Duration::from_secs(30))
        .retry(Retry::constant(Duration::from_secs(1)).jitter(Jitter::None))
        .budget(&budget)
        .call_gate(Arc::clone(&call_gate))
        .bulkhead(Arc::clone(&bulkhead))
        .attempt_gate(Arc::clone(&attempt_gate))
        .repeatable(true);
    let builder = if hedge { builder.hedge(Hedge::after(Duration::from_millis(1_200))) } else { builder };
    Fixture { pipeline: builder.build().unwrap(), call_gate, attempt_gate, bulkhead, budget }
}

/// Two failures, a while each, then a success.
async fn operation(number: u32) -> std::io::Result<()> {
    tokio::time::sleep(Duration::from_secs(1)).await;
    if number < 3 { Err(std::io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_may_be_dropped_anywhere() {
    for hedge in [false, true] {
        let Fixture { pipeline, call_gate, attempt_gate, bulkhead, budget } = fixture(hedge);
        let call = || pipeline.run(|attempt| operation(attempt.number()));
        everywhere(&pipeline, &[&call_gate, &attempt_gate], &bulkhead, call).await;
        assert!(attempt_gate.abandoned.load(Ordering::Relaxed) > 0);
        // What was granted and not begun is back; what was begun comes back with time.
        tokio::time::advance(Duration::from_secs(11)).await;
        assert_eq!(budget.balance(Clock::system().now()), 1_000);
    }
}

#[tokio::test(start_paused = true)]
async fn a_grant_for_a_retry_that_is_never_begun_is_given_back() {
    let Fixture { pipeline, attempt_gate, budget, .. } = fixture(false);
    let mut polls = 0;
    loop {
        let (before, passed) = (budget.balance(Clock::system().now()), attempt_gate.passed.load(Ordering::Relaxed));
        let done = drop_after(polls, pipeline.run(|attempt| operation(attempt.number()))).await;
        let spent = before - budget.balance(Clock::system().now());
        // Each attempt beyond the first costs one: those that the gate let in were begun in the same poll.
        let begun = attempt_gate.passed.load(Ordering::Relaxed) - passed;
        assert_eq!(spent, begun.saturating_sub(1), "after {polls} polls");
        tokio::time::advance(Duration::from_secs(60)).await;
        if done {
            break;
        }
        polls += 1;
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_in_line_is_given_up() {
    let Fixture { pipeline, bulkhead, .. } = fixture(false);
    let held = bulkhead.try_acquire().unwrap();
    for polls in 0..6 {
        assert!(!drop_after(polls, pipeline.run(|attempt| operation(attempt.number()))).await);
        assert_eq!(bulkhead.snapshot().waiting, 0);
    }
    drop(held);
    assert_eq!(bulkhead.snapshot().in_use, 0);
}

#[tokio::test(start_paused = true)]
async fn a_panic_gives_everything_back_and_goes_on() {
    for hedge in [false, true] {
        let Fixture { pipeline, call_gate, attempt_gate, bulkhead, .. } = fixture(hedge);
        let task = tokio::spawn({
            let pipeline = pipeline.clone();
            async move {
                pipeline
                    .run(|_| async { if true { panic!("the operation fails") } else { Ok::<_, std::io::Error>(()) } })
                    .await
            }
        });
        assert!(task.await.unwrap_err().is_panic());
        assert_eq!([&call_gate, &attempt_gate].map(|gate| gate.inside.load(Ordering::Relaxed)), [0, 0]);
        assert_eq!((bulkhead.snapshot().in_use, pipeline.snapshot().in_flight), (0, 0));
        assert_eq!(pipeline.snapshot().outcomes.abandoned, 1);
    }
}

/// It may hold a connection.
#[tokio::test(start_paused = true)]
async fn a_value_that_is_not_the_last_is_dropped_before_the_delay() {
    let held = Arc::new(());
    let pipeline = Pipeline::named("x").retry(Retry::exponential().jitter(Jitter::None)).build().unwrap();
    let call = pipeline.classify(|_: &Result<Arc<()>, std::io::Error>| Outcome::Transient);
    let mut call = pin!(call.run(|_| async { Ok(Arc::clone(&held)) }));
    assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert_eq!(Arc::strong_count(&held), 1);
}

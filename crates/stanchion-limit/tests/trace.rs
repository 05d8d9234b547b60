//! What the features `tracing` and `metrics` report.
#![cfg(all(feature = "metrics", feature = "tracing"))]

use std::sync::{Arc, Mutex};

use metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use stanchion_core::StoreErrorKind;
use stanchion_limit::{Answer, Decision, KeyedLimiter, Limiter, Outage, Quota, RateRequest, RateStore, StoreError};

/// Remembers what is reported, a line each.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn add(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    fn count(&self, wanted: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|line| line.contains(wanted)).count()
    }
}

struct Noted(Notes, String);

impl CounterFn for Noted {
    fn increment(&self, value: u64) {
        (0..value).for_each(|_| self.0.add(self.1.clone()));
    }

    fn absolute(&self, _value: u64) {}
}

impl GaugeFn for Noted {
    fn increment(&self, _value: f64) {}

    fn decrement(&self, _value: f64) {}

    fn set(&self, value: f64) {
        self.0.add(format!("{} = {value}", self.1));
    }
}

impl Recorder for Notes {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let labels: Vec<String> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        Counter::from_arc(Arc::new(Noted(self.clone(), format!("{} {}", key.name(), labels.join(" ")))))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let labels: Vec<String> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        Gauge::from_arc(Arc::new(Noted(self.clone(), format!("{} {}", key.name(), labels.join(" ")))))
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

impl tracing::Subscriber for Notes {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Line(String);
        impl tracing::field::Visit for Line {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0 += &format!(" {}={value:?}", field.name());
            }
        }
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.add(line.0);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// What was reported while `body` ran: counters, then events.
fn reported(body: impl FnOnce()) -> (Notes, Notes) {
    let (counters, events) = (Notes::default(), Notes::default());
    tracing::subscriber::with_default(events.clone(), || metrics::with_local_recorder(&counters, body));
    (counters, events)
}

#[test]
fn every_decision_is_counted_and_every_refusal_is_an_event() {
    let (counters, events) = reported(|| {
        let limiter = Limiter::builder(Quota::per_hour(2)).name("search").build().unwrap();
        let allowed = (0..5).filter(|_| limiter.check().allowed()).count();
        assert_eq!(allowed, 2);
        assert!(!limiter.check_n(3).allowed());
    });
    assert_eq!(counters.count("stanchion_limit_decisions_total limiter=search verdict=allowed"), 2);
    assert_eq!(counters.count("stanchion_limit_decisions_total limiter=search verdict=refused"), 3);
    assert_eq!(counters.count("verdict=never_fits"), 1);
    assert_eq!(events.count("DEBUG"), 4);
    assert_eq!(events.count("verdict=Refused"), 3);
}

#[test]
fn what_comes_from_a_reservoir_is_counted_too() {
    let (counters, _) = reported(|| {
        let clock = stanchion_limit::ManualClock::new();
        let limiter = Limiter::per_second(1_000_000).burst(10_000).name("fast").clock(clock).build().unwrap();
        assert!((0..1_000).all(|_| limiter.check().allowed()));
    });
    assert_eq!(counters.count("stanchion_limit_decisions_total limiter=fast verdict=allowed"), 1_000);
}

/// As a check: once, when it is first asked for. What the line says is no decision more.
#[cfg(feature = "tokio")]
#[test]
fn what_is_acquired_at_once_is_counted_as_a_check_is() {
    use std::time::Duration;

    let (counters, events) = reported(|| {
        let limiter = Limiter::builder(Quota::per_hour(2)).name("search").build().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            assert!(limiter.acquire_n(2, Duration::ZERO).await.is_ok());
            assert!(limiter.acquire(Duration::ZERO).await.is_err());
            assert!(limiter.acquire_n(3, Duration::ZERO).await.is_err());
        });
    });
    for verdict in ["allowed", "refused", "never_fits"] {
        let counted = format!("stanchion_limit_decisions_total limiter=search verdict={verdict}");
        assert_eq!(counters.count(&counted), 1, "{verdict}");
    }
    assert_eq!(events.count("DEBUG"), 2);
}

/// Who finds others in line has asked for nothing yet.
#[cfg(feature = "tokio")]
#[test]
fn who_stands_behind_others_is_not_counted_as_refused() {
    use std::pin::pin;
    use std::task::{Context, Waker};
    use std::time::Duration;

    let (counters, _) = reported(|| {
        let limiter = Limiter::builder(Quota::per_hour(1)).name("search").build().unwrap();
        assert!(limiter.check().allowed());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (_inside, mut context) = (runtime.enter(), Context::from_waker(Waker::noop()));
        let day = Duration::from_secs(86_400);
        let (mut one, mut two) = (pin!(limiter.acquire(day)), pin!(limiter.acquire(day)));
        assert!(one.as_mut().poll(&mut context).is_pending() && two.as_mut().poll(&mut context).is_pending());
    });
    assert_eq!(counters.count("stanchion_limit_decisions_total limiter=search verdict=refused"), 1);
}

struct Away;

impl RateStore for Away {
    fn decide(&self, _: RateRequest<'_>) -> Answer<'_, Result<Decision, StoreError>> {
        Answer::Ready(Err(StoreError::new(StoreErrorKind::Unavailable, "gone fishing")))
    }
}

#[test]
fn a_store_that_fails_is_a_warning() {
    let (counters, events) = reported(|| {
        let limiter: KeyedLimiter<str, _> =
            KeyedLimiter::builder(Quota::per_hour(2)).name("api").on(Away, Outage::Admit).build().unwrap();
        let decision = limiter.check("alice").ready().unwrap().unwrap();
        assert!(decision.allowed() && decision.degraded());
    });
    assert_eq!(counters.count("stanchion_limit_store_failures_total limiter=api"), 1);
    assert_eq!(counters.count("stanchion_limit_degraded_total limiter=api"), 1);
    assert_eq!(events.count("WARN"), 1);
    assert_eq!(events.count("gone fishing"), 1);
}

#[test]
fn every_admission_is_counted_and_every_refusal_is_an_event() {
    use stanchion_core::{Outcome, Permit};
    use stanchion_limit::{AdaptiveLimiter, Aimd, Algorithm, Call, LoadShedder};

    let (counters, events) = reported(|| {
        let limiter = AdaptiveLimiter::new(Aimd::default()).name("db").build().unwrap();
        limiter.try_acquire().unwrap().settle(Outcome::Success);
        let held: Vec<Permit<'_>> = (0..20).map(|_| limiter.try_acquire().unwrap()).collect();
        assert!(limiter.try_acquire().is_err() && limiter.try_acquire().is_err());
        assert!(Permit::try_new(&limiter, &Call::new().cost(201)).is_err());
        drop(held);
        limiter.try_acquire().unwrap().settle(Outcome::TimedOut);
        let shedder = LoadShedder::new(Algorithm::Fixed(2)).name("front").build().unwrap();
        let _held = shedder.try_acquire_for(&Call::new()).unwrap();
        assert!(shedder.try_acquire_for(&Call::new()).is_err());
    });
    let admissions = |gate: &str, verdict: &str| {
        counters.count(&format!("stanchion_limit_admissions_total gate={gate} verdict={verdict}"))
    };
    assert_eq!((admissions("db", "admitted"), admissions("db", "saturated")), (22, 2));
    assert_eq!((admissions("db", "never_fits"), admissions("db", "shed")), (1, 0));
    assert_eq!((admissions("front", "admitted"), admissions("front", "shed")), (1, 1));
    assert_eq!(counters.count("stanchion_limit_concurrency_limit gate=db = 20"), 1);
    assert_eq!(counters.count("stanchion_limit_concurrency_limit gate=front = 2"), 1);
    assert_eq!((events.count("DEBUG"), events.count("shed")), (4, 1));
}

#[test]
fn a_limit_that_changes_is_a_trace_and_a_gauge() {
    use stanchion_core::Outcome;
    use stanchion_limit::{AdaptiveLimiter, Aimd};

    let (gauges, events) = reported(|| {
        let limiter = AdaptiveLimiter::new(Aimd::default().initial(100)).name("db").build().unwrap();
        limiter.try_acquire().unwrap().settle(Outcome::TimedOut);
    });
    assert_eq!(gauges.count("stanchion_limit_concurrency_limit gate=db = 90"), 1);
    assert_eq!((events.count("TRACE"), events.count("limit=90")), (2, 1));
}

#[cfg(feature = "tokio")]
#[test]
fn a_bulkhead_reports_like_any_gate() {
    use stanchion_limit::{Bulkhead, Call};

    let (counters, events) = reported(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let bulkhead = Bulkhead::new(1).queue(1).name("disk").build().unwrap();
            let held = bulkhead.acquire().await.unwrap();
            assert!(bulkhead.acquire().await.is_err());
            let past = stanchion_limit::Moment::default();
            assert!(bulkhead.acquire_for(&Call::new().deadline(past)).await.is_err());
            let (waited, ()) = tokio::join!(bulkhead.acquire(), async { drop(held) });
            assert!(waited.is_ok());
        });
    });
    let admissions = |verdict: &str| counters.count(&format!("gate=disk verdict={verdict}"));
    assert_eq!((admissions("admitted"), admissions("saturated"), admissions("deadline_too_short")), (2, 1, 1));
    assert_eq!(counters.count("stanchion_limit_concurrency_limit gate=disk = 1"), 1);
    assert_eq!(events.count("the wait would outlast the deadline"), 1);
}

//! What a limiter does while its store gives no answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use stanchion_core::{Call, Permit, RejectionKind, StoreErrorKind};
use stanchion_limit::{
    Answer, Decision, KeyedLimiter, ManualClock, MemoryRateStore, Outage, Quota, RateRequest, RateStore, StoreError,
    Verdict,
};

/// A store that fails in whatever way it is told, and counts the questions.
struct Flaky {
    inner: MemoryRateStore,
    fails: std::sync::Mutex<Option<StoreErrorKind>>,
    asked: AtomicU32,
}

impl RateStore for Flaky {
    fn decide(&self, request: RateRequest<'_>) -> Answer<'_, Result<Decision, StoreError>> {
        self.asked.fetch_add(1, SeqCst);
        match *self.fails.lock().unwrap() {
            Some(kind) => Answer::later(async move {
                tokio::task::yield_now().await;
                Err(StoreError::new(kind, "told to fail"))
            }),
            None => self.inner.decide(request),
        }
    }
}

struct Setting {
    store: Arc<Flaky>,
    clock: ManualClock,
    limiter: KeyedLimiter<str, Arc<Flaky>>,
}

/// Ten at once, one more each second.
fn setting(outage: Outage) -> Setting {
    let clock = ManualClock::new();
    let inner = MemoryRateStore::with_clock(100, clock.clone());
    let store = Arc::new(Flaky { inner, fails: None.into(), asked: AtomicU32::new(0) });
    let limiter = KeyedLimiter::builder(Quota::per_second(1).burst(10))
        .name("api")
        .clock(clock.clone())
        .on(store.clone(), outage)
        .build()
        .unwrap();
    Setting { store, clock, limiter }
}

impl Setting {
    fn fail(&self, kind: impl Into<Option<StoreErrorKind>>) {
        *self.store.fails.lock().unwrap() = kind.into();
    }

    async fn check(&self) -> Decision {
        self.limiter.check("alice").await.unwrap()
    }
}

#[tokio::test]
async fn fail_open_lets_everything_through() {
    let setting = setting(Outage::Admit);
    setting.fail(StoreErrorKind::Unavailable);
    for _ in 0..100 {
        let decision = setting.check().await;
        assert!(decision.allowed() && decision.degraded());
    }
    assert_eq!(setting.limiter.snapshot().store_failures, 1);
}

#[tokio::test]
async fn fail_closed_refuses_everything_and_says_when_to_come_back() {
    let setting = setting(Outage::Refuse);
    setting.fail(StoreErrorKind::TimedOut);
    let decision = setting.check().await;
    assert_eq!((decision.verdict(), decision.degraded()), (Verdict::StoreUnavailable, true));
    let pause = decision.retry_after().unwrap();
    assert!((Duration::from_millis(750)..Duration::from_millis(1_125)).contains(&pause), "{pause:?}");
    setting.clock.advance(pause / 2);
    assert_eq!(setting.check().await.retry_after(), Some(pause - pause / 2));
}

#[tokio::test]
async fn the_local_share_is_the_quota_divided() {
    let setting = setting(Outage::LocalShare { instances: 3 });
    setting.fail(StoreErrorKind::Garbled);
    // ⌊10 / 3⌋ at once, one more each three seconds.
    for _ in 0..3 {
        let decision = setting.check().await;
        assert!(decision.allowed() && decision.degraded());
    }
    assert_eq!(setting.check().await.retry_after(), Some(Duration::from_secs(3)));
    assert!(setting.limiter.check("bob").await.unwrap().allowed(), "each key has its share");
    // More than the share but not than the quota: not yet, rather than never.
    let large = setting.limiter.check_n("carol", 5).await.unwrap();
    assert_eq!((large.verdict(), large.degraded()), (Verdict::Refused, true));
    assert_eq!(setting.limiter.check_n("carol", 11).await.unwrap().verdict(), Verdict::NeverFits);
}

#[tokio::test]
async fn an_outage_costs_one_question_a_second_and_ends_by_itself() {
    let setting = setting(Outage::Admit);
    assert!(!setting.check().await.degraded());
    setting.fail(StoreErrorKind::Unavailable);
    for _ in 0..50 {
        assert!(setting.check().await.degraded());
    }
    assert_eq!(setting.store.asked.load(SeqCst), 2);
    assert!(setting.limiter.snapshot().store_is_ill);
    setting.clock.advance(Duration::from_millis(1_125));
    for _ in 0..50 {
        assert!(setting.check().await.degraded());
    }
    assert_eq!(setting.store.asked.load(SeqCst), 3);
    setting.fail(None);
    setting.clock.advance(Duration::from_millis(1_125));
    assert!(!setting.check().await.degraded());
    assert!(!setting.check().await.degraded());
    assert!(!setting.limiter.snapshot().store_is_ill);
}

#[tokio::test]
async fn an_error_that_wants_a_person_is_handed_on() {
    for outage in [Outage::Admit, Outage::Refuse, Outage::LocalShare { instances: 2 }] {
        let setting = setting(outage);
        setting.fail(StoreErrorKind::Refused);
        let error = setting.limiter.check("alice").await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Refused);
    }
}

/// An error that wants a person ends an outage: it isn't shown once a second only.
#[tokio::test]
async fn after_an_outage_an_error_that_wants_a_person_is_not_hidden() {
    let setting = setting(Outage::Admit);
    setting.fail(StoreErrorKind::Unavailable);
    assert!(setting.check().await.degraded());
    setting.fail(StoreErrorKind::Refused);
    setting.clock.advance(Duration::from_millis(1_125));
    for _ in 0..10 {
        assert_eq!(setting.limiter.check("alice").await.unwrap_err().kind(), StoreErrorKind::Refused);
    }
}

#[tokio::test]
async fn as_a_gate_it_follows_the_policy_whatever_the_error() {
    for (outage, admits) in [(Outage::Admit, true), (Outage::Refuse, false)] {
        for kind in [StoreErrorKind::Refused, StoreErrorKind::Unavailable] {
            let setting = setting(outage);
            setting.fail(kind);
            let gate: KeyedLimiter<[u8], _> = KeyedLimiter::builder(Quota::per_second(1))
                .name("api")
                .on(setting.store.clone(), outage)
                .build()
                .unwrap();
            let call = Call::new().key("alice");
            let admitted = Permit::new(&gate, &call).await;
            assert_eq!(admitted.is_ok(), admits);
            if let Err(rejection) = admitted {
                assert_eq!(rejection.kind(), RejectionKind::StoreUnavailable);
            }
        }
    }
}

#[test]
fn a_share_of_nothing_is_refused_at_build() {
    let built = |instances| {
        KeyedLimiter::<str>::builder(Quota::per_second(10))
            .name("api")
            .on(MemoryRateStore::new(1), Outage::LocalShare { instances })
            .build()
            .map(drop)
            .map_err(|error| error.to_string())
    };
    assert_eq!(built(10), Ok(()));
    assert_eq!(built(11), Err("instances is 11: the burst of 10 leaves nothing for each".into()));
    assert_eq!(built(0), Err("instances is 0: must be at least 1".into()));
}

/// A check that is dropped at its await has decided nothing in this process.
#[tokio::test]
async fn a_dropped_check_leaves_nothing_behind() {
    let setting = setting(Outage::LocalShare { instances: 1 });
    setting.fail(StoreErrorKind::Unavailable);
    let mut check = Box::pin(IntoFuture::into_future(setting.limiter.check("alice")));
    let pending = std::future::poll_fn(|cx| std::task::Poll::Ready(check.as_mut().poll(cx).is_pending())).await;
    assert!(pending);
    drop(check);
    let snapshot = setting.limiter.snapshot();
    assert_eq!((snapshot.store_failures, snapshot.store_is_ill), (0, false));
    assert_eq!(setting.limiter.keys_in_debt(), 0);
}

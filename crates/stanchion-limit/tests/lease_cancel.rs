//! Leasing from a store that takes its time: checks that wait for each other, fail with
//! each other, and are dropped at every await.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use stanchion_core::StoreErrorKind;
use stanchion_limit::{
    Answer, Decision, LeaseConfig, Leased, ManualClock, MemoryRateStore, Quota, RateLimit, RateRequest, RateStore,
    StoreError, Verdict,
};

/// A store that decides when it is polled for the second time, and answers when it is
/// polled for the third.
struct Slow {
    inner: MemoryRateStore,
    asked: AtomicU64,
    given: AtomicU64,
    fails: AtomicBool,
}

impl RateStore for Slow {
    fn decide(&self, request: RateRequest<'_>) -> Answer<'_, Result<Decision, StoreError>> {
        self.asked.fetch_add(1, SeqCst);
        let (key, cost, limit) = (request.key().to_vec(), request.cost(), request.limits()[0].clone());
        Answer::later(async move {
            pause().await;
            let decision = self.inner.decide(RateRequest::single(&key, cost, &limit)).ready().unwrap();
            if decision.as_ref().unwrap().allowed() {
                self.given.fetch_add(cost, SeqCst);
            }
            pause().await;
            if self.fails.load(SeqCst) {
                return Err(StoreError::new(StoreErrorKind::TimedOut, "told to fail"));
            }
            decision
        })
    }
}

/// Pending once, and woken at once.
async fn pause() {
    let mut paused = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut paused, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

struct Setting {
    clock: ManualClock,
    store: Arc<Slow>,
    leased: Arc<Leased<Arc<Slow>>>,
    limit: RateLimit,
}

fn setting(quota: Quota, config: LeaseConfig) -> Setting {
    let clock = ManualClock::new();
    let inner = MemoryRateStore::with_clock(100_000, clock.clone());
    let store = Arc::new(Slow { inner, asked: 0.into(), given: 0.into(), fails: false.into() });
    let leased = Leased::new(store.clone(), config).unwrap().clock(clock.clone());
    Setting { clock, store, leased: Arc::new(leased), limit: RateLimit::new("api", quota.bucket().unwrap()) }
}

impl Setting {
    fn check(&self) -> Check<'_> {
        self.check_of(b"k")
    }

    fn check_of(&self, key: &[u8]) -> Check<'_> {
        let answer = self.leased.decide(RateRequest::single(key, 1, &self.limit));
        Check { future: Box::pin(answer.into_future()), woken: Arc::default() }
    }
}

type Outcome = Result<Decision, StoreError>;

/// A check that is polled by hand.
struct Check<'a> {
    future: Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>,
    woken: Arc<Flag>,
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

impl Check<'_> {
    fn poll(&mut self) -> Poll<Outcome> {
        self.woken.0.store(false, SeqCst);
        let waker = Waker::from(self.woken.clone());
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    fn is_woken(&self) -> bool {
        self.woken.0.load(SeqCst)
    }
}

/// Polls whoever has been woken until all are done. A lost wake-up is a panic.
fn drive(mut checks: Vec<Check<'_>>) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    while !checks.is_empty() {
        let before = checks.len();
        let mut polled = false;
        checks.retain_mut(|check| {
            if !check.is_woken() {
                return true;
            }
            polled = true;
            match check.poll() {
                Poll::Ready(outcome) => {
                    outcomes.push(outcome);
                    false
                }
                Poll::Pending => true,
            }
        });
        assert!(polled, "{before} checks wait for ever");
    }
    outcomes
}

fn five() -> LeaseConfig {
    LeaseConfig::default().batch(5, 5)
}

#[test]
fn others_wait_for_the_answer_and_decide_by_it() {
    let setting = setting(Quota::per_hour(100), five());
    let mut checks: Vec<Check<'_>> = (0..5).map(|_| setting.check()).collect();
    assert!(checks.iter_mut().all(|check| check.poll().is_pending()));
    assert_eq!(checks.iter().filter(|check| check.is_woken()).count(), 1, "one asks");
    assert!(drive(checks).into_iter().all(|outcome| outcome.unwrap().allowed()));
    assert_eq!((setting.store.asked.load(SeqCst), setting.store.given.load(SeqCst)), (1, 5));
}

#[test]
fn a_hundred_at_once_make_two_trips() {
    let setting = setting(Quota::per_hour(10_000), LeaseConfig::default());
    let mut checks: Vec<Check<'_>> = (0..100).map(|_| setting.check()).collect();
    assert!(checks.iter_mut().all(|check| check.poll().is_pending()));
    assert!(drive(checks).into_iter().all(|outcome| outcome.unwrap().allowed()));
    assert_eq!(setting.store.asked.load(SeqCst), 2, "one unit, and then what so many want");
    assert_eq!(setting.store.given.load(SeqCst), 101, "each is counted once");
}

/// A batch of two: after eight answers that left it nothing a check asks for itself.
#[test]
fn nobody_waits_for_ever() {
    let setting = setting(Quota::per_hour(40), LeaseConfig::default().batch(2, 2));
    let mut checks: Vec<Check<'_>> = (0..60).map(|_| setting.check()).collect();
    assert!(checks.iter_mut().all(|check| check.poll().is_pending()));
    let outcomes = drive(checks);
    let admitted = outcomes.iter().filter(|outcome| outcome.as_ref().unwrap().allowed()).count();
    assert_eq!(admitted, 40);
    let asked = setting.store.asked.load(SeqCst);
    assert_eq!(asked, 52, "eight batches, and all others alone");
}

/// Another instance is faster each time: of fifty, of what was left, and of the one.
#[test]
fn a_check_makes_three_trips_at_most() {
    let fifty = LeaseConfig::default().batch(50, 50).share(50);
    for (takes, admitted, held) in [([70, 20, 9], true, 0), ([70, 20, 10], false, 0), ([70, 0, 0], true, 29)] {
        let setting = setting(Quota::per_day(100), fifty);
        let another = |units| {
            let request = RateRequest::single(b"k", units, &setting.limit);
            assert!(setting.store.inner.decide(request).ready().unwrap().unwrap().allowed());
        };
        let mut check = setting.check();
        assert!(check.poll().is_pending());
        let mut trips = 0;
        let decision = loop {
            let asked = setting.store.asked.load(SeqCst);
            if asked > trips {
                // Before the store decides. Each question has a time of its own.
                another(takes[usize::try_from(trips).unwrap()]);
                setting.clock.advance(Duration::from_millis(20));
                trips = asked;
            }
            if let Poll::Ready(outcome) = check.poll() {
                break outcome.unwrap();
            }
        };
        assert_eq!((decision.allowed(), trips), (admitted, if held == 0 { 3 } else { 2 }));
        setting.clock.advance(Duration::from_millis(29));
        assert_eq!(setting.leased.snapshot().held, held, "50 ms from the second question on");
        setting.clock.advance(Duration::from_millis(1));
        assert_eq!(setting.leased.snapshot().held, 0);
    }
}

/// Where there is nothing to lease nobody waits.
#[test]
fn checks_of_a_small_burst_are_the_stores_each() {
    let setting = setting(Quota::per_hour(19), LeaseConfig::default());
    let mut checks: Vec<Check<'_>> = (0..20).map(|_| setting.check()).collect();
    assert!(checks.iter_mut().all(|check| check.poll().is_pending() && check.is_woken()));
    let admitted = drive(checks).into_iter().filter(|outcome| outcome.as_ref().unwrap().allowed()).count();
    assert_eq!((admitted, setting.store.asked.load(SeqCst)), (19, 20));
}

#[test]
fn whoever_waits_is_woken_by_its_last_waker() {
    let setting = setting(Quota::per_hour(100), five());
    let mut asker = setting.check();
    assert!(asker.poll().is_pending());
    let mut other = setting.check();
    assert!(other.poll().is_pending());
    let first = std::mem::take(&mut other.woken);
    assert!(other.poll().is_pending());
    assert!(drive(vec![asker]).pop().unwrap().unwrap().allowed());
    assert!(other.is_woken() && !first.0.load(SeqCst));
    assert!(drive(vec![other]).pop().unwrap().unwrap().allowed());
}

/// A flood of keys drops what rests; a key whose answer is awaited isn't at rest.
#[test]
fn a_key_is_not_forgotten_while_somebody_waits() {
    let setting = setting(Quota::per_hour(100), five().max_keys(16 * 64));
    let mut asker = setting.check();
    let mut other = setting.check();
    assert!(asker.poll().is_pending() && other.poll().is_pending());
    for round in 0..3_u32 {
        setting.clock.advance(Duration::from_secs(5));
        for key in 0..2_000_u32 {
            drop(drive_one(setting.check_of(&(round * 10_000 + key).to_be_bytes())));
        }
    }
    assert!(drive(vec![asker]).pop().unwrap().unwrap().allowed());
    assert!(drive(vec![other]).pop().unwrap().unwrap().allowed());
}

fn drive_one(mut check: Check<'_>) -> Outcome {
    assert!(check.poll().is_pending());
    drive(vec![check]).pop().unwrap()
}

/// An error that came before or after isn't one's own.
#[test]
fn an_error_of_another_turn_is_nobodys() {
    let setting = setting(Quota::per_hour(100), five());
    let mut asker = setting.check();
    let mut waiting = setting.check();
    assert!(asker.poll().is_pending() && waiting.poll().is_pending());
    drop(asker);
    assert!(waiting.is_woken());
    setting.store.fails.store(true, SeqCst);
    assert!(drive_one(setting.check()).is_err());
    setting.store.fails.store(false, SeqCst);
    assert!(drive(vec![waiting]).pop().unwrap().unwrap().allowed());
}

/// Those who left the line are not leased for.
#[test]
fn whoever_leaves_the_line_wants_nothing() {
    let setting = setting(Quota::per_hour(10_000), LeaseConfig::default());
    let mut forgotten = setting.check();
    assert!(forgotten.poll().is_pending());
    for _ in 0..500 {
        assert!(setting.check().poll().is_pending());
    }
    setting.clock.advance(Duration::from_secs(60));
    assert!(drive_one(setting.check()).unwrap().allowed());
    assert_eq!(setting.store.given.load(SeqCst), 1);
}

#[test]
fn an_error_is_everybodys_who_waited_for_it() {
    let setting = setting(Quota::per_hour(100), five());
    setting.store.fails.store(true, SeqCst);
    let mut checks: Vec<Check<'_>> = (0..20).map(|_| setting.check()).collect();
    assert!(checks.iter_mut().all(|check| check.poll().is_pending()));
    for outcome in drive(checks) {
        let error = outcome.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (StoreErrorKind::TimedOut, "told to fail"));
    }
    assert_eq!(setting.store.asked.load(SeqCst), 1);
    setting.store.fails.store(false, SeqCst);
    let mut next = setting.check();
    assert!(next.poll().is_pending());
    assert!(drive(vec![next]).pop().unwrap().unwrap().allowed(), "an error of before is nobody's");
}

/// The one that asks is dropped at each of its awaits, and before it was ever polled:
/// another takes its turn, and at most a batch is lost.
#[test]
fn whoever_asks_may_be_dropped_anywhere() {
    for polls in 0..4 {
        let setting = setting(Quota::per_hour(100), five());
        let mut asker = setting.check();
        for _ in 0..polls {
            let _ = asker.poll();
        }
        let mut others: Vec<Check<'_>> = (0..4).map(|_| setting.check()).collect();
        let pending = others.iter_mut().filter_map(|other| other.poll().is_pending().then_some(())).count();
        drop(asker);
        // After three polls it has its answer, and they have theirs.
        assert_eq!(pending, if polls < 3 { 4 } else { 0 });
        let waiting: Vec<Check<'_>> = others.into_iter().take(pending).collect();
        assert!(drive(waiting).into_iter().all(|outcome| outcome.unwrap().allowed()), "after {polls} polls");
        let given = setting.store.given.load(SeqCst);
        assert_eq!(given, if polls == 2 { 10 } else { 5 }, "after {polls} polls");
    }
}

/// Those that wait are dropped, in each order, before or after they are woken.
#[test]
fn whoever_waits_may_be_dropped_anywhere() {
    for (first, second) in [(0, 1), (1, 0), (1, 2), (2, 1), (0, 2)] {
        for after_the_answer in [false, true] {
            let setting = setting(Quota::per_hour(100), five());
            let mut asker = setting.check();
            assert!(asker.poll().is_pending());
            let mut others: Vec<Option<Check<'_>>> = (0..3).map(|_| Some(setting.check())).collect();
            for other in others.iter_mut().flatten() {
                assert!(other.poll().is_pending() && other.poll().is_pending());
            }
            if after_the_answer {
                drop(drive(vec![asker]));
                others[first] = None;
                others[second] = None;
            } else {
                others[first] = None;
                others[second] = None;
                drop(drive(vec![asker]));
            }
            let left: Vec<Check<'_>> = others.into_iter().flatten().collect();
            assert!(drive(left).into_iter().all(|outcome| outcome.unwrap().allowed()));
            assert_eq!((setting.store.asked.load(SeqCst), setting.leased.snapshot().held), (1, 3));
        }
    }
}

/// It is neither polled nor dropped: the others of its key wait for a second at most, if
/// there is another check to find out.
#[test]
fn whoever_forgets_its_check_is_overtaken() {
    let setting = setting(Quota::per_hour(100), five());
    let mut forgotten = setting.check();
    assert!(forgotten.poll().is_pending() && forgotten.poll().is_pending());
    let mut waiting = setting.check();
    assert!(waiting.poll().is_pending());
    setting.clock.advance(Duration::from_millis(999));
    let mut early = setting.check();
    assert!(early.poll().is_pending() && !early.is_woken());
    setting.clock.advance(Duration::from_millis(1));
    let mut next = setting.check();
    assert!(next.poll().is_pending() && next.is_woken());
    assert!(drive(vec![next]).pop().unwrap().unwrap().allowed());
    let outcomes = drive(vec![waiting, early]);
    assert!(outcomes.into_iter().all(|outcome| outcome.unwrap().allowed()));
    // Its batch is long out of time; its own unit was counted.
    let held = setting.leased.snapshot().held;
    assert!(drive(vec![forgotten]).pop().unwrap().unwrap().allowed());
    assert!(setting.leased.snapshot().held <= held);
    assert_eq!(setting.store.asked.load(SeqCst), 2);
}

#[test]
fn whoever_was_overtaken_ends_no_turn_but_its_own() {
    let setting = setting(Quota::per_hour(100), five());
    let mut forgotten = setting.check();
    assert!(forgotten.poll().is_pending());
    setting.clock.advance(Duration::from_secs(1));
    let mut next = setting.check();
    assert!(next.poll().is_pending() && next.is_woken());
    drop(forgotten);
    let mut waiting = setting.check();
    assert!(waiting.poll().is_pending() && !waiting.is_woken());
    assert!(drive(vec![next]).pop().unwrap().unwrap().allowed());
    assert!(drive(vec![waiting]).pop().unwrap().unwrap().allowed());
    assert_eq!(setting.store.asked.load(SeqCst), 2);
}

/// Tasks of which half are aborted somewhere, on two threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_cancellations_leaves_nothing_stuck_and_admits_nothing_twice() {
    let Setting { store, leased, limit, .. } = setting(Quota::per_hour(2_000), five());
    let admitted = Arc::new(AtomicU64::new(0));
    for round in 0..300_u32 {
        let tasks: Vec<_> = (0..12)
            .map(|_| {
                let (leased, limit, admitted) = (leased.clone(), limit.clone(), admitted.clone());
                tokio::spawn(async move {
                    let decision = leased.decide(RateRequest::single(b"k", 1, &limit)).await.unwrap();
                    admitted.fetch_add(decision.allowed().into(), SeqCst);
                })
            })
            .collect();
        for (number, task) in (0..).zip(&tasks) {
            for _ in 0..(round + number) % 4 {
                tokio::task::yield_now().await;
            }
            if (round * 7 + number * 3) % 5 < 2 {
                task.abort();
            }
        }
        for task in tasks {
            // Aborted or done; a stuck one would end the test by its timeout.
            drop(tokio::time::timeout(Duration::from_secs(30), task).await.expect("nothing is stuck"));
        }
    }
    let decision = leased.decide(RateRequest::single(b"k", 1, &limit)).await.unwrap();
    assert!(matches!(decision.verdict(), Verdict::Allowed | Verdict::Refused));
    let (admitted, given) = (admitted.load(SeqCst), store.given.load(SeqCst));
    assert!(admitted > 300 && admitted <= given && given <= 2_000, "{admitted} of {given}");
}

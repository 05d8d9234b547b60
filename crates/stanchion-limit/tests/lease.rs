//! Leasing: the bound with its term for late units, the trips it makes and spares, what
//! it says, and what it does when keys are many or the store fails.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use stanchion_conformance::{Admissions, rate, rate_laws};
use stanchion_core::StoreErrorKind;
use stanchion_limit::{
    Answer, Decision, KeyedLimiter, LeaseConfig, Leased, ManualClock, MemoryRateStore, Outage, Quota, RateLimit,
    RateRequest, RateStore, StoreError, Verdict,
};

const MILLI: Duration = Duration::from_millis(1);

/// A store that counts what it was asked and what it gave.
struct Counted {
    inner: MemoryRateStore,
    asked: AtomicU64,
    given: AtomicU64,
    fails: Mutex<Option<StoreErrorKind>>,
}

impl Counted {
    fn new(clock: &ManualClock) -> Arc<Self> {
        let inner = MemoryRateStore::with_clock(100_000, clock.clone());
        Arc::new(Self { inner, asked: 0.into(), given: 0.into(), fails: None.into() })
    }

    fn fail(&self, kind: impl Into<Option<StoreErrorKind>>) {
        *self.fails.lock().unwrap() = kind.into();
    }

    fn asked(&self) -> u64 {
        self.asked.load(SeqCst)
    }
}

impl RateStore for Counted {
    fn decide(&self, request: RateRequest<'_>) -> Answer<'_, Result<Decision, StoreError>> {
        self.asked.fetch_add(1, SeqCst);
        if let Some(kind) = *self.fails.lock().unwrap() {
            return Answer::Ready(Err(StoreError::new(kind, "told to fail")));
        }
        let answer = self.inner.decide(request).ready().unwrap();
        if answer.as_ref().unwrap().allowed() {
            self.given.fetch_add(request.cost(), SeqCst);
        }
        Answer::Ready(answer)
    }
}

struct Setting {
    clock: ManualClock,
    store: Arc<Counted>,
    leased: Leased<Arc<Counted>>,
}

fn setting(config: LeaseConfig) -> Setting {
    let clock = ManualClock::new();
    let store = Counted::new(&clock);
    let leased = Leased::new(store.clone(), config).unwrap().clock(clock.clone());
    Setting { clock, store, leased }
}

fn limit(quota: Quota) -> RateLimit {
    RateLimit::new("api", quota.bucket().unwrap())
}

fn ask(store: &impl RateStore, key: &[u8], cost: u64, limit: &RateLimit) -> Decision {
    store.decide(RateRequest::single(key, cost, limit)).ready().unwrap().unwrap()
}

// Without batches it is the store itself, whose every law it keeps, remembering refusals.
mod without_batches {
    use super::*;

    async fn subject() -> rate::Subject {
        let clock = ManualClock::new();
        let store = MemoryRateStore::with_clock(1_000, clock.clone());
        let leased = Leased::new(store, LeaseConfig::default().batch(1, 1)).unwrap().clock(clock.clone());
        rate::Subject { store: Arc::new(leased), clock }
    }

    rate_laws!(subject);
}

// With batches all laws but that of the any-window bound without a term for late units.
mod with_batches {
    use super::*;

    async fn subject() -> rate::Subject {
        let clock = ManualClock::new();
        let store = MemoryRateStore::with_clock(1_000, clock.clone());
        let leased = Leased::new(store, LeaseConfig::default().share(50)).unwrap().clock(clock.clone());
        rate::Subject { store: Arc::new(leased), clock }
    }

    rate_laws!(subject:
        what_never_fits_is_told_apart_and_takes_nothing
        to_look_takes_nothing
        a_refusal_changes_nothing
        several_limits_are_taken_together_or_not_at_all
        the_strictest_limit_is_named
        keys_and_names_do_not_meet
        any_bytes_are_a_key
        the_burst_is_admitted_at_once_and_no_more
        a_token_is_back_exactly_after_its_interval
        a_weighted_request_takes_all_or_nothing
        fractions_of_a_microsecond_are_kept
        tokens_are_never_shared_by_concurrent_requests
    );
}

/// A step of a history: a pause in microseconds, which instance is asked how often, for what.
type Turn = (u64, usize, u32, u64);

fn histories() -> impl Strategy<Value = Vec<Turn>> {
    let pauses = prop_oneof![4 => Just(0), 4 => 0..3_000_u64, 2 => 0..40_000_u64, 1 => 0..2_000_000_u64];
    // Many at once, so that batches grow.
    let turn = (pauses, 0..4_usize, prop_oneof![1..4_u32, 1..60_u32], prop_oneof![4 => Just(1), 1 => 1..6_u64]);
    prop::collection::vec(turn, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Four instances on one store, whatever is asked of them and when.
    #[test]
    fn no_window_exceeds_the_bound_with_its_term_for_late_units(
        (count, burst, share) in (1..3_000_u64, 1..300_u64, 1..=100_u32),
        (ttl, min) in (1..60_u32, 1..20_u64),
        history in histories(),
    ) {
        let clock = ManualClock::new();
        let store = Counted::new(&clock);
        let ttl = ttl * MILLI;
        let config = LeaseConfig::default().ttl(ttl).target(ttl / 3).share(share).batch(min, 1_000);
        let instances: Vec<_> =
            (0..4).map(|_| Leased::new(store.clone(), config).unwrap().clock(clock.clone())).collect();
        let limit = limit(Quota::per_second(count).burst(burst));
        let mut admissions = Admissions::default();
        let mut admitted = 0;
        for (pause, instance, checks, cost) in history {
            clock.advance(Duration::from_micros(pause));
            let cost = cost.min(burst);
            for _ in 0..checks {
                let asked = store.asked();
                let decision = ask(&instances[instance], b"k", cost, &limit);
                prop_assert!(store.asked() - asked <= 3, "trips of one check");
                if decision.allowed() {
                    admissions.push(clock.now().as_nanos(), cost);
                    admitted += cost;
                } else {
                    prop_assert!(decision.retry_after().is_some_and(|wait| !wait.is_zero()));
                }
            }
        }
        prop_assert!(admitted <= store.given.load(SeqCst), "a unit is admitted once");
        let broken = admissions.broken_late_window(count, Duration::from_secs(1), burst, ttl);
        prop_assert!(broken.is_none(), "{broken:?}");
    }

    /// One instance: whoever is refused and comes back when told is admitted, and a
    /// refusal is the store's, or rests for no longer than one and a half targets on top.
    #[test]
    fn a_refusal_is_honest((count, burst) in (1..3_000_u64, 1..300_u64), history in histories()) {
        let config = LeaseConfig::default().remember(Duration::from_secs(3_600));
        let Setting { clock, store, leased } = setting(config);
        let limit = limit(Quota::per_second(count).burst(burst));
        for (pause, _, checks, cost) in history {
            clock.advance(Duration::from_micros(pause));
            let cost = cost.min(burst);
            for _ in 0..checks {
                let decision = ask(&leased, b"k", cost, &limit);
                let Some(wait) = decision.retry_after() else { continue };
                // A request that takes nothing: what the store would have said.
                let look = ask(&store.inner, b"k", 0, &limit);
                let owed = look.reset_after() + limit.bucket().unwrap().interval_duration() * u32::try_from(cost).unwrap();
                let exactly = owed.saturating_sub(limit.bucket().unwrap().refill_duration());
                let most = Duration::from_millis(30);
                prop_assert!(wait + Duration::from_micros(1) >= exactly && wait <= exactly + most + Duration::from_micros(1),
                    "told {wait:?}, for {exactly:?}");
                clock.advance(wait);
                prop_assert!(ask(&leased, b"k", cost, &limit).allowed(), "came back after {wait:?}");
            }
        }
    }

    /// Without batches its decisions are those of the store, to the nanosecond.
    #[test]
    fn without_batches_it_says_what_the_store_says((count, burst) in (1..50_u64, 1..30_u64), history in histories()) {
        let Setting { clock, leased, .. } = setting(LeaseConfig::default().batch(1, 1));
        let plain = MemoryRateStore::with_clock(10, clock.clone());
        // Whole nanoseconds, so that what is remembered is exact.
        let limit = limit(Quota::new(1, MILLI * u32::try_from(count).unwrap()).burst(burst));
        for (pause, _, checks, cost) in history {
            clock.advance(Duration::from_micros(pause));
            for _ in 0..checks {
                prop_assert_eq!(ask(&leased, b"k", cost, &limit), ask(&plain, b"k", cost, &limit));
            }
        }
    }
}

/// The overshoot is real, or the property above would show nothing.
#[test]
fn units_that_are_late_exceed_the_bound_without_their_term() {
    let config = LeaseConfig::default().ttl(50 * MILLI).batch(10, 10);
    let Setting { clock, store, leased } = setting(config);
    let limit = limit(Quota::per_second(1_000).burst(100));
    let mut admissions = Admissions::default();
    assert!(ask(&leased, b"k", 1, &limit).allowed());
    // The store is full again after 10 ms; nine are held besides.
    clock.advance(49 * MILLI);
    while ask(&leased, b"k", 1, &limit).allowed() {
        admissions.push(clock.now().as_nanos(), 1);
    }
    assert_eq!(admissions.len(), 109);
    let second = Duration::from_secs(1);
    assert!(admissions.broken_window(1_000, second, 100).is_some());
    assert!(admissions.broken_late_window(1_000, second, 100, 50 * MILLI).is_none());
    assert_eq!(store.given.load(SeqCst), 110);
}

#[test]
fn units_are_used_until_their_time_is_over_and_not_at_it() {
    for (later, held) in [(50 * MILLI - Duration::from_nanos(1), 9), (50 * MILLI, 0)] {
        let Setting { clock, store, leased } = setting(LeaseConfig::default().batch(10, 10));
        let limit = limit(Quota::per_hour(1_000));
        assert!(ask(&leased, b"k", 1, &limit).allowed());
        clock.advance(later);
        assert_eq!(leased.snapshot().held, held);
        assert!(ask(&leased, b"k", 1, &limit).allowed());
        assert_eq!(store.asked(), if held == 0 { 2 } else { 1 });
    }
}

/// 10,000 checks a second for ten seconds, in time and in excess.
#[test]
fn a_key_in_demand_makes_fifty_trips_a_second() {
    for (rate, least) in [(20_000, 99_000), (1_000, 10_000)] {
        let Setting { clock, store, leased } = setting(LeaseConfig::default());
        let limit = limit(Quota::per_second(rate).burst(rate / 2 + 1_500));
        let mut admitted = 0;
        for _ in 0..100_000 {
            clock.advance(MILLI / 10);
            admitted += u64::from(ask(&leased, b"k", 1, &limit).allowed());
        }
        // A trip for each 20 ms, and some while the batch grows.
        assert!(store.asked() <= 520, "{} trips at {rate} a second", store.asked());
        assert!(admitted >= least, "{admitted} admitted at {rate} a second");
        let snapshot = leased.snapshot();
        assert_eq!((snapshot.trips, snapshot.decided_here + snapshot.trips >= 100_000), (store.asked(), true));
    }
}

/// Four instances want ten times the quota for ten seconds: they get it, to a hundredth,
/// and make some fifty questions a second each, most of them in two trips.
#[test]
fn instances_in_want_share_the_whole_quota() {
    let clock = ManualClock::new();
    let store = Counted::new(&clock);
    let instance = |_| Leased::new(store.clone(), LeaseConfig::default()).unwrap().clock(clock.clone());
    let instances: [_; 4] = std::array::from_fn(instance);
    let limit = limit(Quota::per_second(1_000).burst(1_000));
    let mut admitted = [0_u32; 4];
    for check in 0..100_000 {
        clock.advance(MILLI / 10);
        admitted[check % 4] += u32::from(ask(&instances[check % 4], b"k", 1, &limit).allowed());
    }
    let total: u32 = admitted.iter().sum();
    assert!((10_890..=11_050).contains(&total), "{total} of 11,000, {admitted:?}");
    assert!(store.asked() <= 100_000 / 20, "{} trips", store.asked());
    println!("{admitted:?} in {} trips", store.asked());
    // None is left with nothing because another always comes first.
    assert!(admitted.iter().all(|&own| 2 * own > total / 4), "{admitted:?}");
}

/// What an instance holds and doesn't use is at most a batch, and comes back as all does.
#[test]
fn an_idle_instance_withholds_a_batch_at_most() {
    let config = LeaseConfig::default().batch(10, 10);
    let Setting { clock, store, leased: idle } = setting(config);
    let busy = Leased::new(store, config).unwrap().clock(clock.clone());
    let limit = limit(Quota::per_second(1).burst(100));
    assert!(ask(&idle, b"k", 1, &limit).allowed());
    let take_all = || (0..).take_while(|_| ask(&busy, b"k", 1, &limit).allowed()).count();
    assert_eq!(take_all(), 90);
    clock.advance(Duration::from_secs(100));
    assert_eq!(take_all(), 100);
}

#[test]
fn a_key_that_is_seldom_asked_for_leases_no_more_than_it_uses() {
    let Setting { clock, store, leased } = setting(LeaseConfig::default());
    let limit = limit(Quota::per_second(10_000));
    for _ in 0..100 {
        clock.advance(100 * MILLI);
        assert!(ask(&leased, b"k", 1, &limit).allowed());
    }
    assert_eq!((store.asked(), store.given.load(SeqCst)), (100, 100));
}

#[test]
fn a_refused_key_makes_a_trip_a_second_however_it_hammers() {
    let Setting { clock, store, leased } = setting(LeaseConfig::default());
    let limit = limit(Quota::per_hour(10));
    while ask(&leased, b"k", 1, &limit).allowed() {}
    let asked = store.asked();
    let mut told = Duration::MAX;
    for _ in 0..10_000 {
        let decision = ask(&leased, b"k", 1, &limit);
        assert_eq!((decision.verdict(), decision.remaining(), decision.limit()), (Verdict::Refused, 0, 10));
        assert!(decision.retry_after() < Some(told));
        told = decision.retry_after().unwrap();
        clock.advance(MILLI);
    }
    assert!((9..=10).contains(&(store.asked() - asked)), "{}", store.asked() - asked);
    // A smaller request is not refused for a greater one's sake.
    let limit = RateLimit::new("weights", Quota::per_hour(10).bucket().unwrap());
    assert!(ask(&leased, b"k", 5, &limit).allowed() && !ask(&leased, b"k", 6, &limit).allowed());
    assert!(ask(&leased, b"k", 5, &limit).allowed());
}

#[test]
fn a_batch_is_a_share_of_the_burst_and_takes_what_is_left() {
    let Setting { clock, store, leased } = setting(LeaseConfig::default().batch(1_000, 1_000).share(25));
    let limit = limit(Quota::per_hour(100));
    assert_eq!(ask(&leased, b"k", 1, &limit).remaining(), 99);
    assert_eq!((store.given.load(SeqCst), leased.snapshot().held), (25, 24));
    // Another instance takes all but three of the rest.
    assert!(ask(&*store, b"k", 72, &limit).allowed());
    for left in (75..99).rev() {
        assert_eq!(ask(&leased, b"k", 1, &limit).remaining(), left, "as far as is known here");
    }
    let asked = store.asked();
    assert_eq!(ask(&leased, b"k", 1, &limit).remaining(), 2);
    assert_eq!((store.asked() - asked, store.given.load(SeqCst)), (2, 100));
    clock.advance(MILLI);
    assert!(ask(&leased, b"k", 2, &limit).allowed());
    assert!(!ask(&leased, b"k", 1, &limit).allowed());
}

/// A key beyond the cap is the store's; keys that rest give their room to others.
#[test]
fn keys_are_bounded_and_forgotten() {
    let Setting { clock, store, leased } = setting(LeaseConfig::default().max_keys(160).batch(10, 10));
    let limit = limit(Quota::per_second(1_000));
    for key in 0..10_000_u32 {
        assert!(ask(&leased, &key.to_be_bytes(), 1, &limit).allowed());
    }
    assert!(leased.snapshot().keys <= 160);
    assert_eq!(store.asked(), 10_000);
    clock.advance(Duration::from_secs(1));
    for key in 10_000..10_020_u32 {
        let before = store.asked();
        assert!(ask(&leased, &key.to_be_bytes(), 1, &limit).allowed());
        assert!(ask(&leased, &key.to_be_bytes(), 1, &limit).allowed());
        // One that found room holds nine more.
        assert_eq!(store.asked() - before, 1);
    }
}

#[tokio::test]
async fn a_limiter_on_it_is_unchanged_and_its_outage_policy_decides() {
    let Setting { clock, store, leased } = setting(LeaseConfig::default().batch(5, 5));
    let leased = Arc::new(leased);
    let limiter: KeyedLimiter<str, _> = KeyedLimiter::builder(Quota::per_hour(100))
        .name("api")
        .clock(clock.clone())
        .on(leased.clone(), Outage::Refuse)
        .build()
        .unwrap();
    assert!(limiter.check("alice").await.unwrap().allowed());
    store.fail(StoreErrorKind::TimedOut);
    // Four are held.
    for _ in 0..4 {
        let decision = limiter.check("alice").await.unwrap();
        assert!(decision.allowed() && !decision.degraded());
    }
    let decision = limiter.check("alice").await.unwrap();
    assert_eq!((decision.verdict(), decision.degraded()), (Verdict::StoreUnavailable, true));
    // What wants a person is handed on as it is.
    clock.advance(Duration::from_secs(2));
    store.fail(StoreErrorKind::Refused);
    assert_eq!(limiter.check("alice").await.unwrap_err().to_string(), "told to fail");
    store.fail(None);
    assert!(limiter.check("alice").await.unwrap().allowed());
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    let refused = |config| Leased::new(MemoryRateStore::new(1), config).map(drop).unwrap_err().to_string();
    let config = LeaseConfig::default;
    assert!(Leased::new(MemoryRateStore::new(1), config()).is_ok());
    assert_eq!(refused(config().ttl(Duration::ZERO)), "ttl is 0ns: must be longer than zero and at most an hour");
    assert!(refused(config().ttl(Duration::MAX)).starts_with("ttl is "));
    assert!(refused(config().target(51 * MILLI)).starts_with("target is 51ms: must be at most the ttl of 50ms"));
    assert!(refused(config().target(Duration::ZERO)).starts_with("target is 0ns: "));
    assert!(refused(config().remember(Duration::ZERO)).starts_with("remember is 0ns: "));
    assert_eq!(refused(config().batch(0, 1)), "min_batch is 0: must be 1 to the max_batch of 1");
    assert_eq!(refused(config().batch(2, 1)), "min_batch is 2: must be 1 to the max_batch of 1");
    assert_eq!(refused(config().batch(0, 0)), "max_batch is 0: must be at least 1");
    assert_eq!(refused(config().share(0)), "share is 0: must be 1 to 100 percent");
    assert_eq!(refused(config().share(101)), "share is 101: must be 1 to 100 percent");
    assert!(refused(config().max_keys(0)).starts_with("max_keys is 0: must be 1 to "));
    assert!(refused(config().max_keys(usize::MAX)).starts_with("max_keys is "));
}

#[cfg(feature = "serde")]
#[test]
fn the_config_is_data() {
    let config: LeaseConfig = serde_json::from_str(r#"{"ttl": "100ms", "max_batch": 50}"#).unwrap();
    assert_eq!(config, LeaseConfig::default().ttl(100 * MILLI).batch(1, 50));
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<LeaseConfig>(&text).unwrap(), config);
    assert!(serde_json::from_str::<LeaseConfig>(r#"{"ttI": "1s"}"#).is_err());
}

/// Weights beyond what is held, of several sizes in turn, lose nothing that is held.
#[test]
fn what_is_held_is_used_before_what_comes() {
    let Setting { store, leased, .. } = setting(LeaseConfig::default().batch(10, 10).share(100));
    let limit = limit(Quota::per_hour(100));
    let mut left: VecDeque<u64> = [1, 8, 3, 7, 2, 9].into();
    let mut used = 0;
    while let Some(cost) = left.pop_front() {
        used += cost;
        assert!(ask(&leased, b"k", cost, &limit).allowed());
        assert_eq!(store.given.load(SeqCst) - used, leased.snapshot().held, "after {cost}");
    }
}

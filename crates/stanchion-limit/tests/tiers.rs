//! Quotas by the tier of a key, and quotas that change while running.

use std::time::Duration;

use stanchion_limit::{KeyedLimiter, ManualClock, MemoryRateStore, Moment, Outage, Quota, RateAlgorithm, WhenFull};

const SECOND: Duration = Duration::from_secs(1);

fn plan(key: &str) -> &'static str {
    match key.split('-').next() {
        Some("paid") => "paid",
        Some("enterprise") => "enterprise",
        Some("lost") => "no such tier",
        _ => "free",
    }
}

#[test]
fn a_key_has_the_quota_of_its_tier() {
    let limiter = KeyedLimiter::<str>::builder(Quota::per_second(2))
        .tier("free", Quota::per_second(1))
        .tier("paid", Quota::per_second(5))
        .tier("enterprise", Quota::per_second(50).strict().burst(50))
        .tier_by(plan)
        .clock(ManualClock::new())
        .build()
        .unwrap();
    for (key, limit) in [("somebody", 1), ("paid-a", 5), ("enterprise-b", 50), ("lost-c", 2)] {
        assert!(limiter.check_n(key, limit).allowed(), "{key}");
        assert!(!limiter.check(key).allowed(), "{key}");
    }
    assert_eq!(limiter.snapshot().unknown_tiers, 2);
}

#[test]
fn what_was_used_stays_used_when_a_quota_changes() {
    let clock = ManualClock::at(Moment::from_nanos(1 << 50));
    for algorithm in [RateAlgorithm::FixedWindow, RateAlgorithm::SlidingCounter, RateAlgorithm::SlidingLog] {
        let quota = |count| Quota::per_second(count).by(algorithm);
        let limiter = KeyedLimiter::<str>::builder(quota(10)).changeable().clock(clock.clone()).build().unwrap();
        assert!(limiter.check_n("a", 6).allowed());
        limiter.set_quotas(quota(20)).unwrap();
        assert_eq!(limiter.peek("a").remaining(), 14, "{algorithm:?}");
        limiter.set_quotas(quota(4)).unwrap();
        assert_eq!((limiter.peek("a").remaining(), limiter.check("a").allowed()), (0, false), "{algorithm:?}");
        clock.advance(2 * SECOND);
        assert_eq!(limiter.peek("a").remaining(), 4, "{algorithm:?}");
    }
    // A bucket's debt stays as long as it was: 600 ms.
    let limiter =
        KeyedLimiter::<str>::builder(Quota::per_second(10)).changeable().clock(clock.clone()).build().unwrap();
    assert!(limiter.check_n("a", 6).allowed());
    for (count, left) in [(20, 8), (5, 2), (10, 4)] {
        limiter.set_quotas(Quota::per_second(count)).unwrap();
        assert_eq!(limiter.peek("a").remaining(), left, "{count}");
    }
}

#[test]
fn a_window_of_another_length_keeps_what_it_counted() {
    let clock = ManualClock::at(Moment::from_nanos(1 << 50));
    let minute = 60 * SECOND;
    let quota = |period| Quota::new(10, period).sliding_counter();
    let limiter = KeyedLimiter::<str>::builder(quota(SECOND)).changeable().clock(clock.clone()).build().unwrap();
    assert!(limiter.check_n("a", 6).allowed());
    limiter.set_quotas(quota(minute)).unwrap();
    assert_eq!(limiter.peek("a").remaining(), 4);
    // Nothing has been written by that; an admission is, and counts by the new window from then on.
    assert!(limiter.check("a").allowed());
    clock.advance(3 * SECOND);
    assert_eq!(limiter.peek("a").remaining(), 3);
    clock.advance(2 * minute);
    assert_eq!(limiter.peek("a").remaining(), 10);
}

#[test]
fn tiers_that_make_no_sense_are_refused_by_name() {
    let builder = || KeyedLimiter::<str>::builder([("second", Quota::per_second(1)), ("hour", Quota::per_hour(9))]);
    let tiered = builder().tier("paid", Quota::per_second(1));
    assert_eq!(tiered.build().unwrap_err().field(), "tier_by");
    let error = builder().tier("paid", Quota::per_second(1)).tier_by(plan).build().unwrap_err();
    assert_eq!(error.field(), "tiers.paid.quotas");
    let error =
        builder().tier("paid", [("second", Quota::per_second(0)), ("hour", Quota::per_hour(9))]).tier_by(plan).build();
    assert_eq!(error.unwrap_err().field(), "tiers.paid.second.count");
    let limiter = builder().build().unwrap();
    assert_eq!(limiter.set_tier("paid", Quota::per_second(1)).unwrap_err().field(), "changeable");
    let other = builder().tier("paid", [("second", Quota::per_second(1)), ("hour", Quota::per_hour(9).sliding_log())]);
    assert_eq!(other.tier_by(plan).build().unwrap_err().field(), "tiers.paid.algorithm");
    let changeable = builder().changeable().build().unwrap();
    assert_eq!(changeable.set_quotas(Quota::per_second(1)).unwrap_err().field(), "quotas");
    let wrong = [("second", Quota::per_second(1)), ("hour", Quota::new(1, Duration::ZERO))];
    assert_eq!(changeable.set_quotas(wrong).unwrap_err().field(), "hour.period");
}

#[tokio::test]
async fn tiers_are_the_same_on_a_store_and_in_its_outage() {
    let clock = ManualClock::new();
    let store = MemoryRateStore::with_clock(100, clock.clone());
    let limiter = KeyedLimiter::<str>::builder(Quota::per_second(2))
        .tier("paid", Quota::per_second(40))
        .tier_by(plan)
        .name("api")
        .clock(clock)
        .on(store, Outage::LocalShare { instances: 2 })
        .build()
        .unwrap();
    assert!(limiter.check_n("paid-a", 40).await.unwrap().allowed());
    assert!(!limiter.check("paid-a").await.unwrap().allowed());
    limiter.set_tier("paid", Quota::per_second(80)).unwrap();
    assert!(!limiter.check_n("paid-a", 1).await.unwrap().allowed(), "a second is owed, whatever it is worth");
    // A share of nothing is found when it is set.
    assert_eq!(limiter.set_tier("paid", Quota::per_second(1)).unwrap_err().field(), "instances");
}

#[test]
fn a_flood_of_keys_is_bounded_and_does_what_was_said() {
    let clock = ManualClock::new();
    for when_full in [WhenFull::Refuse, WhenFull::Forget] {
        let limiter = KeyedLimiter::<u64>::builder(Quota::per_hour(2).sliding_log())
            .max_keys(160)
            .when_full(when_full)
            .clock(clock.clone())
            .build()
            .unwrap();
        assert!(limiter.check_n(&u64::MAX, 2).allowed());
        let admitted = (0..10_000_u64).filter(|key| limiter.check(key).allowed()).count();
        assert!(limiter.keys_in_debt() <= 160);
        let snapshot = limiter.snapshot();
        match when_full {
            WhenFull::Refuse => {
                assert!((100..160).contains(&admitted), "{admitted}");
                assert_eq!(snapshot.keys_turned_away, 10_000 - admitted as u64);
                assert!(!limiter.check(&u64::MAX).allowed(), "it is remembered");
            }
            _ => {
                assert_eq!(admitted, 10_000);
                assert!(snapshot.keys_forgotten >= 9_840, "{}", snapshot.keys_forgotten);
            }
        }
        clock.advance(3_600 * SECOND);
        assert!(limiter.check(&5).allowed());
    }
}

/// As many keys as were said find room, however few or many they are.
#[test]
fn max_keys_is_a_promise() {
    for max_keys in [1, 5, 100, 1_000, 20_000] {
        let quotas =
            [("hour", Quota::per_hour(5)), ("log", Quota::per_hour(5).sliding_log()), ("day", Quota::per_day(9))];
        let limiter =
            KeyedLimiter::<usize>::builder(quotas).max_keys(max_keys).clock(ManualClock::new()).build().unwrap();
        assert!((0..max_keys).all(|key| limiter.check(&key).allowed()), "{max_keys}");
        let refused = (max_keys..3 * max_keys + 9).map(|key| limiter.check(&key)).find(|decision| !decision.allowed());
        let wait = refused.expect("it is bounded").retry_after().unwrap();
        assert!(wait <= Duration::from_secs(3_600), "{wait:?}");
    }
}

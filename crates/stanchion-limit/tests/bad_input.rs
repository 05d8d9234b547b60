//! What comes from outside: a clear error or the stated policy, never a panic.

use std::time::Duration;

use stanchion_limit::{Clock, Decision, KeyedLimiter, Limiter, ManualClock, Moment, Quota, Verdict, WhenFull};

fn refused(quota: Quota) -> String {
    Limiter::new(quota).unwrap_err().to_string()
}

#[test]
fn quotas_that_make_no_sense_are_refused_by_name() {
    assert_eq!(refused(Quota::per_second(0)), "count is 0: must be at least 1");
    assert_eq!(refused(Quota::per_second(1).burst(0)), "burst is 0: must be at least 1");
    assert_eq!(refused(Quota::new(1, Duration::ZERO)), "period is 0ns: must be longer than zero");
    assert!(refused(Quota::new(1, Duration::MAX)).starts_with("period is "));
    assert!(refused(Quota::new(u64::MAX, Duration::MAX).burst(u64::MAX)).starts_with("period is "));
    let keyed = KeyedLimiter::<str>::builder(Quota::per_second(1)).max_keys(0).build();
    assert_eq!(keyed.unwrap_err().to_string(), "max_keys is 0: must be 1 to 1073741824");
}

#[test]
fn a_period_of_centuries_is_refused_and_one_of_a_century_kept() {
    let century = Duration::from_secs(100 * 365 * 86_400);
    assert!(refused(Quota::new(1, 3 * century)).contains("100 years"));
    assert!(refused(Quota::new(1, century).burst(2)).starts_with("burst is 2: "));
    let clock = ManualClock::new();
    let limiter = Limiter::builder(Quota::new(1, century)).clock(clock.clone()).build().unwrap();
    assert!(limiter.check().allowed());
    clock.advance(century - Duration::from_nanos(1));
    assert_eq!(limiter.check().retry_after(), Some(Duration::from_nanos(1)));
    clock.advance(Duration::from_nanos(1));
    assert!(limiter.check().allowed());
}

#[test]
fn a_thousand_million_a_second_is_exact() {
    let clock = ManualClock::new();
    let limiter = Limiter::builder(Quota::per_second(1_000_000_000).burst(1)).clock(clock.clone()).build().unwrap();
    for _ in 0..1_000 {
        assert!(limiter.check().allowed());
        assert_eq!(limiter.check().retry_after(), Some(Duration::from_nanos(1)));
        clock.advance(Duration::from_nanos(1));
    }
}

#[test]
fn a_cost_that_never_fits_is_told_from_one_that_does_not_fit_yet() {
    let limiter = Limiter::new(Quota::per_hour(5)).unwrap();
    assert_eq!(limiter.check_n(6).verdict(), Verdict::NeverFits);
    assert_eq!(limiter.check_n(u64::MAX).verdict(), Verdict::NeverFits);
    assert!(limiter.check_n(5).allowed());
    assert_eq!(limiter.check_n(5).verdict(), Verdict::Refused);
}

#[test]
fn the_end_of_time_is_no_end() {
    let clock = ManualClock::at(Moment::MAX);
    let limiter = Limiter::builder(Quota::per_second(7)).clock(clock.clone()).build().unwrap();
    assert!((0..7).all(|_| limiter.check().allowed()));
    assert!(!limiter.check().allowed());
    clock.advance(Duration::MAX);
    assert!(!limiter.check().allowed());
}

/// A source of time that steps back by a day: the clock stands still, nothing
/// is admitted that shouldn't be, and all goes on when time has caught up.
#[test]
fn a_clock_that_steps_back_stands_still() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    let day = 86_400 * 1_000_000_000_u64;
    let time = Arc::new(AtomicU64::new(2 * day));
    let source = time.clone();
    let clock = Clock::custom(move || Moment::from_nanos(source.load(SeqCst)));
    let limiter = Limiter::per_second(1).clock(clock.clone()).build().unwrap();
    let keyed = KeyedLimiter::<str>::builder(Quota::per_second(1)).clock(clock).build().unwrap();
    assert!(limiter.check().allowed() && keyed.check("k").allowed());
    time.store(day, SeqCst);
    assert_eq!(limiter.check().retry_after(), Some(Duration::from_secs(1)));
    assert_eq!(keyed.check("k").retry_after(), Some(Duration::from_secs(1)));
    time.store(2 * day + 1_000_000_000, SeqCst);
    assert!(limiter.check().allowed() && keyed.check("k").allowed());
}

/// Times that are handed in may step back as they like, by little or by much:
/// the debt is owed in full, and nobody gets a token twice.
#[test]
fn a_time_handed_in_that_steps_back_never_admits_more() {
    let at = |millis: u64| Moment::from_nanos(3_600_000_000_000 + millis * 1_000_000);
    let direct = Limiter::per_second(10).burst(2).clock(ManualClock::at(at(0))).build().unwrap();
    let keyed = KeyedLimiter::<u8>::new(Quota::per_second(10).burst(2)).unwrap();
    let checks: [&dyn Fn(u64, u64) -> Decision; 2] =
        [&|millis, cost| direct.check_at(at(millis), cost), &|millis, cost| keyed.check_at(at(millis), &1, cost)];
    for check in checks {
        assert!(check(10_000, 2).allowed());
        assert_eq!(check(9_950, 1).retry_after(), Some(Duration::from_millis(150)));
        assert_eq!(check(8_500, 1).retry_after(), Some(Duration::from_millis(1_600)));
        assert_eq!(check(0, 1).retry_after(), Some(Duration::from_millis(10_100)));
        assert!(!check(10_000, 1).allowed());
        assert!(!check(10_099, 1).allowed());
        assert!(check(10_100, 1).allowed());
    }
}

#[test]
fn keys_of_any_bytes_and_of_a_mebibyte_are_keys() {
    let limiter = KeyedLimiter::<[u8]>::new(Quota::per_hour(1)).unwrap();
    let long = vec![0xff; 1 << 20];
    let mut other = long.clone();
    other[1 << 19] = 0;
    for key in [&b""[..], b"\0", b"\0\0", &long, &other] {
        assert!(limiter.check(key).allowed());
        assert!(!limiter.check(key).allowed());
    }
}

/// Ten million keys, each in debt for an hour.
#[test]
fn a_flood_of_keys_leaves_memory_and_promises_as_they_are() {
    for when_full in [WhenFull::Refuse, WhenFull::Forget] {
        let limiter =
            KeyedLimiter::<u64>::builder(Quota::per_hour(10)).max_keys(1_000).when_full(when_full).build().unwrap();
        let bytes = limiter.snapshot().table_bytes;
        assert!(limiter.check_n(&u64::MAX, 10).allowed());
        let counted = allocation_counter::measure(|| {
            for key in 0..10_000_000_u64 {
                limiter.check(&key).allowed();
            }
        });
        assert_eq!((counted.count_total, limiter.snapshot().table_bytes), (0, bytes));
        assert!(bytes < 64 * 1_024, "{bytes}");
        let snapshot = limiter.snapshot();
        assert!(limiter.keys_in_debt() >= 1_000);
        // Whoever owes most is remembered under either policy.
        assert!(!limiter.check(&u64::MAX).allowed(), "{when_full:?}");
        match when_full {
            WhenFull::Refuse => assert!(snapshot.keys_turned_away > 9_990_000 && snapshot.keys_forgotten == 0),
            _ => assert!(snapshot.keys_forgotten > 9_990_000 && snapshot.keys_turned_away == 0),
        }
    }
}

#[test]
fn a_memory_store_is_bounded_and_says_so() {
    use stanchion_limit::{MemoryRateStore, RateLimit, RateRequest, RateStore};

    let clock = ManualClock::new();
    let store = MemoryRateStore::with_clock(160, clock.clone());
    let limits = [
        RateLimit::new("second", Quota::per_second(1).bucket().unwrap()),
        RateLimit::new("minute", Quota::per_minute(1).bucket().unwrap()),
    ];
    let ask = |key: u64| {
        let bytes = key.to_be_bytes();
        store.decide(RateRequest::new(&bytes, 1, &limits).unwrap()).ready().unwrap().unwrap()
    };
    // As many as there is room for, to the last one, also where a swept state comes back.
    let verdicts: Vec<Verdict> = (0..10_000).map(|key| ask(key).verdict()).collect();
    assert!(store.len() <= 160, "{}", store.len());
    let admitted = verdicts.iter().filter(|verdict| **verdict == Verdict::Allowed).count();
    assert_eq!(store.len(), 2 * admitted);
    assert_eq!(verdicts.iter().filter(|verdict| **verdict == Verdict::KeysFull).count(), 10_000 - admitted);
    // A minute later everything is out of debt, and gives its place. (So few that they fit, however they are spread.)
    clock.advance(Duration::from_secs(60));
    assert!((20_000..20_004).all(|key| ask(key).allowed()));
}

/// On a store a limiter's name is its identity: two that were never named would
/// share their states, and cut each other's debts.
#[test]
fn a_limiter_on_a_store_must_have_a_name() {
    use stanchion_limit::{MemoryRateStore, Outage};

    let unnamed = KeyedLimiter::<str>::builder(Quota::per_second(1)).on(MemoryRateStore::new(1), Outage::Admit);
    assert_eq!(unnamed.build().unwrap_err().field(), "name");
    let empty = KeyedLimiter::<str>::builder(Quota::per_second(1)).name("").on(MemoryRateStore::new(1), Outage::Admit);
    assert_eq!(empty.build().unwrap_err().field(), "name");
}

/// A key of borrowed parts is as good as any.
#[test]
fn a_key_may_be_borrowed_for_the_moment() {
    let limiter: KeyedLimiter<(&'static str, u64)> = KeyedLimiter::new(Quota::per_hour(1)).unwrap();
    let check = |limiter: &KeyedLimiter<(&'static str, u64)>, tenant: &str| {
        fn shorter<'a, 'l>(limiter: &'l KeyedLimiter<(&'static str, u64)>) -> &'l KeyedLimiter<(&'a str, u64)> {
            limiter
        }
        shorter(limiter).check(&(tenant, 7)).allowed()
    };
    let tenant = String::from("alice");
    assert!(check(&limiter, &tenant) && !check(&limiter, &tenant));
}

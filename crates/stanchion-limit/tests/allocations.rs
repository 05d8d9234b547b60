//! A check allocates nothing: allowed, refused, of a new key, of a key in debt.

use allocation_counter::measure;
use stanchion_limit::{KeyedLimiter, Limiter, Quota};

#[test]
fn a_check_allocates_nothing() {
    let limiter = Limiter::new(Quota::per_hour(2)).unwrap();
    let counted = measure(|| {
        assert!(limiter.check_n(2).allowed());
        assert!(!limiter.check().allowed());
        assert!(limiter.check().retry_after().is_some());
        assert!(!limiter.check_n(3).allowed());
    });
    assert_eq!(counted.count_total, 0);
}

/// From a reservoir, to refill it, to raid it and to be refused.
#[test]
fn a_check_of_a_generous_limit_allocates_nothing() {
    let quota = Quota::per_second(1_000_000).burst(10_000);
    let clock = stanchion_limit::ManualClock::new();
    // The first of all such checks in a thread gives it a number, and enlists it with
    // those that do something when it ends: that may allocate.
    let another = Limiter::builder(quota).clock(clock.clone()).build().unwrap();
    let first = measure(|| assert!(another.check().allowed()));
    assert!(first.count_total <= 1, "{}", first.count_total);
    let limiter = Limiter::builder(quota).clock(clock).build().unwrap();
    let counted = measure(|| {
        for _ in 0..5_000 {
            assert!(limiter.check().allowed());
        }
        assert!(limiter.check_n(5_000).allowed());
        assert!(!limiter.check().allowed());
    });
    assert_eq!(counted.count_total, 0);
}

#[test]
fn a_keyed_check_allocates_nothing_for_a_new_key_neither() {
    let limiter = KeyedLimiter::<str>::builder(Quota::per_hour(1)).max_keys(100).build().unwrap();
    let keys: Vec<String> = (0..1_000).map(|key| format!("tenant-{key}")).collect();
    let counted = measure(|| {
        for key in &keys {
            // Of the later ones many are turned away; that allocates nothing either.
            limiter.check(key).allowed();
            assert!(!limiter.check(key).allowed());
        }
    });
    assert_eq!(counted.count_total, 0);
    assert!(limiter.snapshot().keys_turned_away > 0);
}

/// Of what is held, and of what is known; only a trip allocates.
#[test]
fn a_check_that_is_decided_by_what_was_leased_allocates_nothing() {
    use stanchion_limit::{LeaseConfig, Leased, ManualClock, MemoryRateStore, Outage};

    let clock = ManualClock::new();
    let store = MemoryRateStore::with_clock(10, clock.clone());
    let leased = Leased::new(store, LeaseConfig::default().batch(50, 50)).unwrap().clock(clock.clone());
    let limiter: KeyedLimiter<str, _> = KeyedLimiter::builder(Quota::per_hour(500))
        .name("api")
        .clock(clock.clone())
        .on(leased, Outage::Refuse)
        .build()
        .unwrap();
    let check = || limiter.check("alice").ready().unwrap().unwrap().allowed();
    assert!(check());
    let counted = measure(|| (0..49).for_each(|_| assert!(check())));
    assert_eq!(counted.count_total, 0);
    while check() {}
    let counted = measure(|| (0..100).for_each(|_| assert!(!check())));
    assert_eq!(counted.count_total, 0);
}

/// By the plain path and from a reservoir; only a place in line is a box.
#[cfg(feature = "tokio")]
#[test]
fn what_is_acquired_at_once_allocates_nothing() {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    let mut context = Context::from_waker(Waker::noop());
    for burst in [1_000, 10_000] {
        let limiter = Limiter::per_second(1_000_000).burst(burst).build().unwrap();
        // It may give the thread a number.
        assert!(limiter.check().allowed());
        let counted = measure(|| {
            for _ in 0..500 {
                assert!(matches!(pin!(limiter.acquire(Duration::ZERO)).poll(&mut context), Poll::Ready(Ok(()))));
            }
        });
        assert_eq!(counted.count_total, 0);
    }
}

/// Let in, refused, settled; only a place in line is a box.
#[cfg(feature = "tokio")]
#[test]
fn a_bulkhead_with_room_allocates_nothing() {
    use stanchion_limit::{Bulkhead, Call, Permit};

    let bulkhead = Bulkhead::new(1).build().unwrap();
    let counted = measure(|| {
        let permit = Permit::try_new(&bulkhead, &Call::new()).unwrap();
        assert!(bulkhead.try_acquire().is_err());
        permit.settle(stanchion_core::Outcome::Success);
        assert!(bulkhead.try_acquire().is_ok());
    });
    assert_eq!(counted.count_total, 0);
}

/// Let in, refused, settled, and a step made.
#[test]
fn an_adaptive_limiter_and_a_load_shedder_allocate_nothing() {
    use stanchion_core::{Gate, Outcome, Permit};
    use stanchion_limit::{AdaptiveLimiter, Aimd, Call, Gradient2, LoadShedder, Priority, Vegas};

    let gates: [Box<dyn Gate>; 4] = [
        Box::new(AdaptiveLimiter::new(Vegas::default().initial(1)).samples(1).build().unwrap()),
        Box::new(AdaptiveLimiter::new(Aimd::default().min(1).initial(1)).samples(1).build().unwrap()),
        Box::new(AdaptiveLimiter::new(Gradient2::default().min(1).initial(1)).samples(1).build().unwrap()),
        Box::new(LoadShedder::new(Vegas::default().initial(1)).samples(1).build().unwrap()),
    ];
    let call = Call::new().priority(Priority::Critical);
    for gate in gates {
        let counted = measure(|| {
            let permit = Permit::try_new(&*gate, &call).unwrap();
            assert!(Permit::try_new(&*gate, &call).is_err());
            permit.settle(Outcome::Success);
            drop(Permit::try_new(&*gate, &call).unwrap());
        });
        assert_eq!(counted.count_total, 0);
    }
}

#[cfg(feature = "random")]
#[test]
fn a_client_throttle_allocates_nothing() {
    use stanchion_core::{Outcome, Permit};
    use stanchion_limit::{Call, ClientThrottle};

    let throttle = ClientThrottle::builder().build().unwrap();
    let counted = measure(|| {
        for _ in 0..100 {
            if let Ok(permit) = Permit::try_new(&throttle, &Call::new()) {
                permit.settle(Outcome::TimedOut);
            }
        }
    });
    assert_eq!(counted.count_total, 0);
    assert!(throttle.snapshot().refused > 0);
}

#[test]
fn the_counter_counts() {
    assert_eq!(measure(|| drop(std::hint::black_box(Box::new(1)))).count_total, 1);
}

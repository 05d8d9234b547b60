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

#[test]
fn the_counter_counts() {
    assert_eq!(measure(|| drop(std::hint::black_box(Box::new(1)))).count_total, 1);
}

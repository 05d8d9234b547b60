//! Leases.

use std::collections::HashSet;

use stanchion_core::{Fence, Found, Lease};

use super::{MILLI, SECOND, Subject, value};

/// Of each key; whoever else asks is told how long it may take.
pub async fn one_holder_at_a_time(subject: &Subject) {
    let (one, other) = (subject.store("one-holder"), subject.store("one-holder"));
    let first = one.lease(b"k").await;
    subject.clock.advance(300 * MILLI);
    let taken = Lease::Taken { retry_after: 700 * MILLI };
    assert_eq!((one.acquire(b"k", SECOND).await, other.acquire(b"k", SECOND).await), (taken, taken));
    assert_eq!(other.get_or_lease(b"k", SECOND).await, Found::Stale { value: None, lease: taken });
    let another = other.lease(b"another").await;
    assert_ne!(first, another);
    assert!(one.release(b"k", first).await);
    assert!(other.lease(b"k").await > first);
}

/// A millisecond before its end it stands; then not, for anybody.
pub async fn a_lease_ends_exactly_when_its_time_is_over(subject: &Subject) {
    let store = subject.store("lease-end");
    for renewed in [false, true] {
        let fence = store.lease(b"k").await;
        if renewed {
            subject.clock.advance(SECOND - MILLI);
            assert!(store.renew(b"k", fence, SECOND).await);
        }
        subject.clock.advance(SECOND - MILLI);
        assert_eq!(store.acquire(b"k", SECOND).await, Lease::Taken { retry_after: MILLI });
        subject.clock.advance(MILLI);
        assert!(!store.renew(b"k", fence, SECOND).await);
        assert!(!store.release(b"k", fence).await);
        let next = store.lease(b"k").await;
        assert!(next > fence && store.release(b"k", next).await);
    }
    // To renew is to set the end, to sooner, too.
    let fence = store.lease(b"k").await;
    assert!(store.renew(b"k", fence, 10 * MILLI).await);
    subject.clock.advance(10 * MILLI);
    let next = store.lease(b"k").await;
    assert!(!store.renew(b"k", fence, SECOND).await && store.renew(b"k", next, SECOND).await);
}

/// Neither an earlier one, nor one of another key, nor one that nobody was given.
pub async fn only_its_fence_renews_or_releases_a_lease(subject: &Subject) {
    let store = subject.store("fence");
    let earlier = store.lease(b"k").await;
    assert!(store.release(b"k", earlier).await);
    assert!(!store.release(b"k", earlier).await);
    let (fence, others) = (store.lease(b"k").await, store.lease(b"other").await);
    let numbers = [0, fence.get() + 1_000_000, u64::MAX].map(Fence::new);
    for wrong in [earlier, others].into_iter().chain(numbers) {
        assert!(!store.renew(b"k", wrong, 9 * SECOND).await, "{wrong:?}");
        assert!(!store.release(b"k", wrong).await, "{wrong:?}");
        assert!(!store.put(b"k", wrong, value(b"v", &[])).await, "{wrong:?}");
        assert_eq!(store.acquire(b"k", SECOND).await, Lease::Taken { retry_after: SECOND });
    }
    assert_eq!(store.get(b"k").await, None);
    assert!(store.renew(b"k", fence, SECOND).await && store.release(b"k", fence).await);
}

/// However a lease ended, and however little time there is between two of them.
pub async fn fences_grow(subject: &Subject) {
    let store = subject.store("fences-grow");
    let mut last = Fence::new(0);
    for round in 0..40 {
        let fence = store.lease(b"k").await;
        assert!(fence > last, "{fence:?} after {last:?}");
        last = fence;
        match round % 5 {
            0 => assert!(store.release(b"k", fence).await),
            1 => assert!(store.put(b"k", fence, value(b"v", &[])).await),
            2 => store.invalidate(b"k").await,
            3 => store.insert(b"k", value(b"v", &[])).await,
            _ => subject.clock.advance(SECOND),
        }
    }
}

/// And once it has the lease nobody else gets it, stale value or not.
pub async fn a_fresh_value_needs_no_lease_and_a_stale_one_comes_with_it(subject: &Subject) {
    let store = subject.store("stale");
    store.insert(b"k", value(b"v", &["tag"])).await;
    subject.clock.advance(SECOND - MILLI);
    assert!(matches!(store.get_or_lease(b"k", SECOND).await, Found::Fresh(value) if value.bytes == b"v"));
    subject.clock.advance(MILLI);
    let Found::Stale { value: Some(stale), lease: Lease::Held(fence) } = store.get_or_lease(b"k", SECOND).await else {
        panic!("the first who asks for a stale value may load");
    };
    assert_eq!((stale.bytes.as_slice(), stale.age, stale.is_fresh()), (&b"v"[..], SECOND, false));
    assert_eq!(stale.tags, ["tag"]);
    let taken = Lease::Taken { retry_after: SECOND };
    assert_eq!(store.get_or_lease(b"k", SECOND).await, Found::Stale { value: Some(stale), lease: taken });
    subject.clock.advance(SECOND - MILLI);
    assert!(store.put(b"k", fence, value(b"new", &[])).await);
    // Loaded for so long that it is almost stale again.
    assert!(matches!(store.get_or_lease(b"k", SECOND).await, Found::Fresh(value) if value.bytes == b"new"));
    subject.clock.advance(MILLI);
    let Found::Stale { value: Some(_), lease: Lease::Held(_) } = store.get_or_lease(b"k", 3 * SECOND).await else {
        panic!("the lease was given back");
    };
    subject.clock.advance(SECOND);
    let taken = Lease::Taken { retry_after: 2 * SECOND };
    assert_eq!(store.get_or_lease(b"k", SECOND).await, Found::Stale { value: None, lease: taken });
}

/// All at once, from two instances.
pub async fn a_hundred_at_once_get_one_lease(subject: &Subject) {
    let stores = [subject.store("at-once"), subject.store("at-once")];
    for key in 0..5_u8 {
        if key % 2 == 0 {
            stores[0].insert(&[key], value(b"v", &[])).await;
            subject.clock.advance(SECOND);
        }
        let asked: Vec<_> = (0..100)
            .map(|task: usize| {
                let store = stores[task % 2].clone();
                tokio::spawn(async move {
                    match store.get_or_lease(&[key], SECOND).await {
                        Found::Stale { lease, .. } => lease,
                        fresh @ Found::Fresh(_) => panic!("nothing was put: {fresh:?}"),
                    }
                })
            })
            .collect();
        let mut held = HashSet::new();
        for answer in asked {
            match answer.await.expect("a question ends") {
                Lease::Held(fence) => assert!(held.insert(fence)),
                Lease::Taken { retry_after } => assert_eq!(retry_after, SECOND),
            }
        }
        assert_eq!(held.len(), 1);
    }
}

//! What becomes of a load: stored, late, or void.

use stanchion_core::{Lease, NewValue};

use super::{MILLI, SECOND, Subject, value};

/// A fence is good for one value.
pub async fn what_was_loaded_is_stored_once_and_gives_the_lease_back(subject: &Subject) {
    let store = subject.store("once");
    let fence = store.lease(b"k").await;
    assert!(store.put(b"k", fence, value(b"one", &["tag"])).await);
    assert!(!store.put(b"k", fence, value(b"two", &["tag"])).await);
    assert_eq!(store.bytes(b"k").await.as_deref(), Some(&b"one"[..]));
    assert!(!store.renew(b"k", fence, SECOND).await && !store.release(b"k", fence).await);
    let next = store.lease(b"k").await;
    assert!(next > fence && store.put(b"k", next, value(b"three", &[])).await);
    assert_eq!(store.bytes(b"k").await.as_deref(), Some(&b"three"[..]));
    // Released is as good as over.
    let released = store.lease(b"k").await;
    assert!(store.release(b"k", released).await && !store.put(b"k", released, value(b"four", &[])).await);
    assert_eq!(store.bytes(b"k").await.as_deref(), Some(&b"three"[..]));
}

/// A millisecond before the lease ends it is; then not, whether or not somebody else loads.
pub async fn a_late_load_is_not_stored(subject: &Subject) {
    let store = subject.store("late");
    let in_time = store.lease(b"k").await;
    subject.clock.advance(SECOND - MILLI);
    assert!(store.put(b"k", in_time, NewValue { keep_for: 99 * SECOND, ..value(b"in time", &[]) }).await);
    let late = store.lease(b"k").await;
    subject.clock.advance(SECOND);
    assert!(!store.put(b"k", late, value(b"late", &[])).await);
    let next = store.lease(b"k").await;
    assert!(!store.put(b"k", late, value(b"late", &[])).await);
    assert_eq!(store.bytes(b"k").await.as_deref(), Some(&b"in time"[..]));
    assert!(store.put(b"k", next, value(b"next", &[])).await);
    assert!(!store.put(b"k", late, value(b"late", &[])).await);
    assert_eq!(store.bytes(b"k").await.as_deref(), Some(&b"next"[..]));
}

/// The inserted value stays, and others may load at once.
pub async fn an_insertion_voids_a_load(subject: &Subject) {
    let (one, other) = (subject.store("void-insert"), subject.store("void-insert"));
    let (fence, bystander) = (one.lease(b"k").await, one.lease(b"bystander").await);
    other.insert(b"k", value(b"inserted", &["tag"])).await;
    assert!(!one.renew(b"k", fence, SECOND).await);
    assert!(!one.put(b"k", fence, value(b"loaded", &["tag"])).await);
    assert!(!one.release(b"k", fence).await);
    assert_eq!(one.bytes(b"k").await.as_deref(), Some(&b"inserted"[..]));
    assert!(other.lease(b"k").await > fence);
    assert!(one.put(b"bystander", bystander, value(b"loaded", &["tag"])).await);
}

/// With a greater fence, and the one before does it no harm.
pub async fn an_invalidation_voids_a_load_and_another_may_begin_at_once(subject: &Subject) {
    let (one, other) = (subject.store("void-invalidate"), subject.store("void-invalidate"));
    for there in [false, true] {
        if there {
            one.insert(b"k", value(b"there", &[])).await;
        }
        let (fence, bystander) = (one.lease(b"k").await, one.lease(b"bystander").await);
        other.invalidate(b"k").await;
        assert!(!one.renew(b"k", fence, SECOND).await);
        assert!(!one.put(b"k", fence, value(b"from before", &[])).await);
        assert_eq!(one.get(b"k").await, None);
        let next = other.lease(b"k").await;
        assert!(next > fence);
        assert!(!one.release(b"k", fence).await && !one.put(b"k", fence, value(b"from before", &[])).await);
        assert_eq!(one.acquire(b"k", SECOND).await, Lease::Taken { retry_after: SECOND });
        assert!(other.put(b"k", next, value(b"after", &[])).await);
        assert!(!one.put(b"k", fence, value(b"from before", &[])).await);
        assert_eq!(one.bytes(b"k").await.as_deref(), Some(&b"after"[..]));
        assert!(one.put(b"bystander", bystander, value(b"v", &[])).await);
    }
}

/// Of every key, and others may begin at once.
pub async fn a_clearing_voids_all_loads(subject: &Subject) {
    let (one, other) = (subject.store("void-clear"), subject.store("void-clear"));
    for key in [b"a", b"b", b"c"] {
        let fence = one.lease(key).await;
        other.clear().await;
        assert!(!one.renew(key, fence, SECOND).await && !one.put(key, fence, value(b"v", &[])).await);
        assert_eq!(one.get(key).await, None);
        let next = one.lease(key).await;
        assert!(next > fence && !one.release(key, fence).await);
        assert!(one.put(key, next, value(b"v", &[])).await);
        assert_eq!(one.bytes(key).await.as_deref(), Some(&b"v"[..]));
    }
}

/// One of its tags is enough; a load of other tags is stored; and one that began after it in the same instant.
pub async fn an_invalidated_tag_voids_the_loads_that_bear_it(subject: &Subject) {
    let (one, other) = (subject.store("void-tag"), subject.store("void-tag"));
    for key in 0..4_u8 {
        let fences = [one.lease(&[key, 0]).await, one.lease(&[key, 1]).await, one.lease(&[key, 2]).await];
        if key % 2 == 0 {
            subject.clock.advance(MILLI);
        }
        other.invalidate_tag("b").await;
        let next = one.lease(&[key, 3]).await;
        assert!(!one.put(&[key, 0], fences[0], value(b"v", &["a", "b", "c"])).await);
        assert!(one.put(&[key, 1], fences[1], value(b"v", &["a", "c", "bb", ""])).await);
        assert!(one.put(&[key, 2], fences[2], value(b"v", &[])).await);
        assert!(one.put(&[key, 3], next, value(b"v", &["b"])).await);
        let mut there = Vec::new();
        for part in 0..4 {
            there.push(other.get(&[key, part]).await.is_some());
        }
        assert_eq!(there, [false, true, true, true]);
        // The load is over: whoever comes next needn't wait for its lease to end.
        assert!(other.lease(&[key, 0]).await > fences[0]);
    }
}

//! Values and their times.

use std::time::Duration;

use stanchion_core::{Found, NewValue, StoredValue};

use super::{MILLI, SECOND, Subject, any_bytes, value};

/// Bytes, tags and times, of an insertion and of a load.
pub async fn a_value_comes_back_as_it_was_stored(subject: &Subject) {
    let store = subject.store("as-stored");
    let all: Vec<u8> = (0..=255).collect();
    for (place, bytes) in (0_u8..).zip([&b""[..], b"v", &all, &vec![7; 1 << 20]]) {
        for tags in [&[][..], &["a"], &["b", "", "a", "ü\0:"]] {
            let key = [place];
            let new = NewValue { bytes, fresh_for: 1_500 * MILLI, keep_for: 2_500 * MILLI, tags };
            let tags = tags.iter().map(|&tag| tag.to_owned()).collect();
            let mut stored = StoredValue { bytes: bytes.to_vec(), age: Duration::ZERO, fresh_for: 1_500 * MILLI, tags };
            assert_eq!(store.get(&key).await, None);
            store.insert(&key, new).await;
            assert_eq!(store.get(&key).await.as_ref(), Some(&stored));
            assert_eq!(store.get_or_lease(&key, SECOND).await, Found::Fresh(stored.clone()));
            let fence = store.lease(&key).await;
            subject.clock.advance(7 * MILLI);
            assert!(store.put(&key, fence, new).await);
            stored.age = 7 * MILLI;
            assert_eq!(store.get(&key).await, Some(stored));
            store.invalidate(&key).await;
        }
    }
}

/// A millisecond before each of its ends, and at it.
pub async fn a_value_is_fresh_and_there_for_exactly_its_times(subject: &Subject) {
    let store = subject.store("times");
    // Who inserted and who loaded has the same.
    let fence = store.lease(b"put").await;
    assert!(store.put(b"put", fence, value(b"v", &["tag"])).await);
    store.insert(b"insert", value(b"v", &["tag"])).await;
    let mut age = Duration::ZERO;
    for (until, fresh, there) in [
        (SECOND - MILLI, true, true),
        (SECOND, false, true),
        (2 * SECOND - MILLI, false, true),
        (2 * SECOND, false, false),
        (3 * SECOND, false, false),
    ] {
        subject.clock.advance(until - age);
        age = until;
        for key in [&b"put"[..], b"insert"] {
            let found = store.get(key).await;
            assert_eq!(found.is_some(), there, "{found:?} at {age:?}");
            assert!(found.is_none_or(|value| value.age == age && value.is_fresh() == fresh), "at {age:?}");
        }
    }
}

/// A load that takes half a second gives a value that is half a second old.
pub async fn an_age_begins_with_the_load_and_not_with_its_end(subject: &Subject) {
    let store = subject.store("age");
    let fence = store.lease(b"k").await;
    subject.clock.advance(SECOND / 2);
    assert!(store.renew(b"k", fence, SECOND).await);
    subject.clock.advance(SECOND / 2 - MILLI);
    assert!(store.put(b"k", fence, value(b"v", &[])).await);
    let found = store.get(b"k").await.expect("it was stored");
    assert_eq!((found.age, found.is_fresh()), (SECOND - MILLI, true));
    subject.clock.advance(SECOND);
    assert!(store.get(b"k").await.is_some());
    subject.clock.advance(MILLI);
    assert_eq!(store.get(b"k").await, None);
    // What is over before it is there is never seen.
    let fence = store.lease(b"late").await;
    subject.clock.advance(SECOND / 2);
    let over = NewValue { keep_for: SECOND / 2, fresh_for: SECOND / 2, ..value(b"v", &[]) };
    store.put(b"late", fence, over).await;
    assert_eq!(store.get(b"late").await, None);
    store.insert(b"none", value(b"old", &[])).await;
    store.insert(b"none", NewValue { keep_for: Duration::ZERO, fresh_for: Duration::ZERO, ..over }).await;
    assert_eq!(store.get(b"none").await, None);
}

/// All of it: nothing of the value before is left.
pub async fn a_value_takes_the_place_of_another_with_its_tags_and_times(subject: &Subject) {
    let store = subject.store("place");
    store.insert(b"k", NewValue { keep_for: 9 * SECOND, ..value(b"a longer one", &["old", "both"]) }).await;
    store.insert(b"k", value(b"new", &["both", "new"])).await;
    store.invalidate_tag("old").await;
    assert_eq!(store.bytes(b"k").await.as_deref(), Some(&b"new"[..]));
    subject.clock.advance(2 * SECOND);
    assert_eq!(store.get(b"k").await, None);
    store.insert(b"k", value(b"short", &[])).await;
    let fence = store.lease(b"k").await;
    assert!(store.put(b"k", fence, NewValue { keep_for: 9 * SECOND, ..value(b"long", &["new"]) }).await);
    subject.clock.advance(2 * SECOND);
    assert_eq!(store.bytes(b"k").await.as_deref(), Some(&b"long"[..]));
    store.invalidate_tag("new").await;
    assert_eq!(store.get(b"k").await, None);
}

/// They may be cut, but not to nothing.
pub async fn times_without_end_are_times_all_the_same(subject: &Subject) {
    let store = subject.store("endless");
    let endless = NewValue { bytes: b"v", fresh_for: Duration::MAX, keep_for: Duration::MAX, tags: &[] };
    store.insert(b"k", endless).await;
    subject.clock.advance(60 * SECOND);
    assert!(store.get(b"k").await.is_some_and(|value| value.is_fresh() && value.age == 60 * SECOND));
    assert!(matches!(store.acquire(b"k", Duration::MAX).await, stanchion_core::Lease::Held(_)));
    subject.clock.advance(60 * SECOND);
    assert!(matches!(store.acquire(b"k", SECOND).await, stanchion_core::Lease::Taken { .. }));
}

/// Each is one of its own.
pub async fn any_bytes_are_a_key_and_any_text_is_a_tag(subject: &Subject) {
    let store = subject.store("any");
    let keys = any_bytes();
    for (place, key) in (0_u8..).zip(&keys) {
        let tag = String::from_utf8_lossy(key);
        store.insert(key, value(&[place], &[&tag, "all"])).await;
    }
    for (place, key) in (0_u8..).zip(&keys) {
        let found = store.get(key).await.expect("it is there");
        assert_eq!((found.bytes, &found.tags[0]), (vec![place], &String::from_utf8_lossy(key).into_owned()));
        store.invalidate_tag(&found.tags[0]).await;
        assert_eq!(store.get(key).await, None, "{place}");
        if let Some(next) = keys.get(usize::from(place) + 1) {
            assert!(store.get(next).await.is_some(), "{place}");
        }
        store.lease(key).await;
    }
    for key in &keys {
        store.insert(key, value(b"v", &[])).await;
        store.invalidate(key).await;
        assert_eq!(store.get(key).await, None);
    }
}

/// Not their values, nor their leases, tags and clearings, whatever they are called.
pub async fn names_do_not_meet(subject: &Subject) {
    let long = ["n".repeat(200), "n".repeat(201)];
    let names = ["", "names", "names.0", "names.1", "{names}", "names}", "#", "names:e", "ü", &long[0], &long[1]];
    let stores = names.map(|name| subject.store(name));
    for (place, store) in (0_u8..).zip(&stores) {
        assert_eq!(store.get(b"k").await, None, "{}", names[usize::from(place)]);
        store.insert(b"k", value(&[place], &["tag"])).await;
    }
    for (place, store) in (0_u8..).zip(&stores) {
        assert_eq!(store.bytes(b"k").await, Some(vec![place]));
        store.lease(b"k").await;
        match place % 3 {
            0 => store.clear().await,
            1 => store.invalidate_tag("tag").await,
            _ => store.invalidate(b"k").await,
        }
        assert_eq!(store.get(b"k").await, None);
    }
}

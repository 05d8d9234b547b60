//! What was invalidated is gone.

use super::{MILLI, SECOND, Subject, value};

/// Until it is stored again, in the same instant if need be.
pub async fn what_was_invalidated_is_gone_and_nothing_else(subject: &Subject) {
    let (one, other) = (subject.store("gone-key"), subject.store("gone-key"));
    for _ in 0..3 {
        one.insert(b"k", value(b"v", &[])).await;
        one.insert(b"kk", value(b"other", &[])).await;
        assert_eq!(other.bytes(b"k").await.as_deref(), Some(&b"v"[..]));
        other.invalidate(b"k").await;
        other.invalidate(b"k").await;
        assert_eq!((one.get(b"k").await, other.get(b"k").await), (None, None));
        assert_eq!(one.bytes(b"kk").await.as_deref(), Some(&b"other"[..]));
    }
    one.insert(b"k", value(b"again", &[])).await;
    assert_eq!(other.bytes(b"k").await.as_deref(), Some(&b"again"[..]));
}

/// However many bear it, inserted or loaded; and what is stored with it later stays.
pub async fn what_bears_an_invalidated_tag_is_gone_and_nothing_else(subject: &Subject) {
    let (one, other) = (subject.store("gone-tag"), subject.store("gone-tag"));
    for round in 0..3 {
        for key in 0..60_u8 {
            let tags: &[&str] = [&["x", "all"][..], &["xx", "all"], &["all", "y", "x"]][usize::from(key % 3)];
            if key % 2 == 0 {
                one.insert(&[key], value(b"v", tags)).await;
            } else {
                let fence = one.lease(&[key]).await;
                assert!(one.put(&[key], fence, value(b"v", tags)).await);
            }
        }
        other.invalidate_tag("x").await;
        for key in 0..60_u8 {
            assert_eq!(other.get(&[key]).await.is_some(), key % 3 == 1, "{key}, round {round}");
        }
        other.invalidate_tag("").await;
        assert!(one.get(&[1]).await.is_some());
        one.insert(&[0], value(b"later", &["x", "all"])).await;
        assert!(one.get(&[0]).await.is_some());
        other.invalidate_tag("all").await;
        for key in 0..60_u8 {
            assert_eq!(one.get(&[key]).await, None);
        }
        subject.clock.advance(MILLI);
    }
    // One of many is enough.
    let many: Vec<String> = (0..250).map(|tag| format!("tag-{tag}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for tag in [0, 99, 100, 101, 249] {
        one.insert(b"many", value(b"v", &many)).await;
        assert!(one.get(b"many").await.is_some());
        other.invalidate_tag(many[tag]).await;
        assert_eq!(one.get(b"many").await, None);
    }
    // Stale ones, too.
    one.insert(b"stale", value(b"v", &["all"])).await;
    subject.clock.advance(SECOND);
    assert!(one.get(b"stale").await.is_some());
    one.invalidate_tag("all").await;
    assert_eq!(other.get(b"stale").await, None);
}

/// In the same instant, too.
pub async fn what_was_cleared_is_gone_and_what_comes_after_is_there(subject: &Subject) {
    let (one, other) = (subject.store("gone-all"), subject.store("gone-all"));
    for _ in 0..3 {
        for key in 0..60_u8 {
            one.insert(&[key], value(b"v", &["tag"])).await;
        }
        other.clear().await;
        for key in 0..60_u8 {
            assert_eq!((one.get(&[key]).await, other.get(&[key]).await), (None, None), "{key}");
        }
        one.insert(&[0], value(b"after", &["tag"])).await;
        let fence = one.lease(&[1]).await;
        assert!(one.put(&[1], fence, value(b"after", &["tag"])).await);
        for key in [0, 1] {
            assert_eq!(other.bytes(&[key]).await.as_deref(), Some(&b"after"[..]));
        }
    }
}

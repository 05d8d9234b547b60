//! Several limits at once.

use std::sync::Arc;

use stanchion_core::{Ask, RateLimit, Verdict};

use super::{SECOND, Subject, limit, of_all_rules};

/// Where one of several limits refuses, the others keep their tokens.
pub async fn several_limits_are_taken_together_or_not_at_all(subject: &Subject) {
    let limits = [limit("wide", 1, SECOND, 10), limit("narrow", 1, SECOND, 2), limit("middle", 1, SECOND, 5)];
    assert!(subject.ask(b"several", 2, &limits).await.allowed());
    for _ in 0..3 {
        let refused = subject.ask(b"several", 1, &limits).await;
        assert_eq!((refused.allowed(), refused.limit_index()), (false, 1));
    }
    assert_eq!(subject.ask(b"several", 0, &limits[..1]).await.remaining(), 8);
    assert_eq!(subject.ask(b"several", 0, &limits[2..]).await.remaining(), 3);
    // In another order, and with a limit that hasn't been asked yet: the same.
    let others = [limit("fresh", 1, SECOND, 2), limits[1].clone()];
    assert_eq!(subject.ask(b"several", 1, &others).await.limit_index(), 1);
    assert_eq!(subject.ask(b"several", 0, &others[..1]).await.remaining(), 2);
}

/// A decision of several limits is that of the one which takes longest to
/// allow it, or which has least left.
pub async fn the_strictest_limit_is_named(subject: &Subject) {
    let limits = [limit("s", 1, SECOND, 2), limit("h", 1, 3_600 * SECOND, 3)];
    let allowed = subject.ask(b"strictest", 1, &limits).await;
    assert_eq!((allowed.limit_index(), allowed.remaining()), (0, 1));
    assert!(subject.ask(b"strictest", 1, &limits).await.allowed());
    let refused = subject.ask(b"strictest", 2, &limits).await;
    assert_eq!((refused.limit_index(), refused.retry_after()), (1, Some(3_600 * SECOND)));
    let never = subject.ask(b"strictest", 3, &limits).await;
    assert_eq!((never.verdict(), never.limit_index()), (Verdict::NeverFits, 0));
}

/// Where one of four algorithms refuses, the others keep their units; and it is that one which is named.
pub async fn limits_of_all_algorithms_are_taken_together_or_not_at_all(subject: &Subject) {
    let rules = of_all_rules(5, 60 * SECOND);
    for narrow in 0..rules.len() {
        let key = format!("mix-{narrow}");
        let mut limits: Vec<RateLimit> =
            rules.iter().zip(["a", "b", "c", "d"]).map(|(rule, name)| RateLimit::new(name, *rule)).collect();
        limits[narrow] = RateLimit::new("narrow", of_all_rules(2, 60 * SECOND)[narrow]);
        assert!(subject.ask(key.as_bytes(), 2, &limits).await.allowed());
        for _ in 0..3 {
            let refused = subject.ask(key.as_bytes(), 1, &limits).await;
            assert_eq!((refused.verdict(), refused.limit_index()), (Verdict::Refused, narrow));
        }
        for (place, limit) in limits.iter().enumerate() {
            let left = subject.ask(key.as_bytes(), 0, std::slice::from_ref(limit)).await.remaining();
            assert_eq!(left, if place == narrow { 0 } else { 3 }, "{limit:?}");
        }
    }
}

/// A request for up to so many takes what all of the limits have.
pub async fn up_to_takes_what_all_limits_have(subject: &Subject) {
    let limits: Vec<RateLimit> = of_all_rules(9, 60 * SECOND)
        .into_iter()
        .chain(of_all_rules(4, 60 * SECOND))
        .zip(["a", "b", "c", "d", "e", "f", "g", "h"])
        .map(|(rule, name)| RateLimit::new(name, rule))
        .collect();
    let some = subject.ask_as(b"up-to-mix", 7, &limits, Ask::UpTo).await;
    assert_eq!((some.allowed(), some.granted(), some.remaining()), (true, 4, 0));
    let none = subject.ask_as(b"up-to-mix", 7, &limits, Ask::UpTo).await;
    assert_eq!((none.verdict(), none.granted()), (Verdict::Refused, 0));
    assert_eq!(subject.ask(b"up-to-mix", 0, &limits[..4]).await.remaining(), 5);
}

/// Requests of one key that share some of their limits and not others, as of a tenant's on several
/// routes: what one of a route's own limits refuses takes nothing of the shared ones, in any order
/// and at once.
pub async fn limits_that_requests_share_are_taken_with_the_others_or_not_at_all(subject: &Subject) {
    const KEY: &[u8] = b"tenant";
    let hour = 3_600 * SECOND;
    let shared = [limit("all/s", 30, hour, 30), limit("all/h", 40, 24 * hour, 40), limit("all/d", 50, 48 * hour, 50)];
    let route = |own: [RateLimit; 2]| -> Arc<[RateLimit]> { shared.iter().cloned().chain(own).collect() };
    let narrow = route([limit("narrow/s", 5, hour, 5), limit("narrow/d", 9, 48 * hour, 9)]);
    let wide = route([limit("wide/s", 35, hour, 35), limit("wide/d", 99, 48 * hour, 99)]);
    let requests: Vec<_> = (0..60)
        .map(|place| {
            let (subject, is_narrow) = (subject.clone(), place % 2 == 0);
            let limits = if is_narrow { narrow.clone() } else { wide.clone() };
            tokio::spawn(async move { (is_narrow, subject.ask(KEY, 1, &limits).await.allowed()) })
        })
        .collect();
    let mut admitted = [0; 2];
    for request in requests {
        let (is_narrow, allowed) = request.await.expect("a request ends");
        admitted[usize::from(is_narrow)] += u64::from(allowed);
    }
    // 25 and 30 would like to come in; whoever is first, 30 do.
    let [by_wide, by_narrow] = admitted;
    assert!(by_narrow <= 5 && by_wide + by_narrow == 30, "{by_narrow} and {by_wide}");
    let all = by_wide + by_narrow;
    let used = [all, all, all, by_narrow, by_narrow, by_wide, by_wide];
    for (limit, used) in narrow.iter().chain(&wide[shared.len()..]).zip(used) {
        let left = subject.ask(KEY, 0, std::slice::from_ref(limit)).await.remaining();
        assert_eq!(left, limit.rule().limit() - used, "{limit:?}");
    }
}

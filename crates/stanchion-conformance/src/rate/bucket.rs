//! Token buckets, and what is common to all limits.

use std::time::Duration;

use stanchion_core::Verdict;

use super::{MICRO, SECOND, Subject, limit, per_second, random};
use crate::Admissions;

/// Of a full bucket the burst is admitted, token by token, and no more.
pub async fn the_burst_is_admitted_at_once_and_no_more(subject: &Subject) {
    let limits = per_second("burst", 3);
    for left in [2, 1, 0] {
        let decision = subject.ask(b"burst", 1, &limits).await;
        assert_eq!((decision.allowed(), decision.remaining()), (true, left));
    }
    let refused = subject.ask(b"burst", 1, &limits).await;
    assert_eq!((refused.verdict(), refused.remaining()), (Verdict::Refused, 0));
    assert_eq!((refused.retry_after(), refused.reset_after()), (Some(SECOND), 3 * SECOND));
    assert_eq!((refused.limit(), refused.degraded()), (3, false));
}

/// A microsecond before its interval is over a token is not there; then it is.
pub async fn a_token_is_back_exactly_after_its_interval(subject: &Subject) {
    let limits = per_second("interval", 1);
    assert!(subject.ask(b"interval", 1, &limits).await.allowed());
    subject.clock.advance(SECOND - MICRO);
    assert_eq!(subject.ask(b"interval", 1, &limits).await.retry_after(), Some(MICRO));
    subject.clock.advance(MICRO);
    assert!(subject.ask(b"interval", 1, &limits).await.allowed());
}

/// A request for several tokens takes them all, or none.
pub async fn a_weighted_request_takes_all_or_nothing(subject: &Subject) {
    let limits = per_second("weight", 5);
    assert_eq!(subject.ask(b"weight", 3, &limits).await.remaining(), 2);
    let refused = subject.ask(b"weight", 3, &limits).await;
    assert_eq!((refused.verdict(), refused.retry_after()), (Verdict::Refused, Some(SECOND)));
    assert_eq!(subject.ask(b"weight", 2, &limits).await.remaining(), 0);
}

/// A cost above the burst is `NeverFits`, and takes nothing.
pub async fn what_never_fits_is_told_apart_and_takes_nothing(subject: &Subject) {
    let limits = per_second("never", 2);
    let never = subject.ask(b"never", 3, &limits).await;
    assert_eq!((never.verdict(), never.retry_after()), (Verdict::NeverFits, None));
    assert_eq!(subject.ask(b"never", u64::MAX, &limits).await.verdict(), Verdict::NeverFits);
    assert_eq!(subject.ask(b"never", 2, &limits).await.verdict(), Verdict::Allowed);
}

/// A request of no cost is allowed, tells how things stand, and takes nothing.
pub async fn to_look_takes_nothing(subject: &Subject) {
    let limits = per_second("look", 2);
    for _ in 0..3 {
        let look = subject.ask(b"look", 0, &limits).await;
        assert_eq!((look.allowed(), look.remaining(), look.reset_after()), (true, 2, Duration::ZERO));
    }
    assert!(subject.ask(b"look", 2, &limits).await.allowed());
    let look = subject.ask(b"look", 0, &limits).await;
    assert_eq!((look.allowed(), look.remaining(), look.reset_after()), (true, 0, 2 * SECOND));
}

/// However often it is refused, a request comes no later to its token.
pub async fn a_refusal_changes_nothing(subject: &Subject) {
    let limits = per_second("refusal", 1);
    assert!(subject.ask(b"refusal", 1, &limits).await.allowed());
    for _ in 0..10 {
        subject.clock.advance(SECOND / 20);
        assert!(!subject.ask(b"refusal", 1, &limits).await.allowed());
    }
    subject.clock.advance(SECOND / 2);
    assert!(subject.ask(b"refusal", 1, &limits).await.allowed());
}

/// Each key has a bucket of its own, and so has each name.
pub async fn keys_and_names_do_not_meet(subject: &Subject) {
    let limits = per_second("meet", 1);
    for key in [&b"meet-a"[..], b"meet-b", b"meet-"] {
        assert!(subject.ask(key, 1, &limits).await.allowed());
        assert!(!subject.ask(key, 1, &limits).await.allowed());
    }
    assert!(subject.ask(b"meet-a", 1, &per_second("meet-other", 1)).await.allowed());
}

/// A key may be any bytes: none at all, zeros, braces, a mebibyte.
pub async fn any_bytes_are_a_key(subject: &Subject) {
    let limits = [limit("bytes-1", 1, SECOND, 1), limit("bytes-2", 1, SECOND, 1)];
    let long = vec![b'x'; 1 << 20];
    let longer = vec![b'x'; (1 << 20) + 1];
    let keys: [&[u8]; 9] = [b"", b"\0", b"\0\0", b"{", b"}", b"{}", b"\r\n\xff", &long, &longer];
    for key in keys {
        assert!(subject.ask(key, 1, &limits).await.allowed(), "{:?}", key.get(..4));
    }
    for key in keys {
        assert!(!subject.ask(key, 1, &limits).await.allowed(), "{:?}", key.get(..4));
    }
}

/// An interval of a third of a microsecond adds up without loss.
pub async fn fractions_of_a_microsecond_are_kept(subject: &Subject) {
    let limits = [limit("fraction", 3, MICRO, 4)];
    assert!(subject.ask(b"fraction", 4, &limits).await.allowed());
    let mut taken = 0;
    for _ in 0..100 {
        subject.clock.advance(MICRO);
        while subject.ask(b"fraction", 1, &limits).await.allowed() {
            taken += 1;
        }
    }
    assert_eq!(taken, 300);
}

/// What is owed to a larger quota of the same name is cut to an empty bucket.
pub async fn the_debt_of_a_larger_quota_is_cut(subject: &Subject) {
    assert!(subject.ask(b"larger", 100, &per_second("larger", 100)).await.allowed());
    let smaller = per_second("larger", 2);
    assert_eq!(subject.ask(b"larger", 1, &smaller).await.retry_after(), Some(SECOND));
    subject.clock.advance(SECOND - MICRO);
    assert!(!subject.ask(b"larger", 1, &smaller).await.allowed());
    subject.clock.advance(MICRO);
    assert!(subject.ask(b"larger", 1, &smaller).await.allowed());
    // Within a second's tolerance it is owed in full.
    assert!(subject.ask(b"larger-by-little", 3, &per_second("larger", 3)).await.allowed());
    assert_eq!(subject.ask(b"larger-by-little", 1, &smaller).await.retry_after(), Some(2 * SECOND));
}

/// A third of a second counts in other ticks than a second. What is owed under
/// the one is owed under the other, of the same name, to the microsecond.
pub async fn a_debt_is_the_same_to_a_quota_with_other_ticks(subject: &Subject) {
    let thirds = |burst| [limit("ticks", 3, SECOND, burst)];
    assert!(subject.ask(b"ticks-1", 2, &thirds(3)).await.allowed());
    let after = subject.ask(b"ticks-1", 1, &per_second("ticks", 100)).await;
    assert!(after.allowed());
    let owed = after.reset_after();
    let exact = SECOND + 2 * SECOND / 3;
    assert!(owed >= exact && owed <= exact + 2 * MICRO, "{owed:?}");
    // And the other way round, where it is more than can be owed.
    assert!(subject.ask(b"ticks-2", 100, &per_second("ticks", 100)).await.allowed());
    let cut = subject.ask(b"ticks-2", 1, &thirds(2)).await;
    assert_eq!((cut.verdict(), cut.remaining()), (Verdict::Refused, 0));
    assert!(cut.retry_after().is_some_and(|wait| wait <= SECOND / 3 + MICRO), "{cut:?}");
}

/// Fifty concurrent requests for twenty tokens: twenty are admitted.
pub async fn tokens_are_never_shared_by_concurrent_requests(subject: &Subject) {
    let requests: Vec<_> = (0..50)
        .map(|_| {
            let subject = subject.clone();
            tokio::spawn(async move { subject.ask(b"concurrent", 1, &per_second("concurrent", 20)).await.allowed() })
        })
        .collect();
    let mut admitted = 0;
    for request in requests {
        admitted += usize::from(request.await.expect("a request ends"));
    }
    assert_eq!(admitted, 20);
}

/// Random histories, and every window of them.
pub async fn no_window_of_a_random_history_exceeds_the_bound(subject: &Subject) {
    let mut draw = random();
    for (history, (count, micros, burst)) in
        [(1, 10, 1), (3, 10, 4), (7, 1_000, 5), (100, 77, 30)].into_iter().enumerate()
    {
        let period = Duration::from_micros(micros);
        let limits = [limit("history", count, period, burst)];
        let key = [b"history-".as_slice(), &[u8::try_from(history).expect("four")]].concat();
        let mut admissions = Admissions::default();
        for _ in 0..300 {
            subject.clock.advance(MICRO * u32::try_from(draw(2 * micros / count + 3)).expect("small"));
            let cost = 1 + draw(burst);
            if subject.ask(&key, cost, &limits).await.allowed() {
                admissions.push(subject.clock.now().as_nanos(), cost);
            }
        }
        assert!(admissions.len() > 30, "a history in which little happens shows little: {}", admissions.len());
        admissions.assert_bound(count, period, burst);
    }
}

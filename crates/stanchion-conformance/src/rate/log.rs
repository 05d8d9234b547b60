//! Sliding logs.

use std::time::Duration;

use stanchion_core::{RateLimit, SlidingLog};

use super::{MICRO, SECOND, Subject, random};
use crate::Admissions;

fn log(name: &'static str, count: u64, window: Duration) -> [RateLimit; 1] {
    [RateLimit::new(name, SlidingLog::new(count, window).expect("the laws use what can be kept"))]
}

/// Each admission counts until it is a window old, whatever was refused in between.
pub async fn a_log_forgets_an_admission_exactly_when_it_is_a_window_old(subject: &Subject) {
    let limits = log("log", 3, SECOND);
    for left in [2, 1, 0] {
        assert_eq!(subject.ask(b"log", 1, &limits).await.remaining(), left);
        subject.clock.advance(SECOND / 10);
    }
    let refused = subject.ask(b"log", 2, &limits).await;
    assert_eq!(refused.retry_after(), Some(SECOND * 8 / 10));
    assert_eq!((refused.next_token_after(), refused.reset_after()), (SECOND * 7 / 10, SECOND * 9 / 10));
    for _ in 0..20 {
        assert!(!subject.ask(b"log", 1, &limits).await.allowed());
    }
    subject.clock.advance(SECOND * 7 / 10 - MICRO);
    assert_eq!(subject.ask(b"log", 1, &limits).await.retry_after(), Some(MICRO));
    subject.clock.advance(MICRO);
    assert_eq!(subject.ask(b"log", 0, &limits).await.remaining(), 1);
    assert!(subject.ask(b"log", 1, &limits).await.allowed());
    assert_eq!(subject.ask(b"log", 1, &limits).await.retry_after(), Some(SECOND / 10));
}

/// Several admissions at one instant are as many, and weighted ones as heavy.
pub async fn two_at_one_instant_are_two(subject: &Subject) {
    let limits = log("instant", 10, SECOND);
    for left in [9, 8, 7, 4, 1] {
        let cost = if left < 7 { 3 } else { 1 };
        assert_eq!(subject.ask(b"instant", cost, &limits).await.remaining(), left);
    }
    assert!(!subject.ask(b"instant", 2, &limits).await.allowed());
    subject.clock.advance(SECOND - MICRO);
    assert_eq!(subject.ask(b"instant", 0, &limits).await.remaining(), 1);
    subject.clock.advance(MICRO);
    assert_eq!(subject.ask(b"instant", 0, &limits).await.remaining(), 10);
}

/// Random histories: at most the limit in every window, and nothing refused that would fit.
pub async fn no_window_of_a_log_exceeds_its_limit(subject: &Subject) {
    let mut draw = random();
    for (history, (count, micros)) in [(1, 10), (5, 1_000), (30, 777)].into_iter().enumerate() {
        let window = Duration::from_micros(micros);
        let limits = log("log-history", count, window);
        let key = format!("log-history-{history}").into_bytes();
        let mut admissions = Admissions::default();
        for _ in 0..300 {
            subject.clock.advance(MICRO * u32::try_from(draw(2 * micros / count + 3)).expect("small"));
            let (cost, now) = (1 + draw(count), subject.clock.now().as_nanos());
            let mut with_it = admissions.clone();
            with_it.push(now, cost);
            let allowed = subject.ask(&key, cost, &limits).await.allowed();
            assert_eq!(allowed, with_it.most_in_any(window) <= count);
            if allowed {
                admissions = with_it;
            }
        }
        assert!(admissions.len() > 30, "a history in which little happens shows little: {}", admissions.len());
    }
}

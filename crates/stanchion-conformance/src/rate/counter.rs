//! Sliding counters.

use std::time::Duration;

use stanchion_core::{RateLimit, SlidingCounter};

use super::{MICRO, SECOND, Subject, random};
use crate::Admissions;

const MINUTE: Duration = Duration::from_secs(60);

fn counter(name: &'static str, count: u64, window: Duration) -> [RateLimit; 1] {
    [RateLimit::new(name, SlidingCounter::new(count, window).expect("the laws use what can be kept"))]
}

/// Turns the clock forward to the beginning of the next window, by its own count.
fn next_window(subject: &Subject, window: Duration) {
    let nanos = u64::try_from(window.as_nanos()).expect("small");
    subject.clock.advance(Duration::from_nanos(nanos - subject.clock.now().as_nanos() % nanos));
}

/// 42 in the last minute, 18 in this one, a quarter of which is over: 42 * 3/4 + 18 = 49.5, rounded up.
pub async fn the_counter_is_the_estimate_of_the_paper(subject: &Subject) {
    let limits = counter("paper", 51, MINUTE);
    next_window(subject, MINUTE);
    assert!(subject.ask(b"paper", 42, &limits).await.allowed());
    subject.clock.advance(MINUTE + 15 * SECOND);
    assert_eq!(subject.ask(b"paper", 18, &limits).await.remaining(), 1);
    assert!(!subject.ask(b"paper", 2, &limits).await.allowed());
    assert!(subject.ask(b"paper", 1, &limits).await.allowed());
    let refused = subject.ask(b"paper", 1, &limits).await;
    // Room for one more when 42 count for 31: after 11/42 of the minute, of which 15 s are over.
    let wait = refused.retry_after().expect("a refusal says when");
    subject.clock.advance(Duration::from_micros(u64::try_from(wait.as_micros()).expect("small")) - MICRO);
    assert!(!subject.ask(b"paper", 1, &limits).await.allowed());
    subject.clock.advance(2 * MICRO);
    assert!(subject.ask(b"paper", 1, &limits).await.allowed());
    assert!(wait.abs_diff(MINUTE * 11 / 42 - 15 * SECOND) < Duration::from_millis(1), "{wait:?}");
}

/// Random histories: nothing is admitted beyond the estimate of the whole history, and nothing
/// refused that is within it by more than its rounding.
pub async fn no_admission_exceeds_the_estimate_nor_any_window_twice_the_limit(subject: &Subject) {
    let mut draw = random();
    for (history, (count, micros)) in [(1, 10), (5, 1_000), (30, 777)].into_iter().enumerate() {
        let window = Duration::from_micros(micros);
        let limits = counter("counter-history", count, window);
        let key = format!("counter-history-{history}").into_bytes();
        let mut taken: Vec<(u64, u64)> = Vec::new();
        let mut admissions = Admissions::default();
        for _ in 0..400 {
            subject.clock.advance(MICRO * u32::try_from(draw(2 * micros / count + 3)).expect("small"));
            let (cost, now) = (1 + draw(count), subject.clock.now().as_nanos() / 1_000);
            let present = now / micros;
            let counted = |number| -> u64 {
                taken.iter().filter(|(at, _)| Some(at / micros) == number).map(|(_, units)| units).sum()
            };
            // In units times the window, exactly.
            let left = micros - now % micros;
            let estimate = counted(present.checked_sub(1)) * left + counted(Some(present)) * micros;
            let allowed = subject.ask(&key, cost, &limits).await.allowed();
            if allowed {
                assert!(estimate + cost * micros <= count * micros, "{estimate} and {cost} of {count}");
                taken.push((now, cost));
                admissions.push(now * 1_000, cost);
            } else {
                assert!(estimate + cost * micros + micros + 1 > count * micros, "{estimate} and {cost} of {count}");
            }
        }
        assert!(admissions.len() > 30, "a history in which little happens shows little: {}", admissions.len());
        assert!(admissions.most_in_any(window) <= 2 * count);
    }
}

/// Who changes the window's length begins with what was estimated until then.
pub async fn the_counts_of_another_length_begin_with_their_estimate(subject: &Subject) {
    let (minute, hour) = (counter("length", 10, MINUTE), counter("length", 10, 60 * MINUTE));
    next_window(subject, 60 * MINUTE);
    assert!(subject.ask(b"length", 8, &minute).await.allowed());
    subject.clock.advance(MINUTE + MINUTE / 2);
    // Half of the eight count still.
    assert_eq!(subject.ask(b"length", 0, &minute).await.remaining(), 6);
    assert_eq!(subject.ask(b"length", 0, &hour).await.remaining(), 6);
    assert_eq!(subject.ask(b"length", 1, &hour).await.remaining(), 5);
    subject.clock.advance(30 * MINUTE);
    assert_eq!(subject.ask(b"length", 0, &hour).await.remaining(), 5);
}

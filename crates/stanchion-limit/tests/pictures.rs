//! The pictures in the docs are drawn by the limiters themselves.

use std::time::Duration;

use stanchion_limit::{CalendarUnit, Limiter, ManualClock, Moment, Quota};

/// What a limiter admits in each of 60 seconds, where everybody asks a hundred times a second from
/// second 6 on: nothing is a dot, ten and more are letters.
fn picture(quota: Quota) -> String {
    let clock = ManualClock::at(Moment::from_nanos(1_799_999_988_000_000_000));
    let limiter = Limiter::builder(quota).clock(clock.clone()).build().unwrap();
    let mut admitted = [0_u32; 60];
    for (second, count) in admitted.iter_mut().enumerate() {
        for _ in 0..100 {
            *count += u32::from(second >= 6 && limiter.check().allowed());
            clock.advance(Duration::from_millis(10));
        }
    }
    admitted
        .into_iter()
        .map(|count| if count == 0 { '·' } else { char::from_digit(count, 36).unwrap_or('#') })
        .collect()
}

#[test]
fn the_pictures_in_the_docs_are_true() {
    let (docs, guide) = (include_str!("../src/quota.rs"), include_str!("../../../docs/guide/limiter.md"));
    let twelve = Duration::from_secs(12);
    let quota = Quota::new(12, twelve);
    let pictures = [
        ("token bucket", quota),
        ("token bucket, burst 3", quota.burst(3)),
        ("strict", quota.strict()),
        ("strict, burst 6", quota.strict().burst(6)),
        ("sliding log", quota.sliding_log()),
        ("sliding counter", quota.sliding_counter()),
        ("fixed window", quota.fixed_window()),
        ("fixed, by the minute", Quota::per_calendar(12, CalendarUnit::Minute)),
    ];
    for (name, quota) in pictures {
        let line = format!("{name:<22}{}", picture(quota));
        println!("{line}");
        assert!(docs.contains(line.trim_end()), "the picture in quota.rs is another:\n{line}");
        assert!(guide.contains(line.trim_end()), "the picture in docs/guide/limiter.md is another:\n{line}");
    }
}

//! Fixed windows, also those of the calendar.

use std::time::Duration;

use stanchion_core::{CalendarUnit, FixedWindow, Moment, RateLimit, Verdict};

use super::{DAY, MICRO, SECOND, Subject, random};
use crate::Admissions;

fn fixed(name: &'static str, count: u64, period: Duration) -> [RateLimit; 1] {
    [RateLimit::new(name, FixedWindow::new(count, period).expect("the laws use what can be kept"))]
}

fn calendar(name: &'static str, count: u64, unit: CalendarUnit) -> [RateLimit; 1] {
    [RateLimit::new(name, FixedWindow::calendar(count, unit).expect("the laws use what can be kept"))]
}

/// Turns the clock forward to a time of day, in microseconds since 1970.
fn advance_to(subject: &Subject, micros: u64) {
    let time = Moment::from_nanos(micros * 1_000);
    subject.clock.advance(time - subject.clock.now());
    assert_eq!(subject.clock.now(), time, "the laws begin before the dates that they are about");
}

/// A window begins when something is taken, not with the clock; and is over exactly then.
pub async fn a_fixed_window_begins_with_an_admission_and_ends_on_time(subject: &Subject) {
    let limits = fixed("fixed", 3, SECOND);
    subject.clock.advance(SECOND / 3);
    assert_eq!(subject.ask(b"fixed", 0, &limits).await.remaining(), 3);
    subject.clock.advance(SECOND / 3);
    assert_eq!(subject.ask(b"fixed", 1, &limits).await.reset_after(), SECOND);
    subject.clock.advance(SECOND / 2);
    assert_eq!(subject.ask(b"fixed", 2, &limits).await.remaining(), 0);
    let refused = subject.ask(b"fixed", 1, &limits).await;
    assert_eq!((refused.retry_after(), refused.next_token_after()), (Some(SECOND / 2), SECOND / 2));
    subject.clock.advance(SECOND / 2 - MICRO);
    assert_eq!(subject.ask(b"fixed", 1, &limits).await.retry_after(), Some(MICRO));
    subject.clock.advance(MICRO);
    let next = subject.ask(b"fixed", 1, &limits).await;
    assert_eq!((next.remaining(), next.reset_after()), (2, SECOND));
}

/// Minutes, hours, days, weeks, months of all lengths, years: each ends when the calendar says so.
pub async fn a_calendar_window_ends_with_its_unit(subject: &Subject) {
    use CalendarUnit::{Day, Hour, Minute, Month, Week, Year};
    // In seconds since 1970: some time in a unit, and when the unit is over. All by `date -u`.
    for (place, (unit, within, end)) in [
        (Month, 1_801_396_800, 1_801_440_000), // 2027-01-31 12:00, 2027-02-01
        (Minute, 1_801_440_001, 1_801_440_060),
        (Hour, 1_801_440_060, 1_801_443_600),
        (Month, 1_803_816_000, 1_803_859_200), // 2027-02-28 12:00, 2027-03-01: 28 days
        (Year, 1_820_000_000, 1_830_297_600),  // 2028-01-01
        (Day, 1_835_395_199, 1_835_395_200),   // 2028-02-28 23:59:59, the 29th
        (Month, 1_835_395_200, 1_835_481_600), // 2028-02-29, 2028-03-01
        (Week, 1_835_481_600, 1_835_913_600),  // Wednesday, Monday the 6th
        (Year, 1_835_913_600, 1_861_920_000),  // 2029-01-01, of a leap year
    ]
    .into_iter()
    .enumerate()
    {
        let limits = calendar("calendar", 2, unit);
        let key = format!("calendar-{place}").into_bytes();
        advance_to(subject, within * 1_000_000);
        let first = subject.ask(&key, 2, &limits).await;
        assert_eq!(first.reset_after(), Duration::from_secs(end - within), "{unit:?} at {within}");
        assert_eq!(subject.ask(&key, 1, &limits).await.retry_after(), Some(first.reset_after()));
        advance_to(subject, end * 1_000_000 - 1);
        assert_eq!(subject.ask(&key, 1, &limits).await.retry_after(), Some(MICRO), "{unit:?} at {within}");
        advance_to(subject, end * 1_000_000);
        assert!(subject.ask(&key, 1, &limits).await.allowed(), "{unit:?} at {within}");
    }
}

/// A clock that was set back over midnight by less than a second doesn't begin the day anew.
pub async fn a_calendar_waits_for_a_clock_that_is_a_little_behind(subject: &Subject) {
    let limits = calendar("midnight", 5, CalendarUnit::Day);
    advance_to(subject, 1_835_395_200_300_000);
    assert!(subject.ask(b"midnight", 3, &limits).await.allowed());
    subject.clock.turn_back(SECOND / 2);
    let before = subject.ask(b"midnight", 1, &limits).await;
    assert_eq!((before.verdict(), before.remaining()), (Verdict::Allowed, 1));
    subject.clock.advance(SECOND);
    assert_eq!(subject.ask(b"midnight", 1, &limits).await.remaining(), 0);
    assert!(!subject.ask(b"midnight", 1, &limits).await.allowed());
    // A day is more than a little.
    subject.clock.turn_back(DAY);
    assert!(!subject.ask(b"midnight", 1, &limits).await.allowed());
    subject.clock.advance(DAY);
    assert!(subject.ask(b"midnight", 5, &limits).await.allowed());
}

/// Random histories: at most the limit in each window, and twice that in any.
pub async fn no_fixed_window_exceeds_its_limit_nor_any_other_twice_that(subject: &Subject) {
    let mut draw = random();
    for (history, (count, micros)) in [(1, 10), (5, 1_000), (30, 777)].into_iter().enumerate() {
        let period = Duration::from_micros(micros);
        let limits = fixed("fixed-history", count, period);
        let key = format!("fixed-history-{history}").into_bytes();
        let mut admissions = Admissions::default();
        let (mut end, mut used) = (0, 0);
        for _ in 0..300 {
            subject.clock.advance(MICRO * u32::try_from(draw(2 * micros / count + 3)).expect("small"));
            let (cost, now) = (1 + draw(count), subject.clock.now().as_nanos());
            // Windows follow one another, each begun by what is taken first.
            if now >= end {
                (end, used) = (now + micros * 1_000, 0);
            }
            let allowed = subject.ask(&key, cost, &limits).await.allowed();
            assert_eq!(allowed, used + cost <= count);
            if allowed {
                used += cost;
                admissions.push(now, cost);
            }
        }
        assert!(admissions.len() > 30, "a history in which little happens shows little: {}", admissions.len());
        assert!(admissions.most_in_any(period) <= 2 * count);
    }
}

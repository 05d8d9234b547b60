//! Units that are given back.

use std::time::Duration;

use stanchion_core::{RateRule, Receipt};

use super::{DAY, MICRO, SECOND, Subject, each_rule, random};
use crate::Admissions;

/// What was taken and is given back at once is there again: all of it, or a part, from the middle, too.
pub async fn what_is_given_back_is_there_again(subject: &Subject) {
    for (key, limits) in each_rule("back", 9, 90 * SECOND) {
        let (_, first) = subject.reserve(&key, 3, &limits).await;
        let (_, second) = subject.reserve(&key, 4, &limits).await;
        let (_, third) = subject.reserve(&key, 2, &limits).await;
        assert_eq!([&first, &second, &third].map(Receipt::units), [3, 4, 2]);
        let (refused, nothing) = subject.reserve(&key, 1, &limits).await;
        assert_eq!((refused.allowed(), nothing.units()), (false, 0));
        assert_eq!(subject.give_back(&key, 5, &limits, &nothing).await, 0, "{limits:?}");
        let left = || async { subject.ask(&key, 0, &limits).await.remaining() };
        assert_eq!(subject.give_back(&key, 1, &limits, &second).await, 1, "{limits:?}");
        assert_eq!(left().await, 1, "{limits:?}");
        assert_eq!(subject.give_back(&key, 2, &limits, &third).await, 2, "{limits:?}");
        assert_eq!(left().await, 3, "{limits:?}");
        assert!(subject.ask(&key, 3, &limits).await.allowed(), "{limits:?}");
        assert!(!subject.ask(&key, 1, &limits).await.allowed(), "{limits:?}");
    }
}

/// More than was taken is as much as was taken, and a second time it is nothing; whoever asked in between.
pub async fn nothing_comes_back_twice(subject: &Subject) {
    for (key, limits) in each_rule("twice", 9, 90 * SECOND) {
        assert!(subject.ask(&key, 5, &limits).await.allowed());
        let (_, receipt) = subject.reserve(&key, 3, &limits).await;
        assert!(subject.ask(&key, 1, &limits).await.allowed());
        assert_eq!(subject.give_back(&key, u64::MAX, &limits, &receipt).await, 3, "{limits:?}");
        assert_eq!(subject.give_back(&key, 3, &limits, &receipt).await, 0, "{limits:?}");
        assert_eq!(subject.ask(&key, 0, &limits).await.remaining(), 3, "{limits:?}");
    }
}

/// Given back in parts it is worth no less.
pub async fn a_receipt_in_parts_is_worth_as_much_as_in_one(subject: &Subject) {
    for (key, limits) in each_rule("parts", 9, 90 * SECOND) {
        let (_, receipt) = subject.reserve(&key, 6, &limits).await;
        assert_eq!(subject.give_back(&key, 1, &limits, &receipt).await, 1, "{limits:?}");
        assert_eq!(subject.give_back(&key, 2, &limits, &receipt).await, 2, "{limits:?}");
        assert_eq!(subject.give_back(&key, 9, &limits, &receipt).await, 3, "{limits:?}");
        assert_eq!(subject.ask(&key, 0, &limits).await.remaining(), 9, "{limits:?}");
    }
}

/// What has come back by itself does not come back again: others' units stay taken.
pub async fn a_stale_receipt_lifts_nothing(subject: &Subject) {
    for pause in [200, 91] {
        for (key, limits) in each_rule(&format!("stale-{pause}"), 9, 90 * SECOND) {
            let (_, receipt) = subject.reserve(&key, 9, &limits).await;
            subject.clock.advance(pause * SECOND);
            let others = subject.ask(&key, 0, &limits).await.remaining();
            assert!(subject.ask(&key, others, &limits).await.allowed());
            subject.give_back(&key, 9, &limits, &receipt).await;
            // A counter's last window still counts in part, and that part may come back.
            if pause == 200 || !matches!(limits[0].rule(), RateRule::SlidingCounter(_)) {
                assert!(!subject.ask(&key, 1, &limits).await.allowed(), "{limits:?}");
            }
        }
    }
}

/// A clock that has stepped back makes receipts of before worthless.
pub async fn a_receipt_from_before_a_cut_lifts_nothing(subject: &Subject) {
    subject.clock.advance(3 * DAY);
    for (key, limits) in each_rule("before-cut", 9, 90 * SECOND) {
        let (_, receipt) = subject.reserve(&key, 5, &limits).await;
        subject.clock.turn_back(DAY);
        assert!(!subject.ask(&key, 1, &limits).await.allowed(), "{limits:?}");
        subject.give_back(&key, 5, &limits, &receipt).await;
        assert!(!subject.ask(&key, 1, &limits).await.allowed(), "{limits:?}");
        subject.clock.advance(DAY);
    }
}

/// Random histories in which much is given back, soon, late, in parts, or not at all: what was really
/// used keeps each rule's bound in any window.
pub async fn no_window_exceeds_the_bound_whatever_is_given_back(subject: &Subject) {
    let mut draw = random();
    for (history, (count, micros)) in [(1, 10), (5, 1_000), (30, 780)].into_iter().enumerate() {
        let window = Duration::from_micros(micros);
        for (key, limits) in each_rule(&format!("back-history-{history}"), count, window) {
            let mut used: Vec<(u64, u64)> = Vec::new();
            let mut receipts: Vec<(usize, Receipt)> = Vec::new();
            let mut given_back = 0;
            for _ in 0..400 {
                subject.clock.advance(MICRO * u32::try_from(draw(2 * micros / count + 3)).expect("small"));
                if draw(3) > 0 || receipts.is_empty() {
                    let (decision, receipt) = subject.reserve(&key, 1 + draw(count), &limits).await;
                    if decision.allowed() {
                        receipts.push((used.len(), receipt));
                        used.push((subject.clock.now().as_nanos(), decision.granted()));
                    }
                } else {
                    // Mostly a late one, and sometimes any that there ever was.
                    let most = u64::try_from(receipts.len()).expect("some hundreds");
                    let back = if draw(4) > 0 { draw(most.min(3)) } else { draw(most) };
                    let (place, receipt) = &receipts[receipts.len() - 1 - usize::try_from(back).expect("small")];
                    let units = 1 + draw(count);
                    given_back += subject.give_back(&key, units, &limits, receipt).await;
                    used[*place].1 = used[*place].1.saturating_sub(units);
                }
            }
            assert!(used.len() > 30 && given_back > 15, "{} and {given_back}, {limits:?}", used.len());
            let mut admissions = Admissions::default();
            used.into_iter().for_each(|(at, units)| admissions.push(at, units));
            match limits[0].rule() {
                RateRule::TokenBucket(_) => admissions.assert_bound(count, window, count),
                RateRule::SlidingLog(_) => assert!(admissions.most_in_any(window) <= count, "{limits:?}"),
                _ => assert!(admissions.most_in_any(window) <= 2 * count, "{limits:?}"),
            }
        }
    }
}

//! What holds for every rule alike: ways of asking, and limits that change.

use std::time::Duration;

use stanchion_core::{Ask, FixedWindow, RateLimit, RateRule, SlidingCounter, SlidingLog, TokenBucket, Verdict};

use super::{MICRO, SECOND, Subject, each_rule, of_all_rules};

/// Of each rule the count is there at once, and no more; to look takes nothing.
pub async fn an_empty_limit_of_each_rule_gives_its_count(subject: &Subject) {
    for (key, limits) in each_rule("count", 4, 8 * SECOND) {
        let look = subject.ask(&key, 0, &limits).await;
        assert_eq!((look.limit(), look.remaining(), look.reset_after()), (4, 4, Duration::ZERO), "{limits:?}");
        assert_eq!((look.next_token_after(), look.window()), (Duration::ZERO, 8 * SECOND), "{limits:?}");
        assert_eq!(subject.ask(&key, 5, &limits).await.verdict(), Verdict::NeverFits, "{limits:?}");
        for left in [3, 2, 1, 0] {
            let taken = subject.ask(&key, 1, &limits).await;
            assert_eq!((taken.granted(), taken.remaining()), (1, left), "{limits:?}");
        }
        let refused = subject.ask(&key, 1, &limits).await;
        assert_eq!((refused.verdict(), refused.granted()), (Verdict::Refused, 0), "{limits:?}");
    }
}

/// A microsecond before a refusal said it is over, it is not; then it is, unless somebody else asked.
pub async fn a_refusal_of_each_rule_is_over_exactly_when_it_says(subject: &Subject) {
    for cost in [1, 3, 8] {
        for (key, limits) in each_rule(&format!("wait-{cost}"), 8, 8 * SECOND) {
            for _ in 0..4 {
                assert!(subject.ask(&key, 2, &limits).await.allowed());
                subject.clock.advance(SECOND / 16);
            }
            if subject.ask(&key, cost, &limits).await.allowed() {
                continue;
            }
            let wait = subject.ask(&key, cost, &limits).await.retry_after().expect("a refusal says when");
            // The next whole microsecond, the finest of the store's clock.
            let whole = Duration::from_micros(u64::try_from(wait.as_nanos().div_ceil(1_000)).expect("small"));
            subject.clock.advance(whole - MICRO);
            assert!(!subject.ask(&key, cost, &limits).await.allowed(), "{limits:?}");
            subject.clock.advance(MICRO);
            assert!(subject.ask(&key, cost, &limits).await.allowed(), "{limits:?}");
        }
    }
}

/// A request for up to so many takes what is there, and is refused only if there is nothing.
pub async fn up_to_takes_what_is_there(subject: &Subject) {
    for (key, limits) in each_rule("up-to", 5, 60 * SECOND) {
        let ask = |units| subject.ask_as(&key, units, &limits, Ask::UpTo);
        assert_eq!(ask(2).await.granted(), 2, "{limits:?}");
        let rest = ask(u64::MAX).await;
        assert_eq!((rest.allowed(), rest.granted(), rest.remaining()), (true, 3, 0), "{limits:?}");
        let none = ask(7).await;
        assert_eq!((none.verdict(), none.granted()), (Verdict::Refused, 0), "{limits:?}");
        // It waits for one unit, however many it would take.
        assert_eq!(none.retry_after(), Some(none.next_token_after()), "{limits:?}");
        let look = ask(0).await;
        assert!(look.allowed() && look.granted() == 0, "{limits:?}");
    }
}

/// To overdraw takes more than is there, up to the overdraft; others wait until it is paid off.
pub async fn to_overdraw_goes_into_debt_and_no_further(subject: &Subject) {
    let window = 60 * SECOND;
    let kept = "the laws use what can be kept";
    let rules: [RateRule; 4] = [
        TokenBucket::new(6, window, 6).and_then(|rule| rule.overdraft(4)).expect(kept).into(),
        FixedWindow::new(6, window).and_then(|rule| rule.overdraft(4)).expect(kept).into(),
        SlidingCounter::new(6, window).and_then(|rule| rule.overdraft(4)).expect(kept).into(),
        SlidingLog::new(6, window).and_then(|rule| rule.overdraft(4)).expect(kept).into(),
    ];
    for (place, rule) in rules.into_iter().enumerate() {
        let (key, limits) = (format!("overdraw-{place}").into_bytes(), [RateLimit::new("overdraft", rule)]);
        let overdraw = |units| subject.ask_as(&key, units, &limits, Ask::Overdraw);
        assert_eq!(subject.ask(&key, 4, &limits).await.remaining(), 2, "{rule:?}");
        // Neither of these may go into debt.
        assert!(!subject.ask(&key, 3, &limits).await.allowed(), "{rule:?}");
        assert_eq!(overdraw(11).await.verdict(), Verdict::NeverFits, "{rule:?}");
        let over = overdraw(5).await;
        assert_eq!((over.allowed(), over.granted(), over.remaining()), (true, 5, 0), "{rule:?}");
        assert_eq!(overdraw(2).await.verdict(), Verdict::Refused, "{rule:?}");
        assert!(overdraw(1).await.allowed(), "{rule:?}");
        // The debt is not forgiven by those who only ask: it is paid off in time.
        let refused = subject.ask(&key, 1, &limits).await;
        assert_eq!((refused.verdict(), refused.remaining()), (Verdict::Refused, 0), "{rule:?}");
        assert!(subject.ask_as(&key, 1, &limits, Ask::UpTo).await.retry_after() == refused.retry_after(), "{rule:?}");
        let wait = refused.retry_after().expect("a refusal says when");
        if place == 0 {
            assert_eq!(wait, 50 * SECOND);
        }
        subject.clock.advance(wait - SECOND);
        assert!(!subject.ask(&key, 1, &limits).await.allowed(), "{rule:?}");
        subject.clock.advance(SECOND + MICRO);
        assert!(subject.ask(&key, 1, &limits).await.allowed(), "{rule:?}");
    }
}

/// A limit of one name whose algorithm is changed begins with nothing used.
pub async fn another_algorithm_begins_afresh(subject: &Subject) {
    let rules = of_all_rules(3, 60 * SECOND);
    for before in 0..rules.len() {
        for after in (0..rules.len()).filter(|after| *after != before) {
            let key = format!("algorithm-{before}-{after}").into_bytes();
            let limit = |place: usize| [RateLimit::new("algorithm", rules[place])];
            assert!(subject.ask(&key, 3, &limit(before)).await.allowed());
            assert!(subject.ask(&key, 3, &limit(after)).await.allowed(), "{before} to {after}");
            assert!(!subject.ask(&key, 1, &limit(after)).await.allowed());
        }
    }
}

/// What was taken before a limit was lowered or raised is not forgotten.
pub async fn what_was_taken_counts_under_a_changed_limit(subject: &Subject) {
    let (low, high) = (of_all_rules(4, 60 * SECOND), of_all_rules(10, 60 * SECOND));
    for place in 0..low.len() {
        let [low, high] = [low, high].map(|rules| [RateLimit::new("changed", rules[place])]);
        let key = format!("raised-{place}").into_bytes();
        assert!(subject.ask(&key, 4, &low).await.allowed());
        let raised = subject.ask(&key, 0, &high).await.remaining();
        // A bucket owes time: four of its intervals were fifteen seconds each, and are now six.
        assert_eq!(raised, if place == 0 { 0 } else { 6 }, "{high:?}");
        let key = format!("lowered-{place}").into_bytes();
        assert!(subject.ask(&key, 9, &high).await.allowed());
        let lowered = subject.ask(&key, 1, &low).await;
        assert_eq!((lowered.allowed(), lowered.remaining()), (false, 0), "{low:?}");
        subject.clock.advance(120 * SECOND);
        assert!(subject.ask(&key, 4, &low).await.allowed(), "{low:?}");
    }
}

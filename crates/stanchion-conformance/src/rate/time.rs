//! Clocks that step.

use stanchion_core::Verdict;

use super::{DAY, MICRO, SECOND, Subject, each_rule};

/// A clock that steps back by less than a second lengthens the waits by as much, and changes nothing else.
pub async fn a_clock_that_is_a_little_behind_is_waited_for(subject: &Subject) {
    // Away from the edges of the clock's own windows.
    subject.clock.advance(20 * SECOND);
    for (key, limits) in each_rule("behind", 4, 60 * SECOND) {
        assert!(subject.ask(&key, 4, &limits).await.allowed());
        let wait = subject.ask(&key, 1, &limits).await.retry_after().expect("a refusal says when");
        subject.clock.turn_back(SECOND / 2);
        let after = subject.ask(&key, 1, &limits).await;
        assert_eq!((after.verdict(), after.remaining()), (Verdict::Refused, 0), "{limits:?}");
        assert_eq!(after.retry_after(), Some(wait + SECOND / 2), "{limits:?}");
        subject.clock.advance(wait + SECOND / 2 - MICRO);
        assert!(!subject.ask(&key, 1, &limits).await.allowed(), "{limits:?}");
        subject.clock.advance(MICRO);
        assert!(subject.ask(&key, 1, &limits).await.allowed(), "{limits:?}");
        subject.clock.advance(120 * SECOND);
        assert!(subject.ask(&key, 4, &limits).await.allowed(), "{limits:?}");
    }
}

/// After a step back by a day a limit is used up, whatever was left of it, and comes back by itself.
pub async fn a_state_of_the_far_future_is_cut(subject: &Subject) {
    subject.clock.advance(3 * DAY);
    for (key, limits) in each_rule("far", 4, 60 * SECOND) {
        assert!(subject.ask(&key, 1, &limits).await.allowed());
        subject.clock.turn_back(DAY);
        let cut = subject.ask(&key, 1, &limits).await;
        assert_eq!((cut.verdict(), cut.remaining()), (Verdict::Refused, 0), "{limits:?}");
        let wait = cut.retry_after().expect("a refusal says when");
        assert!(wait <= 120 * SECOND, "{wait:?}, {limits:?}");
        assert!(!subject.ask(&key, 1, &limits).await.allowed(), "{limits:?}");
        subject.clock.advance(120 * SECOND);
        let after = subject.ask(&key, 4, &limits).await;
        assert_eq!((after.verdict(), after.remaining()), (Verdict::Allowed, 0), "{limits:?}");
        subject.clock.advance(DAY);
    }
}

/// A request of no cost says how things stand, however strange, and leaves them so.
pub async fn a_look_cuts_nothing(subject: &Subject) {
    subject.clock.advance(3 * DAY);
    for (key, limits) in each_rule("look-ahead", 4, 60 * SECOND) {
        assert!(subject.ask(&key, 1, &limits).await.allowed());
        subject.clock.turn_back(DAY);
        let look = subject.ask(&key, 0, &limits).await;
        assert!(look.allowed() && look.reset_after() > DAY - SECOND, "{look:?}, {limits:?}");
        subject.clock.advance(DAY);
        assert_eq!(subject.ask(&key, 1, &limits).await.remaining(), 2, "{limits:?}");
    }
}

/// A step forward is time that has passed.
pub async fn after_a_day_all_is_there(subject: &Subject) {
    for (key, limits) in each_rule("forward", 4, 60 * SECOND) {
        assert!(subject.ask(&key, 4, &limits).await.allowed());
        subject.clock.advance(DAY);
        assert_eq!(subject.ask(&key, 0, &limits).await.remaining(), 4, "{limits:?}");
        assert!(subject.ask(&key, 4, &limits).await.allowed(), "{limits:?}");
    }
}

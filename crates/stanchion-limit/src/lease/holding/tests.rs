//! The pure part of leasing, case by case.

use super::*;

const MILLI: Duration = Duration::from_millis(1);

fn at(millis: u64) -> Moment {
    Moment::from_nanos(1_000_000 * millis)
}

/// A hundred at once, one more each millisecond.
fn bucket() -> TokenBucket {
    TokenBucket::new(1, MILLI, 100).unwrap()
}

/// Batches of up to fifty.
fn config() -> LeaseConfig {
    LeaseConfig::default().share(50)
}

fn owing(units: u64) -> Decision {
    Decision::allowed_by(&bucket(), units * bucket().interval())
}

fn refusing(units: u64, debt: u64) -> Decision {
    Decision::refused_by(&bucket(), debt * bucket().interval(), units * bucket().interval())
}

fn question(cost: u64, units: u64, asked: Moment, before: u8) -> Question {
    Question { bucket: bucket(), cost, units, asked, before, salt: 7 }
}

fn refused(answered: &Answered) -> Duration {
    match answered {
        Answered::Decided(decision) => decision.retry_after().unwrap(),
        Answered::Again(_) => unreachable!("{answered:?}"),
    }
}

#[test]
fn what_does_not_fit_is_asked_for_by_what_is_left_then_by_what_must_be_then_no_more() {
    let mut holding = Holding::new(&bucket(), at(0));
    let asked = |units, before| question(2, units, at(0), before);
    assert_eq!(holding.answered(&config(), &asked(50, 0), at(0), refusing(50, 70)), Answered::Again(30));
    assert_eq!(holding.answered(&config(), &asked(30, 1), at(0), refusing(30, 80)), Answered::Again(2));
    let last = holding.answered(&config(), &asked(2, 2), at(0), refusing(2, 99));
    assert_eq!(refused(&last), MILLI);
    // Less than the cost is left: another question would be in vain.
    let last = holding.answered(&config(), &asked(50, 0), at(0), refusing(50, 99));
    assert_eq!(refused(&last), MILLI);
}

/// The trip took 5 ms, and nobody knows when in them the store decided: it refuses
/// no longer than for the earliest, and says the latest.
#[test]
fn a_trips_time_is_neither_waited_for_nor_promised() {
    let mut holding = Holding::new(&bucket(), at(0));
    let answered = holding.answered(&config(), &question(1, 1, at(0), 0), at(5), refusing(1, 109));
    assert_eq!(refused(&answered), 10 * MILLI);
    let Course::Decided(decision) = holding.course(&config(), &bucket(), at(9), 1, 0) else { unreachable!() };
    assert_eq!(decision.retry_after(), Some(6 * MILLI));
    assert_eq!(holding.course(&config(), &bucket(), at(10), 1, 0), Course::Ask(1));
}

/// By each nanosecond's half: an interval of a third of a microsecond.
#[test]
fn whoever_comes_back_when_told_is_not_told_to_wait_for_a_rounding() {
    let bucket = TokenBucket::new(3, Duration::from_micros(1), 3).unwrap();
    let mut holding = Holding::new(&bucket, at(0));
    let refusal = Decision::refused_by(&bucket, bucket.capacity(), bucket.interval());
    let question = Question { bucket, cost: 1, units: 1, asked: at(0), before: 0, salt: 7 };
    let wait = refused(&holding.answered(&config(), &question, at(0), refusal));
    assert_eq!(wait, Duration::from_nanos(334));
    assert_eq!(holding.course(&config(), &bucket, at(0) + (wait - NANO), 1, 0), Course::Ask(1));
    let early = at(0) + (wait - 2 * NANO);
    assert!(matches!(holding.course(&config(), &bucket, early, 1, 0), Course::Decided(_)));
}

#[test]
fn a_key_in_demand_rests_for_a_batch_or_a_target_and_another_as_long_as_it_must() {
    let rest = |checks: u64, salt| {
        let mut holding = Holding::new(&bucket(), at(0));
        holding.note(&config(), &bucket(), at(0), checks);
        let refusal =
            holding.answered(&config(), &Question { salt, ..question(1, 1, at(0), 0) }, at(0), refusing(1, 100));
        let told = refused(&refusal);
        let mut course = |after| holding.course(&config(), &bucket(), at(0) + after, 1, 0);
        assert!(matches!(course(told - 2 * NANO), Course::Decided(_)) && matches!(course(told), Course::Ask(_)));
        told
    };
    for salt in 0..100 {
        assert!(rest(1, salt).abs_diff(MILLI) <= NANO && rest(10, salt).abs_diff(10 * MILLI) <= NANO);
        assert!((11 * MILLI - NANO..31 * MILLI).contains(&rest(50, salt)));
    }
    let (short, long): (Vec<_>, Vec<_>) = (0..100).map(|salt| rest(50, salt)).partition(|rest| *rest < 21 * MILLI);
    assert!(short.len() > 30 && long.len() > 30, "some sooner, some later");
    assert!(short.iter().min() < Some(&(12 * MILLI)) && long.iter().max() > Some(&(30 * MILLI)));
}

#[test]
fn another_quota_keeps_what_is_held_and_forgets_what_is_known() {
    let mut holding = Holding::new(&bucket(), at(0));
    holding.note(&config(), &bucket(), at(0), 1);
    holding.answered(&config(), &question(1, 10, at(0), 0), at(0), owing(100));
    let other = TokenBucket::new(1, MILLI, 200).unwrap();
    holding.note(&config(), &other, at(1), 9);
    assert!(matches!(holding.course(&config(), &other, at(1), 9, 0), Course::Decided(decision) if decision.allowed()));
    assert!(matches!(holding.course(&config(), &other, at(1), 9, 0), Course::Ask(_)));
}

#[test]
fn demand_is_that_of_a_targets_time() {
    let mut holding = Holding::new(&bucket(), at(0));
    let wanted = |holding: &mut Holding, now: u64, checks: u64| {
        holding.note(&config(), &bucket(), at(now), checks);
        match holding.course(&config(), &bucket(), at(now), 1, 0) {
            Course::Ask(units) => units,
            decided @ Course::Decided(_) => unreachable!("{decided:?}"),
        }
    };
    assert_eq!(wanted(&mut holding, 0, 30), 30);
    assert_eq!(wanted(&mut holding, 20, 1), 30, "as in the 20 ms before");
    assert_eq!(wanted(&mut holding, 39, 44), 45);
    assert_eq!(wanted(&mut holding, 120, 1), 9, "45 in 100 ms");
    assert_eq!(wanted(&mut holding, 9_000, 1), 1);
    // And for those who wait, however long ago they came.
    assert!(matches!(holding.course(&config(), &bucket(), at(9_000), 1, 20), Course::Ask(21)));
}

#[test]
fn a_decision_without_the_store_is_handed_on_and_leases_nothing() {
    let mut holding = Holding::new(&bucket(), at(0));
    for answer in [owing(10).as_degraded(), Decision::keys_full(bucket(), Duration::from_nanos(7))] {
        let answered = holding.answered(&config(), &question(1, 10, at(0), 0), at(0), answer);
        assert_eq!(answered, Answered::Decided(answer));
        assert_eq!(holding.held(at(0)), 0);
    }
}

#[test]
fn of_two_batches_the_greater_stays() {
    for (first, second, left) in [(20, 10, 18), (10, 20, 20)] {
        let mut holding = Holding::new(&bucket(), at(0));
        holding.put(0, first, at(0), at(50));
        holding.put(2, second, at(0), at(50));
        assert_eq!(holding.held(at(0)), left, "never more than both, less what is used");
    }
}

#[test]
fn a_batch_that_comes_too_late_leaves_what_is_held() {
    let mut holding = Holding::new(&bucket(), at(0));
    holding.put(0, 5, at(40), at(90));
    holding.put(2, 20, at(50), at(50));
    assert_eq!((holding.held(at(50)), holding.held(at(89)), holding.held(at(90))), (5, 5, 0));
}

#[test]
fn a_holding_matters_while_it_holds_knows_or_counts_something() {
    let resting = |now| !Holding::new(&bucket(), at(0)).matters(&config(), now);
    assert!(!resting(at(39)) && resting(at(40)));
    let mut held = Holding::new(&bucket(), at(0));
    held.put(0, 5, at(0), at(50));
    assert!(held.matters(&config(), at(49)) && !held.matters(&config(), at(50)));
    let mut known = Holding::new(&bucket(), at(0));
    known.answered(&config(), &question(1, 1, at(0), 0), at(0), owing(90));
    assert!(known.matters(&config(), at(89)) && !known.matters(&config(), at(90)));
}

/// Batches that were out of time when they came would be lost, each.
#[test]
fn a_store_that_is_slower_than_a_lease_lasts_is_asked_for_each_check() {
    let mut holding = Holding::new(&bucket(), at(0));
    (0..30).for_each(|_| holding.note(&config(), &bucket(), at(0), 1));
    holding.answered(&config(), &question(1, 30, at(0), 0), at(50), owing(30));
    assert_eq!(holding.held(at(50)), 0);
    (0..30).for_each(|_| holding.note(&config(), &bucket(), at(50), 1));
    assert!(!holding.has_batches(&config(), &bucket(), 1));
    assert_eq!(holding.course(&config(), &bucket(), at(50), 1, 5), Course::Ask(1));
    // Until it is fast again.
    holding.answered(&config(), &question(1, 1, at(50), 0), at(51), owing(31));
    assert!(matches!(holding.course(&config(), &bucket(), at(51), 1, 5), Course::Ask(units) if units > 10));
}

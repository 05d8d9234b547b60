//! Units that are taken and given back: the bound holds whatever comes back, when and by how
//! many; and with nobody else about it is as if they had not been taken.

use std::time::Duration;

use proptest::prelude::*;
use stanchion_conformance::Admissions;
use stanchion_limit::{KeyedLimiter, Limiter, ManualClock, Moment, Quota, RateAlgorithm, Reservation};

/// One step of a history.
#[derive(Debug, Clone, Copy)]
enum Step {
    Check(u64),
    Charge(u64),
    Reserve(u64),
    /// Settles the so-many-th open reservation, keeping this share of it in 255ths.
    Settle(prop::sample::Index, u8),
}

fn histories() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let pause = prop_oneof![4 => Just(0), 3 => 0..600_u64, 2 => 0..3_000_u64, 1 => 0..60_000_u64];
    let step = prop_oneof![
        3 => (1..12_u64).prop_map(Step::Check),
        1 => (1..14_u64).prop_map(Step::Charge),
        4 => (1..12_u64).prop_map(Step::Reserve),
        4 => (any::<prop::sample::Index>(), prop_oneof![Just(0), Just(255), any::<u8>()])
            .prop_map(|(which, share)| Step::Settle(which, share)),
    ];
    prop::collection::vec((pause, step), 1..150)
}

/// A limiter of either kind.
enum Subject {
    Direct(Limiter),
    Keyed(KeyedLimiter<u8>),
}

impl Subject {
    fn check(&self, cost: u64) -> bool {
        match self {
            Self::Direct(limiter) => limiter.check_n(cost).allowed(),
            Self::Keyed(limiter) => limiter.check_n(&1, cost).allowed(),
        }
    }

    fn charge(&self, cost: u64) -> bool {
        match self {
            Self::Direct(limiter) => limiter.charge(cost).allowed(),
            Self::Keyed(limiter) => limiter.charge(&1, cost).allowed(),
        }
    }

    fn reserve(&self, units: u64) -> Option<Reservation<'_>> {
        match self {
            Self::Direct(limiter) => limiter.reserve(units).ok(),
            Self::Keyed(limiter) => limiter.reserve(&1, units).ok(),
        }
    }

    fn remaining(&self) -> u64 {
        match self {
            Self::Direct(limiter) => limiter.peek().remaining(),
            Self::Keyed(limiter) => limiter.peek(&1).remaining(),
        }
    }
}

/// The three executors: one number, the table, the ledger.
fn subjects(quota: Quota, clock: &ManualClock) -> [Subject; 3] {
    [
        Subject::Direct(Limiter::builder(quota).clock(clock.clone()).build().unwrap()),
        Subject::Keyed(KeyedLimiter::builder(quota).clock(clock.clone()).build().unwrap()),
        Subject::Keyed(KeyedLimiter::builder(quota).changeable().clock(clock.clone()).build().unwrap()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// What is kept counts from when it was taken.
    #[test]
    fn no_window_exceeds_the_bound(count in 1..10_u64, nanos in 100..2_000_u64, burst in 1..12_u64, history in histories()) {
        let period = Duration::from_nanos(nanos);
        let quota = Quota::new(count, period).burst(burst).overdraft(3);
        for kind in 0..3 {
            let clock = ManualClock::new();
            let subject = &subjects(quota, &clock)[kind];
            let mut admissions = Admissions::default();
            let mut open: Vec<(u64, Reservation<'_>)> = Vec::new();
            for (pause, step) in &history {
                clock.advance(Duration::from_nanos(*pause));
                let now = clock.now().as_nanos();
                match *step {
                    Step::Check(cost) if subject.check(cost) => admissions.push(now, cost),
                    Step::Charge(cost) if subject.charge(cost) => admissions.push(now, cost),
                    Step::Reserve(units) => open.extend(subject.reserve(units).map(|reservation| (now, reservation))),
                    Step::Settle(which, share) if !open.is_empty() => {
                        let (taken, reservation) = open.swap_remove(which.index(open.len()));
                        let (units, before) = (reservation.units(), subject.remaining());
                        let kept = units * u64::from(share) / 255;
                        let back = reservation.keep_only(kept).unwrap();
                        prop_assert!(back <= units - kept);
                        prop_assert!(subject.remaining() <= before + (units - kept));
                        admissions.push(taken, kept);
                    }
                    _ => {}
                }
            }
            for (taken, reservation) in open {
                admissions.push(taken, reservation.units());
                reservation.keep();
            }
            let broken = admissions.broken_window(count, period, burst + 3);
            prop_assert!(broken.is_none(), "{kind}: {broken:?}");
        }
    }

    /// The same where part of the burst lies in reservoirs: single checks from those, all else in
    /// portions that come to the end of the burst.
    #[test]
    fn no_window_exceeds_a_generous_bound(history in histories(), nanos in 50..2_000_u64) {
        let period = Duration::from_nanos(nanos);
        let quota = Quota::new(1, period).burst(4_096).overdraft(900);
        let clock = ManualClock::new();
        let limiter = Limiter::builder(quota).clock(clock.clone()).build().unwrap();
        let mut admissions = Admissions::default();
        let mut open: Vec<(u64, Reservation<'_>)> = Vec::new();
        for (pause, step) in history {
            clock.advance(Duration::from_nanos(pause * 40));
            let now = clock.now().as_nanos();
            match step {
                Step::Check(count) => {
                    let admitted = (0..count * 7).filter(|_| limiter.check().allowed()).count();
                    admissions.push(now, admitted as u64);
                }
                Step::Charge(cost) => admissions.push(now, limiter.charge(cost * 300).granted()),
                Step::Reserve(units) => open.extend(limiter.reserve(units * 300).ok().map(|reservation| (now, reservation))),
                Step::Settle(which, share) if !open.is_empty() => {
                    let (taken, reservation) = open.swap_remove(which.index(open.len()));
                    let kept = reservation.units() * u64::from(share) / 255;
                    reservation.keep_only(kept).unwrap();
                    admissions.push(taken, kept);
                }
                Step::Settle(..) => admissions.push(now, limiter.take_up_to(700).granted()),
            }
        }
        for (taken, reservation) in open {
            admissions.push(taken, reservation.units());
            reservation.keep();
        }
        let broken = admissions.broken_window(1, period, 4_096 + 900);
        prop_assert!(broken.is_none(), "{broken:?}");
    }

    /// With nobody else about, what was given back was never taken.
    #[test]
    fn alone_it_is_as_if_it_had_not_been_taken(
        count in 1..10_u64, nanos in 100..2_000_u64, burst in 1..12_u64,
        before in prop::collection::vec((0..1_000_u64, 1..6_u64), 0..6), units in 1..12_u64,
        kept in 0..12_u64, pauses in (0..3_000_u64, 0..3_000_u64),
    ) {
        let quota = Quota::new(count, Duration::from_nanos(nanos)).burst(burst);
        for kind in 0..3 {
            let (with, without) = (ManualClock::new(), ManualClock::new());
            let (subject, other) = (&subjects(quota, &with)[kind], &subjects(quota, &without)[0]);
            for (pause, cost) in &before {
                with.advance(Duration::from_nanos(*pause));
                without.advance(Duration::from_nanos(*pause));
                prop_assert_eq!(subject.check(*cost), other.check(*cost));
            }
            let Some(reservation) = subject.reserve(units) else { continue };
            let kept = kept.min(units);
            prop_assert!(other.check(kept));
            with.advance(Duration::from_nanos(pauses.0));
            without.advance(Duration::from_nanos(pauses.0 + pauses.1));
            reservation.keep_only(kept).unwrap();
            with.advance(Duration::from_nanos(pauses.1));
            // In a slot of the table a tick of debt is left, for a unit that has come back just now.
            let slack = u64::from(kind == 1 && pauses.1 == 0);
            prop_assert!(subject.remaining() + slack >= other.remaining(), "{kind}");
            prop_assert!(subject.remaining() <= other.remaining(), "{kind}");
        }
    }

    /// Counts and logs give back exactly what was not used, while it counts.
    #[test]
    fn windows_give_back_exactly(
        log in any::<bool>(), limit in 1..20_u64, units in 1..20_u64, kept in 0..20_u64,
        others in prop::collection::vec(0..4_u64, 0..5), pause in 0..900_u64,
    ) {
        let algorithm = if log { RateAlgorithm::SlidingLog } else { RateAlgorithm::FixedWindow };
        let quota = Quota::new(limit, Duration::from_micros(1)).by(algorithm);
        let clock = ManualClock::at(Moment::from_nanos(1 << 40));
        for subject in &subjects(quota, &clock)[..] {
            let Some(reservation) = subject.reserve(units) else { continue };
            for other in &others {
                clock.advance(Duration::from_nanos(10));
                subject.check(*other);
            }
            clock.advance(Duration::from_nanos(pause));
            let (before, kept) = (subject.remaining(), kept.min(units));
            prop_assert_eq!(reservation.keep_only(kept).unwrap(), units - kept);
            prop_assert_eq!(subject.remaining(), before + units - kept);
            clock.advance(Duration::from_micros(5));
        }
    }
}

#[test]
fn a_reservation_that_is_dropped_gives_all_back() {
    let clock = ManualClock::new();
    for subject in subjects(Quota::per_second(10), &clock) {
        drop(subject.reserve(7).unwrap());
        // The table leaves a tick of debt, for as long as the clock stands still.
        clock.advance(Duration::from_nanos(1));
        assert_eq!(subject.remaining(), 10);
        subject.reserve(7).unwrap().keep();
        assert_eq!(subject.remaining(), 3);
        assert!(subject.reserve(4).is_none());
        clock.advance(Duration::from_secs(1));
    }
}

#[test]
fn more_than_was_taken_is_an_error_and_all_of_it_is_used() {
    let clock = ManualClock::new();
    let limiter = Limiter::builder(Quota::per_second(10)).clock(clock).build().unwrap();
    let error = limiter.reserve(4).unwrap().keep_only(5).unwrap_err();
    assert_eq!(error.to_string(), "used is 5: of a reservation of 4");
    assert_eq!(limiter.peek().remaining(), 6);
}

/// What was given back before must not let a later one give back what others have taken since: the
/// history by which a simpler rule was found wanting.
#[test]
fn what_has_dripped_in_meanwhile_is_not_given_back_on_top() {
    let second = Duration::from_secs(1);
    let clock = ManualClock::new();
    for subject in subjects(Quota::per_second(1).burst(3), &clock) {
        let (first, second_one) = (subject.reserve(1).unwrap(), subject.reserve(1).unwrap());
        first.keep_only(0).unwrap();
        let third = subject.reserve(1).unwrap();
        clock.advance(second);
        assert!(subject.check(1));
        second_one.keep_only(0).unwrap();
        third.keep_only(0).unwrap();
        // The check's own unit is owed, if nothing else is. (The table leaves a tick beside it.)
        clock.advance(Duration::from_nanos(1));
        assert!(subject.remaining() <= 2, "{}", subject.remaining());
        clock.advance(10 * second);
    }
}

#[test]
fn all_of_a_generous_burst_can_be_asked_for() {
    let limiter = Limiter::builder(Quota::per_second(100_000).burst(8_192)).clock(ManualClock::new()).build().unwrap();
    assert!((0..10).all(|_| limiter.check().allowed()));
    assert_eq!(limiter.take_up_to(10_000).granted(), 8_182);
    assert!(!limiter.check().allowed());
}

/// Threads that reserve, keep and give back at readings of their own.
#[test]
fn threads_that_give_back_never_break_the_bound() {
    let period = Duration::from_nanos(700);
    for keyed in [false, true] {
        let quota = Quota::new(1, period).burst(5);
        let direct = Limiter::new(quota).unwrap();
        let table = KeyedLimiter::<u8>::new(quota).unwrap();
        let clock = stanchion_limit::Clock::system();
        let histories: Vec<Vec<(u64, u64)>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4_u64)
                .map(|thread| {
                    let (direct, table, clock) = (&direct, &table, &clock);
                    scope.spawn(move || {
                        let mut kept = Vec::new();
                        let mut open = Vec::new();
                        for step in 0..6_000_u64 {
                            let units = 1 + (step + thread) % 3;
                            let reserved = if keyed { table.reserve(&1, units) } else { direct.reserve(units) };
                            // Not before this was it taken.
                            open.extend(reserved.ok().map(|reservation| (clock.now().as_nanos(), reservation)));
                            if step % 3 == thread % 3 && !open.is_empty() {
                                let (at, reservation) = open.swap_remove(usize::try_from(step).unwrap() % open.len());
                                let units = reservation.units();
                                let keep = step % (units + 1);
                                reservation.keep_only(keep).unwrap();
                                kept.push((at, keep));
                            }
                        }
                        for (at, reservation) in open {
                            kept.push((at, reservation.units()));
                            reservation.keep();
                        }
                        kept
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let kept: u64 = histories.iter().flatten().map(|(_, units)| units).sum();
        let begin = histories.iter().flatten().map(|(at, _)| *at).min().unwrap();
        let end = histories.iter().flatten().map(|(at, _)| *at).max().unwrap();
        // Readings were made after the takes; over the whole history that blurs its ends alone.
        let most = 5 + (end - begin) / 700 + 5;
        assert!(kept > 100 && kept <= most, "{kept} of {most}");
    }
}

/// Later ones that were given back don't count against an earlier one; nor do other keys' at all.
#[test]
fn what_later_ones_gave_back_is_not_held_against_an_earlier_one() {
    let clock = ManualClock::new();
    let direct = Limiter::builder(Quota::per_hour(100)).clock(clock.clone()).build().unwrap();
    let keyed = KeyedLimiter::<u64>::builder(Quota::per_hour(100)).clock(clock.clone()).build().unwrap();
    let (first, second) = (direct.reserve(50).unwrap(), direct.reserve(50).unwrap());
    drop(second);
    assert_eq!(first.keep_only(0).unwrap(), 50);
    assert_eq!(direct.peek().remaining(), 100);

    let first = keyed.reserve(&0, 100).unwrap();
    for key in 1..1_000 {
        drop(keyed.reserve(&key, 100).unwrap());
    }
    assert!(first.keep_only(0).unwrap() >= 99);
}

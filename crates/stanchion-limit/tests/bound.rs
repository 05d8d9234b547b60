//! The promise: any window of length W admits at most burst + ⌊W · count / period⌋.
//! Every window of random histories is checked, one thread and several, direct
//! and keyed.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use stanchion_conformance::Admissions;
use stanchion_limit::{KeyedLimiter, Limiter, ManualClock, Moment, Quota, WhenFull};

/// Quotas whose intervals are whole nanoseconds, fractions, and neither.
fn quotas() -> impl Strategy<Value = (u64, Duration, u64)> {
    (1..2_000_u64, 1..1_000_000_u64, 1..40_u64).prop_filter_map("not representable", |(count, nanos, burst)| {
        let period = Duration::from_nanos(nanos);
        Quota::new(count, period).burst(burst).bucket().is_ok().then_some((count, period, burst))
    })
}

/// Pauses of every size beside an interval, many of them none.
fn pauses(interval: u64) -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(0), 3 => 0..interval.max(2), 2 => 0..8 * interval.max(1), 1 => 0..1_000 * interval.max(1)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_window_exceeds_it(
        (quota, history) in quotas().prop_flat_map(|(count, period, burst)| {
            let interval = u64::try_from(period.as_nanos()).unwrap() / count;
            let request = (pauses(interval), 0..burst + 2);
            (Just((count, period, burst)), prop::collection::vec(request, 1..250))
        })
    ) {
        let (count, period, burst) = quota;
        let clock = ManualClock::new();
        let quota = Quota::new(count, period).burst(burst);
        let direct = Limiter::builder(quota).clock(clock.clone()).build().unwrap();
        let keyed = KeyedLimiter::<u8>::builder(quota).max_keys(4).clock(clock.clone()).build().unwrap();
        let mut admissions = Admissions::default();
        for (pause, cost) in history {
            clock.advance(Duration::from_nanos(pause));
            let decision = direct.check_n(cost);
            // A keyed limiter says the same of a key, whatever the other keys do.
            prop_assert_eq!(keyed.check_n(&1, cost), decision);
            keyed.check_n(&2, 1).allowed();
            if decision.allowed() {
                admissions.push(clock.now().as_nanos(), cost);
            } else if let Some(wait) = decision.retry_after() {
                prop_assert!(!wait.is_zero());
            }
        }
        let broken = admissions.broken_window(count, period, burst);
        prop_assert!(broken.is_none(), "{broken:?}");
    }

    /// The same with bursts that are generous enough for reservoirs. What
    /// is refused too early is so by no more than is stated.
    #[test]
    fn no_window_exceeds_a_generous_burst(
        burst in 4_096..10_000_u64,
        interval in 50..20_000_u64,
        history in prop::collection::vec((0..10_u32, 0..1_000_u64, 1..100_u64), 1..400),
    ) {
        let period = Duration::from_nanos(interval);
        let clock = ManualClock::new();
        let limiter = Limiter::builder(Quota::new(1, period).burst(burst)).clock(clock.clone()).build().unwrap();
        let mut admissions = Admissions::default();
        // What an exact limiter would owe, in nanoseconds; and how much less than the burst is stated.
        let (mut owed, slack) = (0, burst * interval / 16);
        for (kind, pause, units) in history {
            // Mostly nothing or a little; now and then what fills the bucket up to the reservoirs.
            let (pause, units) = match kind {
                0 => (pause * interval * burst / 500, units),
                1 => (pause * interval / 100, units * burst / 100),
                _ => (pause * interval / 1_000, units.saturating_sub(80).max(1)),
            };
            clock.advance(Duration::from_nanos(pause));
            owed = u64::saturating_sub(owed, pause);
            let decision = limiter.check_n(units);
            if decision.allowed() {
                admissions.push(clock.now().as_nanos(), units);
                owed += units * interval;
            } else {
                prop_assert!(owed + units * interval + slack > burst * interval, "{units} refused, {owed} ns owed");
            }
        }
        let broken = admissions.broken_window(1, period, burst);
        prop_assert!(broken.is_none(), "{broken:?}");
    }

    /// A refusal's `retry_after` is exact: a nanosecond earlier is too early.
    #[test]
    fn retry_after_is_exact((count, period, burst) in quotas(), cost in 1..40_u64) {
        let cost = cost.min(burst);
        let clock = ManualClock::new();
        let limiter = Limiter::builder(Quota::new(count, period).burst(burst)).clock(clock.clone()).build().unwrap();
        prop_assert!(limiter.check_n(burst).allowed());
        let wait = limiter.check_n(cost).retry_after().unwrap();
        clock.advance(wait - Duration::from_nanos(1));
        prop_assert!(!limiter.check_n(cost).allowed());
        clock.advance(Duration::from_nanos(1));
        prop_assert!(limiter.check_n(cost).allowed());
    }

    /// Awkward polling loses nothing: a limiter that is asked at odd times
    /// admits, over a long while, its quota to within 0.01 % and a burst.
    #[test]
    fn no_rate_is_lost_to_awkward_polling((count, period, _) in quotas(), stride in 1..10_000_u64) {
        let clock = ManualClock::new();
        let limiter = Limiter::builder(Quota::new(count, period).burst(1)).clock(clock.clone()).build().unwrap();
        let interval = u64::try_from(period.as_nanos()).unwrap().div_ceil(count);
        // Often enough that a token never waits for a poll longer than a millionth of its interval allows.
        let began = clock.now();
        let mut admitted = 0_u64;
        for _ in 0..2_000 {
            let wait = limiter.check().retry_after().unwrap_or_default();
            admitted += u64::from(wait.is_zero());
            let next = if wait.is_zero() { Duration::from_nanos(stride % interval.max(1)) } else { wait };
            clock.advance(next);
        }
        let elapsed = (clock.now() - began).as_nanos();
        let quota = elapsed * u128::from(count) / period.as_nanos();
        prop_assert!(u128::from(admitted) <= quota + 1);
        // Each wait is rounded up to a nanosecond, which a poller can't help.
        let lost_to_polling = u128::from(admitted) * u128::from(count) / period.as_nanos() + 2;
        prop_assert!(u128::from(admitted) + quota / 10_000 + lost_to_polling >= quota, "{admitted} of {quota}");
    }
}

/// Threads read the time from one counter that all of them turn, and check at
/// that reading whenever they come to it: late, early, out of order.
#[test]
fn threads_with_readings_out_of_order_never_exceed_it() {
    for (count, nanos, burst) in [(1, 50, 3), (3, 100, 1), (7, 1_000, 20)] {
        let period = Duration::from_nanos(nanos);
        let limiter = Limiter::new(Quota::new(count, period).burst(burst)).unwrap();
        let start = 1_u64 << 60;
        let time = AtomicU64::new(start);
        let barrier = Barrier::new(4);
        let histories: Vec<Vec<(u64, u64)>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4_u64)
                .map(|thread| {
                    let (time, barrier, limiter) = (&time, &barrier, &limiter);
                    scope.spawn(move || {
                        barrier.wait();
                        let check = |step: u64| {
                            let now = time.fetch_add(1 + step % 3, Ordering::Relaxed);
                            let cost = 1 + (step + thread) % burst.min(2);
                            let allowed = limiter.check_at(Moment::from_nanos(now), cost).allowed();
                            allowed.then_some((now, cost))
                        };
                        (0..4_000).filter_map(check).collect()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let mut admissions = Admissions::default();
        histories.iter().flatten().for_each(|&(now, cost)| admissions.push(now, cost));
        assert!(admissions.len() > 100, "too little was admitted to show anything: {}", admissions.len());
        admissions.assert_bound(count, period, burst);
    }
}

/// All at one moment: never more than the burst, and never less than it by more
/// than is stated, though each thread has a reservoir of its own.
#[test]
fn threads_share_a_generous_burst_to_the_last_unit() {
    for threads in [1, 2, 4, 7] {
        let clock = ManualClock::new();
        let burst = 8_192;
        let limiter = Limiter::builder(Quota::per_second(1_000_000).burst(burst)).clock(clock.clone()).build().unwrap();
        let at_once = |limiter: &Limiter| -> u64 {
            let barrier = Barrier::new(threads);
            let count = || {
                barrier.wait();
                std::iter::repeat_with(|| limiter.check().allowed()).take_while(|allowed| *allowed).count()
            };
            std::thread::scope(|scope| {
                let all: Vec<_> = (0..threads).map(|_| scope.spawn(count)).collect();
                all.into_iter().map(|thread| u64::try_from(thread.join().unwrap()).unwrap()).sum()
            })
        };
        for _ in 0..50 {
            let admitted = at_once(&limiter);
            let least = if threads == 1 { burst } else { burst - burst / 64 };
            assert!((least..=burst).contains(&admitted), "{admitted} by {threads}");
            // Refused to each: nobody has anything left, and then all of it comes back.
            assert!(!limiter.check().allowed());
            clock.advance(Duration::from_micros(burst - 1));
            assert!(!limiter.check_n(burst).allowed());
            // What a raider and a holder have both charged takes a little longer.
            clock.advance(Duration::from_micros(1 + burst / 64));
            assert_eq!(limiter.check_n(0).remaining(), burst);
        }
    }
}

/// Threads turn the clock, a little with each check and much now and then, so
/// that reservoirs are opened, refilled and raided all the time. An admission is
/// dated between two readings.
#[test]
fn threads_with_reservoirs_never_exceed_it() {
    const BURST: u64 = 4_096;
    const INTERVAL: u64 = 1_000;
    let clock = ManualClock::at(Moment::from_nanos(1 << 40));
    let quota = Quota::new(1, Duration::from_nanos(INTERVAL)).burst(BURST);
    let limiter = Limiter::builder(quota).clock(clock.clone()).build().unwrap();
    let barrier = Barrier::new(4);
    let histories: Vec<Vec<(u64, u64, u64)>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4_u64)
            .map(|thread| {
                let (clock, limiter, barrier) = (&clock, &limiter, &barrier);
                scope.spawn(move || {
                    let mut random = thread + 1;
                    barrier.wait();
                    let check = |_| {
                        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        let (turn, cost) = match random >> 54 {
                            // The bucket fills, but for a little.
                            0 => (INTERVAL * BURST, 1),
                            1..4 => (0, BURST / 8),
                            4 => (0, BURST),
                            _ => (INTERVAL / 8, 1 + (random >> 40) % 2),
                        };
                        clock.advance(Duration::from_nanos(turn));
                        let before = clock.now().as_nanos();
                        let allowed = limiter.check_n(cost).allowed();
                        allowed.then(|| (before, clock.now().as_nanos(), cost))
                    };
                    (0..6_000).filter_map(check).collect()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut by_end: Vec<_> = histories.into_iter().flatten().collect();
    by_end.sort_unstable_by_key(|(_, end, _)| *end);
    let total: u64 = by_end.iter().map(|(_, _, cost)| cost).sum();
    assert!(total > 4 * BURST, "too little was admitted to show anything: {total}");
    let mut begins: Vec<_> = by_end.iter().map(|(begin, _, _)| *begin).collect();
    begins.sort_unstable();
    begins.dedup();
    for begin in begins {
        let mut admitted = 0;
        for (_, end, cost) in by_end.iter().filter(|(before, _, _)| *before >= begin) {
            admitted += cost;
            let most = BURST + (end - begin) / INTERVAL;
            assert!(admitted <= most, "{admitted} in [{begin}, {end}], where {most} may be");
        }
    }
}

/// Few slots, many keys, a clock that all threads turn: keys are displaced and
/// come back all the time. What each was admitted lies between two readings;
/// the windows are taken as long as those allow.
#[test]
fn keys_that_are_displaced_and_return_never_exceed_it() {
    let (count, period, burst) = (1, Duration::from_nanos(100), 2);
    let clock = ManualClock::at(Moment::from_nanos(1 << 40));
    let limiter = KeyedLimiter::<u64>::builder(Quota::new(count, period).burst(burst))
        .max_keys(1)
        .when_full(WhenFull::Refuse)
        .clock(clock.clone())
        .build()
        .unwrap();
    const KEYS: u64 = 120;
    let histories: Vec<Vec<(u64, u64, u64)>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3_u64)
            .map(|thread| {
                let (clock, limiter) = (&clock, &limiter);
                scope.spawn(move || {
                    let mut random = thread + 1;
                    let check = |_| {
                        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        let key = (random >> 33) % KEYS;
                        clock.advance(Duration::from_nanos(1));
                        let before = clock.now().as_nanos();
                        let allowed = limiter.check(&key).allowed();
                        allowed.then(|| (key, before, clock.now().as_nanos()))
                    };
                    (0..60_000).filter_map(check).collect()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut total = 0;
    for key in 0..KEYS {
        let mut own: Vec<_> = histories.iter().flatten().filter(|admission| admission.0 == key).collect();
        own.sort_unstable_by_key(|admission| admission.1);
        total += own.len();
        for (first, (_, begin, _)) in own.iter().enumerate() {
            // A thread that was held up has read its clock late: the window ends with the latest.
            let mut end = *begin;
            for (more, (_, _, after)) in own[first..].iter().enumerate() {
                end = end.max(*after);
                let most = burst + (end - begin) / 100;
                assert!(u64::try_from(more + 1).unwrap() <= most, "key {key}: {} in [{begin}, {end}]", more + 1);
            }
        }
    }
    assert!(total > 1_000, "too little was admitted to show anything: {total}");
    assert!(limiter.snapshot().keys_turned_away > 0, "the table was never full");
}

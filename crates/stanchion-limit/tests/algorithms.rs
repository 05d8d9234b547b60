//! Each algorithm beside a naive one that remembers everything, on random histories,
//! direct and keyed; and the bound that each promises.

use std::time::Duration;

use proptest::prelude::*;
use stanchion_limit::{
    CalendarUnit, Decision, KeyedLimiter, Limiter, ManualClock, Moment, Quota, RateAlgorithm, Verdict,
};

/// What a limit is asked, and after which pause.
#[derive(Debug, Clone, Copy)]
enum Asked {
    Check(u64),
    UpTo(u64),
    Charge(u64),
}

fn histories(window: u64, limit: u64) -> impl Strategy<Value = Vec<(u64, Asked)>> {
    let pause = prop_oneof![3 => Just(0), 4 => 0..window / 2, 2 => 0..2 * window, 1 => 0..9 * window];
    let asked = prop_oneof![
        6 => (0..limit + 2).prop_map(Asked::Check),
        2 => (0..2 * limit + 2).prop_map(Asked::UpTo),
        1 => (0..limit + 6).prop_map(Asked::Charge),
    ];
    prop::collection::vec((pause, asked), 1..120)
}

/// A limiter that remembers all that it has admitted.
struct Naive {
    quota: (RateAlgorithm, u64, u64, u64),
    admitted: Vec<(u64, u64)>,
    /// When the present fixed window began.
    began: Option<u64>,
}

impl Naive {
    /// The units that count at `now`.
    fn used(&mut self, now: u64) -> u64 {
        let (algorithm, _, window, _) = self.quota;
        let between = |from: u64, to: u64| -> u64 {
            self.admitted.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, units)| units).sum()
        };
        match algorithm {
            RateAlgorithm::SlidingLog => between((now + 1).saturating_sub(window), now + 1),
            RateAlgorithm::FixedWindow => {
                let began = self.began.filter(|began| now < began + window);
                self.began = began;
                began.map_or(0, |began| between(began, now + 1))
            }
            RateAlgorithm::SlidingCounter => {
                let begins = now - now % window;
                let previous = between(begins.saturating_sub(window), begins);
                // What the window still covers, rounded up to a 2^20th of it, and then to a unit.
                let left = u128::from(begins + window - now);
                let weight = (left << 20).div_ceil(u128::from(window));
                let covered = (u128::from(previous) * weight).div_ceil(1 << 20);
                between(begins, now + 1) + u64::try_from(covered).unwrap()
            }
            _ => unreachable!("has a test of its own"),
        }
    }

    fn take(&mut self, now: u64, units: u64) {
        if units > 0 {
            self.began = self.began.or(Some(now));
            self.admitted.push((now, units));
        }
    }

    fn ask(&mut self, now: u64, asked: Asked) -> u64 {
        let (_, limit, _, overdraft) = self.quota;
        let used = self.used(now);
        let granted = match asked {
            Asked::Check(cost) => {
                if used + cost <= limit {
                    cost
                } else {
                    0
                }
            }
            Asked::UpTo(units) => units.min(limit.saturating_sub(used)),
            Asked::Charge(cost) => {
                if used + cost <= limit + overdraft {
                    cost
                } else {
                    0
                }
            }
        };
        self.take(now, granted);
        granted
    }
}

fn algorithms() -> impl Strategy<Value = RateAlgorithm> {
    prop_oneof![Just(RateAlgorithm::SlidingLog), Just(RateAlgorithm::SlidingCounter), Just(RateAlgorithm::FixedWindow)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn windows_are_counted_as_by_one_who_remembers_everything(
        (algorithm, limit, micros, overdraft, history) in
            (algorithms(), 1..20_u64, 1..1_000_u64, 0..5_u64).prop_flat_map(|(algorithm, limit, micros, overdraft)| {
                (Just(algorithm), Just(limit), Just(micros), Just(overdraft), histories(micros * 1_000, limit))
            }),
    ) {
        let window = micros * 1_000;
        let clock = ManualClock::at(Moment::from_nanos(1 << 50));
        let quota = Quota::new(limit, Duration::from_micros(micros)).by(algorithm).overdraft(overdraft);
        let direct = Limiter::builder(quota).clock(clock.clone()).build().unwrap();
        let keyed = KeyedLimiter::<u8>::builder(quota).clock(clock.clone()).build().unwrap();
        let mut naive = Naive { quota: (algorithm, limit, window, overdraft), admitted: Vec::new(), began: None };
        for (pause, asked) in history {
            clock.advance(Duration::from_nanos(pause));
            let now = clock.now().as_nanos();
            let expected = naive.ask(now, asked);
            let decisions: [Decision; 2] = match asked {
                Asked::Check(cost) => [direct.check_n(cost), keyed.check_n(&1, cost)],
                Asked::UpTo(units) => [direct.take_up_to(units), keyed.take_up_to(&1, units)],
                Asked::Charge(cost) => [direct.charge(cost), keyed.charge(&1, cost)],
            };
            keyed.check(&2).allowed();
            prop_assert_eq!(decisions[0], decisions[1]);
            let decision = decisions[0];
            prop_assert_eq!(decision.granted(), expected, "{:?} at {}", asked, now);
            prop_assert_eq!(decision.limit(), limit);
            if decision.verdict() != Verdict::NeverFits {
                prop_assert_eq!(decision.remaining(), limit.saturating_sub(naive.used(now)));
            }
        }
    }

    /// A refusal's `retry_after` is exact: a nanosecond earlier is too early. And so is the time
    /// after which there is a unit more, and that after which all are there.
    #[test]
    fn the_times_are_exact(
        algorithm in algorithms(), limit in 1..20_u64, micros in 1..1_000_u64,
        takes in prop::collection::vec((0..400_000_u64, 1..6_u64), 1..20), cost in 1..20_u64,
    ) {
        let cost = cost.min(limit);
        let clock = ManualClock::at(Moment::from_nanos(1 << 50));
        let quota = Quota::new(limit, Duration::from_micros(micros)).by(algorithm);
        let limiter = || {
            let clock = ManualClock::at(Moment::from_nanos(1 << 50));
            let limiter = Limiter::builder(quota).clock(clock.clone()).build().unwrap();
            for (pause, units) in &takes {
                clock.advance(Duration::from_nanos(*pause));
                let _ = limiter.take_up_to(*units);
            }
            (clock, limiter)
        };
        drop(clock);
        let nano = Duration::from_nanos(1);
        let (clock, first) = limiter();
        let look = first.check_n(cost);
        if let Some(wait) = look.retry_after() {
            clock.advance(wait - nano);
            prop_assert!(!first.check_n(cost).allowed());
            clock.advance(nano);
            prop_assert!(first.check_n(cost).allowed());
        }
        let (clock, second) = limiter();
        let look = second.peek();
        if look.remaining() < limit {
            clock.advance(look.next_token_after() - nano);
            prop_assert!(second.peek().remaining() <= look.remaining());
            clock.advance(nano);
            prop_assert!(second.peek().remaining() > look.remaining());
        } else {
            prop_assert_eq!((look.next_token_after(), look.reset_after()), (Duration::ZERO, Duration::ZERO));
        }
        let (clock, third) = limiter();
        let look = third.peek();
        if look.remaining() < limit {
            clock.advance(look.reset_after() - nano);
            prop_assert!(third.peek().remaining() < limit);
            clock.advance(nano);
            prop_assert_eq!(third.peek().remaining(), limit);
        }
    }

    /// Any window of the length of the quota's, of a strict limit and of a log.
    #[test]
    fn no_window_sees_more_than_the_count(
        log in any::<bool>(), limit in 1..30_u64, burst in 1..30_u64, micros in 10..1_000_u64,
        history in prop::collection::vec((0..200_000_u64, 1..8_u64), 1..200),
    ) {
        let window = micros * 1_000;
        let clock = ManualClock::new();
        let quota = Quota::new(limit, Duration::from_micros(micros));
        let quota = if log { quota.sliding_log() } else { quota.strict().burst(burst.min(limit)) };
        let Ok(limiter) = Limiter::builder(quota).clock(clock.clone()).build() else { return Ok(()) };
        let mut admitted = Vec::new();
        for (pause, units) in history {
            clock.advance(Duration::from_nanos(pause));
            admitted.push((clock.now().as_nanos(), limiter.take_up_to(units).granted()));
        }
        for (first, (begin, _)) in admitted.iter().enumerate() {
            // Of the log's window the end is outside, of the strict one's it is in.
            let inside = |at: u64| if log { at < begin + window } else { at <= begin + window };
            let sum: u64 = admitted[first..].iter().filter(|(at, _)| inside(*at)).map(|(_, units)| units).sum();
            prop_assert!(sum <= limit, "{sum} of {limit} from {begin} on");
        }
        prop_assert!(admitted.iter().any(|(_, units)| *units > 0));
    }

    /// Several limits at once are as each by itself, all or nothing.
    #[test]
    fn several_limits_take_all_or_nothing(
        limits in prop::collection::vec((1..20_u64, 1..1_000_u64, 0..4_usize), 2..5),
        history in prop::collection::vec((0..300_000_u64, 0..22_u64), 1..100),
    ) {
        const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
        const BY: [RateAlgorithm; 4] = [
            RateAlgorithm::TokenBucket, RateAlgorithm::SlidingLog, RateAlgorithm::SlidingCounter,
            RateAlgorithm::FixedWindow,
        ];
        let clock = ManualClock::at(Moment::from_nanos(1 << 50));
        let quotas: Vec<_> = NAMES.into_iter().zip(&limits)
            .map(|(name, (limit, micros, by))| (name, Quota::new(*limit, Duration::from_micros(*micros)).by(BY[*by])))
            .collect();
        let all = Limiter::builder(quotas.clone()).clock(clock.clone()).build().unwrap();
        let keyed = KeyedLimiter::<str>::builder(quotas.clone()).clock(clock.clone()).build().unwrap();
        let each: Vec<_> =
            quotas.iter().map(|(_, quota)| Limiter::builder(*quota).clock(clock.clone()).build().unwrap()).collect();
        for (pause, cost) in history {
            clock.advance(Duration::from_nanos(pause));
            let decision = all.check_n(cost);
            prop_assert_eq!(keyed.check_n("key", cost), decision);
            let fits = each.iter().all(|limiter| limiter.peek().remaining() >= cost);
            prop_assert_eq!(decision.allowed(), fits || cost == 0);
            let named = decision.limit_index();
            prop_assert_eq!(all.limit_name(&decision), Some(quotas[named].0.into()));
            if fits {
                prop_assert!(each.iter().all(|limiter| limiter.check_n(cost).allowed()));
                prop_assert_eq!(decision.remaining(), each.iter().map(|limiter| limiter.peek().remaining()).min().unwrap());
            } else if let Some(wait) = decision.retry_after() {
                // The one that is named waits longest.
                let waits = each.iter().map(|limiter| limiter.check_n(cost).retry_after()).collect::<Vec<_>>();
                prop_assert!(waits.iter().flatten().all(|other| *other <= wait), "{wait:?} of {waits:?}");
                // Asked again, for those that would have allowed it have given it.
                return Ok(());
            }
        }
    }
}

#[test]
fn a_month_ends_when_it_ends() {
    // 2024-02-29 23:59:59
    let clock = ManualClock::at(Moment::from_nanos(1_709_251_199_000_000_000));
    let quota = Quota::per_calendar(3, CalendarUnit::Month);
    let limiter = Limiter::builder(quota).clock(clock.clone()).build().unwrap();
    assert!(limiter.check_n(3).allowed());
    assert_eq!(limiter.check().retry_after(), Some(Duration::from_secs(1)));
    clock.advance(Duration::from_secs(1));
    assert!(limiter.check_n(3).allowed());
    assert_eq!(limiter.check().retry_after(), Some(Duration::from_secs(31 * 86_400)));
}

#[test]
fn a_debt_is_bounded_and_paid_before_others_are_served() {
    let clock = ManualClock::new();
    let quota = Quota::per_second(10).burst(5).overdraft(20);
    let limiter = Limiter::builder(quota).clock(clock.clone()).build().unwrap();
    assert!(limiter.charge(25).allowed());
    let refused = limiter.charge(1);
    assert_eq!((refused.verdict(), refused.retry_after()), (Verdict::Refused, Some(Duration::from_millis(100))));
    // Nobody is served until the debt is paid, and a unit is there.
    assert_eq!(limiter.check().retry_after(), Some(Duration::from_millis(2_100)));
    assert_eq!((limiter.peek().remaining(), limiter.take_up_to(3).granted()), (0, 0));
    assert_eq!(limiter.charge(26).verdict(), Verdict::NeverFits);
    clock.advance(Duration::from_millis(2_100));
    assert!(limiter.check().allowed());
}

#[test]
fn a_clock_that_steps_back_is_waited_for_if_it_is_a_little() {
    for quota in [Quota::per_second(2).sliding_log(), Quota::per_second(2).fixed_window()] {
        let limiter = Limiter::builder(quota).clock(ManualClock::at(Moment::from_nanos(1 << 60))).build().unwrap();
        let (late, early) = (1_u64 << 60, (1_u64 << 60) - 300_000_000);
        assert!(limiter.check_at(Moment::from_nanos(late), 1).allowed());
        assert!(limiter.check_at(Moment::from_nanos(early), 1).allowed());
        let refused = limiter.check_at(Moment::from_nanos(early), 1);
        assert_eq!(refused.retry_after(), Some(Duration::from_millis(1_300)), "{quota:?}");
    }
}

#[test]
fn a_clock_that_steps_back_by_a_day_uses_the_limit_up_once() {
    let day = Duration::from_secs(86_400);
    for algorithm in [RateAlgorithm::SlidingLog, RateAlgorithm::FixedWindow, RateAlgorithm::SlidingCounter] {
        let clock = ManualClock::at(Moment::from_nanos(1 << 60));
        let limiter = Limiter::builder(Quota::per_second(2).by(algorithm)).clock(clock.clone()).build().unwrap();
        assert!(limiter.check().allowed());
        // A reading of the caller's may merely be old: it is refused, and changes nothing.
        let yesterday = clock.now().as_nanos() - 86_400_000_000_000;
        let old = limiter.check_at(Moment::from_nanos(yesterday), 2);
        assert!(!old.allowed() && limiter.peek().remaining() == 1, "{algorithm:?}");
        clock.turn_back(day);
        let refused = limiter.check();
        assert!(!refused.allowed(), "{algorithm:?}");
        let wait = refused.retry_after().unwrap();
        assert!(wait <= Duration::from_secs(2), "{algorithm:?} {wait:?}");
        clock.advance(wait);
        assert!(limiter.check().allowed(), "{algorithm:?}");
    }
}

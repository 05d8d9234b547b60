//! Any quotas by any algorithm, several at once, asked in any way, with units given back: no panic,
//! no bound broken, and the direct limiter says what the keyed one says.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use stanchion_limit::{
    CalendarUnit, KeyedLimiter, Limiter, ManualClock, Moment, Quota, RateAlgorithm, Reservation, Verdict,
};

#[derive(arbitrary::Arbitrary, Debug)]
struct Input {
    /// Of 2020 to 2036, in seconds after the first.
    start: u32,
    quotas: Vec<(u16, u32, u8, u8, u8)>,
    steps: Vec<(u32, Step)>,
}

#[derive(arbitrary::Arbitrary, Debug)]
enum Step {
    Check(u16),
    UpTo(u16),
    Charge(u16),
    Reserve(u16),
    Settle(u8, u8),
}

/// Beyond that a part of a direct bucket lies in reservoirs, which only promise the bound.
const MOST: u16 = 0x0fff;

fn quota(&(count, micros, by, burst, overdraft): &(u16, u32, u8, u8, u8)) -> Quota {
    const ALGORITHMS: [RateAlgorithm; 5] = [
        RateAlgorithm::TokenBucket,
        RateAlgorithm::Strict,
        RateAlgorithm::SlidingLog,
        RateAlgorithm::SlidingCounter,
        RateAlgorithm::FixedWindow,
    ];
    const UNITS: [CalendarUnit; 3] = [CalendarUnit::Minute, CalendarUnit::Week, CalendarUnit::Month];
    let (count, by, overdraft) = (count & MOST, usize::from(by), u64::from(overdraft) & 7);
    let quota = match ALGORITHMS.get(by % 8) {
        Some(algorithm) => Quota::new(count.into(), Duration::from_micros(micros.into())).by(*algorithm),
        None => Quota::per_calendar(count.into(), UNITS[by % 3]),
    };
    // Some have a burst of their own, which not every algorithm allows.
    let quota = if burst & 1 == 1 { quota.burst(burst.into()) } else { quota };
    quota.overdraft(overdraft)
}

/// What a window of the quota's length may admit, if that is promised.
fn promised(quota: &(u16, u32, u8, u8, u8)) -> Option<(u64, u64)> {
    let (count, micros, by, _, overdraft) = *quota;
    let most = u64::from(count & MOST) + u64::from(overdraft & 7);
    matches!(by % 8, 1 | 2).then_some((most, u64::from(micros) * 1_000))
}

fuzz_target!(|input: Input| {
    const NAMES: [&str; 3] = ["a", "b", "c"];
    let raw: Vec<_> = input.quotas.iter().take(3).collect();
    let quotas: Vec<_> = NAMES.into_iter().zip(raw.iter().map(|raw| quota(raw))).collect();
    let start = (1_577_836_800 + u64::from(input.start >> 3)) * 1_000_000_000;
    let clock = ManualClock::at(Moment::from_nanos(start));
    let Ok(limiter) = Limiter::builder(quotas.clone()).clock(clock.clone()).build() else {
        return;
    };
    let keyed = KeyedLimiter::<u8>::builder(quotas)
        .max_keys(64)
        .changeable()
        .clock(clock.clone())
        .build()
        .expect("as the other");
    let mut kept: Vec<(u64, u64)> = Vec::new();
    let mut open: Vec<(u64, Reservation<'_>)> = Vec::new();
    // What comes back to one number is counted more exactly than to a ledger: until then they are alike.
    let mut alike = true;
    for (pause, step) in input.steps.into_iter().take(100) {
        let scale = Duration::from_nanos(1 << (pause & 31));
        clock.advance(scale * (pause >> 27));
        let now = clock.now().as_nanos();
        let (ours, theirs) = match step {
            Step::Check(cost) => (limiter.check_n(cost.into()), keyed.check_n(&7, cost.into())),
            Step::UpTo(units) => (limiter.take_up_to(units.into()), keyed.take_up_to(&7, units.into())),
            Step::Charge(units) => (limiter.charge(units.into()), keyed.charge(&7, units.into())),
            Step::Reserve(units) => match limiter.reserve(units.into()) {
                Ok(reservation) => {
                    open.push((now, reservation));
                    alike = false;
                    continue;
                }
                Err(refused) => (refused, keyed.check_n(&7, units.into())),
            },
            Step::Settle(which, share) => {
                if !open.is_empty() {
                    let (taken, reservation) = open.swap_remove(usize::from(which) % open.len());
                    let units = reservation.units();
                    let used = units * u64::from(share) / 255;
                    assert!(reservation.keep_only(used).expect("a part") <= units - used);
                    kept.push((taken, used));
                }
                continue;
            }
        };
        assert!(!alike || ours == theirs, "{ours:?} beside {theirs:?}");
        assert!(ours.granted() == 0 || ours.verdict() == Verdict::Allowed);
        kept.push((now, ours.granted()));
    }
    for (taken, reservation) in open {
        kept.push((taken, reservation.units()));
        reservation.keep();
    }
    kept.sort_unstable();
    for (most, window) in raw.iter().filter_map(|raw| promised(raw)) {
        for (first, (begin, _)) in kept.iter().enumerate() {
            let inside = kept[first..].iter().take_while(|(at, _)| *at < begin.saturating_add(window));
            let sum: u64 = inside.map(|(_, units)| units).sum();
            assert!(sum <= most, "{sum} of {most} from {begin} on");
        }
    }
});

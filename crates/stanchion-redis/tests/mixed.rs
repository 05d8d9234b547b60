//! Random histories of random mixes of all rules, asked in all ways, with units that are
//! given back, limits that change and clocks that step back: the memory store and the
//! scripts on a real server give the same decisions, to the nanosecond.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use stanchion_conformance::RedisServer;
use stanchion_core::{
    Ask, CalendarUnit, FixedWindow, ManualClock, Moment, RateLimit, RateRequest, RateRule, RateStore, Receipt,
    SlidingCounter, SlidingLog,
};
use stanchion_limit::{MemoryRateStore, Quota};
use stanchion_redis::RedisRateStore;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

fn buckets() -> impl Strategy<Value = RateRule> {
    let periods = prop_oneof![1..5_000_u64, 1_000..10_000_000_u64, 1_000_000..100_000_000_000_u64];
    let overdrafts = prop_oneof![2 => Just(0), 1 => 1..20_u64];
    // Small ones, and such whose sums are more than 53 bits of ticks.
    let counts = prop_oneof![3 => 1..100_u64, 1 => 1..3_000_000_u64];
    let bursts = prop_oneof![3 => 1..20_u64, 1 => 1..1_000_000_000_000_u64];
    (counts, periods, bursts, overdrafts).prop_filter_map("not representable", |(count, micros, burst, over)| {
        let bucket = Quota::new(count, Duration::from_micros(micros)).burst(burst).bucket().ok()?;
        Some(bucket.overdraft(over).ok()?.into())
    })
}

/// The numbers of a window: its count, microseconds and overdraft.
fn windows() -> impl Strategy<Value = (u64, Duration, u64)> {
    let counts = prop_oneof![4 => 1..20_u64, 1 => 1..100_000_u64];
    let periods = prop_oneof![
        1..5_000_u64,
        1_000..10_000_000_u64,
        1_000_000..100_000_000_000_u64,
        Just(10 * 365 * 86_400 * 1_000_000_u64)
    ];
    (counts, periods.prop_map(Duration::from_micros), prop_oneof![2 => Just(0), 1 => 1..20_u64])
}

fn calendars() -> impl Strategy<Value = CalendarUnit> {
    use CalendarUnit::{Day, Hour, Minute, Month, Week, Year};
    prop::sample::select(vec![Minute, Hour, Day, Week, Month, Year])
}

/// A limit before and after somebody changed it.
fn rules() -> impl Strategy<Value = [RateRule; 2]> {
    let fixed = || {
        prop_oneof![
            windows().prop_map(|(count, period, over)| {
                FixedWindow::new(count, period).unwrap().overdraft(over).unwrap().into()
            }),
            (1..20_u64, calendars()).prop_map(|(count, unit)| FixedWindow::calendar(count, unit).unwrap().into()),
        ]
    };
    let counter = || {
        let rule = |(count, period, over)| SlidingCounter::new(count, period).unwrap().overdraft(over).unwrap().into();
        windows().prop_map(rule)
    };
    let log = || {
        let rule = |(count, period, over)| SlidingLog::new(count, period).unwrap().overdraft(over).unwrap().into();
        windows().prop_map(rule)
    };
    let both = prop_oneof![
        (buckets(), buckets()).prop_map(<[RateRule; 2]>::from),
        (fixed(), fixed()).prop_map(<[RateRule; 2]>::from),
        (counter(), counter()).prop_map(<[RateRule; 2]>::from),
        (log(), log()).prop_map(<[RateRule; 2]>::from),
    ];
    // The script for one bucket in whole microseconds rounds another's debt up to one.
    let whole = |rule: &RateRule| match rule {
        RateRule::TokenBucket(bucket) => {
            (bucket.ticks_per_nano(), bucket.interval() % (1_000 * u64::from(bucket.ticks_per_nano())) == 0)
        }
        _ => (1, true),
    };
    (both, any::<bool>()).prop_map(move |([before, after], changes)| {
        let alike = whole(&before) == whole(&after) || (!whole(&before).1 && !whole(&after).1);
        if changes && alike { [before, after] } else { [before, before] }
    })
}

#[derive(Debug, Clone)]
enum Step {
    Ask { cost: u64, ask: Ask, reserve: bool, some: usize },
    GiveBack { which: usize, units: u64 },
    Pause(f64),
    TurnBack(f64),
    Change,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let costs = prop_oneof![4 => Just(1_u64), 1 => Just(0), 3 => 1..8_u64, 1 => 1..200_u64, 1 => 0..u64::MAX, 1 => 0..1_000_000_000_000_u64];
    let asks = prop::sample::select(vec![Ask::Exactly, Ask::Exactly, Ask::UpTo, Ask::Overdraw]);
    let asked = (costs, asks, any::<bool>(), 0..8_usize).prop_map(|(cost, ask, reserve, some)| Step::Ask {
        cost,
        ask,
        reserve,
        some,
    });
    let step = prop_oneof![
        12 => asked,
        4 => (any::<usize>(), prop_oneof![Just(u64::MAX), 0..6_u64])
            .prop_map(|(which, units)| Step::GiveBack { which, units }),
        8 => (0.0..2.2_f64).prop_map(Step::Pause),
        1 => (0.0..2.2_f64).prop_map(Step::TurnBack),
        1 => Just(Step::Change),
    ];
    prop::collection::vec(step, 1..80)
}

struct Both {
    memory: MemoryRateStore,
    redis: RedisRateStore,
    runtime: tokio::runtime::Runtime,
    server: std::sync::Arc<RedisServer>,
}

impl Both {
    fn new(clock: &ManualClock) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let server = RedisServer::shared();
        let redis = {
            let _inside = runtime.enter();
            RedisRateStore::connect(&server.url()).unwrap().deadline(Duration::from_secs(20)).clock(clock.clone())
        };
        Self { memory: MemoryRateStore::with_clock(100_000, clock.clone()), redis, runtime, server }
    }
}

/// A part of a time that the limits make interesting, in whole microseconds.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small part of some years")]
fn part_of(limits: &[RateLimit], which: usize, part: f64) -> Duration {
    // Lua's integers last until the year 2255.
    let window = limits[which % limits.len()].rule().window().min(Duration::from_secs(400 * 86_400));
    let nice = (part * 10.0) as usize;
    Duration::from_micros(match nice {
        0..4 => 0,
        // Exactly a window, or one microsecond beside it.
        20 => window.as_micros() as u64,
        21 => (window.as_micros() as u64).saturating_sub(1),
        _ => window.mul_f64(part * part / 4.0).as_micros() as u64,
    })
}

fn run(rules: &[[RateRule; 2]], steps: &[Step]) -> Result<(), TestCaseError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let key = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes().to_vec();
    let clock = ManualClock::at(Moment::from_nanos(1_800_000_000_000_000_000));
    let stores = Both::new(&clock);
    let _held = &stores.server;
    let mut version = 0;
    let limits = |version: usize| -> Vec<RateLimit> {
        rules.iter().zip(NAMES).map(|(rule, name)| RateLimit::new(name, rule[version])).collect()
    };
    let mut receipts: Vec<(usize, Receipt, Receipt)> = Vec::new();
    for (turn, step) in steps.iter().enumerate() {
        let limits = limits(version);
        match step {
            Step::Pause(part) => clock.advance(part_of(&limits, turn, *part)),
            Step::TurnBack(part) => clock.turn_back(part_of(&limits, turn, *part).min(Duration::from_secs(86_400))),
            Step::Change => version = 1 - version,
            Step::Ask { cost, ask, reserve, some } => {
                let from = some % limits.len();
                let request = RateRequest::new(&key, *cost, &limits[from..]).unwrap().ask(*ask);
                if *reserve {
                    let (expected, ours) = stores.memory.reserve(request).ready().unwrap().unwrap();
                    let answer = stores.redis.reserve(request);
                    let (decision, theirs) = stores.runtime.block_on(answer.into_future()).unwrap();
                    prop_assert_eq!(decision, expected, "turn {}", turn);
                    prop_assert_eq!(ours.units(), theirs.units());
                    receipts.push((from, ours, theirs));
                } else {
                    let expected = stores.memory.decide(request).ready().unwrap().unwrap();
                    let decision = stores.runtime.block_on(stores.redis.decide(request).into_future()).unwrap();
                    prop_assert_eq!(decision, expected, "turn {}", turn);
                }
            }
            Step::GiveBack { which, units } if !receipts.is_empty() => {
                let (from, ours, theirs) = &receipts[which % receipts.len()];
                let request = RateRequest::new(&key, *units, &limits[*from..]).unwrap();
                let expected = stores.memory.give_back(request, ours).ready().unwrap().unwrap();
                let back = stores.runtime.block_on(stores.redis.give_back(request, theirs).into_future()).unwrap();
                prop_assert_eq!(back, expected, "turn {}", turn);
            }
            Step::GiveBack { .. } => {}
        }
    }
    Ok(())
}

#[test]
fn any_mix_of_limits_is_decided_alike_by_both_stores() {
    let _server = RedisServer::shared();
    let cases = (prop::collection::vec(rules(), 1..4), steps());
    let runs = std::env::var("STANCHION_CASES").map_or(600, |cases| cases.parse().unwrap());
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(runs) });
    let outcome = runner.run(&cases, |(rules, steps)| run(&rules, &steps));
    assert!(outcome.is_ok(), "{outcome:?}");
}

/// Where floating-point numbers only come near: quotients of up to 2^52, and such that are one tick short.
#[test]
fn what_is_there_of_a_huge_bucket_is_counted_exactly() {
    let clock = ManualClock::at(Moment::from_nanos(1_800_000_000_000_000_000));
    let stores = Both::new(&clock);
    let millis = Duration::from_millis;
    let buckets = [
        // An interval of 1,001 ns: a microsecond after any multiple, one tick is missing.
        (1_000_000, 1_001, 2_000_000_000_000_000),
        (1_000_000_000, 1_000, 4_000_000_000_000_000),
        (7_000_000, 1_000, 20_000_000_000_000),
        (3, 1_000, 9_000_000_000),
    ];
    for (place, (count, period, burst)) in buckets.into_iter().enumerate() {
        let limit = RateLimit::new("huge", Quota::new(count, millis(period)).burst(burst).bucket().unwrap());
        let mut part = 1_u64;
        for turn in 0..300_u64 {
            part = part.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = [place as u64, turn].map(u64::to_be_bytes).concat();
            for (cost, ask) in [(1 + part % (burst - 1), Ask::Exactly), (u64::MAX, Ask::UpTo), (1, Ask::UpTo)] {
                let request = RateRequest::single(&key, cost, &limit).ask(ask);
                let expected = stores.memory.decide(request).ready().unwrap().unwrap();
                let decision = stores.runtime.block_on(stores.redis.decide(request).into_future()).unwrap();
                assert_eq!(decision, expected, "{limit:?}");
                clock.advance(Duration::from_micros(1 - turn % 2));
            }
        }
    }
}

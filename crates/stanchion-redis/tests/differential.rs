//! The same random histories through the pure step, the memory executors and
//! the script on a real server give the same decisions, to the tick.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use stanchion_conformance::RedisServer;
use stanchion_limit::pure::step;
use stanchion_limit::{
    Decision, Limiter, ManualClock, MemoryRateStore, Moment, Quota, RateLimit, RateRequest, RateStore, TokenBucket,
};
use stanchion_redis::RedisRateStore;

/// Quotas of every kind: whole microseconds, fractions of ticks, centuries.
fn quotas() -> impl Strategy<Value = Quota> {
    let counts = prop_oneof![1..100_u64, 1..3_000_000_u64];
    let periods = prop_oneof![1..5_000_u64, 1_000..10_000_000_u64, 1_000_000..4_000_000_000_000_u64];
    let bursts = prop_oneof![1..10_u64, 1..5_000_u64];
    (counts, periods, bursts).prop_filter_map("not representable", |(count, micros, burst)| {
        let quota = Quota::new(count, Duration::from_micros(micros)).burst(burst);
        quota.bucket().is_ok().then_some(quota)
    })
}

/// Pauses in microseconds, of every size beside the quota's, and costs.
fn histories(bucket: TokenBucket) -> impl Strategy<Value = Vec<(u64, u64)>> {
    let interval = u64::try_from(bucket.interval_duration().as_micros()).unwrap().max(1);
    // Ten years twice: a limiter's state in memory must not be idle for longer than its ticks span.
    let refill = u64::try_from(bucket.refill_duration().as_micros()).unwrap().clamp(1, 300_000_000_000_000);
    let pause = prop_oneof![3 => Just(0), 3 => 0..=2 * interval.min(refill), 1 => 0..=2 * refill];
    let burst = bucket.burst();
    let cost = prop_oneof![3 => Just(1), 1 => Just(0), 2 => 0..=burst, 1 => burst..=burst + 1];
    prop::collection::vec((pause, cost), 1..40)
}

/// The pure step, with a variable for state.
struct Pure {
    tat: u64,
}

impl Pure {
    fn decide(&mut self, bucket: &TokenBucket, now: Moment, cost: u64) -> Decision {
        let Some(ticks) = bucket.cost(cost) else {
            return Decision::never_fits(bucket);
        };
        let step = step(bucket, self.tat, now.as_nanos().wrapping_mul(u64::from(bucket.ticks_per_nano())), ticks);
        self.tat = step.state().unwrap_or(self.tat);
        step.decision(bucket, ticks).granting(cost)
    }
}

/// A clock at a time of this century, and a key that no other case has.
fn start() -> (ManualClock, Vec<u8>) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let key = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes().to_vec();
    (ManualClock::at(Moment::from_nanos(1_800_000_000_000_000_000)), key)
}

fn on_redis(server: &RedisServer, runtime: &tokio::runtime::Runtime, clock: &ManualClock) -> RedisRateStore {
    let _inside = runtime.enter();
    RedisRateStore::connect(&server.url()).unwrap().deadline(Duration::from_secs(20)).clock(clock.clone())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn one_limit_is_decided_alike_by_all_executors() {
    let (server, runtime) = (RedisServer::shared(), runtime());
    let cases = quotas().prop_flat_map(|quota| (Just(quota), histories(quota.bucket().unwrap())));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(300));
    let outcome = runner.run(&cases, |(quota, history)| {
        let (clock, key) = start();
        let bucket = quota.bucket().unwrap();
        let mut pure = Pure { tat: clock.now().as_nanos().wrapping_mul(u64::from(bucket.ticks_per_nano())) };
        let direct = Limiter::builder(quota).clock(clock.clone()).build().unwrap();
        let memory = MemoryRateStore::with_clock(100, clock.clone());
        let redis = on_redis(&server, &runtime, &clock);
        let limit = RateLimit::new("one", bucket);
        for (pause, cost) in history {
            clock.advance(Duration::from_micros(pause));
            let expected = pure.decide(&bucket, clock.now(), cost);
            // Of a generous burst a part lies in reservoirs, which only promise the bound.
            if bucket.burst() < 4_096 {
                prop_assert_eq!(direct.check_n(cost), expected);
            }
            let request = RateRequest::single(&key, cost, &limit);
            prop_assert_eq!(memory.decide(request).ready().unwrap().unwrap(), expected);
            prop_assert_eq!(runtime.block_on(redis.decide(request).into_future()).unwrap(), expected);
        }
        Ok(())
    });
    assert!(outcome.is_ok(), "{outcome:?}");
}

#[test]
fn several_limits_are_decided_alike_by_both_stores() {
    let (server, runtime) = (RedisServer::shared(), runtime());
    let cases = prop::collection::vec(quotas(), 2..5).prop_flat_map(|quotas| {
        let tightest = quotas.iter().map(|quota| quota.bucket().unwrap()).min_by_key(TokenBucket::burst).unwrap();
        (Just(quotas), histories(tightest), any::<u64>())
    });
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(200));
    let outcome = runner.run(&cases, |(quotas, history, choice)| {
        const NAMES: [&str; 4] = ["a", "b", "c", "d"];
        let (clock, key) = start();
        let memory = MemoryRateStore::with_clock(1_000, clock.clone());
        let redis = on_redis(&server, &runtime, &clock);
        let limits: Vec<RateLimit> =
            quotas.iter().zip(NAMES).map(|(quota, name)| RateLimit::new(name, quota.bucket().unwrap())).collect();
        for (turn, (pause, cost)) in history.into_iter().enumerate() {
            clock.advance(Duration::from_micros(pause));
            // Now all of them, now some.
            let some = if choice >> (turn % 64) & 1 == 0 { &limits[..] } else { &limits[1..] };
            let request = RateRequest::new(&key, cost, some).unwrap();
            let expected = memory.decide(request).ready().unwrap().unwrap();
            prop_assert_eq!(runtime.block_on(redis.decide(request).into_future()).unwrap(), expected);
        }
        Ok(())
    });
    assert!(outcome.is_ok(), "{outcome:?}");
}

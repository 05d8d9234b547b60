//! Any quota and any history: no panic, no window beyond the bound, and the
//! direct limiter, the keyed one and the store say the same; a direct one with
//! reservoirs may say another thing, within the same bound.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use stanchion_conformance::Admissions;
use stanchion_limit::{KeyedLimiter, Limiter, ManualClock, MemoryRateStore, Quota, RateLimit, RateRequest, RateStore};

#[derive(arbitrary::Arbitrary, Debug)]
struct Input {
    count: u64,
    /// Squared, so that short and long periods are as likely.
    period_root: u32,
    burst: u64,
    requests: Vec<(u32, u16, bool)>,
}

fuzz_target!(|input: Input| {
    let period = Duration::from_nanos(u64::from(input.period_root).pow(2));
    let quota = Quota::new(input.count, period).burst(input.burst);
    let clock = ManualClock::new();
    let Ok(limiter) = Limiter::builder(quota).clock(clock.clone()).build() else {
        return;
    };
    let bucket = quota.bucket().expect("the limiter was built of it");
    let keyed = KeyedLimiter::<u8>::builder(quota).max_keys(1).clock(clock.clone()).build().expect("as the limiter");
    let store = MemoryRateStore::with_clock(64, clock.clone());
    let limit = RateLimit::new("fuzz", bucket);
    let with_reservoirs = Limiter::builder(quota).clock(clock.clone()).build().expect("as the limiter");
    let (mut admissions, mut from_reservoirs) = (Admissions::default(), Admissions::default());
    for (pause, cost, scaled) in input.requests.into_iter().take(200) {
        // A pause as it is, or in intervals.
        let unit = if scaled { bucket.interval_duration() } else { Duration::from_nanos(1) };
        clock.advance(unit.checked_mul(pause & 0xff).unwrap_or(Duration::ZERO).min(Duration::from_secs(1 << 24)));
        // Beyond half the range of its ticks, years, a direct limiter may mistake an
        // old state for a future one; `gcra`'s tests say what it does then.
        if clock.now().as_nanos() >= (1 << 63) / u64::from(bucket.ticks_per_nano()) {
            break;
        }
        let cost = u64::from(cost);
        // At a time that is handed in, no reservoir is used.
        let decision = limiter.check_at(clock.now(), cost);
        assert_eq!(keyed.check_n(&7, cost), decision);
        let stored = store.decide(RateRequest::single(b"key", cost, &limit)).ready().expect("in memory");
        assert_eq!(stored.expect("in memory"), decision);
        assert!(decision.remaining() <= decision.limit());
        if decision.allowed() {
            admissions.push(clock.now().as_nanos(), cost);
        }
        if with_reservoirs.check_n(cost).allowed() {
            from_reservoirs.push(clock.now().as_nanos(), cost);
        }
    }
    from_reservoirs.assert_bound(input.count, period, input.burst);
    admissions.assert_bound(input.count, period, input.burst);
});

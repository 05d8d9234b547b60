//! governor, with its default clock (the timestamp counter, by quanta) and its
//! default keyed store (a `DashMap`, hashed by std's SipHash).

use std::hash::{BuildHasher, Hash};
use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::DefaultClock;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::{GENEROUS, SCARCE, workload};
use crate::runs::{self, Run};

fn units(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).expect("no quota of this file is 0")
}

fn generous() -> DefaultDirectRateLimiter {
    let quota = Quota::per_second(units(1_000_000_000)).allow_burst(units(1_000_000_000));
    let limiter = RateLimiter::direct(quota);
    assert!(limiter.check().is_ok());
    limiter
}

pub(super) fn direct_allow() -> Run {
    let limiter = generous();
    runs::one_thread(move || {
        black_box(limiter.check().is_ok());
    })
}

pub(super) fn direct_small_burst() -> Run {
    let quota = Quota::per_second(units(1_000_000_000)).allow_burst(units(1_000));
    let limiter = RateLimiter::direct(quota);
    runs::one_thread(move || {
        black_box(limiter.check().is_ok());
    })
}

pub(super) fn direct_refuse() -> Run {
    let quota = Quota::with_period(Duration::from_secs(3600)).expect("not 0");
    let limiter = RateLimiter::direct(quota);
    assert!(limiter.check().is_ok() && limiter.check().is_err());
    runs::one_thread(move || {
        black_box(limiter.check().is_ok());
    })
}

pub(super) fn two_threads() -> Run {
    runs::two_threads(generous, |limiter, count| {
        for _ in 0..count {
            black_box(limiter.check().is_ok());
        }
    })
}

fn per_key(per_second: u32) -> Quota {
    Quota::per_second(units(per_second)).allow_burst(units(1000))
}

pub(super) fn filled_u64(per_second: u32) -> DefaultKeyedRateLimiter<u64> {
    filled(RateLimiter::keyed(per_key(per_second)), &workload::numbers().keys)
}

pub(super) fn filled_string() -> DefaultKeyedRateLimiter<String> {
    filled(RateLimiter::keyed(per_key(GENEROUS)), workload::strings().keys.iter().copied())
}

pub(super) fn keyed_u64() -> Run {
    number_after_number(filled_u64(GENEROUS))
}

pub(super) fn keyed_u64_mixed() -> Run {
    number_after_number(filled_u64(SCARCE))
}

pub(super) fn keyed_string() -> Run {
    string_after_string(filled_string())
}

/// With the hash function that ours has, to tell what the rest accounts for.
pub(super) fn keyed_u64_foldhash() -> Run {
    let limiter = RateLimiter::dashmap_with_hasher(per_key(GENEROUS), foldhash::quality::RandomState::default());
    number_after_number(filled(limiter, &workload::numbers().keys))
}

/// As [`keyed_u64_foldhash`].
pub(super) fn keyed_string_foldhash() -> Run {
    let limiter = RateLimiter::dashmap_with_hasher(per_key(GENEROUS), foldhash::quality::RandomState::default());
    string_after_string(filled(limiter, workload::strings().keys.iter().copied()))
}

/// A limiter whose keys are hashed by `S`.
type Keyed<K, S> = RateLimiter<
    K,
    DashMapStateStore<K, S>,
    DefaultClock,
    NoOpMiddleware<<DefaultClock as governor::clock::Clock>::Instant>,
>;

fn filled<'a, K, S>(limiter: Keyed<K, S>, keys: impl IntoIterator<Item = &'a K>) -> Keyed<K, S>
where
    K: Hash + Eq + Clone + 'a,
    S: BuildHasher + Clone,
{
    assert!(keys.into_iter().all(|key| limiter.check_key(key).is_ok()));
    limiter
}

fn number_after_number<S: BuildHasher + Clone + 'static>(limiter: Keyed<u64, S>) -> Run {
    let mut next = workload::numbers().cycle();
    runs::one_thread(move || {
        black_box(limiter.check_key(&next()).is_ok());
    })
}

fn string_after_string<S: BuildHasher + Clone + 'static>(limiter: Keyed<String, S>) -> Run {
    let mut next = workload::strings().cycle();
    runs::one_thread(move || {
        black_box(limiter.check_key(next()).is_ok());
    })
}

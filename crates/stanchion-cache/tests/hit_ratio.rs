//! The policies' hit ratios on generated streams, pinned: who changes a policy sees here
//! what that does. `cargo xtask hit-ratio` compares them with peers, on traces, too.

use stanchion_cache::policy::Simulator;
use stanchion_cache::{Cache, Eviction, Random};

const REQUESTS: usize = 300_000;
const CAPACITY: usize = 1_000;

/// Keys by Zipf's law with this exponent, of so many.
fn zipf(keys: usize, exponent: f64, count: usize, seed: u64) -> Vec<u64> {
    let mut sum = 0.0;
    let sums: Vec<f64> = (1..=keys)
        .map(|rank| {
            sum += (rank as f64).powf(-exponent);
            sum
        })
        .collect();
    let mut random = Random::seeded(seed).run();
    (0..count)
        .map(|_| {
            let drawn = random.unit() * sum;
            sums.partition_point(|&sum| sum <= drawn) as u64
        })
        .collect()
}

fn looped(keys: u64, count: usize) -> Vec<u64> {
    (1_000_000..1_000_000 + keys).cycle().take(count).collect()
}

/// Popular keys, and in every fourth request a key that is never asked for again.
fn scanned() -> Vec<u64> {
    let popular = zipf(20_000, 0.9, REQUESTS, 2);
    (0_u64..).zip(popular).map(|(place, key)| if place % 4 == 0 { 1_000_000 + place } else { key }).collect()
}

/// Each key is asked for three times within a few hundred requests, and never again.
fn recent() -> Vec<u64> {
    let mut random = Random::seeded(3).run();
    (0..REQUESTS as u64 / 2).map(|place| 5_000_000 + (place + random.up_to(600)) / 3).collect()
}

/// What was new, then loops, then what is new again.
fn shifting() -> Vec<u64> {
    [recent(), looped(2_000, REQUESTS), recent()].concat()
}

fn percent(eviction: Eviction, stream: &[u64]) -> f64 {
    let mut simulator = Simulator::new(eviction, CAPACITY);
    let hits = stream.iter().filter(|key| simulator.access(**key)).count();
    100.0 * hits as f64 / stream.len() as f64
}

#[test]
fn hit_ratios_are_what_they_were() {
    // Hybrid, S3-FIFO, LRU.
    for (name, stream, pinned) in [
        ("zipf 0.9", zipf(20_000, 0.9, REQUESTS, 1), [57.3, 56.6, 47.7]),
        ("zipf 1.1", zipf(100_000, 1.1, REQUESTS, 1), [73.1, 73.0, 66.7]),
        ("scan", scanned(), [41.6, 41.8, 31.7]),
        ("loop", looped(2_000, REQUESTS), [44.0, 0.0, 0.0]),
        ("shift", shifting(), [50.6, 30.5, 34.1]),
    ] {
        let measured = [Eviction::Hybrid, Eviction::S3Fifo, Eviction::Lru].map(|eviction| percent(eviction, &stream));
        for (measured, pinned) in measured.into_iter().zip(pinned) {
            assert!((measured - pinned).abs() < 0.5, "{name}: {measured:.2} % hits, {pinned} % before");
        }
    }
}

/// In four shards with a seed it differs little from the pure policy.
#[test]
fn a_cache_hits_as_its_policy_does() {
    for eviction in [Eviction::Hybrid, Eviction::S3Fifo, Eviction::Lru] {
        let stream = zipf(20_000, 0.9, REQUESTS, 1);
        let capacity = CAPACITY as u64;
        let cache: Cache<u64, ()> =
            Cache::builder().max_entries(capacity).eviction(eviction).shards(4).seed(1).build().unwrap();
        let is_hit = |key: &&u64| {
            cache.get(*key).is_some() || {
                cache.insert(**key, ());
                false
            }
        };
        let hits = 100.0 * stream.iter().filter(is_hit).count() as f64 / stream.len() as f64;
        let pure = percent(eviction, &stream);
        assert!((hits - pure).abs() < 0.5, "{eviction:?}: {hits:.2} % in the cache, {pure:.2} % by itself");
    }
}

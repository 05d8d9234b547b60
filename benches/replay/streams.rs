//! Streams of keys by code: the same on each machine.

use super::{Kind, Trace};
use crate::workload::SplitMix;

/// How large the streams are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// To be pinned by a test.
    Small,
    /// To be told: ten times as many keys and requests.
    Full,
}

/// All of them.
pub fn streams(scale: Scale) -> Vec<Trace> {
    let of = |full: usize| if scale == Scale::Full { full } else { full / 10 };
    let (keys, requests) = (of(100_000), of(1_000_000));
    let by_share = |shares: &[usize]| shares.iter().map(|share| keys * share / 1_000).collect::<Vec<_>>();
    let generated = |name: &str, requests: Vec<u64>, capacities: Vec<usize>| Trace {
        name: name.to_owned(),
        kind: Kind::Generated,
        requests,
        capacities,
    };
    let zipf = |exponent: f64| Zipf::new(keys, exponent, 11).take(requests).collect::<Vec<_>>();
    let loop_keys = of(10_000) as u64;
    vec![
        generated("zipf-0.7", zipf(0.7), by_share(&[5, 50, 200])),
        generated("zipf-0.9", zipf(0.9), by_share(&[5, 50, 200])),
        generated("zipf-1.0", zipf(1.0), by_share(&[5, 50, 200])),
        generated("loop", looped(loop_keys).take(requests).collect(), by_share(&[20, 50, 90])),
        generated("loop+zipf", mixed(zipf(0.9), loop_keys), by_share(&[20, 50, 100])),
        generated("scan+zipf", scanned(zipf(0.9), of(10_000), of(5_000)), by_share(&[5, 50, 200])),
        Trace {
            name: "shift".to_owned(),
            kind: Kind::Shift,
            requests: shifted(of(135_702) as u64, of(505_500)),
            // The loop's length doesn't scale: it is to be twice the cache.
            capacities: vec![512],
        },
    ]
}

/// Keys by Zipf's law: rank `r` comes `r^-exponent` times as often as rank 1.
struct Zipf {
    /// Sums of the weights, in integers.
    sums: Vec<u64>,
    random: SplitMix,
}

impl Zipf {
    fn new(keys: usize, exponent: f64, seed: u64) -> Self {
        let mut sum = 0;
        let sums = (1..=keys).map(|rank| {
            // At most 2^40, and no rank is so rare that nothing is left of it.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive number below 2^41")]
            let weight = (2_f64.powi(40) * (rank as f64).powf(-exponent)) as u64;
            sum += weight.max(1);
            sum
        });
        Self { sums: sums.collect(), random: SplitMix(seed) }
    }
}

impl Iterator for Zipf {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let total = *self.sums.last()?;
        let pick = self.random.below(total) as u64;
        Some(named(self.sums.partition_point(|&sum| sum <= pick) as u64, 0))
    }
}

/// A key that shows no order, of one of several families that have none in common.
fn named(number: u64, family: u64) -> u64 {
    // The generator's outputs are distinct: each is a bijection of its state.
    SplitMix(family << 48 | number).next().unwrap_or_default()
}

/// So many keys, again and again.
fn looped(keys: u64) -> impl Iterator<Item = u64> {
    (0..).map(move |place| named(place % keys, 1))
}

/// Half of the requests by another stream, the others of a loop.
fn mixed(other: Vec<u64>, keys: u64) -> Vec<u64> {
    let (mut random, mut round) = (SplitMix(12), looped(keys));
    let pick = |key| if random.below(2) == 0 { Some(key) } else { round.next() };
    other.into_iter().filter_map(pick).collect()
}

/// After each `pause` requests of another stream, `length` keys that never come again.
fn scanned(other: Vec<u64>, pause: usize, length: usize) -> Vec<u64> {
    let mut new = (0..).map(|number| named(number, 2));
    let chunks = other.chunks(pause);
    chunks.flat_map(|chunk| chunk.iter().copied().chain(new.by_ref().take(length)).collect::<Vec<_>>()).collect()
}

/// What an LRU is made for, a loop of about twice 512 keys, and the former again.
///
/// The shape of Caffeine's test of adaptivity: the trace `corda`, the trace `loop`, `corda`.
fn shifted(recent: u64, looped_for: usize) -> Vec<u64> {
    let once_more = recency(recent, 4);
    recency(recent, 3).chain(looped(1_011).take(looped_for)).chain(once_more).collect()
}

/// So many requests: of three, two are for new keys, and the third is for the former of such two, 3 to 95
/// requests before. After that nobody asks for it again.
fn recency(requests: u64, family: u64) -> impl Iterator<Item = u64> {
    const BLOCK: u64 = 16;
    (0..requests).map(move |place| {
        let (step, part) = (place / 3, place % 3);
        // The steps of a block go back through those of the block before.
        let earlier = (step / BLOCK * BLOCK).checked_sub(1 + step % BLOCK).unwrap_or(step);
        named(if part < 2 { 2 * step + part } else { 2 * earlier }, family)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    fn stream(name: &str) -> Vec<u64> {
        streams(Scale::Small).into_iter().find(|stream| stream.name == name).unwrap().requests
    }

    #[test]
    fn zipfs_exponent_is_what_the_name_says() {
        for (name, exponent) in [("zipf-0.7", 0.7), ("zipf-0.9", 0.9), ("zipf-1.0", 1.0)] {
            let mut counts = HashMap::<u64, u32>::new();
            for key in stream(name) {
                *counts.entry(key).or_default() += 1;
            }
            let of = |rank: u64| f64::from(counts[&named(rank - 1, 0)]);
            // A hundred times the rank: the slope in two decades, with a few hundred to a few thousand counted.
            let top: f64 = (1..=10).map(of).sum::<f64>();
            let later: f64 = (101..=1_000).map(of).sum::<f64>();
            let expected =
                |ranks: std::ops::RangeInclusive<u32>| ranks.map(|rank| f64::from(rank).powf(-exponent)).sum::<f64>();
            let (found, wanted) = (top / later, expected(1..=10) / expected(101..=1_000));
            assert!((found / wanted - 1.0).abs() < 0.05, "{name}: {found} for {wanted}");
        }
    }

    #[test]
    fn a_third_of_the_recent_ones_is_asked_for_twice_within_95_requests() {
        let requests: Vec<u64> = recency(3 * 16 * 10, 3).collect();
        let mut seen = HashMap::new();
        let mut distances: Vec<usize> =
            requests.iter().enumerate().filter_map(|(place, key)| Some(place - seen.insert(key, place)?)).collect();
        distances.sort_unstable();
        assert_eq!(distances.len(), 160);
        // The first block has none before it, and asks for its own.
        assert_eq!((distances[15], distances[16], distances[159]), (2, 3, 95));
        assert!(distances.iter().filter(|&&distance| distance > 30).count() > 90);
    }

    #[test]
    fn scans_are_of_keys_that_never_come_again() {
        let scanned = stream("scan+zipf");
        let known: HashSet<u64> = (0..10_000).map(|rank| named(rank, 0)).collect();
        let new: Vec<u64> = scanned.iter().copied().filter(|key| !known.contains(key)).collect();
        assert_eq!(new.len(), 100 * 500);
        assert_eq!(new.iter().collect::<HashSet<_>>().len(), new.len());
    }
}

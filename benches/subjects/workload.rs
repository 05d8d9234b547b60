//! The keys of the keyed cases, and the order in which they come.

use std::sync::OnceLock;

/// So many keys there are.
const KEYS: usize = 100_000;

/// So many references to them, after which they come again in the same order.
const REFERENCES: usize = 1 << 20;

/// Distinct keys, and references to them that follow Zipf's law with exponent
/// 1: the key of rank `r` comes `1 / r` times as often as that of rank 1.
/// Which key has which rank is shuffled. The same in each process.
#[derive(Debug)]
pub struct Workload<K> {
    /// The keys, each once.
    pub keys: Vec<K>,
    /// The keys in the order in which they come.
    pub references: Vec<K>,
}

/// Numbers that show no order.
pub fn numbers() -> &'static Workload<u64> {
    static NUMBERS: OnceLock<Workload<u64>> = OnceLock::new();
    // The generator's outputs are distinct: each is a bijection of its state.
    NUMBERS.get_or_init(|| Workload::of(SplitMix(1).take(KEYS).collect()))
}

/// Strings such as `tenant-0123456789abcdef`.
pub fn strings() -> &'static Workload<&'static String> {
    static STRINGS: OnceLock<Workload<&'static String>> = OnceLock::new();
    STRINGS.get_or_init(|| {
        let names: Vec<String> = SplitMix(2).take(KEYS).map(|number| format!("tenant-{number:016x}")).collect();
        // Leaked once in a process that is about to end.
        let names: &'static [String] = names.leak();
        Workload::of(names.iter().collect())
    })
}

impl<K: Copy> Workload<K> {
    fn of(keys: Vec<K>) -> Self {
        let mut random = SplitMix(3);
        let mut by_rank = keys.clone();
        for end in (1..by_rank.len()).rev() {
            by_rank.swap(end, random.below(end as u64 + 1));
        }
        // The sums of the weights, in integers: rank r weighs 2^40 / r.
        let sums: Vec<u64> = (1..=keys.len() as u64)
            .scan(0, |sum, rank| {
                *sum += (1 << 40) / rank;
                Some(*sum)
            })
            .collect();
        let total = *sums.last().expect("there are keys");
        let references = (0..REFERENCES)
            .map(|_| {
                let pick = random.below(total) as u64;
                by_rank[sums.partition_point(|sum| *sum <= pick)]
            })
            .collect();
        Self { keys, references }
    }

    /// The keys as they come, for ever.
    pub fn cycle(&'static self) -> impl FnMut() -> K + 'static {
        let mut next = 0;
        move || {
            // A power of two, so that this costs nothing beside a check.
            let key = self.references[next % REFERENCES];
            next = next.wrapping_add(1);
            key
        }
    }
}

/// The generator `splitmix64` (Steele, Lea, Flood 2014).
#[derive(Debug)]
pub struct SplitMix(pub u64);

impl Iterator for SplitMix {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Some(mixed ^ (mixed >> 31))
    }
}

impl SplitMix {
    /// A number below `end`, evenly but for a share of `end / 2^64`.
    pub fn below(&mut self, end: u64) -> usize {
        let number = self.next().expect("the generator doesn't end");
        usize::try_from((u128::from(number) * u128::from(end)) >> 64).expect("below an index or a sum of 2^44")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    #[test]
    fn keys_are_distinct_and_look_as_promised() {
        assert_eq!(numbers().keys.iter().collect::<HashSet<_>>().len(), KEYS);
        assert_eq!(strings().keys.iter().collect::<HashSet<_>>().len(), KEYS);
        assert!(strings().keys.iter().all(|key| key.len() == "tenant-0123456789abcdef".len()));
    }

    #[test]
    fn references_follow_zipfs_law() {
        let mut counts = HashMap::<u64, u32>::new();
        for key in &numbers().references {
            *counts.entry(*key).or_default() += 1;
        }
        let mut counts: Vec<u32> = counts.into_values().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        // The harmonic number of 100,000 is 12.09, so the first has 86,733 of
        // 2^20 in the mean, the tenth 8,673. The margins are seven standard deviations.
        assert!(counts[0].abs_diff(86_733) < 2_000, "{}", counts[0]);
        assert!(counts[9].abs_diff(8_673) < 650, "{}", counts[9]);
        assert!(counts[99].abs_diff(867) < 210, "{}", counts[99]);
    }

    #[test]
    fn neighbouring_ranks_are_no_neighbours() {
        let keys = &numbers().keys;
        let place: HashMap<u64, usize> = keys.iter().enumerate().map(|(place, key)| (*key, place)).collect();
        let mut counts = HashMap::<u64, u32>::new();
        for key in &numbers().references {
            *counts.entry(*key).or_default() += 1;
        }
        let mut ranked: Vec<(u64, u32)> = counts.into_iter().collect();
        ranked.sort_unstable_by_key(|(_, count)| std::cmp::Reverse(*count));
        let near =
            ranked[..1_000].windows(2).filter(|pair| place[&pair[0].0].abs_diff(place[&pair[1].0]) < 100).count();
        // Two in 1,000 are, by chance.
        assert!(near < 15, "{near}");
    }
}

//! Randomness, handed in.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::SeedableRng;
use rand::rngs::SmallRng;

/// A source of generators: one for each run of a policy, independent of each
/// other. Clones share it.
///
/// The same seed gives the same generators in the same order, which makes a
/// run of a test repeatable. It is for jitter and sampling, not for secrets.
///
/// ```
/// use stanchion_core::Random;
///
/// let (one, other) = (Random::seeded(7), Random::seeded(7));
/// assert_eq!(one.run().unit(), other.run().unit());
/// assert_ne!(one.run().unit(), Random::seeded(8).run().unit());
/// ```
#[derive(Debug, Clone)]
pub struct Random(Arc<AtomicU64>);

impl Random {
    /// A source that no other process and no other call of this shares.
    pub fn system() -> Self {
        // std seeds each `RandomState` from the operating system.
        Self::seeded(RandomState::new().hash_one(()))
    }

    /// A source that is determined by `seed`.
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(mixed(seed))))
    }

    /// The generator for the next run.
    pub fn run(&self) -> RandomRun {
        // Relaxed: each run needs a number of its own; their order is nobody's business.
        let position = self.0.fetch_add(GOLDEN, Ordering::Relaxed);
        RandomRun(SmallRng::seed_from_u64(mixed(position)))
    }
}

impl Default for Random {
    fn default() -> Self {
        Self::system()
    }
}

/// The generator of one run of a policy.
#[derive(Debug, Clone)]
pub struct RandomRun(SmallRng);

impl RandomRun {
    /// A number in `0.0..1.0`, uniform.
    pub fn unit(&mut self) -> f64 {
        rand::RngExt::random(&mut self.0)
    }

    /// A number in `0..=most`, uniform.
    pub fn up_to(&mut self, most: u64) -> u64 {
        rand::RngExt::random_range(&mut self.0, 0..=most)
    }
}

/// 2^64 divided by the golden ratio: SplitMix64's step (Steele, Lea, Flood 2014).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64's mixing, which sets neighbouring positions far apart.
fn mixed(position: u64) -> u64 {
    let mut z = position.wrapping_add(GOLDEN);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// tower's backoff gives each session the same sequence; ours must not.
    #[test]
    fn a_thousand_runs_are_uniform_and_uncorrelated() {
        let random = Random::seeded(1);
        let pairs: Vec<(f64, f64)> = (0..1000).map(|_| random.run()).map(|mut run| (run.unit(), run.unit())).collect();
        let mean = |numbers: &mut dyn Iterator<Item = f64>| numbers.sum::<f64>() / 1000.0;
        let first = mean(&mut pairs.iter().map(|pair| pair.0));
        // The mean of 1,000 uniform numbers has a standard deviation of 0.0091; this allows five.
        assert!((first - 0.5).abs() < 0.046, "mean {first}");
        // Correlation between neighbouring runs, and within a run: standard deviation 0.032.
        let neighbours = mean(&mut pairs.windows(2).map(|two| (two[0].0 - 0.5) * (two[1].0 - 0.5) * 12.0));
        let within = mean(&mut pairs.iter().map(|pair| (pair.0 - 0.5) * (pair.1 - 0.5) * 12.0));
        assert!(neighbours.abs() < 0.16, "neighbours {neighbours}");
        assert!(within.abs() < 0.16, "within {within}");
        let mut buckets = [0_u32; 10];
        for (value, _) in &pairs {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0.0..10.0")]
            let bucket = (value * 10.0) as usize;
            buckets[bucket] += 1;
        }
        // Each holds 100 with a standard deviation of 9.5.
        assert!(buckets.iter().all(|&count| (53..=147).contains(&count)), "{buckets:?}");
    }

    #[test]
    fn two_systems_differ() {
        assert_ne!(Random::system().run().unit(), Random::system().run().unit());
    }

    #[test]
    fn up_to_includes_both_ends() {
        let mut run = Random::seeded(3).run();
        let drawn: std::collections::HashSet<u64> = (0..200).map(|_| run.up_to(3)).collect();
        assert_eq!(drawn.len(), 4);
        assert_eq!(run.up_to(0), 0);
    }
}

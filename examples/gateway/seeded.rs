//! Random numbers that a seed determines, on every machine and in every version.

use std::time::Duration;

/// `SplitMix64` (Steele, Lea, Flood 2014). It is a few lines, so that no update
/// of a dependency changes what a seed plays.
#[derive(Debug, Clone)]
pub(crate) struct Seeded(u64);

impl Seeded {
    /// The numbers of a seed. Each `purpose` has a sequence of its own, so that
    /// drawing more for one changes nothing for the others.
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        Self(mixed(seed) ^ mixed(!purpose))
    }

    /// A number in `0.0..1.0`, uniform.
    pub(crate) fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        // The upper 53 bits are what a float can hold.
        (mixed(self.0) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// The time until the next of independent events, of which so many happen in a second on average.
    pub(crate) fn until_next(&mut self, per_second: f64) -> Duration {
        Duration::from_secs_f64(-(1.0 - self.unit()).ln() / per_second)
    }
}

fn mixed(position: u64) -> u64 {
    let z = (position ^ (position >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(seed: u64, purpose: u64) -> Vec<f64> {
        let mut random = Seeded::new(seed, purpose);
        (0..1_000).map(|_| random.unit()).collect()
    }

    #[test]
    fn seed_and_purpose_determine_the_numbers() {
        assert_eq!(drawn(1, 2), drawn(1, 2));
        assert_ne!(drawn(1, 2), drawn(2, 2));
        assert_ne!(drawn(1, 2), drawn(1, 3));
        assert_ne!(drawn(1, 2), drawn(2, 1));
    }

    #[test]
    fn the_numbers_are_uniform_and_the_events_come_at_their_rate() {
        let numbers = drawn(7, 0);
        assert!(numbers.iter().all(|number| (0.0..1.0).contains(number)));
        // The mean of 1,000 has a standard deviation of 0.0091; this allows five.
        assert!((numbers.iter().sum::<f64>() / 1_000.0 - 0.5).abs() < 0.046);
        let mut random = Seeded::new(7, 1);
        let total: Duration = (0..10_000).map(|_| random.until_next(100.0)).sum();
        // 100 seconds, with a standard deviation of one.
        assert!((95.0..105.0).contains(&total.as_secs_f64()), "{total:?}");
    }
}

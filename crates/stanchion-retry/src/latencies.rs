//! How long things took lately, in bounded memory.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use stanchion_core::{ConfigError, Moment};

use crate::backoff::{as_float, nanos, whole};

/// How long things took in the last one to two windows: a histogram from which
/// percentiles are read.
///
/// **A percentile is at most 6.25 % above the true one**, and never below it;
/// times under 16 µs are told apart by 1 µs, and those above 73 minutes not at
/// all. It takes 3.7 KiB, is shared by reference and has no lock. To record is
/// one addition; when a window begins, the one before the last is forgotten.
///
/// ```
/// use std::time::Duration;
/// use stanchion_retry::{Latencies, Moment};
///
/// let latencies = Latencies::new(Duration::from_secs(60))?;
/// let now = Moment::default();
/// for millis in 1..=100 {
///     latencies.record(now, Duration::from_millis(millis));
/// }
/// let p95 = latencies.percentile(now, 95.0).unwrap();
/// assert!(p95 >= Duration::from_millis(95) && p95 < Duration::from_millis(101));
/// # Ok::<(), stanchion_retry::ConfigError>(())
/// ```
pub struct Latencies {
    window_nanos: u64,
    /// The number of the window that is recorded in.
    current: AtomicU64,
    /// Even windows and odd ones.
    halves: Box<[[AtomicU32; BUCKETS]; 2]>,
}

/// Buckets to each doubling.
const PARTS: u64 = 16;
/// 16 of about a microsecond, and 16 for each of 28 doublings.
const BUCKETS: usize = 464;
/// About a microsecond: 1,024 ns.
const UNIT_BITS: u32 = 10;

impl Latencies {
    /// Nothing so far; windows are `window` long.
    ///
    /// # Errors
    /// Names `window` when it is shorter than a millisecond.
    pub fn new(window: Duration) -> Result<Self, ConfigError> {
        if window < Duration::from_millis(1) {
            return Err(ConfigError::new("window", format_args!("{window:?}"), "must be at least 1 ms"));
        }
        let half = || std::array::from_fn(|_| AtomicU32::new(0));
        Ok(Self { window_nanos: nanos(window), current: AtomicU64::new(0), halves: Box::new([half(), half()]) })
    }

    /// Something took so long, and ended now.
    ///
    /// What was given up is recorded, too, with the time that it had taken by
    /// then: without it, percentiles would know only what was fast.
    pub fn record(&self, now: Moment, took: Duration) {
        let half = self.turn(now);
        // Relaxed, here and below: counts guard no other memory. One that was full would begin
        // anew, after four thousand million in a window.
        self.halves[half][bucket(nanos(took))].fetch_add(1, Ordering::Relaxed);
    }

    /// How many are counted.
    pub fn count(&self, now: Moment) -> u64 {
        self.turn(now);
        (0..BUCKETS).map(|bucket| self.both(bucket)).sum()
    }

    /// The time within which `percent` of them ended; `None` without any.
    pub fn percentile(&self, now: Moment, percent: f64) -> Option<Duration> {
        let count = self.count(now);
        if count == 0 {
            return None;
        }
        let rank = whole((as_float(count) * percent / 100.0).ceil()).clamp(1, count);
        let mut passed = 0;
        let found = (0..BUCKETS).find(|&bucket| {
            passed += self.both(bucket);
            passed >= rank
        });
        // Somebody may have begun a window meanwhile: then it is the longest there is.
        Some(upper_end(found.unwrap_or(BUCKETS - 1)))
    }

    fn both(&self, bucket: usize) -> u64 {
        self.halves.iter().map(|half| u64::from(half[bucket].load(Ordering::Relaxed))).sum()
    }

    /// The half for this moment's window; forgets what is too old.
    fn turn(&self, now: Moment) -> usize {
        let number = now.as_nanos() / self.window_nanos;
        let current = self.current.load(Ordering::Relaxed);
        // One of those who come first clears; a reading of another core may be behind.
        if number > current
            && self.current.compare_exchange(current, number, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.clear(half_of(number));
            if number > current + 1 {
                self.clear(half_of(number + 1));
            }
        }
        half_of(number)
    }

    fn clear(&self, half: usize) {
        self.halves[half].iter().for_each(|count| count.store(0, Ordering::Relaxed));
    }
}

impl fmt::Debug for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latencies").field("window", &Duration::from_nanos(self.window_nanos)).finish_non_exhaustive()
    }
}

const fn half_of(window: u64) -> usize {
    if window.is_multiple_of(2) { 0 } else { 1 }
}

/// Linear up to 16 units, then 16 parts to each doubling.
fn bucket(nanos: u64) -> usize {
    let units = nanos >> UNIT_BITS;
    let place = match units.checked_ilog2() {
        None | Some(0..=3) => units,
        Some(doubling) => u64::from(doubling - 3) * PARTS + ((units >> (doubling - 4)) & (PARTS - 1)),
    };
    usize::try_from(place).map_or(BUCKETS - 1, |place| place.min(BUCKETS - 1))
}

/// The longest time that falls into a bucket.
fn upper_end(bucket: usize) -> Duration {
    let bucket = bucket as u64;
    let units = match bucket / PARTS {
        0 => bucket + 1,
        doubling => (PARTS + bucket % PARTS + 1) << (doubling - 1),
    };
    Duration::from_nanos((units << UNIT_BITS) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(secs: u64) -> Moment {
        Moment::from_nanos(secs * 1_000_000_000)
    }

    fn latencies() -> Latencies {
        Latencies::new(Duration::from_secs(60)).unwrap()
    }

    #[test]
    fn a_time_is_remembered_for_one_window_at_least_and_two_at_most() {
        let latencies = latencies();
        latencies.record(at(59), Duration::from_secs(1));
        assert_eq!([60, 119, 120].map(|now| latencies.count(at(now))), [1, 1, 0]);
        latencies.record(at(120), Duration::from_secs(1));
        assert_eq!([179, 239, 240].map(|now| latencies.count(at(now))), [1, 1, 0]);
        latencies.record(at(240), Duration::from_secs(1));
        // Idle for a month, whichever half of the memory is next.
        for minutes in [0, 1] {
            let later = 240 + 30 * 86_400 * (minutes + 1) + minutes * 60;
            assert_eq!(latencies.count(at(later)), 0);
            latencies.record(at(later), Duration::from_secs(1));
        }
        // A reading of another core that is behind forgets nothing.
        let now = 240 + 60 * 86_400 + 60;
        assert_eq!(latencies.count(at(now)), 1);
        assert_eq!(latencies.count(at(now - 61)), 1);
    }

    #[test]
    fn the_longest_times_have_a_bucket() {
        let latencies = latencies();
        latencies.record(at(1), Duration::MAX);
        latencies.record(at(1), Duration::ZERO);
        assert_eq!(latencies.percentile(at(1), 50.0), Some(Duration::from_nanos(1_023)));
        assert!(latencies.percentile(at(1), 100.0).unwrap() > Duration::from_secs(4_000));
        assert_eq!(latencies.percentile(at(1), f64::NAN), latencies.percentile(at(1), 0.0));
    }

    proptest! {
        #[test]
        fn a_percentile_is_never_below_the_true_one_and_hardly_above(
            mut micros in prop::collection::vec(16..100_000_000_u64, 1..300), percent in 0.0..=100.0_f64,
        ) {
            let latencies = latencies();
            for &each in &micros {
                latencies.record(at(1), Duration::from_micros(each));
            }
            micros.sort_unstable();
            let rank = whole((as_float(micros.len() as u64) * percent / 100.0).ceil()).max(1);
            let exact = Duration::from_micros(micros[usize::try_from(rank).unwrap() - 1]);
            let ours = latencies.percentile(at(1), percent).unwrap();
            prop_assert!(ours >= exact && ours <= exact.mul_f64(1.0625) + Duration::from_micros(1), "{ours:?} for {exact:?}");
        }
    }
}

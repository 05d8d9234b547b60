//! How long things take, in buckets that widen with the time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets for each doubling.
const STEPS: u64 = 4;
/// 36 times as many: up to 2^37 µs, which is a day and a half; what takes longer is in the last.
const BUCKETS: usize = 144;

/// Counts of durations: whole microseconds below 4 µs, from there on four buckets for each doubling, so that each is
/// at most a quarter wider than its lower end.
#[derive(Debug)]
pub(crate) struct Histogram([AtomicU64; BUCKETS]);

impl Histogram {
    pub(crate) fn new() -> Self {
        Self([const { AtomicU64::new(0) }; BUCKETS])
    }

    pub(crate) fn record(&self, took: Duration) {
        // Relaxed: a number among numbers.
        self.0[bucket(took)].fetch_add(1, Ordering::Relaxed);
    }

    /// How they are spread; `total` is their sum.
    pub(crate) fn summary(&self, total: Duration) -> Durations {
        let counts: Vec<u64> = self.0.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let count: u64 = counts.iter().sum();
        let at = |share: u64| {
            // The smallest bucket within which, or below which, so many thousandths are.
            let wanted = (u128::from(count) * u128::from(share)).div_ceil(1000);
            let mut seen = 0;
            let found = counts.iter().position(|counted| {
                seen += u128::from(*counted);
                seen >= wanted
            });
            if count == 0 { Duration::ZERO } else { found.map_or(Duration::ZERO, end) }
        };
        let mean = u128::from(count.max(1));
        Durations {
            count,
            mean: Duration::from_nanos(u64::try_from(total.as_nanos() / mean).unwrap_or(u64::MAX)),
            p50: at(500),
            p90: at(900),
            p99: at(990),
            p999: at(999),
            max: at(1000),
        }
    }
}

/// Where a duration is counted.
fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    if micros < STEPS {
        return usize::try_from(micros).unwrap_or(0);
    }
    // The highest bit says which doubling, the two below it which quarter of it.
    let doubling = u64::from(micros.ilog2());
    let quarter = (micros >> (doubling - 2)) & (STEPS - 1);
    usize::try_from((doubling - 1) * STEPS + quarter).map_or(BUCKETS - 1, |bucket| bucket.min(BUCKETS - 1))
}

/// The upper end of a bucket, which is in the next one.
fn end(bucket: usize) -> Duration {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return Duration::from_micros(bucket + 1);
    }
    let (doubling, quarter) = (bucket / STEPS + 1, bucket % STEPS);
    Duration::from_micros((STEPS + quarter + 1) << (doubling - 2))
}

/// How durations are spread. The mean is exact; the others are upper ends of the buckets that durations are counted in: whole
/// microseconds up to 4 µs, and from there on four for each doubling (4, 5, 6, 7, 8, 10, 12, 14, 16, 20 … µs). So
/// they are never too low, and at most a quarter, or a microsecond, too high. All are zero if there is nothing to tell of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Durations {
    /// How many there were.
    pub count: u64,
    /// Their mean.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub mean: Duration,
    /// Half of them took no longer.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub p50: Duration,
    /// Nine in ten took no longer.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub p90: Duration,
    /// All but one in a hundred took no longer.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub p99: Duration,
    /// All but one in a thousand took no longer.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub p999: Duration,
    /// None took longer, up to a day.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub max: Duration,
}

#[cfg(all(test, not(stanchion_loom)))]
mod tests {
    use super::*;

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn a_bucket_ends_where_the_next_begins_and_is_at_most_a_quarter_wide() {
        for bucket_number in 0..BUCKETS - 1 {
            let ends = end(bucket_number);
            assert_eq!(bucket(ends - Duration::from_nanos(1)), bucket_number);
            assert_eq!(bucket(ends), bucket_number + 1);
            let next = end(bucket_number + 1);
            assert!(next - ends <= (ends / 4).max(micros(1)), "{ends:?} to {next:?}");
        }
        assert_eq!((bucket(Duration::ZERO), bucket(Duration::MAX)), (0, BUCKETS - 1));
        assert!(end(BUCKETS - 1) > Duration::from_secs(86_400));
        let first: Vec<Duration> = (0..12).map(end).collect();
        assert_eq!(first, [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16].map(micros));
    }

    #[test]
    fn quantiles_are_those_of_a_sorted_list_rounded_up_to_the_end_of_a_bucket() {
        let histogram = Histogram::new();
        assert_eq!(histogram.summary(Duration::ZERO), Durations::default());
        // 1,000 different times, none in order.
        let mut times: Vec<u64> = (0..1_000_u64).map(|number| (number * 7_919) % 1_000 * 37 + 5).collect();
        times.iter().for_each(|time| histogram.record(micros(*time)));
        times.sort_unstable();
        let summary = histogram.summary(micros(times.iter().sum()));
        assert_eq!((summary.count, summary.mean), (1_000, micros(times.iter().sum()) / 1_000));
        let exact =
            [(summary.p50, 500), (summary.p90, 900), (summary.p99, 990), (summary.p999, 999), (summary.max, 1_000)];
        for (told, place) in exact {
            let time = times[place - 1];
            assert_eq!(told, end(bucket(micros(time))), "place {place}");
        }
    }
}

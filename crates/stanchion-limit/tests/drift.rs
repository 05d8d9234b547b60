//! The promise over a long time: a limiter that is polled at awkward intervals
//! for 10⁶ simulated hours never exceeds its rate, and loses at most 0.01 % of it.
//!
//! A quota whose interval is a whole number of ticks loses nothing at all: in the
//! end it has admitted its burst and its rate times the time, to the last unit,
//! in exact arithmetic. The test holds it to that.
//!
//! The bucket is never full, so that no error is wiped out by a full bucket: what
//! any poll loses or gains is there in the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stanchion_limit::{Clock, Decision, KeyedLimiter, Limiter, ManualClock, Quota, TokenBucket};

const HOURS: u64 = 1_000_000;
const HOUR: Duration = Duration::from_secs(3_600);
const SECOND: Duration = Duration::from_secs(1);

/// A limiter that is asked, and what it should have admitted.
struct Polled<'a> {
    ask: &'a dyn Fn(u64) -> Decision,
    clock: ManualClock,
    bucket: TokenBucket,
    count: u64,
    period: Duration,
    admitted: u128,
}

impl Polled<'_> {
    fn poll(&mut self, units: u64) -> bool {
        let allowed = (self.ask)(units).allowed();
        if allowed {
            self.admitted += u128::from(units);
            assert!(self.admitted <= self.due(self.count, self.period.as_nanos()), "more than its rate");
        } else if units == 1 {
            self.has_lost_nothing();
        }
        allowed
    }

    /// Takes all that is there.
    fn drain(&mut self) {
        loop {
            let there = (self.ask)(0).remaining();
            if there == 0 {
                break;
            }
            assert!(self.poll(there));
        }
        assert!(!self.poll(1));
    }

    /// One was refused: so all that was due has been admitted.
    fn has_lost_nothing(&self) {
        let (count, period) = (u128::from(self.count), self.period.as_nanos());
        let exact = u128::from(self.bucket.interval()) * count == period * u128::from(self.bucket.ticks_per_nano());
        let due = if exact {
            self.due(self.count, period)
        } else {
            u128::from(self.bucket.burst()) + self.elapsed() * count / period * 9_999 / 10_000
        };
        assert!(self.admitted >= due, "{} of {due} in {} ns", self.admitted, self.elapsed());
    }

    /// The burst, and the rate times the time.
    fn due(&self, count: u64, period: u128) -> u128 {
        u128::from(self.bucket.burst()) + self.elapsed() * u128::from(count) / period
    }

    /// The clock began at zero.
    fn elapsed(&self) -> u128 {
        u128::from(self.clock.now().as_nanos())
    }
}

/// A direct and a keyed limiter, one after the other.
fn for_both(count: u64, period: Duration, burst: u64, test: impl Fn(Polled<'_>)) {
    let quota = Quota::new(count, period).burst(burst);
    let bucket = quota.bucket().unwrap();

    let clock = ManualClock::new();
    let direct = Limiter::builder(quota).clock(clock.clone()).build().unwrap();
    test(Polled { ask: &|units| direct.check_n(units), clock, bucket, count, period, admitted: 0 });

    let clock = ManualClock::new();
    let keyed = KeyedLimiter::<str>::builder(quota).max_keys(10).clock(clock.clone()).build().unwrap();
    test(Polled { ask: &|units| keyed.check_n("key", units), clock, bucket, count, period, admitted: 0 });
}

/// Fast quotas: *spells* of a few hundred polls at an awkward interval, each
/// after a pause of some hundred hours, which a bucket that is large enough
/// remembers. What came in the pause is taken at once, down to the last unit.
#[test]
fn spells_of_awkward_polling_over_a_million_hours_neither_lose_nor_gain() {
    const SPELLS: u32 = 2_000;
    const POLLS: u32 = 300;
    let pause = HOUR * u32::try_from(HOURS).unwrap() / SPELLS;
    for (count, period) in [
        (1, SECOND),
        (3, SECOND),
        (7, SECOND),
        (50, SECOND),
        (100, SECOND * 60),
        (1_000_000_007, HOUR),
        // Whole ticks, generous, and fast enough for reservoirs.
        (1_500_000, SECOND),
        (1_000_000_000, SECOND),
        // No whole number of ticks.
        (999_983, SECOND),
        (3_333_333, SECOND),
        (1 << 30, SECOND),
    ] {
        // Twice what comes back in a pause.
        let burst = u64::try_from(2 * pause.as_nanos() * u128::from(count) / period.as_nanos()).unwrap();
        let interval = u64::try_from(period.as_nanos()).unwrap().div_ceil(count);
        for_both(count, period, burst, |mut polled| {
            polled.drain();
            // The intervals: of those who measured peers, primes, and a little
            // more and less than a unit takes to come back.
            let strides = [1_999, 1_999_000, 1, 7_919, 104_729, interval + 1, interval.max(2) - 1, interval * 2 + 1];
            for (spell, stride) in (0..SPELLS).zip(strides.into_iter().cycle()) {
                polled.clock.advance(pause + Duration::from_nanos(u64::from(spell)));
                polled.drain();
                for _ in 0..POLLS {
                    polled.clock.advance(Duration::from_nanos(stride));
                    polled.poll(1);
                }
            }
            polled.drain();
            assert!(polled.elapsed() >= u128::from(HOURS) * HOUR.as_nanos());
        });
    }
}

/// The same with a bucket that is nearly full when a spell begins, so that most
/// polls are answered from a reservoir, which reads no clock.
#[test]
fn spells_from_reservoirs_over_a_million_hours_neither_lose_nor_gain() {
    const SPELLS: u32 = 2_000;
    const POLLS: u32 = 300;
    let pause = HOUR * u32::try_from(HOURS).unwrap() / SPELLS;
    for (count, period) in [(100_000, SECOND), (1_500_000, SECOND), (7_000_000, SECOND), (1_000_000_000, SECOND)] {
        // What comes back in a pause and 5 ms more, so that the bucket is never full.
        let refill = pause + Duration::from_millis(5);
        let burst = u64::try_from(refill.as_nanos() * u128::from(count) / period.as_nanos()).unwrap();
        let quota = Quota::new(count, period).burst(burst);
        let (clock, readings) = (ManualClock::new(), Arc::new(AtomicU64::new(0)));
        let counted = {
            let (clock, readings) = (clock.clone(), readings.clone());
            Clock::custom(move || {
                readings.fetch_add(1, Ordering::Relaxed);
                clock.now()
            })
        };
        let limiter = Limiter::builder(quota).clock(counted).build().unwrap();
        let ask = |units| limiter.check_n(units);
        let mut polled = Polled { ask: &ask, clock, bucket: quota.bucket().unwrap(), count, period, admitted: 0 };
        polled.drain();
        for (_, stride) in (0..SPELLS).zip([1_999, 1, 7_919, 15_013].into_iter().cycle()) {
            polled.clock.advance(pause);
            let before = readings.load(Ordering::Relaxed);
            for _ in 0..POLLS {
                polled.clock.advance(Duration::from_nanos(stride));
                assert!(polled.poll(1));
            }
            let read = readings.load(Ordering::Relaxed) - before;
            assert!(read <= u64::from(POLLS) / 8, "{read} readings, {count} per {period:?}, stride {stride}");
            polled.drain();
        }
        assert!(polled.elapsed() >= u128::from(HOURS) * HOUR.as_nanos());
    }
}

/// Slow quotas: a million hours without a pause, poll by poll.
#[test]
fn a_million_hours_poll_by_poll_neither_lose_nor_gain() {
    for (count, period, stride) in [
        // A unit an hour, polled a little more often than that.
        (1, HOUR, HOUR - Duration::from_nanos(7_919)),
        // One each 142 h 51 min 25.714… s, polled each 1.999 h.
        (7, HOUR * 1_000, HOUR * 1_999 / 1_000),
        (3, HOUR, Duration::from_nanos(1_111_111_111_111)),
        // No whole number of ticks.
        (1_000_003, HOUR * 1_000_000, Duration::from_nanos(3_599_999_999_989)),
    ] {
        // Two: what comes between two polls waits for the second.
        for_both(count, period, 2, |mut polled| {
            polled.drain();
            while polled.elapsed() < u128::from(HOURS) * HOUR.as_nanos() {
                polled.clock.advance(stride);
                polled.poll(1);
            }
            polled.drain();
        });
    }
}

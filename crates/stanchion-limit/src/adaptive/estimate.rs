//! When a step is made, and of what.

use std::time::Duration;

use super::algorithm::{Algorithm, Ending, Latency, Sample, State};

/// An algorithm's state, and what was seen of the calls that were admitted since
/// its last step.
#[derive(Debug)]
pub(super) struct Estimate {
    state: State,
    /// How many steps were made.
    generation: u64,
    /// How many calls make a step.
    samples: u32,
    seen: Seen,
    seed: u64,
}

/// The calls of this generation that have ended.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    calls: u32,
    /// Their latencies in nanoseconds.
    sum: f64,
    least: f64,
    in_flight: u32,
}

impl Estimate {
    pub(super) fn new(algorithm: Algorithm, samples: u32, seed: u64) -> Self {
        Self { state: algorithm.begin(seed), generation: 0, samples, seen: Seen::default(), seed }
    }

    /// Another algorithm, from the limit of now on. Nothing that was seen is kept.
    pub(super) fn begin_again(&mut self, algorithm: Algorithm, samples: u32) {
        let limit = self.limit();
        self.state = algorithm.begin(self.seed).at(limit);
        self.samples = samples;
        self.seen = Seen::default();
        self.generation += 1;
    }

    pub(super) fn limit(&self) -> u32 {
        self.state.limit()
    }

    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn baseline(&self) -> Option<Duration> {
        self.state.baseline()
    }

    /// A call has ended that was admitted in this generation; the limit, if that
    /// made a step.
    pub(super) fn settle(&mut self, generation: u64, ending: Ending, in_flight: u32, elapsed: Duration) -> Option<u32> {
        if generation != self.generation {
            return None;
        }
        // A clock that is coarse or paused shows zero, which no algorithm can divide by.
        let nanos = (elapsed.as_secs_f64() * 1e9).max(1.0);
        let dropped = match ending {
            Ending::Answered => false,
            Ending::Dropped => true,
            Ending::Abandoned if self.state.slow().is_some_and(|slow| nanos >= slow) => true,
            Ending::Abandoned => return None,
        };
        let seen = &mut self.seen;
        seen.in_flight = seen.in_flight.max(in_flight);
        if !dropped {
            seen.least = if seen.calls == 0 { nanos } else { seen.least.min(nanos) };
            seen.sum += nanos;
            seen.calls += 1;
        }
        if !dropped && seen.calls < self.samples {
            return None;
        }
        let Seen { calls, sum, least, in_flight } = std::mem::take(seen);
        let latency = (calls > 0).then(|| Latency { mean: sum / f64::from(calls), least });
        self.state = self.state.step(Sample { latency, in_flight, dropped });
        self.generation += 1;
        Some(self.limit())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Aimd, Vegas};
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn aimd() -> Estimate {
        Estimate::new(Aimd::default().initial(100).timeout(200 * MILLI).into(), 3, 0)
    }

    #[test]
    fn a_step_is_made_of_so_many_calls_of_its_own_generation() {
        let mut estimate = aimd();
        let answer = |estimate: &mut Estimate, generation, millis| {
            estimate.settle(generation, Ending::Answered, 80, millis * MILLI)
        };
        assert_eq!(answer(&mut estimate, 0, 10), None);
        assert_eq!(answer(&mut estimate, 0, 10), None);
        assert_eq!(answer(&mut estimate, 0, 10), Some(101));
        assert_eq!(estimate.generation(), 1);
        // Late ones of before are as if they had never been.
        for _ in 0..10 {
            assert_eq!(answer(&mut estimate, 0, 1_000), None);
        }
        // It is the average that counts: 10, 10 and 580 are 200, which is not too long.
        assert_eq!([10, 10, 580].map(|millis| answer(&mut estimate, 1, millis)), [None, None, Some(102)]);
        assert_eq!([10, 10, 581].map(|millis| answer(&mut estimate, 2, millis)), [None, None, Some(91)]);
    }

    #[test]
    fn a_drop_is_a_step_at_once_and_its_like_of_before_are_the_same_drop() {
        let mut estimate = aimd();
        assert_eq!(estimate.settle(0, Ending::Dropped, 1, MILLI), Some(90));
        for _ in 0..50 {
            assert_eq!(estimate.settle(0, Ending::Dropped, 1, MILLI), None);
        }
        assert_eq!(estimate.settle(1, Ending::Dropped, 1, MILLI), Some(81));
    }

    #[test]
    fn what_was_given_up_counts_if_it_had_taken_long() {
        let mut estimate = aimd();
        for _ in 0..9 {
            assert_eq!(estimate.settle(0, Ending::Abandoned, 80, 199 * MILLI), None);
        }
        assert_eq!(estimate.settle(0, Ending::Abandoned, 80, 200 * MILLI), Some(90));
        // As long as Vegas knows nothing, that says nothing.
        let mut vegas = Estimate::new(Vegas::default().into(), 1, 0);
        assert_eq!(vegas.settle(0, Ending::Abandoned, 20, 1_000 * MILLI), None);
        assert_eq!(vegas.settle(0, Ending::Answered, 20, 10 * MILLI), Some(20));
        assert_eq!(vegas.settle(1, Ending::Abandoned, 20, 19 * MILLI), None);
        assert_eq!(vegas.settle(1, Ending::Abandoned, 20, 20 * MILLI), Some(19));
        // Half as long again as Gradient2's average.
        let mut gradient2 = Estimate::new(crate::Gradient2::default().initial(100).into(), 1, 0);
        assert_eq!(gradient2.settle(0, Ending::Abandoned, 1, 1_000 * MILLI), None);
        assert_eq!(gradient2.settle(0, Ending::Answered, 1, 10 * MILLI), Some(100));
        assert_eq!(gradient2.settle(1, Ending::Abandoned, 1, 14 * MILLI), None);
        assert_eq!(gradient2.settle(1, Ending::Abandoned, 1, 16 * MILLI), Some(90));
    }

    /// The last to end may find the others gone.
    #[test]
    fn the_most_that_were_under_way_count() {
        let mut estimate = aimd();
        estimate.settle(0, Ending::Answered, 50, MILLI);
        estimate.settle(0, Ending::Answered, 2, MILLI);
        assert_eq!(estimate.settle(0, Ending::Answered, 1, MILLI), Some(101));
    }

    #[test]
    fn vegas_takes_the_shortest_and_any_elapsed_time_will_do() {
        let mut vegas = Estimate::new(Vegas::default().into(), 2, 0);
        vegas.settle(0, Ending::Answered, 20, 10 * MILLI);
        vegas.settle(0, Ending::Answered, 20, 90 * MILLI);
        assert_eq!(vegas.baseline(), Some(10 * MILLI));
        for elapsed in [Duration::ZERO, Duration::MAX] {
            for algorithm in [Aimd::default().into(), Vegas::default().into(), crate::Gradient2::default().into()] {
                let mut estimate = Estimate::new(algorithm, 1, 0);
                for generation in 0..10_000 {
                    let limit = estimate.settle(generation, Ending::Answered, 1_000, elapsed).unwrap();
                    assert!((1..=1_000).contains(&limit));
                }
            }
        }
    }
}

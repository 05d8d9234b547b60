//! How long to wait before each retry.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use stanchion_core::{ConfigError, RandomRun};

use crate::Jitter;

/// How long to wait before each retry: a shape that grows, a cap, and jitter.
///
/// **No delay is longer than [`max_delay`](Self::max_delay)**, jitter included.
/// All arithmetic saturates: a delay is at most 2⁶⁴ − 1 ns, 584 years.
///
/// ```
/// use std::time::Duration;
/// use stanchion_retry::{Backoff, Jitter, Random};
///
/// let backoff = Backoff::exponential(Duration::from_millis(100)).max_delay(Duration::from_secs(1));
/// let exact = backoff.clone().jitter(Jitter::None).delays(Random::seeded(1).run());
/// let millis: Vec<u128> = exact.take(6).map(|delay| delay.as_millis()).collect();
/// assert_eq!(millis, [100, 200, 400, 800, 1000, 1000]);
///
/// // With full jitter, the default, each is anywhere between nothing and that.
/// let jittered = backoff.delays(Random::seeded(1).run());
/// assert!(jittered.take(6).zip(millis).all(|(delay, most)| delay.as_millis() <= most));
/// ```
#[derive(Clone)]
pub struct Backoff {
    shape: Shape,
    first: Duration,
    factor: f64,
    max_delay: Duration,
    jitter: Jitter,
}

#[derive(Clone)]
enum Shape {
    Constant,
    Linear,
    Exponential,
    Fibonacci,
    List(Arc<[Duration]>),
    Function(Arc<dyn Fn(u32) -> Duration + Send + Sync>),
}

/// The cap of the shapes that grow, if nothing else is said: that of the AWS SDKs.
pub(crate) const DEFAULT_MAX_DELAY: Duration = Duration::from_secs(20);
/// A fifth to either side: enough to spread callers, too little to matter to a reader of logs.
const DEFAULT_FRACTION: Jitter = Jitter::Fraction(0.2);

impl Backoff {
    /// Always `delay`. Default jitter: a fifth to either side; no cap.
    pub fn constant(delay: Duration) -> Self {
        Self::new(Shape::Constant, delay, Duration::MAX, DEFAULT_FRACTION)
    }

    /// `first`, twice `first`, three times … Default jitter: full; cap: 20 s.
    pub fn linear(first: Duration) -> Self {
        Self::new(Shape::Linear, first, DEFAULT_MAX_DELAY, Jitter::Full)
    }

    /// `first`, then each time [`factor`](Self::factor) times as long. Default
    /// factor: 2; jitter: full; cap: 20 s.
    pub fn exponential(first: Duration) -> Self {
        Self::new(Shape::Exponential, first, DEFAULT_MAX_DELAY, Jitter::Full)
    }

    /// `first` times 1, 1, 2, 3, 5, 8 … Default jitter: full; cap: 20 s.
    pub fn fibonacci(first: Duration) -> Self {
        Self::new(Shape::Fibonacci, first, DEFAULT_MAX_DELAY, Jitter::Full)
    }

    /// AWS' decorrelated jitter: each delay anywhere between `first` and three
    /// times the last one. Default cap: 20 s.
    pub fn decorrelated(first: Duration) -> Self {
        Self::new(Shape::Constant, first, DEFAULT_MAX_DELAY, Jitter::Decorrelated)
    }

    /// gRPC's (proposal A6): `initial · multiplierⁿ` up to `max`, a fifth to
    /// either side. Unlike gRPC's, no delay is above `max` after jitter either.
    pub fn grpc(initial: Duration, max: Duration, multiplier: f64) -> Self {
        Self { factor: multiplier, ..Self::new(Shape::Exponential, initial, max, DEFAULT_FRACTION) }
    }

    /// These delays and no more: as many retries as there are delays. Default
    /// jitter: a fifth to either side; no cap.
    pub fn list(delays: impl Into<Arc<[Duration]>>) -> Self {
        Self::new(Shape::List(delays.into()), Duration::ZERO, Duration::MAX, DEFAULT_FRACTION)
    }

    /// Whatever `delay` says before retry 1, 2, 3 … Default jitter: a fifth to
    /// either side; no cap.
    pub fn from_fn(delay: impl Fn(u32) -> Duration + Send + Sync + 'static) -> Self {
        Self::new(Shape::Function(Arc::new(delay)), Duration::ZERO, Duration::MAX, DEFAULT_FRACTION)
    }

    fn new(shape: Shape, first: Duration, max_delay: Duration, jitter: Jitter) -> Self {
        Self { shape, first, factor: 2.0, max_delay, jitter }
    }

    /// How many times as long each delay of the exponential shape is as the one
    /// before. Default: 2. The other shapes ignore it.
    pub const fn factor(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// No delay is longer, jitter included. Default: see each shape.
    pub const fn max_delay(mut self, max_delay: Duration) -> Self {
        self.max_delay = max_delay;
        self
    }

    /// How delays are spread. Default: see each shape.
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// Whether it can be honoured.
    ///
    /// # Errors
    /// Names `factor` when it is below 1 or no number, `jitter` when its
    /// fraction isn't between 0 and 1.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !(self.factor >= 1.0 && self.factor.is_finite()) {
            return Err(ConfigError::new("factor", self.factor, "must be a number from 1 on"));
        }
        self.jitter.validate()
    }

    /// The delays of one run, drawn with a generator of its own.
    pub fn delays(&self, random: RandomRun) -> Delays {
        Delays { state: State::new(self), backoff: self.clone(), random }
    }
}

/// Where a run stands among its delays.
#[derive(Debug, Clone, Copy)]
pub(crate) struct State {
    /// How many delays there were.
    drawn: u32,
    /// The exponential shape's next, in nanoseconds, and Fibonacci's next two, in firsts.
    grown: f64,
    pair: (u64, u64),
    /// The last delay, for the decorrelated jitter.
    last: u64,
}

impl State {
    pub(crate) fn new(backoff: &Backoff) -> Self {
        let first = nanos(backoff.first);
        Self { drawn: 0, grown: as_float(first), pair: (1, 1), last: first }
    }

    /// The next delay; `None` when a list has ended.
    pub(crate) fn next(&mut self, backoff: &Backoff, random: &mut RandomRun) -> Option<Duration> {
        let first = nanos(backoff.first);
        let cap = nanos(backoff.max_delay);
        self.drawn = self.drawn.saturating_add(1);
        let grown = match &backoff.shape {
            Shape::Constant => first,
            Shape::Linear => first.saturating_mul(u64::from(self.drawn)),
            Shape::Exponential => {
                let now = self.grown;
                // At most the cap, so that it never grows into an infinity that meets a zero.
                self.grown = (now * backoff.factor).min(as_float(u64::MAX));
                whole(now)
            }
            Shape::Fibonacci => {
                let (now, next) = self.pair;
                self.pair = (next, now.saturating_add(next));
                first.saturating_mul(now)
            }
            Shape::List(delays) => nanos(*delays.get(usize::try_from(self.drawn - 1).ok()?)?),
            Shape::Function(delay) => nanos(delay(self.drawn)),
        };
        let delay = backoff.jitter.apply(first, grown, self.last, cap, random);
        self.last = delay;
        Some(Duration::from_nanos(delay))
    }
}

/// The delays of one run: an iterator that ends only for a list.
#[derive(Debug, Clone)]
pub struct Delays {
    backoff: Backoff,
    state: State,
    random: RandomRun,
}

impl Iterator for Delays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.state.next(&self.backoff, &mut self.random)
    }
}

impl fmt::Debug for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = match &self.shape {
            Shape::Constant => "constant",
            Shape::Linear => "linear",
            Shape::Exponential => "exponential",
            Shape::Fibonacci => "fibonacci",
            Shape::List(_) => "list",
            Shape::Function(_) => "function",
        };
        f.debug_struct("Backoff")
            .field("shape", &shape)
            .field("first", &self.first)
            .field("factor", &self.factor)
            .field("max_delay", &self.max_delay)
            .field("jitter", &self.jitter)
            .finish()
    }
}

/// Nanoseconds; what doesn't fit is as long as fits.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[allow(clippy::cast_precision_loss, reason = "exact up to 104 days of nanoseconds")]
pub(crate) const fn as_float(nanos: u64) -> f64 {
    nanos as f64
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates, and NaN becomes 0")]
pub(crate) const fn whole(nanos: f64) -> u64 {
    nanos as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;
    use proptest::prelude::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn exact(backoff: &Backoff, count: usize) -> Vec<u128> {
        let delays = backoff.clone().jitter(Jitter::None).delays(Random::seeded(1).run());
        delays.take(count).map(|delay| delay.as_millis()).collect()
    }

    #[test]
    fn each_shape_grows_as_it_says() {
        assert_eq!(exact(&Backoff::constant(ms(70)), 3), [70, 70, 70]);
        assert_eq!(exact(&Backoff::linear(ms(70)), 4), [70, 140, 210, 280]);
        assert_eq!(exact(&Backoff::exponential(ms(100)).factor(3.0), 4), [100, 300, 900, 2_700]);
        assert_eq!(exact(&Backoff::fibonacci(ms(100)), 7), [100, 100, 200, 300, 500, 800, 1_300]);
        assert_eq!(exact(&Backoff::grpc(ms(100), ms(250), 1.5), 4), [100, 150, 225, 250]);
        assert_eq!(exact(&Backoff::list([ms(5), ms(7)]), 9), [5, 7]);
        assert_eq!(exact(&Backoff::from_fn(|retry| ms(u64::from(retry) * 10)), 3), [10, 20, 30]);
    }

    #[test]
    fn growth_stops_at_the_cap_exactly() {
        assert_eq!(exact(&Backoff::linear(ms(100)).max_delay(ms(250)), 4), [100, 200, 250, 250]);
        assert_eq!(exact(&Backoff::fibonacci(ms(100)).max_delay(ms(250)), 4), [100, 100, 200, 250]);
        // 100 ms doubled is 20 s and more from the ninth delay on.
        assert_eq!(exact(&Backoff::exponential(ms(100)), 10)[7..], [12_800, 20_000, 20_000]);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for factor in [f64::NAN, f64::INFINITY, -1.0, 0.0, 0.999] {
            assert_eq!(Backoff::exponential(ms(1)).factor(factor).validate().unwrap_err().field(), "factor");
        }
        assert!(Backoff::exponential(ms(1)).factor(1.0).validate().is_ok());
        assert_eq!(Backoff::constant(ms(1)).jitter(Jitter::Fraction(1.1)).validate().unwrap_err().field(), "jitter");
    }

    fn any_duration() -> impl Strategy<Value = Duration> {
        prop_oneof![
            Just(Duration::ZERO),
            Just(Duration::MAX),
            any::<u64>().prop_map(Duration::from_nanos),
            (0..100_000_u64).prop_map(Duration::from_micros),
        ]
    }

    fn any_backoff() -> impl Strategy<Value = Backoff> {
        let shape = any_duration().prop_flat_map(|first| {
            prop_oneof![
                Just(Backoff::constant(first)),
                Just(Backoff::linear(first)),
                Just(Backoff::exponential(first)),
                Just(Backoff::fibonacci(first)),
                Just(Backoff::decorrelated(first)),
                prop::collection::vec(any_duration(), 0..5).prop_map(Backoff::list),
                any_duration().prop_map(|delay| Backoff::from_fn(move |_| delay)),
            ]
        });
        let jitter = prop_oneof![
            Just(Jitter::None),
            Just(Jitter::Full),
            Just(Jitter::Equal),
            Just(Jitter::Decorrelated),
            prop::num::f64::ANY.prop_map(Jitter::Fraction),
        ];
        (shape, prop::num::f64::ANY, any_duration(), jitter)
            .prop_map(|(backoff, factor, max_delay, jitter)| backoff.factor(factor).max_delay(max_delay).jitter(jitter))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Even of one that `validate` refuses.
        #[test]
        fn for_any_configuration_no_delay_is_above_the_cap_and_nothing_panics(
            backoff in any_backoff(), seed in any::<u64>(),
        ) {
            for delay in backoff.delays(Random::seeded(seed).run()).take(200) {
                prop_assert!(delay <= backoff.max_delay);
            }
        }

        #[test]
        fn the_jitter_stays_in_its_range(
            first in 1..1_000_000_u64, seed in any::<u64>(), fraction in 0.0..=1.0,
        ) {
            let backoff = Backoff::exponential(Duration::from_nanos(first));
            let exact: Vec<Duration> =
                backoff.clone().jitter(Jitter::None).delays(Random::seeded(0).run()).take(30).collect();
            let drawn = |jitter| backoff.clone().jitter(jitter).delays(Random::seeded(seed).run()).take(30);
            for (full, &exact) in drawn(Jitter::Full).zip(&exact) {
                prop_assert!(full <= exact);
            }
            for (equal, &exact) in drawn(Jitter::Equal).zip(&exact) {
                prop_assert!(equal >= exact / 2 && equal <= exact);
            }
            for (around, &exact) in drawn(Jitter::Fraction(fraction)).zip(&exact) {
                let nanosecond = Duration::from_nanos(1);
                prop_assert!(around + nanosecond >= exact.mul_f64(1.0 - fraction));
                prop_assert!(around <= exact.mul_f64(1.0 + fraction) + nanosecond);
            }
            let mut last = Duration::from_nanos(first);
            for delay in drawn(Jitter::Decorrelated) {
                prop_assert!(delay >= Duration::from_nanos(first) && delay <= last * 3);
                last = delay;
            }
        }
    }

    #[test]
    fn a_fraction_goes_both_ways_and_decorrelated_delays_grow() {
        let mean = |backoff: Backoff, place: usize| {
            let random = Random::seeded(3);
            let drawn = (0..1_000).map(|_| backoff.delays(random.run()).nth(place).unwrap().as_secs_f64());
            drawn.sum::<f64>() / 1_000.0
        };
        let around = mean(Backoff::constant(ms(1_000)).jitter(Jitter::Fraction(0.5)), 0);
        // A standard deviation of 0.0091.
        assert!((around - 1.0).abs() < 0.046, "{around}");
        // Each is on average the mean of the first and three times the one before: 2, then 3.5, then 5.75.
        let third = mean(Backoff::decorrelated(ms(1_000)).max_delay(Duration::MAX), 2);
        assert!((third - 5.75).abs() < 1.0, "{third}");
    }

    #[test]
    fn the_longest_runs_saturate() {
        let fibonacci = Backoff::fibonacci(Duration::from_nanos(1)).max_delay(Duration::MAX).jitter(Jitter::None);
        let delays: Vec<Duration> = fibonacci.delays(Random::seeded(1).run()).take(200).collect();
        assert!(delays.is_sorted() && delays[199] == Duration::from_nanos(u64::MAX));
    }

    /// tower's backoff gives every session of one maker the same delays.
    #[test]
    fn a_thousand_runs_of_one_policy_are_uncorrelated_and_uniform() {
        let (random, backoff) = (Random::seeded(42), Backoff::constant(ms(1_000)).jitter(Jitter::Full));
        let runs: Vec<[f64; 2]> = (0..1_000)
            .map(|_| {
                let mut delays = backoff.delays(random.run());
                [(); 2].map(|()| delays.next().unwrap().as_secs_f64())
            })
            .collect();
        let mean = |values: Vec<f64>| values.iter().sum::<f64>() / 1_000.0;
        // A uniform number's mean over 1,000 draws has a standard deviation of 0.0091; five are allowed.
        let first = mean(runs.iter().map(|run| run[0]).collect());
        assert!((first - 0.5).abs() < 0.046, "mean {first}");
        let correlation =
            |pairs: Vec<(f64, f64)>| mean(pairs.iter().map(|(a, b)| (a - 0.5) * (b - 0.5) * 12.0).collect());
        let neighbours = correlation(runs.windows(2).map(|two| (two[0][0], two[1][0])).collect());
        let within = correlation(runs.iter().map(|run| (run[0], run[1])).collect());
        // A standard deviation of 0.032.
        assert!(neighbours.abs() < 0.16 && within.abs() < 0.16, "{neighbours}, {within}");
        // Kolmogorov and Smirnov: 1.95 / sqrt(1000) is exceeded by chance once in a thousand.
        let mut sorted: Vec<f64> = runs.iter().map(|run| run[0]).collect();
        sorted.sort_by(f64::total_cmp);
        let farthest =
            (0..1_000).map(|place| (f64::from(place) / 1_000.0 - sorted[usize::try_from(place).unwrap()]).abs());
        assert!(farthest.fold(0.0, f64::max) < 0.062);
    }
}

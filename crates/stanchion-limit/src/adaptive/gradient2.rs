//! The gradient of latency against its long-term average.

use stanchion_core::ConfigError;

use super::algorithm::{Bounds, Latency, Sample, check_number};

/// As many as keep the latency within `tolerance` times its long-term average: a
/// limit within `min..=max` that becomes, by `smoothing` of the way,
/// `limit · gradient + queue`, where
/// `gradient = clamp(tolerance · long-term ÷ latency, 0.5, 1)`.
///
/// ```text
/// gradient 1.0 ┤━━━━━━━━━━━━┓
///              │             ╲            up to `tolerance` the limit grows by `queue`,
///          0.5 ┤               ╲━━━━━━    beyond it shrinks, by half of itself at most
///              └──────┬──────┬──────┬──▶ latency ÷ long-term average
///                     1     1.5     3
/// ```
///
/// Choose it where latencies vary widely by themselves, so that a shortest one
/// means little. It takes what lasts for normal: under overload of more than some
/// `long_window` round trips the average follows the latency, and the limit climbs
/// to `max`. Set `max` to what you would bear.
///
/// It is frozen while less than half of the limit is in use. Dropped calls
/// ([`Throttled`](stanchion_core::Outcome::Throttled),
/// [`TimedOut`](stanchion_core::Outcome::TimedOut), and
/// [`Abandoned`](stanchion_core::Outcome::Abandoned) after `tolerance` times the
/// long-term average) count as a gradient of 0.5, in use or not; Netflix' ignores them.
///
/// Source: Netflix concurrency-limits, `Gradient2Limit`, with its defaults. It
/// steps once per round trip with the average of ten calls, see
/// [`AdaptiveLimiter`](crate::AdaptiveLimiter).
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields, default))]
pub struct Gradient2 {
    /// The limit to begin with. Default: 20.
    initial: u32,
    /// The least limit. Default: 20.
    min: u32,
    /// The greatest limit. Default: 200.
    max: u32,
    /// By how much the limit may grow. Default: 4.
    queue: u32,
    /// How far a step goes towards the new limit. Default: 0.2.
    smoothing: f64,
    /// How many times the long-term average is no queue yet. Default: 1.5.
    tolerance: f64,
    /// Over how many steps the long-term average goes. Default: 600.
    long_window: u32,
}

impl Default for Gradient2 {
    fn default() -> Self {
        Self { initial: 20, min: 20, max: 200, queue: 4, smoothing: 0.2, tolerance: 1.5, long_window: 600 }
    }
}

/// The first so many steps are averaged evenly.
const WARM_UP: u32 = 10;

impl Gradient2 {
    /// The limit to begin with. Default: 20.
    pub const fn initial(mut self, limit: u32) -> Self {
        self.initial = limit;
        self
    }

    /// The least limit. Default: 20. Where the other side bears less, the latency
    /// is what it is.
    pub const fn min(mut self, limit: u32) -> Self {
        self.min = limit;
        self
    }

    /// The greatest limit. Default: 200.
    pub const fn max(mut self, limit: u32) -> Self {
        self.max = limit;
        self
    }

    /// By how much the limit may grow, before smoothing. Default: 4.
    pub const fn queue(mut self, calls: u32) -> Self {
        self.queue = calls;
        self
    }

    /// How far a step goes towards the new limit, 0.01 to 1. Default: 0.2.
    pub const fn smoothing(mut self, share: f64) -> Self {
        self.smoothing = share;
        self
    }

    /// How many times the long-term average is no queue yet, 1 to 100. Default: 1.5.
    pub const fn tolerance(mut self, times: f64) -> Self {
        self.tolerance = times;
        self
    }

    /// Over how many steps the long-term average goes. Default: 600.
    pub const fn long_window(mut self, steps: u32) -> Self {
        self.long_window = steps;
        self
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.bounds().check(self.initial)?;
        check_number("smoothing", self.smoothing, 0.01..=1.0)?;
        check_number("tolerance", self.tolerance, 1.0..=100.0)?;
        if self.long_window < WARM_UP {
            return Err(ConfigError::new("long_window", self.long_window, "must be at least 10"));
        }
        Ok(())
    }

    pub(super) const fn bounds(&self) -> Bounds {
        Bounds { least: self.min, most: self.max }
    }

    pub(super) fn begin(&self) -> Gradient2State {
        Gradient2State { limit: f64::from(self.initial), long: 0.0, averaged: 0 }
    }

    pub(super) fn slow(&self, state: &Gradient2State) -> Option<f64> {
        state.long_term().map(|long| self.tolerance * long)
    }

    /// The pure step.
    pub(super) fn step(&self, state: Gradient2State, sample: Sample) -> Gradient2State {
        if sample.dropped {
            return self.moved(state, 0.5);
        }
        let Some(Latency { mean: short, .. }) = sample.latency else { return state };
        let mut state = state.averaged(short, self.long_window);
        let long = state.long;
        if long / short > 2.0 {
            // Back to normal after a long overload: the average shouldn't take as long.
            state.long *= 0.95;
        }
        if f64::from(sample.in_flight) < state.limit / 2.0 {
            return state;
        }
        self.moved(state, (self.tolerance * long / short).clamp(0.5, 1.0))
    }

    fn moved(&self, state: Gradient2State, gradient: f64) -> Gradient2State {
        let wanted = state.limit * gradient + f64::from(self.queue);
        let next = state.limit * (1.0 - self.smoothing) + wanted * self.smoothing;
        Gradient2State { limit: self.bounds().clamp(next), ..state }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Gradient2State {
    pub(super) limit: f64,
    /// The long-term average latency in nanoseconds, of `averaged` steps.
    long: f64,
    averaged: u32,
}

impl Gradient2State {
    pub(super) fn long_term(&self) -> Option<f64> {
        (self.averaged > 0).then_some(self.long)
    }

    /// Evenly at first, then exponentially.
    fn averaged(self, latency: f64, window: u32) -> Self {
        let averaged = self.averaged.saturating_add(1);
        let weight = if averaged <= WARM_UP { 1.0 / f64::from(averaged) } else { 2.0 / (f64::from(window) + 1.0) };
        Self { long: self.long * (1.0 - weight) + latency * weight, averaged, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(millis: f64, in_flight: u32) -> Sample {
        let latency = Latency { mean: millis * 1e6, least: f64::NAN };
        Sample { latency: Some(latency), in_flight, dropped: false }
    }

    /// A limit of 100 after long stability at 100 ms.
    fn stable() -> Gradient2State {
        Gradient2State { limit: 100.0, long: 100e6, averaged: 1_000 }
    }

    fn near(value: f64, wanted: f64) {
        assert!((value - wanted).abs() < 1e-6 * wanted, "{value}, not {wanted}");
    }

    fn limit_after(millis: f64, in_flight: u32) -> f64 {
        Gradient2::default().step(stable(), sample(millis, in_flight)).limit
    }

    /// Worked by hand: the average moves by 2 / 601 of the difference first.
    #[test]
    fn the_limit_follows_the_gradient() {
        near(limit_after(100.0, 100), 100.8);
        near(limit_after(150.0, 100), 100.8);
        let long = 100.0 + 100.0 * 2.0 / 601.0;
        near(limit_after(200.0, 100), 80.0 + (100.0 * 1.5 * long / 200.0 + 4.0) * 0.2);
        // Never by more than half, smoothed: a tenth.
        near(limit_after(1_000.0, 100), 90.8);
        near(limit_after(1e12, 100), 90.8);
    }

    #[test]
    fn it_is_frozen_below_half_in_flight() {
        near(limit_after(1_000.0, 49), 100.0);
        near(limit_after(1_000.0, 50), 90.8);
    }

    #[test]
    fn a_drop_is_the_steepest_gradient_and_no_latency() {
        let state = Gradient2::default().step(stable(), Sample { dropped: true, ..sample(1.0, 1) });
        near(state.limit, 90.8);
        assert_eq!((state.long, state.averaged), (100e6, 1_000));
    }

    #[test]
    fn the_average_begins_evenly_and_forgets_an_overload_quickly() {
        let gradient2 = Gradient2::default();
        let average = |latencies: &[f64]| {
            let begin = gradient2.begin();
            latencies.iter().fold(begin, |state, millis| gradient2.step(state, sample(*millis, 1))).long / 1e6
        };
        near(average(&[10.0]), 10.0);
        near(average(&[10.0, 20.0, 60.0]), 30.0);
        near(average(&[[10.0; 10].as_slice(), &[16.01]].concat()), 10.02);
        // More than twice the latency: a twentieth off, each step.
        let quick = Gradient2::default().step(stable(), sample(49.0, 1));
        near(quick.long / 1e6, (100.0 - 51.0 * 2.0 / 601.0) * 0.95);
        let slower = Gradient2::default().step(stable(), sample(51.0, 1));
        near(slower.long / 1e6, 100.0 - 49.0 * 2.0 / 601.0);
    }

    #[test]
    fn it_stays_within_its_bounds() {
        let gradient2 = Gradient2::default();
        let many = |sample: Sample| (0..1_000).fold(stable(), |state, _| gradient2.step(state, sample)).limit;
        assert_eq!(many(sample(100.0, 1_000)), 200.0);
        assert_eq!(many(Sample { dropped: true, ..sample(1.0, 1) }), 20.0);
    }
}

//! Additive increase, multiplicative decrease.

use std::time::Duration;

use stanchion_core::ConfigError;

use super::algorithm::{Bounds, Sample, check_number};

/// One more while all is well, a tenth less when it isn't: a limit within
/// `min..=max` that is multiplied by `backoff` when a call was dropped or the
/// latency exceeds `timeout`, and grows by 1 otherwise, while at least half of it
/// is in use.
///
/// ```text
/// limit │    ╱╲   ╱╲    ╱╲
///       │   ╱  ╲ ╱  ╲  ╱  ╲      each step up is 1,
///       │  ╱    ╲    ╲╱    ╲     each step down a tenth
///       └──────────────────────▶ round trips
/// ```
///
/// Choose it where refusals or timeouts tell overload, or where you know the
/// latency that you want: set [`timeout`](Self::timeout) to that. The default, 5 s,
/// is Netflix' and bounds no latency worth having.
///
/// Dropped are calls that ended as [`Throttled`](stanchion_core::Outcome::Throttled)
/// or [`TimedOut`](stanchion_core::Outcome::TimedOut), and those that were
/// [`Abandoned`](stanchion_core::Outcome::Abandoned) after `timeout` or later.
///
/// Source: Netflix concurrency-limits, `AIMDLimit`, with its defaults; it steps
/// once per call, this once per round trip, see [`AdaptiveLimiter`](crate::AdaptiveLimiter).
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields, default))]
pub struct Aimd {
    /// The limit to begin with. Default: 20.
    initial: u32,
    /// The least limit. Default: 20.
    min: u32,
    /// The greatest limit. Default: 200.
    max: u32,
    /// What the limit is multiplied by. Default: 0.9.
    backoff: f64,
    /// The latency that counts as a drop. Default: 5 s.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    timeout: Duration,
}

impl Default for Aimd {
    fn default() -> Self {
        Self { initial: 20, min: 20, max: 200, backoff: 0.9, timeout: Duration::from_secs(5) }
    }
}

impl Aimd {
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

    /// What the limit is multiplied by after a drop, 0.5 to 0.99. Default: 0.9.
    pub const fn backoff(mut self, ratio: f64) -> Self {
        self.backoff = ratio;
        self
    }

    /// The average latency beyond which it is as if a call had been dropped. Default: 5 s.
    pub const fn timeout(mut self, latency: Duration) -> Self {
        self.timeout = latency;
        self
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.bounds().check(self.initial)?;
        check_number("backoff", self.backoff, 0.5..=0.99)?;
        if self.timeout.is_zero() {
            return Err(ConfigError::new("timeout", "0ns", "must be longer than zero"));
        }
        Ok(())
    }

    pub(super) const fn bounds(&self) -> Bounds {
        Bounds { least: self.min, most: self.max }
    }

    pub(super) fn begin(&self) -> AimdState {
        AimdState { limit: f64::from(self.initial) }
    }

    pub(super) fn slow(&self) -> f64 {
        self.timeout.as_secs_f64() * 1e9
    }

    /// The pure step.
    pub(super) fn step(&self, AimdState { limit }: AimdState, sample: Sample) -> AimdState {
        let slow = sample.latency.is_some_and(|latency| latency.mean > self.slow());
        let next = if sample.dropped || slow {
            (limit * self.backoff).floor()
        } else if f64::from(sample.in_flight) * 2.0 >= limit {
            limit + 1.0
        } else {
            limit
        };
        AimdState { limit: self.bounds().clamp(next) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct AimdState {
    pub(super) limit: f64,
}

#[cfg(test)]
mod tests {
    use super::super::algorithm::Latency;
    use super::*;

    fn sample(millis: f64, in_flight: u32, dropped: bool) -> Sample {
        Sample { latency: Some(Latency { mean: millis * 1e6, least: millis * 1e6 }), in_flight, dropped }
    }

    /// The limit after these, from 100.
    fn after(samples: &[Sample]) -> f64 {
        let aimd = Aimd::default().initial(100).timeout(Duration::from_millis(200));
        samples.iter().fold(aimd.begin(), |state, sample| aimd.step(state, *sample)).limit
    }

    #[test]
    fn it_grows_by_one_while_half_of_it_is_in_use() {
        assert_eq!(after(&[sample(1.0, 50, false)]), 101.0);
        assert_eq!(after(&[sample(1.0, 49, false)]), 100.0);
    }

    #[test]
    fn a_drop_takes_a_tenth_however_little_is_in_use() {
        assert_eq!(after(&[sample(1.0, 1, true)]), 90.0);
        assert_eq!(after(&[sample(1.0, 1, true), sample(1.0, 1, true), sample(1.0, 1, true)]), 72.0);
        let nothing_answered = Sample { latency: None, in_flight: 1, dropped: true };
        assert_eq!(after(&[nothing_answered]), 90.0);
    }

    #[test]
    fn latency_counts_as_a_drop_just_beyond_the_timeout() {
        assert_eq!(after(&[sample(200.0, 100, false)]), 101.0);
        assert_eq!(after(&[sample(200.001, 100, false)]), 90.0);
    }

    #[test]
    fn it_stays_within_its_bounds() {
        assert_eq!(after(&[sample(1.0, 1, true); 100]), 20.0);
        assert_eq!(after(&[sample(1.0, 1_000, false); 200]), 200.0);
    }
}

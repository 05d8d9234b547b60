//! TCP Vegas' idea: keep the queue at the other side short.

use stanchion_core::ConfigError;

use super::algorithm::{Bounds, Latency, Sample};

/// As many as keep `alpha` to `beta` calls in the other side's queue: a limit
/// within `min..=max` that grows while the queue is estimated below `alpha` and
/// shrinks while it is above `beta`.
///
/// The estimate is `queue = limit · (1 − unloaded ÷ latency)`: what the calls
/// under way take longer than they would on an idle server. By logarithms of the
/// limit (`log10`, at least 1) `alpha` is 3 and `beta` 6 of them. A limit up to
/// 99 so holds 3 to 6 calls in the queue: with 50 places at the other side, a
/// latency of 6 to 12 % above the unloaded one.
///
/// ```text
///  queue    0 ── 1 ───── alpha ───── beta ─────▶
///           │ +6 │  +1   │   stays   │ − (queue − beta)
/// ```
///
/// Choose it when in doubt: it needs no number about the other side, but where
/// that is small: with 5 places, 6 in the queue are twice the latency, and
/// [`queue(1, 2)`](Self::queue) is better. Latencies of very different kinds of calls in
/// one limit blur its estimate.
///
/// The unloaded latency is the shortest that was seen. After some
/// `probe_every · limit` steps, by chance a bit sooner, it is measured afresh: for
/// one round trip the limit is halved, so that the queue is empty then.
///
/// Dropped calls ([`Throttled`](stanchion_core::Outcome::Throttled),
/// [`TimedOut`](stanchion_core::Outcome::TimedOut), and
/// [`Abandoned`](stanchion_core::Outcome::Abandoned) after twice the unloaded
/// latency) take one logarithm off the limit.
///
/// # Source
/// Brakmo, O'Malley and Peterson, *TCP Vegas*, 1994; Netflix concurrency-limits,
/// `VegasLimit`, with its defaults and three differences, whose figures are in
/// `docs/performance/adaptive.md`. It steps once per round trip with the shortest
/// latency of ten calls, as TCP does, where Netflix' steps once per call with that
/// call's: under noise of ±20 % that one leaves 70 % of a server idle. It shrinks
/// by the whole of what is too much, which once per round trip it may. And it
/// halves the limit to probe; else, under lasting overload of a small server, each
/// probe takes the queue for the server's own latency, and the limit climbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields, default))]
pub struct Vegas {
    /// The limit to begin with. Default: 20.
    initial: u32,
    /// The least limit. Default: 1.
    min: u32,
    /// The greatest limit. Default: 1,000.
    max: u32,
    /// The shortest queue to keep, in logarithms of the limit. Default: 3.
    alpha: u32,
    /// The longest queue to keep, in logarithms of the limit. Default: 6.
    beta: u32,
    /// After how many times the limit steps the unloaded latency is measured. Default: 30.
    probe_every: u32,
}

impl Default for Vegas {
    fn default() -> Self {
        Self { initial: 20, min: 1, max: 1_000, alpha: 3, beta: 6, probe_every: 30 }
    }
}

impl Vegas {
    /// The limit to begin with. Default: 20.
    pub const fn initial(mut self, limit: u32) -> Self {
        self.initial = limit;
        self
    }

    /// The least limit. Default: 1.
    pub const fn min(mut self, limit: u32) -> Self {
        self.min = limit;
        self
    }

    /// The greatest limit. Default: 1,000.
    pub const fn max(mut self, limit: u32) -> Self {
        self.max = limit;
        self
    }

    /// The queue to keep, from `alpha` to `beta` logarithms of the limit. Default: 3 to 6.
    pub const fn queue(mut self, alpha: u32, beta: u32) -> Self {
        self.alpha = alpha;
        self.beta = beta;
        self
    }

    /// After how many times the limit steps the unloaded latency is measured, at
    /// least 10. Default: 30.
    pub const fn probe_every(mut self, limits: u32) -> Self {
        self.probe_every = limits;
        self
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.bounds().check(self.initial)?;
        if self.alpha == 0 || self.alpha > 1_000 {
            return Err(ConfigError::new("alpha", self.alpha, "must be 1 to 1000"));
        }
        if self.beta < self.alpha || self.beta > 1_000 {
            return Err(ConfigError::new("beta", self.beta, "must be `alpha` to 1000"));
        }
        if self.probe_every < 10 {
            return Err(ConfigError::new("probe_every", self.probe_every, "must be at least 10"));
        }
        Ok(())
    }

    pub(super) const fn bounds(&self) -> Bounds {
        Bounds { least: self.min, most: self.max }
    }

    pub(super) fn begin(&self, seed: u64) -> VegasState {
        VegasState { limit: f64::from(self.initial), unloaded: None, steps: 0, chance: seed, probing: false }
    }

    pub(super) fn limit(&self, state: &VegasState) -> u32 {
        self.bounds().whole(if state.probing { state.limit / 2.0 } else { state.limit })
    }

    /// The pure step.
    pub(super) fn step(&self, state: VegasState, sample: Sample) -> VegasState {
        let state = VegasState { steps: state.steps.saturating_add(1), ..state };
        let changed = |limit: f64| VegasState { limit: self.bounds().clamp(limit), ..state };
        let log = state.limit.log10().floor().max(1.0);
        if sample.dropped {
            // What was dropped says nothing about how long an answer takes.
            return VegasState { probing: false, ..changed(state.limit - log) };
        }
        let Some(Latency { least: latency, .. }) = sample.latency else { return state };
        if state.probing {
            return VegasState { unloaded: Some(latency), probing: false, ..state };
        }
        let Some(unloaded) = state.unloaded.filter(|unloaded| latency >= *unloaded) else {
            return VegasState { unloaded: Some(latency), ..state };
        };
        if state.probe_is_due(self.probe_every) {
            return VegasState { steps: 0, chance: next_chance(state.chance), probing: true, ..state };
        }
        if f64::from(sample.in_flight) * 2.0 < state.limit {
            // Whoever doesn't use the limit learns nothing about a greater one.
            return state;
        }
        let queue = (state.limit * (1.0 - unloaded / latency)).ceil();
        let (alpha, beta) = (f64::from(self.alpha) * log, f64::from(self.beta) * log);
        if queue <= log {
            changed(state.limit + beta)
        } else if queue < alpha {
            changed(state.limit + log)
        } else if queue > beta {
            changed(state.limit - log.max(queue - beta))
        } else {
            state
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct VegasState {
    pub(super) limit: f64,
    /// The shortest latency, in nanoseconds, once there was one.
    pub(super) unloaded: Option<f64>,
    /// Steps since the last probe.
    steps: u32,
    /// What the time of the next probe depends on.
    chance: u64,
    /// Whether the limit is halved to measure the unloaded latency.
    probing: bool,
}

impl VegasState {
    /// After half to all of `probe_every · limit` steps, so that instances don't
    /// probe all at once.
    fn probe_is_due(&self, probe_every: u32) -> bool {
        #[allow(clippy::cast_precision_loss, reason = "half of 24 bits is chance enough")]
        let jitter = 0.5 + (self.chance >> 40) as f64 / (1_u64 << 25) as f64;
        f64::from(self.steps) >= jitter * f64::from(probe_every) * self.limit
    }
}

/// Knuth's linear congruential generator; its upper bits are used.
const fn next_chance(chance: u64) -> u64 {
    chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(millis: f64, in_flight: u32) -> Sample {
        let latency = Latency { mean: f64::NAN, least: millis * 1e6 };
        Sample { latency: Some(latency), in_flight, dropped: false }
    }

    /// A state of this limit, that knows 100 ms as the unloaded latency.
    fn at(limit: f64) -> VegasState {
        VegasState { limit, unloaded: Some(100e6), steps: 0, chance: u64::MAX, probing: false }
    }

    fn limit_after(limit: f64, millis: f64) -> f64 {
        Vegas::default().step(at(limit), sample(millis, 1_000)).limit
    }

    /// A limit of 50 and a latency of 100 / (1 - q / 50) ms are a queue of q.
    #[test]
    fn the_limit_follows_the_queue() {
        let millis = |queue: f64| 100.0 / (1.0 - queue / 50.0);
        assert_eq!(limit_after(50.0, millis(0.0)), 56.0);
        assert_eq!(limit_after(50.0, millis(0.99)), 56.0);
        assert_eq!(limit_after(50.0, millis(1.01)), 51.0);
        assert_eq!(limit_after(50.0, millis(1.99)), 51.0);
        assert_eq!(limit_after(50.0, millis(2.01)), 50.0);
        assert_eq!(limit_after(50.0, millis(5.99)), 50.0);
        assert_eq!(limit_after(50.0, millis(6.01)), 49.0);
        assert_eq!(limit_after(50.0, millis(7.99)), 48.0);
        assert_eq!(limit_after(50.0, 200.0), 50.0 - (25.0 - 6.0));
    }

    #[test]
    fn a_larger_limit_takes_larger_steps() {
        assert_eq!(limit_after(100.0, 100.0), 112.0);
        assert_eq!(limit_after(99.0, 100.0), 105.0);
        // A queue of 13 is one too many; a step is a logarithm at least.
        assert_eq!(limit_after(100.0, 100.0 / (1.0 - 0.1299)), 98.0);
    }

    #[test]
    fn it_does_not_grow_where_half_of_it_is_unused() {
        let vegas = Vegas::default();
        assert_eq!(vegas.step(at(50.0), sample(100.0, 24)).limit, 50.0);
        assert_eq!(vegas.step(at(50.0), sample(100.0, 25)).limit, 56.0);
    }

    #[test]
    fn a_shorter_latency_is_the_unloaded_one_from_then_on() {
        let shorter = Vegas::default().step(at(50.0), sample(90.0, 50));
        assert_eq!((shorter.limit, shorter.unloaded), (50.0, Some(90e6)));
        let first = Vegas::default().step(Vegas::default().begin(1), sample(90.0, 50));
        assert_eq!((first.limit, first.unloaded), (20.0, Some(90e6)));
    }

    #[test]
    fn a_drop_takes_a_logarithm() {
        let dropped = |limit| Sample { dropped: true, ..sample(1.0, limit) };
        let state = Vegas::default().step(at(50.0), dropped(1));
        // Its latency is no measure of anything.
        assert_eq!((state.limit, state.unloaded), (49.0, Some(100e6)));
        assert_eq!(Vegas::default().step(at(100.0), dropped(1)).limit, 98.0);
        assert_eq!(Vegas::default().step(at(1.0), dropped(1)).limit, 1.0);
    }

    /// With the whole of the jitter: after 30 · 50 steps.
    #[test]
    fn the_unloaded_latency_is_measured_afresh_at_half_the_limit() {
        let vegas = Vegas::default();
        // A queue of 3 to 6: the limit stays.
        let loaded = sample(110.0, 50);
        let mut state = at(50.0);
        for _ in 0..1_499 {
            state = vegas.step(state, loaded);
            assert_eq!(vegas.limit(&state), 50);
        }
        state = vegas.step(state, loaded);
        assert_eq!(vegas.limit(&state), 25);
        // Nothing answered: nothing measured yet.
        state = vegas.step(state, Sample { latency: None, in_flight: 1, dropped: false });
        assert_eq!(vegas.limit(&state), 25);
        state = vegas.step(state, sample(105.0, 25));
        assert_eq!((vegas.limit(&state), state.unloaded), (50, Some(105e6)));
        // The next one is as far away, by another chance.
        assert_eq!((state.steps, state.chance), (2, next_chance(u64::MAX)));
        assert_eq!(vegas.limit(&vegas.step(state, loaded)), 50);
    }

    #[test]
    fn a_drop_ends_a_probe() {
        let probing = VegasState { probing: true, ..at(50.0) };
        let state = Vegas::default().step(probing, Sample { dropped: true, ..sample(1.0, 1) });
        assert_eq!((Vegas::default().limit(&state), state.unloaded), (49, Some(100e6)));
    }

    #[test]
    fn probes_come_after_half_to_all_of_their_time() {
        let mut chance = 1;
        let mut due = Vec::new();
        for _ in 0..1_000 {
            chance = next_chance(chance);
            let state = |steps| VegasState { chance, steps, ..at(10.0) };
            let after = (0..=300).find(|steps| state(*steps).probe_is_due(30)).unwrap();
            due.push(after);
        }
        assert!(due.iter().all(|after| (150..=300).contains(after)));
        let mean = due.iter().sum::<u32>() / 1_000;
        assert!((220..=230).contains(&mean), "{mean}");
    }
}

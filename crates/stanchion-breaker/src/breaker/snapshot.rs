//! How a breaker stands.

use std::time::Duration;

use super::{Breaker, Edition};
use crate::machine::State;
use crate::sync::Ordering;
use crate::tally::Counts;

/// How a [`Breaker`] stands.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BreakerSnapshot {
    /// The breaker's name.
    pub name: String,
    /// The state.
    pub state: State,
    /// Grows with each transition.
    pub generation: u64,
    /// The calls in the window; 0 unless calls are counted now.
    pub calls: u64,
    /// The share of them that failed, 0 to 1.
    pub failure_rate: f64,
    /// The share of them that was slow, 0 to 1.
    pub slow_rate: f64,
    /// The rest of the open time, while it is open.
    pub retry_after: Option<Duration>,
    /// How often it has opened.
    pub opened: u64,
    /// How many calls it has refused.
    pub rejected: u64,
    /// The memory that it takes.
    pub bytes: usize,
}

impl Breaker {
    /// How it stands now.
    pub fn snapshot(&self) -> BreakerSnapshot {
        let core = self.lock();
        let Edition { plan, tape, .. } = self.edition();
        let state = core.machine.state();
        let counts = match state {
            State::Closed | State::Shadow => tape.counts(plan, core.machine.generation(), || self.clock.now()),
            _ => Counts::default(),
        };
        let rate = |part: u64| part as f64 / counts.whole(plan).max(1) as f64;
        BreakerSnapshot {
            name: self.name().to_owned(),
            state,
            generation: core.machine.generation(),
            calls: counts.calls,
            failure_rate: rate(counts.failed),
            slow_rate: rate(counts.slow),
            retry_after: core.machine.until().map(|until| until - self.clock.now()),
            opened: core.machine.opened,
            // Relaxed: a count for humans.
            rejected: self.rejected.load(Ordering::Relaxed),
            bytes: size_of::<Self>() + tape.bytes(),
        }
    }
}

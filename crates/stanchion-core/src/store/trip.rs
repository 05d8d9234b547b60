//! What the instances of a service tell each other of an upstream's health.

use std::time::Duration;

use super::StoreError;
use crate::{Answer, ConfigError};

/// Keeps what the instances of a service say of one upstream, and tells each what
/// the fleet makes of it.
///
/// An instance is *against* the upstream if it reports `open`, or if at least
/// [`rate`](TripQuorum::rate) of its calls failed and one did. The fleet is open
/// while at least [`instances`](TripQuorum::instances) live instances are against it,
/// these are at least [`share`](TripQuorum::share) of all live ones, and their
/// failures together reach [`failures`](TripQuorum::failures), or so many instances
/// report `open` by themselves.
///
/// # Laws
/// `stanchion-conformance` holds every implementation to these.
///
/// 1. *One step.* A report and its answer are atomic.
/// 2. *The last word counts*: of an instance, its latest report.
/// 3. *Mortal.* A report counts until its `keep` has passed by the store's clock, and
///    then no more; with the last of them goes the state.
/// 4. *Episodes.* `generation` grows by one each time that the fleet becomes open, and
///    at no other time, for as long as the store keeps its memory.
/// 5. *Separate.* Fleets of different names don't meet; any bytes are a name.
///
/// # Cancellation
/// Dropping the answer of a remote store leaves open whether the report was taken. To
/// report again does no harm.
pub trait TripStore: Send + Sync {
    /// Takes an instance's report, and answers with the fleet's state after it.
    fn report(&self, report: TripReport<'_>) -> Answer<'_, Result<FleetView, StoreError>>;
}

impl<S: TripStore + ?Sized> TripStore for std::sync::Arc<S> {
    fn report(&self, report: TripReport<'_>) -> Answer<'_, Result<FleetView, StoreError>> {
        (**self).report(report)
    }
}

/// What one instance says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TripReport<'a> {
    /// What the fleet's breaker is called.
    pub name: &'a [u8],
    /// Which instance: a number that no other one has.
    pub instance: u64,
    /// Whether it is open by its own experience.
    pub open: bool,
    /// Its calls of late, below 2^32.
    pub calls: u32,
    /// Those that failed.
    pub failed: u32,
    /// How long the report counts.
    pub keep: Duration,
    /// When the fleet is open.
    pub quorum: TripQuorum,
}

/// How many must agree.
///
/// ```
/// use stanchion_core::TripQuorum;
///
/// let quorum = TripQuorum::new(2, 0.5, 0.5, 10)?;
/// assert_eq!(quorum.instances(), 2);
/// assert!(TripQuorum::new(0, 0.5, 0.5, 10).is_err());
/// # Ok::<(), stanchion_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TripQuorum {
    instances: u32,
    share_millionths: u32,
    rate_millionths: u32,
    failures: u32,
}

impl TripQuorum {
    /// So many `instances`, that are such a `share` of the live ones, each of which
    /// fails at this `rate`, with so many `failures` together. Shares and rates are
    /// kept in millionths.
    ///
    /// # Errors
    /// Names the argument that can't be: none may be 0, and a share or a rate not above 1.
    pub fn new(instances: u32, share: f64, rate: f64, failures: u32) -> Result<Self, ConfigError> {
        for (field, value) in [("instances", instances), ("failures", failures)] {
            if value == 0 {
                return Err(ConfigError::new(field, value, "must be at least 1"));
            }
        }
        Ok(Self {
            instances,
            share_millionths: millionths("share", share)?,
            rate_millionths: millionths("rate", rate)?,
            failures,
        })
    }

    /// The fewest instances.
    pub const fn instances(&self) -> u32 {
        self.instances
    }

    /// The least share of the live instances, in millionths.
    pub const fn share(&self) -> u32 {
        self.share_millionths
    }

    /// The least share of an instance's calls that failed, in millionths.
    pub const fn rate(&self) -> u32 {
        self.rate_millionths
    }

    /// The fewest failures of all that are against it.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether the fleet is open, if these are the live instances' last reports:
    /// whether each is open, its calls and those that failed. The reference for
    /// every store.
    pub fn is_reached(&self, reports: impl IntoIterator<Item = (bool, u32, u32)>) -> bool {
        let (mut live, mut against, mut open, mut failures) = (0_u64, 0_u64, 0_u64, 0_u64);
        for (is_open, calls, failed) in reports {
            live += 1;
            let fails =
                failed > 0 && u64::from(failed) * 1_000_000 >= u64::from(self.rate_millionths) * u64::from(calls);
            open += u64::from(is_open);
            if is_open || fails {
                against += 1;
                failures += u64::from(failed);
            }
        }
        let enough = |count: u64| {
            count >= u64::from(self.instances) && count * 1_000_000 >= u64::from(self.share_millionths) * live
        };
        enough(open) || enough(against) && failures >= u64::from(self.failures)
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and a million")]
fn millionths(field: &'static str, share: f64) -> Result<u32, ConfigError> {
    // NaN is neither.
    if !(share > 0.0 && share <= 1.0) {
        return Err(ConfigError::new(field, share, "must be above 0 and at most 1"));
    }
    Ok(((share * 1e6).round() as u32).max(1))
}

/// The fleet's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FleetView {
    /// Instances whose last report still counts, with the one that asked.
    pub live: u32,
    /// Whether the fleet is open.
    pub open: bool,
    /// How often it has become open.
    pub generation: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sick_instance_is_no_quorum_and_a_few_that_fail_together_are() {
        let quorum = TripQuorum::new(2, 0.5, 0.5, 10).unwrap();
        let well = (false, 100, 3);
        let sick = (true, 100, 100);
        assert!(!quorum.is_reached([sick, well, well]));
        assert!(quorum.is_reached([sick, sick, well]));
        // Half of them, and no fewer.
        assert!(quorum.is_reached([sick, sick, well, well]));
        assert!(!quorum.is_reached([sick, sick, well, well, well]));
        // Not yet open by themselves, but failing: by their failures together.
        assert!(!quorum.is_reached([(false, 5, 5), (false, 4, 4), well]));
        assert!(quorum.is_reached([(false, 5, 5), (false, 10, 5), well]));
        assert!(!quorum.is_reached([(false, 5, 5), (false, 11, 5), well]));
        assert!(!quorum.is_reached([(false, 0, 0), (false, 0, 0)]));
        assert!(!quorum.is_reached([]));
    }

    #[test]
    fn nonsense_is_named() {
        let field = |quorum: Result<TripQuorum, ConfigError>| quorum.unwrap_err().field().to_owned();
        assert_eq!(field(TripQuorum::new(0, 0.5, 0.5, 1)), "instances");
        assert_eq!(field(TripQuorum::new(1, f64::NAN, 0.5, 1)), "share");
        assert_eq!(field(TripQuorum::new(1, 0.5, 1.1, 1)), "rate");
        assert_eq!(field(TripQuorum::new(1, 0.5, 0.5, 0)), "failures");
    }
}

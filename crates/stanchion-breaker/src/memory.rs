//! A trip store in this process: for tests, and the reference.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use stanchion_core::{Answer, Clock, FleetView, Moment, StoreError, TripReport, TripStore};

/// A [`TripStore`] in memory, which shares trips among the breakers of one process.
/// It stands in for Redis in tests.
///
/// A fleet is forgotten by its first report after all reports of it have died, so
/// that it keeps no more than the names that were ever used.
#[derive(Debug)]
pub struct MemoryTripStore {
    fleets: Mutex<HashMap<Vec<u8>, Fleet>>,
    clock: Clock,
}

#[derive(Debug, Default)]
struct Fleet {
    /// By instance: until when it counts, whether it is open, its calls and failures.
    reports: HashMap<u64, (Moment, bool, u32, u32)>,
    open: bool,
    generation: u64,
}

impl MemoryTripStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::with_clock(Clock::system())
    }

    /// An empty store that goes by `clock`.
    pub fn with_clock(clock: impl Into<Clock>) -> Self {
        Self { fleets: Mutex::default(), clock: clock.into() }
    }
}

impl Default for MemoryTripStore {
    fn default() -> Self {
        Self::new()
    }
}

impl TripStore for MemoryTripStore {
    fn report(&self, report: TripReport<'_>) -> Answer<'_, Result<FleetView, StoreError>> {
        let now = self.clock.now();
        // A step is finished or not begun: a poisoned lock guards nothing half done.
        let mut fleets = self.fleets.lock().unwrap_or_else(PoisonError::into_inner);
        let fleet = fleets.entry(report.name.to_vec()).or_default();
        fleet.reports.retain(|_, (until, ..)| *until > now);
        if fleet.reports.is_empty() {
            *fleet = Fleet::default();
        }
        fleet.reports.insert(report.instance, (now + report.keep, report.open, report.calls, report.failed));
        let open =
            report.quorum.is_reached(fleet.reports.values().map(|(_, open, calls, failed)| (*open, *calls, *failed)));
        fleet.generation += u64::from(open && !fleet.open);
        fleet.open = open;
        let live = u32::try_from(fleet.reports.len()).unwrap_or(u32::MAX);
        Answer::Ready(Ok(FleetView { live, open, generation: fleet.generation }))
    }
}

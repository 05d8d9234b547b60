//! The probes of a half-open breaker.

use std::collections::VecDeque;
use std::time::Duration;

use stanchion_core::Moment;

use crate::plan::{Plan, Verdict};

/// The probes of a half-open breaker.
#[derive(Debug, Clone, Default)]
pub(crate) struct Probes {
    /// The number of the last one.
    last: u32,
    /// Those without an answer, by number, and when each has hung.
    in_flight: VecDeque<(u32, Moment)>,
    succeeded: u32,
    failed: u32,
    /// Dropped, if that counts as a failure, or hung: they speak against the other
    /// side and yet take nobody's slot.
    silent: u32,
}

impl Probes {
    /// Those that have hung give their slots back.
    pub(super) fn expire(&mut self, now: Moment) {
        // All have the same time, so the eldest comes first.
        while self.in_flight.front().is_some_and(|(_, hung_at)| *hung_at <= now) {
            self.in_flight.pop_front();
            self.silent += 1;
        }
    }

    /// A slot for one more: its number.
    pub(super) fn admit(&mut self, plan: &Plan, now: Moment) -> Option<u32> {
        let taken = self.succeeded as usize + self.failed as usize + self.in_flight.len();
        if taken >= plan.probes as usize {
            return None;
        }
        self.last = self.last.wrapping_add(1);
        self.in_flight.push_back((self.last, now + plan.probe_max_wait));
        Some(self.last)
    }

    /// A probe ended. One that had hung before changes nothing.
    pub(super) fn settle(&mut self, probe: u32, verdict: Verdict) {
        let Some(place) = self.in_flight.iter().position(|(number, _)| *number == probe) else { return };
        self.in_flight.remove(place);
        match verdict {
            Verdict::Success => self.succeeded += 1,
            Verdict::Failure => self.failed += 1,
            Verdict::Silent => self.silent += 1,
            Verdict::Nothing => {}
        }
    }

    pub(super) fn has_failed(&self, plan: &Plan) -> bool {
        self.failed.saturating_add(self.silent) >= plan.probes_to_fail
    }

    pub(super) fn have_succeeded(&self, plan: &Plan) -> bool {
        self.succeeded >= plan.probes_to_close()
    }

    /// When to come back if all slots are taken: when the eldest probe has hung at
    /// the latest, and not later than if it were open.
    pub(super) fn wait(&self, plan: &Plan, now: Moment) -> Duration {
        self.in_flight.front().map_or(plan.open_for, |(_, hung_at)| *hung_at - now).min(plan.open_for)
    }
}

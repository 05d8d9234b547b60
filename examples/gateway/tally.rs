//! What became of the requests.

use std::time::Duration;

use crate::endings::{Ending, Endings, percent};
use crate::traffic::{Arrival, Tenant};
use crate::trouble::Trouble;

/// The upstream has recovered from its death when so large a share of the quiet
/// requests that are due within so long are served.
const RECOVERED_SHARE: f64 = 0.95;
const RECOVERED_WITHIN: Duration = Duration::from_millis(250);

/// The endings of a pass, by whose requests they were.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub(crate) quiet: Endings,
    pub(crate) noisy: Endings,
    pub(crate) readers: Endings,
    trouble: Trouble,
    /// When the pass ends.
    end: Duration,
    /// Those of the quiet requests that were due before the outage.
    pub(crate) quiet_before: Endings,
    /// And in it.
    pub(crate) quiet_in_outage: Endings,
    /// Requests of the quiet and the noisy that were due in it and let in.
    pub(crate) let_in_in_outage: u64,
    /// When quiet requests were due after the upstream's death, and whether they were served plainly.
    after_death: Vec<(Duration, bool)>,
}

/// From the end of the upstream's death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recovery {
    /// So long after it.
    After(Duration),
    /// Not within the pass, which ended so long after it.
    NotWithin(Duration),
}

impl Tally {
    /// Of a pass that takes so long.
    pub(crate) fn new(trouble: Trouble, length: Duration) -> Self {
        Self { trouble, end: length, ..Self::default() }
    }

    pub(crate) fn record(&mut self, arrival: Arrival, ending: Ending) {
        let in_outage = self.trouble.outage.contains(&arrival.due);
        match arrival.tenant {
            Tenant::Quiet(_) => self.quiet.record(ending),
            Tenant::Noisy => self.noisy.record(ending),
            // What they are given says nothing of how the others fare.
            Tenant::Reader(_) => return self.readers.record(ending),
        }
        if arrival.tenant != Tenant::Noisy {
            if in_outage {
                self.quiet_in_outage.record(ending);
            } else if arrival.due < self.trouble.outage.start {
                self.quiet_before.record(ending);
            }
            if arrival.due >= self.trouble.dead.end {
                self.after_death.push((arrival.due, matches!(ending, Ending::Served(_))));
            }
        }
        if in_outage && !matches!(ending, Ending::Refused | Ending::Dropped) {
            self.let_in_in_outage += 1;
        }
    }

    /// When the quiet tenants are served again, counted from the end of the
    /// upstream's death: that is the beginning of the first quarter of a second in
    /// which at least one of their requests is due, and 95 % of those that are due
    /// are served plainly: a last known answer is not enough. It begins at that end
    /// or with a later request, and ends within the pass.
    pub(crate) fn recovery(&self) -> Recovery {
        let mut requests = self.after_death.clone();
        requests.sort_unstable();
        let died = self.trouble.dead.end;
        let starts = std::iter::once(died).chain(requests.iter().map(|&(due, _)| due));
        let recovered = starts.take_while(|start| *start + RECOVERED_WITHIN <= self.end).find(|start| {
            let window = requests.iter().filter(|(due, _)| (*start..*start + RECOVERED_WITHIN).contains(due));
            let (due, served) =
                window.fold((0, 0), |(due, served), (_, plainly)| (due + 1, served + u32::from(*plainly)));
            due > 0 && f64::from(served) >= RECOVERED_SHARE * f64::from(due)
        });
        match recovered {
            Some(start) => Recovery::After(start - died),
            None => Recovery::NotWithin(self.end.saturating_sub(died)),
        }
    }

    /// Those of the quiet requests due after the upstream's death that were served, in per cent.
    pub(crate) fn served_after_death_percent(&self) -> f64 {
        let served = self.after_death.iter().filter(|(_, served)| *served).count();
        percent(served as u64, self.after_death.len() as u64)
    }

    /// How many requests reached the gateway.
    pub(crate) fn sent(&self) -> u64 {
        self.quiet.sent() + self.noisy.sent() + self.readers.sent()
    }

    /// How many of the quiet and the noisy tenants' the gateway has let in.
    pub(crate) fn let_in(&self) -> u64 {
        self.quiet.sent() + self.noisy.sent() - self.quiet.refused - self.noisy.refused
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.quiet.dropped + self.noisy.dropped + self.readers.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::Wanted;

    fn millis(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    fn arrival(tenant: Tenant, due: u64) -> Arrival {
        Arrival { due: millis(due), tenant, wanted: Wanted::Orders }
    }

    #[test]
    fn a_request_that_was_never_sent_counts_as_not_served() {
        let mut tally = Tally::default();
        for ending in [Ending::Served(millis(1)), Ending::Refused, Ending::Failed, Ending::Dropped] {
            tally.record(arrival(Tenant::Quiet(3), 0), ending);
        }
        tally.record(arrival(Tenant::Noisy, 0), Ending::Dropped);
        for ending in [Ending::Hit(millis(1)), Ending::Dropped] {
            tally.record(arrival(Tenant::Reader(0), 0), ending);
        }
        // A reader is let in, too, but the upstream may know nothing of it.
        assert_eq!((tally.sent(), tally.let_in(), tally.dropped()), (4, 2, 3));
        assert_eq!((tally.quiet.served_percent(), tally.quiet.refused_percent()), (25.0, 25.0));
        assert_eq!(tally.noisy.served_percent(), 0.0);
        assert_eq!(Endings::default().served_percent(), 0.0);
    }

    #[test]
    fn a_last_known_answer_is_never_a_plain_success() {
        let mut tally = Tally::default();
        for ending in [Ending::Served(millis(1)), Ending::FellBack(millis(9))] {
            tally.record(arrival(Tenant::Quiet(3), 0), ending);
        }
        let quiet = &tally.quiet;
        assert_eq!((quiet.served_percent(), quiet.fell_back_percent()), (50.0, 50.0));
        assert_eq!((quiet.percentile(99), quiet.answered_percentile(99)), (Some(millis(1)), Some(millis(9))));
        assert_eq!((tally.sent(), tally.let_in()), (2, 2));
    }

    #[test]
    fn what_is_due_in_the_outage_is_counted_for_it_too() {
        let mut tally = Tally::new(Trouble { outage: millis(10)..millis(20), ..Trouble::default() }, millis(30));
        for due in [9, 10, 19, 20] {
            tally.record(arrival(Tenant::Quiet(0), due), Ending::Served(millis(due)));
            tally.record(arrival(Tenant::Quiet(0), due), Ending::Refused);
            tally.record(arrival(Tenant::Noisy, due), Ending::Failed);
            tally.record(arrival(Tenant::Reader(0), due), Ending::Failed);
        }
        assert_eq!(tally.quiet_in_outage.served, [millis(10), millis(19)]);
        assert_eq!((tally.quiet_in_outage.refused, tally.let_in_in_outage), (2, 4));
        assert_eq!(tally.quiet_before.served, [millis(9)]);
        assert_eq!(tally.quiet.served(), 4);
    }

    /// A pass of 4 s, the upstream dead until 1 s, and a quiet request each 10 ms from 0.5 s on.
    fn played(ending: impl Fn(u64) -> Ending) -> Tally {
        let trouble = Trouble { dead: millis(500)..millis(1_000), ..Trouble::default() };
        let mut tally = Tally::new(trouble, millis(4_000));
        // In the order of their endings, which is not that of the schedule.
        for due in (50..400).rev().map(|hundredth| hundredth * 10) {
            tally.record(arrival(Tenant::Quiet(0), due), ending(due));
            tally.record(arrival(Tenant::Noisy, due), Ending::Failed);
            tally.record(arrival(Tenant::Reader(0), due), Ending::Served(millis(1)));
        }
        tally
    }

    fn served_if(holds: bool) -> Ending {
        if holds { Ending::Served(millis(30)) } else { Ending::FellBack(millis(1)) }
    }

    #[test]
    fn recovery_begins_with_the_first_window_in_which_enough_are_served_plainly() {
        let after = |time| Recovery::After(millis(time));
        // Those that were due while it was dead don't matter.
        assert_eq!(played(|due| served_if(due >= 1_000)).recovery(), after(0));
        // One of 25 may fail, which is the last before all are served; two may not.
        assert_eq!(played(|due| served_if(due >= 1_300)).recovery(), after(290));
        // A window is as long as it is: 24 served ones and a gap of two aren't one.
        assert_eq!(played(|due| served_if(due != 1_200 && due != 1_210)).recovery(), after(210));
        // The last window ends when the pass does.
        assert_eq!(played(|due| served_if(due >= 3_760)).recovery(), after(2_750));
        let never = Recovery::NotWithin(millis(3_000));
        assert_eq!(played(|due| served_if(due >= 3_770)).recovery(), never);
        assert_eq!(
            Tally::new(Trouble { dead: millis(0)..millis(1_000), ..Trouble::default() }, millis(4_000)).recovery(),
            never
        );
    }

    #[test]
    fn what_is_due_after_the_death_is_counted_for_it() {
        let tally = played(|due| served_if(due >= 3_250));
        assert_eq!(tally.served_after_death_percent(), 25.0);
    }
}

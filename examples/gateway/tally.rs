//! What became of the requests.

use std::ops::Range;
use std::time::Duration;

use crate::traffic::{Arrival, Tenant};

/// How one request ended, as its sender sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Answered 200, so long after it was due.
    Served(Duration),
    /// Answered 200, with the last known answer instead of a new one.
    FellBack(Duration),
    /// Answered 429.
    Refused,
    /// Answered otherwise, or not in time.
    Failed,
    /// Never sent: too many others were under way.
    Dropped,
}

/// The endings of a pass, by whose requests they were.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub(crate) quiet: Endings,
    pub(crate) noisy: Endings,
    /// When the outage is.
    outage: Range<Duration>,
    /// Those of the quiet requests that were due before it.
    pub(crate) quiet_before: Endings,
    /// And in it.
    pub(crate) quiet_in_outage: Endings,
    /// Requests of anybody's that were due in it and let in.
    pub(crate) let_in_in_outage: u64,
}

impl Tally {
    pub(crate) fn new(outage: Range<Duration>) -> Self {
        Self { outage, ..Self::default() }
    }

    pub(crate) fn record(&mut self, arrival: Arrival, ending: Ending) {
        let in_outage = self.outage.contains(&arrival.due);
        match arrival.tenant {
            Tenant::Quiet(_) => self.quiet.record(ending),
            Tenant::Noisy => self.noisy.record(ending),
        }
        if arrival.tenant != Tenant::Noisy {
            if in_outage {
                self.quiet_in_outage.record(ending);
            } else if arrival.due < self.outage.start {
                self.quiet_before.record(ending);
            }
        }
        if in_outage && !matches!(ending, Ending::Refused | Ending::Dropped) {
            self.let_in_in_outage += 1;
        }
    }

    /// How many requests reached the gateway.
    pub(crate) fn sent(&self) -> u64 {
        self.quiet.sent() + self.noisy.sent()
    }

    /// How many of them the gateway has let in.
    pub(crate) fn let_in(&self) -> u64 {
        self.sent() - self.quiet.refused - self.noisy.refused
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.quiet.dropped + self.noisy.dropped
    }
}

/// The endings of requests.
#[derive(Debug, Clone, Default)]
pub(crate) struct Endings {
    /// How long each took that was served.
    served: Vec<Duration>,
    /// How long each took that was given the last known answer.
    fell_back: Vec<Duration>,
    pub(crate) refused: u64,
    pub(crate) failed: u64,
    pub(crate) dropped: u64,
}

impl Endings {
    fn record(&mut self, ending: Ending) {
        match ending {
            Ending::Served(time) => self.served.push(time),
            Ending::FellBack(time) => self.fell_back.push(time),
            Ending::Refused => self.refused += 1,
            Ending::Failed => self.failed += 1,
            Ending::Dropped => self.dropped += 1,
        }
    }

    pub(crate) fn served(&self) -> u64 {
        self.served.len() as u64
    }

    pub(crate) fn fell_back(&self) -> u64 {
        self.fell_back.len() as u64
    }

    fn sent(&self) -> u64 {
        self.served() + self.fell_back() + self.refused + self.failed
    }

    /// Those served of all that were due, in per cent. A last known answer is none of them.
    pub(crate) fn served_percent(&self) -> f64 {
        percent(self.served(), self.sent() + self.dropped)
    }

    /// Those of all that were due which were given the last known answer, in per cent.
    pub(crate) fn fell_back_percent(&self) -> f64 {
        percent(self.fell_back(), self.sent() + self.dropped)
    }

    /// Those refused of all that were due, in per cent.
    pub(crate) fn refused_percent(&self) -> f64 {
        percent(self.refused, self.sent() + self.dropped)
    }

    /// The time within which so many in a hundred of those served were; `None`
    /// if nobody was.
    pub(crate) fn percentile(&self, percent: u8) -> Option<Duration> {
        percentile(self.served.clone(), percent)
    }

    /// The same, of those who were given an answer, be it the last known one.
    pub(crate) fn answered_percentile(&self, percent: u8) -> Option<Duration> {
        percentile([&self.served[..], &self.fell_back].concat(), percent)
    }
}

fn percentile(mut times: Vec<Duration>, percent: u8) -> Option<Duration> {
    times.sort_unstable();
    // The nearest rank: the smallest that enough of the others don't exceed.
    let rank = (times.len() * usize::from(percent)).div_ceil(100);
    times.get(rank.saturating_sub(1)).copied()
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let served =
            |times: &[u64]| Endings { served: times.iter().copied().map(millis).collect(), ..Endings::default() };
        let hundred: Vec<u64> = (1..=100).rev().collect();
        assert_eq!(served(&hundred).percentile(50), Some(millis(50)));
        assert_eq!(served(&hundred).percentile(99), Some(millis(99)));
        assert_eq!(served(&hundred).percentile(100), Some(millis(100)));
        assert_eq!(served(&hundred).percentile(0), Some(millis(1)));
        assert_eq!(served(&[3, 1, 2]).percentile(50), Some(millis(2)));
        assert_eq!(served(&[7]).percentile(99), Some(millis(7)));
        assert_eq!(served(&[]).percentile(99), None);
    }

    fn arrival(tenant: Tenant, due: u64) -> Arrival {
        Arrival { due: millis(due), tenant }
    }

    #[test]
    fn a_request_that_was_never_sent_counts_as_not_served() {
        let mut tally = Tally::default();
        for ending in [Ending::Served(millis(1)), Ending::Refused, Ending::Failed, Ending::Dropped] {
            tally.record(arrival(Tenant::Quiet(3), 0), ending);
        }
        tally.record(arrival(Tenant::Noisy, 0), Ending::Dropped);
        assert_eq!((tally.sent(), tally.let_in(), tally.dropped()), (3, 2, 2));
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
        let mut tally = Tally::new(millis(10)..millis(20));
        for due in [9, 10, 19, 20] {
            tally.record(arrival(Tenant::Quiet(0), due), Ending::Served(millis(due)));
            tally.record(arrival(Tenant::Quiet(0), due), Ending::Refused);
            tally.record(arrival(Tenant::Noisy, due), Ending::Failed);
        }
        assert_eq!(tally.quiet_in_outage.served, [millis(10), millis(19)]);
        assert_eq!((tally.quiet_in_outage.refused, tally.let_in_in_outage), (2, 4));
        assert_eq!(tally.quiet_before.served, [millis(9)]);
        assert_eq!(tally.quiet.served(), 4);
    }
}

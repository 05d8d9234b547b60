//! What became of the requests.

use std::time::Duration;

use crate::traffic::Tenant;

/// How one request ended, as its sender sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Answered 200, so long after it was due.
    Served(Duration),
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
}

impl Tally {
    pub(crate) fn record(&mut self, tenant: Tenant, ending: Ending) {
        match tenant {
            Tenant::Quiet(_) => self.quiet.record(ending),
            Tenant::Noisy => self.noisy.record(ending),
        }
    }

    /// How many requests reached the gateway.
    pub(crate) fn sent(&self) -> u64 {
        self.quiet.sent() + self.noisy.sent()
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
    pub(crate) refused: u64,
    pub(crate) failed: u64,
    pub(crate) dropped: u64,
}

impl Endings {
    fn record(&mut self, ending: Ending) {
        match ending {
            Ending::Served(time) => self.served.push(time),
            Ending::Refused => self.refused += 1,
            Ending::Failed => self.failed += 1,
            Ending::Dropped => self.dropped += 1,
        }
    }

    pub(crate) fn served(&self) -> u64 {
        self.served.len() as u64
    }

    fn sent(&self) -> u64 {
        self.served() + self.refused + self.failed
    }

    /// Those served of all that were due, in per cent.
    pub(crate) fn served_percent(&self) -> f64 {
        percent(self.served(), self.sent() + self.dropped)
    }

    /// Those refused of all that were due, in per cent.
    pub(crate) fn refused_percent(&self) -> f64 {
        percent(self.refused, self.sent() + self.dropped)
    }

    /// The time within which so many in a hundred of those served were; `None`
    /// if nobody was.
    pub(crate) fn percentile(&self, percent: u8) -> Option<Duration> {
        let mut times = self.served.clone();
        times.sort_unstable();
        // The nearest rank: the smallest that enough of the others don't exceed.
        let rank = (times.len() * usize::from(percent)).div_ceil(100);
        times.get(rank.saturating_sub(1)).copied()
    }
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

    #[test]
    fn a_request_that_was_never_sent_counts_as_not_served() {
        let mut tally = Tally::default();
        for ending in [Ending::Served(millis(1)), Ending::Refused, Ending::Failed, Ending::Dropped] {
            tally.record(Tenant::Quiet(3), ending);
        }
        tally.record(Tenant::Noisy, Ending::Dropped);
        assert_eq!((tally.sent(), tally.dropped()), (3, 2));
        assert_eq!((tally.quiet.served_percent(), tally.quiet.refused_percent()), (25.0, 25.0));
        assert_eq!(tally.noisy.served_percent(), 0.0);
        assert_eq!(Endings::default().served_percent(), 0.0);
    }
}

//! How requests end.

use std::time::Duration;

/// How one request ended, as its sender sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Answered 200, so long after it was due.
    Served(Duration),
    /// The same, by the cache, of what is fresh.
    Hit(Duration),
    /// Answered 200, with the last known answer instead of a new one.
    FellBack(Duration),
    /// Answered 429.
    Refused,
    /// Answered otherwise, or not in time.
    Failed,
    /// Never sent: too many others were under way.
    Dropped,
}

/// The endings of requests.
#[derive(Debug, Clone, Default)]
pub(crate) struct Endings {
    /// How long each took that was served.
    pub(crate) served: Vec<Duration>,
    /// So many of them by the cache.
    pub(crate) hits: u64,
    /// How long each took that was given the last known answer.
    fell_back: Vec<Duration>,
    pub(crate) refused: u64,
    pub(crate) failed: u64,
    pub(crate) dropped: u64,
}

impl Endings {
    pub(crate) fn record(&mut self, ending: Ending) {
        match ending {
            Ending::Served(time) => self.served.push(time),
            Ending::Hit(time) => {
                self.served.push(time);
                self.hits += 1;
            }
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

    /// Those who were given an answer, be it the last known one.
    pub(crate) fn answered(&self) -> u64 {
        self.served() + self.fell_back()
    }

    pub(crate) fn sent(&self) -> u64 {
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

    /// Those answered by the cache, of all that were sent, in per cent. A last known
    /// answer is no hit.
    pub(crate) fn hit_percent(&self) -> f64 {
        percent(self.hits, self.sent())
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

pub(crate) fn percent(part: u64, whole: u64) -> f64 {
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
    fn a_hit_is_a_success_and_a_last_known_answer_is_neither() {
        let mut endings = Endings::default();
        for ending in [
            Ending::Hit(millis(1)),
            Ending::Served(millis(3)),
            Ending::FellBack(millis(9)),
            Ending::Failed,
            Ending::Dropped,
        ] {
            endings.record(ending);
        }
        assert_eq!((endings.served_percent(), endings.fell_back_percent()), (40.0, 20.0));
        // Of what was never sent no cache knows.
        assert_eq!(endings.hit_percent(), 25.0);
        assert_eq!((endings.percentile(50), endings.answered_percentile(99)), (Some(millis(1)), Some(millis(9))));
        assert_eq!(endings.answered(), 3);
    }
}

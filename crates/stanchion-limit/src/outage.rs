//! What to do while the store gives no answer.

use std::time::Duration;

use stanchion_core::{Decision, Moment, RateRule};

use crate::sync::{AtomicU64, Ordering};

/// What a limiter on a store does while the store gives no answer.
///
/// It is an argument without a default: whichever is right depends on what the
/// limit protects. Every decision made so says that it is
/// [degraded](Decision::degraded).
///
/// After a failure the limiter leaves the store alone for about a second and
/// decides by this policy at once; then a single request tries the store again.
/// So an outage costs one deadline a second, not one a request, after a first
/// deadline in which those wait that had asked before it was noticed.
///
/// As configuration: `"admit"`, `"refuse"`, `{"local_share":{"instances":4}}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Outage {
    /// Let everything through (fail open): the limit is a courtesy.
    Admit,
    /// Refuse everything (fail closed): the limit protects something that must not break.
    Refuse,
    /// Limit in this process alone, to this instance's share: the quota divided
    /// by the number of instances. All instances together then stay within the
    /// quota, if there are no more of them than said and each began its share
    /// afresh: in the window in which the store fails, what it had admitted
    /// comes on top.
    LocalShare {
        /// How many instances share the limit.
        instances: u32,
    },
}

impl Outage {
    /// The decision on a request, where it doesn't take a state.
    pub(crate) fn decide(&self, rule: &RateRule, cost: u64, retry: Duration) -> Decision {
        match self {
            Self::Admit => Decision::unchecked(rule).granting(cost).as_degraded(),
            _ => Decision::store_unavailable(rule, retry),
        }
    }
}

/// The pause after a failure, before the store is tried again: so many
/// milliseconds at least, and up to half as many more, by chance, so that the
/// instances don't return all at once.
const PAUSE_MILLIS: u64 = 750;

/// Whether the store is to be asked.
///
/// Well and ill alternate, and are counted: an *episode* is one of either, and
/// each question remembers in which it was asked. A well store falls ill by the
/// first failure of a question of the same episode; an ill one gets well by the
/// answer to a probe of the same episode. So what comes late, of an episode that
/// is over, changes nothing.
#[derive(Debug)]
pub(crate) struct Health {
    /// Even while the store is well, odd while it is ill.
    episode: AtomicU64,
    /// The moment, in nanoseconds, until which an ill store is left alone.
    resume: AtomicU64,
    pause: Duration,
    failures: AtomicU64,
}

/// What to do with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Course {
    /// Ask the store, and tell how it went.
    Ask(Episode),
    /// Decide without it; it is tried again after this time.
    Bypass(Duration),
}

/// When a question was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Episode(u64);

impl Episode {
    const fn is_ill(self) -> bool {
        self.0 % 2 == 1
    }
}

// Relaxed throughout: the numbers guard no other memory. Whoever sees an episode
// begin before its pause does, asks the store once too often.
impl Health {
    /// A store that is well. `chance` is any number that other instances don't share.
    pub(crate) fn new(chance: u64) -> Self {
        let pause = Duration::from_millis(PAUSE_MILLIS + chance % (PAUSE_MILLIS / 2));
        Self { episode: AtomicU64::new(0), resume: AtomicU64::new(0), pause, failures: AtomicU64::new(0) }
    }

    /// Whether to ask the store. Reads the clock only while the store is ill; of
    /// those who come after the pause, one is told to ask.
    pub(crate) fn course(&self, now: impl Fn() -> Moment) -> Course {
        let episode = self.episode();
        if !episode.is_ill() {
            return Course::Ask(episode);
        }
        let now = now();
        let resume = self.resume.load(Ordering::Relaxed);
        let left = Moment::from_nanos(resume) - now;
        if !left.is_zero() {
            return Course::Bypass(left);
        }
        // The pause is over. Whoever moves its end is the one to ask.
        let next = (now + self.pause).as_nanos();
        match self.resume.compare_exchange(resume, next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => Course::Ask(episode),
            Err(_) => Course::Bypass(self.pause),
        }
    }

    /// How long the store is still to be left alone; `None` if it is to be asked.
    pub(crate) fn rest(&self, now: impl Fn() -> Moment) -> Option<Duration> {
        if !self.episode().is_ill() {
            return None;
        }
        let left = Moment::from_nanos(self.resume.load(Ordering::Relaxed)) - now();
        (!left.is_zero()).then_some(left)
    }

    /// The store gave no answer to a question of this episode; the time after
    /// which it is tried again.
    pub(crate) fn failed(&self, asked: Episode, now: Moment) -> Duration {
        self.count_failure();
        if asked == self.episode() {
            self.resume.store((now + self.pause).as_nanos(), Ordering::Relaxed);
            if !asked.is_ill() {
                self.begin_after(asked);
            }
        }
        self.pause
    }

    /// The store answered a question of this episode; whether that is news.
    pub(crate) fn answered(&self, asked: Episode) -> bool {
        asked.is_ill() && self.begin_after(asked)
    }

    /// The store did not decide.
    pub(crate) fn count_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    pub(crate) fn is_ill(&self) -> bool {
        self.episode().is_ill()
    }

    fn episode(&self) -> Episode {
        Episode(self.episode.load(Ordering::Relaxed))
    }

    /// Ends an episode, if it isn't over.
    fn begin_after(&self, Episode(last): Episode) -> bool {
        self.episode.compare_exchange(last, last.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(all(test, not(stanchion_loom)))]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(millis * 1_000_000)
    }

    fn asked(course: Course) -> Episode {
        match course {
            Course::Ask(episode) => episode,
            Course::Bypass(left) => unreachable!("left alone for {left:?}"),
        }
    }

    #[test]
    fn after_a_pause_one_request_tries_the_store() {
        let health = Health::new(0);
        let first = asked(health.course(|| unreachable!("a well store needs no clock")));
        assert_eq!(health.failed(first, at(1_000)), Duration::from_millis(750));
        assert_eq!(health.course(|| at(1_749)), Course::Bypass(Duration::from_millis(1)));
        assert_eq!(health.rest(|| at(1_749)), Some(Duration::from_millis(1)));
        assert_eq!(health.rest(|| at(1_750)), None);
        let probe = asked(health.course(|| at(1_750)));
        assert_eq!(health.course(|| at(1_750)), Course::Bypass(Duration::from_millis(750)));
        assert!(health.answered(probe) && !health.answered(probe));
        assert!(!health.is_ill());
        assert_eq!(health.failures(), 1);
    }

    #[test]
    fn what_comes_late_changes_nothing() {
        let health = Health::new(0);
        let [early, late, later] = std::array::from_fn(|_| asked(health.course(|| at(0))));
        let _ = health.failed(early, at(1_000));
        // An answer to a question of before is no sign of recovery.
        assert!(!health.answered(late) && health.is_ill());
        // Nor does another failure of before prolong the pause.
        let _ = health.failed(late, at(1_500));
        let probe = asked(health.course(|| at(1_750)));
        assert!(health.answered(probe));
        // Nor does one make the store ill again that has recovered.
        let _ = health.failed(later, at(1_800));
        assert!(!health.is_ill());
        assert_eq!(health.failures(), 3);
    }
}

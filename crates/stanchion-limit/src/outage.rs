//! What to do while the store gives no answer.

use std::time::Duration;

use stanchion_core::{ConfigError, Decision, Moment, TokenBucket};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
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
    /// The bucket to decide with in this process, where there is one.
    pub(crate) fn share(&self, bucket: &TokenBucket) -> Result<Option<TokenBucket>, ConfigError> {
        match self {
            Self::LocalShare { instances } => bucket.share(*instances).map(Some),
            _ => Ok(None),
        }
    }

    /// The decision, where it doesn't take a bucket.
    pub(crate) fn decide(&self, bucket: &TokenBucket, retry: Duration) -> Decision {
        match self {
            Self::Admit => Decision::allowed_by(bucket, 0).as_degraded(),
            _ => Decision::store_unavailable(bucket, retry),
        }
    }
}

/// The pause after a failure, before the store is tried again: so many
/// milliseconds at least, and up to half as many more, by chance, so that the
/// instances don't return all at once.
const PAUSE_MILLIS: u64 = 750;

/// Whether the store is to be asked.
#[derive(Debug)]
pub(crate) struct Health {
    /// The moment, in nanoseconds, until which it is left alone; 0 while it is well.
    resume: AtomicU64,
    pause: Duration,
    failures: AtomicU64,
}

/// What to do with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Course {
    /// Ask the store.
    Ask,
    /// Decide without it; it is tried again after this time.
    Bypass(Duration),
}

impl Health {
    /// A store that is well. `chance` is any number that other instances don't share.
    pub(crate) fn new(chance: u64) -> Self {
        let pause = Duration::from_millis(PAUSE_MILLIS + chance % (PAUSE_MILLIS / 2));
        Self {
            resume: AtomicU64::new(0),
            pause,
            failures: AtomicU64::new(0),
        }
    }

    /// Whether to ask the store. Reads the clock only while the store is ill; of
    /// those who come after the pause, one is told to ask.
    pub(crate) fn course(&self, now: impl Fn() -> Moment) -> Course {
        // Relaxed, here and below: the number guards no other memory.
        let resume = self.resume.load(Ordering::Relaxed);
        if resume == 0 {
            return Course::Ask;
        }
        let now = now();
        let left = Moment::from_nanos(resume) - now;
        if !left.is_zero() {
            return Course::Bypass(left);
        }
        // The pause is over. Whoever moves its end is the one to ask.
        let next = (now + self.pause).as_nanos();
        match self
            .resume
            .compare_exchange(resume, next, Ordering::Relaxed, Ordering::Relaxed)
        {
            Ok(_) => Course::Ask,
            Err(_) => Course::Bypass(self.pause),
        }
    }

    /// How long the store is still to be left alone; `None` if it is to be asked.
    pub(crate) fn rest(&self, now: impl Fn() -> Moment) -> Option<Duration> {
        match self.resume.load(Ordering::Relaxed) {
            0 => None,
            resume => Some(Moment::from_nanos(resume) - now()).filter(|left| !left.is_zero()),
        }
    }

    /// The store failed to answer; the time after which it is tried again.
    pub(crate) fn failed(&self, now: Moment) -> Duration {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.resume
            .store((now + self.pause).as_nanos().max(1), Ordering::Relaxed);
        self.pause
    }

    /// The store answered; whether that is news.
    pub(crate) fn answered(&self) -> bool {
        self.resume.load(Ordering::Relaxed) != 0 && self.resume.swap(0, Ordering::Relaxed) != 0
    }

    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    pub(crate) fn is_ill(&self) -> bool {
        self.resume.load(Ordering::Relaxed) != 0
    }
}

#[cfg(all(test, not(stanchion_loom)))]
mod tests {
    use super::*;

    #[test]
    fn after_a_pause_one_request_tries_the_store() {
        let health = Health::new(0);
        let at = |millis: u64| move || Moment::from_nanos(millis * 1_000_000);
        assert_eq!(
            health.course(|| unreachable!("a well store needs no clock")),
            Course::Ask
        );
        assert_eq!(health.failed(at(1_000)()), Duration::from_millis(750));
        assert_eq!(health.course(at(1_749)), Course::Bypass(Duration::from_millis(1)));
        assert_eq!(health.course(at(1_750)), Course::Ask);
        assert_eq!(health.course(at(1_750)), Course::Bypass(Duration::from_millis(750)));
        assert!(health.answered() && !health.answered());
        assert_eq!(health.course(at(1_750)), Course::Ask);
        assert_eq!(health.failures(), 1);
    }
}

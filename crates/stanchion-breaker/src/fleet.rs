//! Trips shared by all instances of a service.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use stanchion_core::{Clock, ConfigError, Moment, Random, TripQuorum, TripReport, TripStore};

use crate::machine::State;
use crate::{Breaker, trace};

/// How a breaker shares its trips with the other instances of its service.
///
/// # Defaults
/// A report each 100 ms, which counts for three; the calls of the last second; 100
/// ms for an answer. The fleet opens when at least two instances, and half of the live
/// ones, fail at a rate of a half, with as many failures together as trip one breaker.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields, default))]
pub struct Sharing {
    /// The time between two reports: 10 ms to a minute. Default: 100 ms.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub interval: Duration,
    /// What a report covers: the calls of so long, at least the interval. Default: 1 s.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub recent: Duration,
    /// How long an answer may take: 1 ms to a minute. Default: 100 ms.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub deadline: Duration,
    /// So many instances must be against the upstream, at least 2: a single sick one
    /// opens nobody else's breaker. Default: 2.
    pub instances: u32,
    /// Such a share of the live instances, too: above 0, at most 1. Default: 0.5.
    pub share: f64,
    /// An instance is against it from this rate of failures on: above 0, at most 1.
    /// Default: 0.5.
    pub rate: f64,
    /// So many failures together open the fleet. Default: what trips a breaker by
    /// itself that has only just seen enough calls.
    pub failures: Option<u32>,
}

impl Default for Sharing {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(100),
            recent: Duration::from_secs(1),
            deadline: Duration::from_millis(100),
            instances: 2,
            share: 0.5,
            rate: 0.5,
            failures: None,
        }
    }
}

/// After failures of the store, a report is tried again after so many intervals at most.
const MOST_PATIENCE: u32 = 10;

impl Breaker {
    /// Shares this breaker's trips with all breakers of its name on `store`: the
    /// future is the loop that does it, for the user to spawn. It never ends.
    ///
    /// The breaker decides by itself, and no call ever waits for the store. The loop
    /// reports what it has seen of late; when enough instances have seen the
    /// same, each opens, once for each time that the fleet becomes open, and
    /// then goes its own way: its own open time, its own probes. What the fleet told it
    /// isn't reported back as its own experience.
    ///
    /// While the store gives no answer the breaker is an ordinary one.
    ///
    /// # Errors
    /// Names the setting that can't be honoured.
    ///
    /// # Cancellation
    /// Dropping the future leaves an ordinary breaker. Its last report dies after three
    /// intervals.
    ///
    /// # Panics
    /// The future, outside of a tokio runtime with its timer on.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use stanchion_breaker::{Breaker, MemoryTripStore, Sharing};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), stanchion_breaker::ConfigError> {
    /// let breaker = Arc::new(Breaker::new("payments"));
    /// let store = MemoryTripStore::new(); // in earnest: `RedisTripStore::connect(url)?`
    /// let sharing = tokio::spawn(breaker.clone().share(store, Sharing::default())?);
    /// # sharing.abort();
    /// # Ok(())
    /// # }
    /// ```
    pub fn share<S: TripStore + 'static>(
        self: Arc<Self>,
        store: S,
        sharing: Sharing,
    ) -> Result<impl Future<Output = Infallible> + Send + 'static, ConfigError> {
        let quorum = sharing.quorum(&self)?;
        let instance = RandomState::new().hash_one("instance");
        let mut member = Member::new(self, sharing);
        Ok(async move {
            let mut jitter = Random::system().run();
            let mut failures = 0_u32;
            loop {
                let report = member.report(instance, quorum);
                let answer = async { store.report(report).await };
                match tokio::time::timeout(sharing.deadline, answer).await {
                    Ok(Ok(view)) => {
                        if failures > 0 {
                            trace::sharing_again(member.breaker.name());
                        }
                        failures = 0;
                        member.hear(view.open, view.generation);
                    }
                    failed => {
                        if failures == 0 {
                            trace::not_sharing(member.breaker.name(), failed.ok().and_then(Result::err).as_ref());
                        }
                        failures = failures.saturating_add(1);
                        member.lose_touch();
                    }
                }
                // A fifth is left to chance, so that instances don't report in step.
                let pause = sharing.interval.mul_f64(0.9 + 0.2 * jitter.unit());
                tokio::time::sleep(pause * failures.clamp(1, MOST_PATIENCE)).await;
            }
        })
    }
}

impl Sharing {
    fn quorum(&self, breaker: &Breaker) -> Result<TripQuorum, ConfigError> {
        let (least, most) = (Duration::from_millis(10), Duration::from_secs(60));
        if !(least..=most).contains(&self.interval) {
            return Err(ConfigError::new("interval", format_args!("{:?}", self.interval), "must be 10 ms to 60 s"));
        }
        if self.recent < self.interval || self.recent > 60 * most {
            let limit = "must be at least the interval and at most an hour";
            return Err(ConfigError::new("recent", format_args!("{:?}", self.recent), limit));
        }
        if !(Duration::from_millis(1)..=most).contains(&self.deadline) {
            return Err(ConfigError::new("deadline", format_args!("{:?}", self.deadline), "must be 1 ms to 60 s"));
        }
        if self.instances < 2 {
            return Err(ConfigError::new("instances", self.instances, "must be at least 2: one alone may be sick"));
        }
        let failures = self.failures.unwrap_or_else(|| breaker.plan().fewest_failures());
        TripQuorum::new(self.instances, self.share, self.rate, failures)
    }
}

/// One instance of the fleet.
struct Member {
    breaker: Arc<Breaker>,
    sharing: Sharing,
    clock: Clock,
    /// All calls and failures so far, at the times of the last reports.
    seen: VecDeque<(Moment, u64, u64)>,
    /// The fleet's generation at the last answer; `None` before the first one and
    /// after the store was away.
    generation: Option<u64>,
    /// The breaker's opening that the fleet caused: not this instance's own word.
    told: Option<u64>,
}

impl Member {
    fn new(breaker: Arc<Breaker>, sharing: Sharing) -> Self {
        // From now on, calls are counted.
        breaker.traffic();
        let clock = breaker.clock().clone();
        Self { breaker, sharing, clock, seen: VecDeque::new(), generation: None, told: None }
    }

    /// What this instance has to say.
    fn report(&mut self, instance: u64, quorum: TripQuorum) -> TripReport<'_> {
        let now = self.clock.now();
        let traffic = self.breaker.traffic();
        // Failures first, so that there are never more of them than calls.
        let failed = traffic.failed.load(Ordering::Relaxed);
        let calls = traffic.calls.load(Ordering::Relaxed);
        self.seen.push_back((now, calls, failed));
        // The last one that is old enough is where what is recent begins.
        while self.seen.get(1).is_some_and(|(at, ..)| now - *at >= self.sharing.recent) {
            self.seen.pop_front();
        }
        let (_, calls_before, failed_before) = self.seen.front().copied().unwrap_or((now, calls, failed));
        let recent = |count: u64, before: u64| u32::try_from(count.saturating_sub(before)).unwrap_or(u32::MAX);
        let (state, opened) = self.breaker.opening();
        let open = matches!(state, State::Open | State::HalfOpen) && self.told != Some(opened);
        TripReport {
            name: self.breaker.name().as_bytes(),
            instance,
            open,
            calls: recent(calls, calls_before),
            failed: recent(failed, failed_before),
            // Long enough for a report that comes as late as may be.
            keep: 3 * self.sharing.interval + self.sharing.deadline,
            quorum,
        }
    }

    /// What the fleet makes of it: news once for each generation.
    fn hear(&mut self, open: bool, generation: u64) {
        let is_news = self.generation != Some(generation);
        self.generation = Some(generation);
        if open && is_news {
            if let Some(opened) = self.breaker.join_fleet_open() {
                self.told = Some(opened);
            }
            // What was seen before has had its effect.
            self.seen.clear();
        }
    }

    fn lose_touch(&mut self) {
        self.generation = None;
    }
}

//! Faults to order, for the tests of whoever uses a pipeline.

use std::fmt;
use std::future::{Future, poll_fn};
use std::ops::{Range, RangeInclusive};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use stanchion_core::{Clock, ConfigError, Moment, Random, RandomRun};

/// How often which fault happens. What isn't a fault is the operation itself.
#[derive(Debug, Clone, PartialEq, Default)]
#[must_use]
pub struct Faults {
    errors: f64,
    hangs: f64,
    drops: f64,
    delays: f64,
    delay: Option<RangeInclusive<Duration>>,
}

impl Faults {
    /// None.
    pub fn none() -> Self {
        Self::default()
    }

    /// This share of the attempts fails at once; the operation isn't begun.
    pub const fn errors(mut self, share: f64) -> Self {
        self.errors = share;
        self
    }

    /// This share never ends; the operation isn't begun.
    pub const fn hangs(mut self, share: f64) -> Self {
        self.hangs = share;
        self
    }

    /// This share is begun, dropped at its first wait, and fails: whether it was
    /// carried out, nobody knows.
    pub const fn drops(mut self, share: f64) -> Self {
        self.drops = share;
        self
    }

    /// This share is late: the operation is begun after anything in `delay`. It may
    /// fail besides.
    pub const fn latency(mut self, share: f64, delay: RangeInclusive<Duration>) -> Self {
        self.delays = share;
        self.delay = Some(delay);
        self
    }

    fn validate(&self) -> Result<(), ConfigError> {
        for (field, share) in
            [("errors", self.errors), ("hangs", self.hangs), ("drops", self.drops), ("latency", self.delays)]
        {
            if !(0.0..=1.0).contains(&share) {
                return Err(ConfigError::new(field, share, "a share must be a number from 0 to 1"));
            }
        }
        if let Some(delay) = self.delay.as_ref().filter(|delay| delay.is_empty()) {
            return Err(ConfigError::new("latency", format_args!("{delay:?}"), "must not end before it begins"));
        }
        let sum = self.errors + self.hangs + self.drops;
        if sum > 1.0 {
            return Err(ConfigError::new("errors", self.errors, "with hangs and drops at most 1 together"));
        }
        Ok(())
    }

    fn draw(&self, random: &mut RandomRun) -> (Option<Duration>, Fault) {
        let late = random.unit() < self.delays;
        let delay = self.delay.as_ref().filter(|_| late).map(|range| {
            let (least, most) = (*range.start(), *range.end());
            least + most.saturating_sub(least).mul_f64(random.unit())
        });
        let drawn = random.unit();
        let fault = if drawn < self.errors {
            Fault::Error
        } else if drawn < self.errors + self.hangs {
            Fault::Hang
        } else if drawn < self.errors + self.hangs + self.drops {
            Fault::Drop
        } else {
            Fault::None
        };
        (delay, fault)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Error,
    Hang,
    Drop,
}

/// Puts faults around an operation: always, or by a schedule. The same seed gives
/// the same faults in the same order.
///
/// Only with the feature `chaos`, which belongs into `[dev-dependencies]`.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::io;
/// use stanchion_core::Random;
/// use stanchion_pipeline::{Pipeline, Retry, chaos::{Chaos, Faults}};
///
/// async fn fetch() -> io::Result<u32> { Ok(7) }
///
/// let chaos = Chaos::always(Faults::none().errors(0.3), Random::seeded(1))?;
/// let pipeline = Pipeline::named("x").retry(Retry::exponential().max_attempts(9)).build()?;
/// for _ in 0..5 {
///     let answer = pipeline.run(|_| chaos.around(|| io::ErrorKind::ConnectionReset.into(), fetch())).await?;
///     assert_eq!(answer, 7);
/// }
/// assert!(pipeline.snapshot().retries > 0);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Chaos(Arc<Plan>);

struct Plan {
    /// Since the beginning; the first that holds counts.
    schedule: Vec<(Range<Duration>, Faults)>,
    began: Moment,
    random: Random,
}

impl Chaos {
    /// These faults, always.
    ///
    /// # Errors
    /// Names the share that isn't between 0 and 1.
    pub fn always(faults: Faults, random: Random) -> Result<Self, ConfigError> {
        Self::scheduled([(Duration::ZERO..Duration::MAX, faults)], random)
    }

    /// These faults at these times, counted from now; of two times that overlap the
    /// first counts.
    ///
    /// # Errors
    /// Names the share that isn't between 0 and 1.
    pub fn scheduled(
        schedule: impl IntoIterator<Item = (Range<Duration>, Faults)>,
        random: Random,
    ) -> Result<Self, ConfigError> {
        let schedule: Vec<_> = schedule.into_iter().collect();
        for (_, faults) in &schedule {
            faults.validate()?;
        }
        Ok(Self(Arc::new(Plan { schedule, began: Clock::system().now(), random })))
    }

    /// The operation, unless a fault comes instead; `error` makes what it fails
    /// with.
    ///
    /// # Errors
    /// The operation's, and those that were ordered.
    ///
    /// # Cancellation
    /// Dropping the future drops the operation.
    pub async fn around<T, E>(
        &self,
        error: impl FnOnce() -> E,
        operation: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let since = Clock::system().now() - self.0.began;
        let now = self.0.schedule.iter().find(|(times, _)| times.contains(&since));
        let (delay, fault) = match now {
            Some((_, faults)) => faults.draw(&mut self.0.random.run()),
            None => (None, Fault::None),
        };
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        match fault {
            Fault::None => operation.await,
            Fault::Error => Err(error()),
            Fault::Hang => std::future::pending().await,
            Fault::Drop => {
                let mut operation = pin!(operation);
                let _answer = poll_fn(|context| Poll::Ready(operation.as_mut().poll(context))).await;
                Err(error())
            }
        }
    }
}

impl fmt::Debug for Chaos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chaos").field("schedule", &self.0.schedule).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    /// How many of 1,000 attempts began, and how many succeeded.
    async fn thousand(chaos: &Chaos) -> (u32, u32) {
        let (begun, mut succeeded) = (AtomicU32::new(0), 0);
        for _ in 0..1_000 {
            let operation = async {
                begun.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                Ok::<_, ()>(())
            };
            let result = tokio::time::timeout(secs(60), chaos.around(|| (), operation)).await;
            succeeded += u32::from(matches!(result, Ok(Ok(()))));
        }
        (begun.into_inner(), succeeded)
    }

    #[tokio::test(start_paused = true)]
    async fn faults_happen_as_often_as_ordered_and_the_same_for_the_same_seed() {
        let faults = Faults::none().errors(0.1).hangs(0.2).drops(0.3).latency(0.5, secs(1)..=secs(3));
        let chaos = |seed| Chaos::always(faults.clone(), Random::seeded(seed)).unwrap();
        let (begun, succeeded) = thousand(&chaos(1)).await;
        // 700 and 400 are expected, with standard deviations of 14.5 and 15.5; five are allowed.
        assert!(begun.abs_diff(700) < 73 && succeeded.abs_diff(400) < 78, "{begun} {succeeded}");
        assert_eq!(thousand(&chaos(1)).await, (begun, succeeded));
        assert_ne!(thousand(&chaos(2)).await, (begun, succeeded));
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_is_anywhere_in_its_range() {
        let chaos = Chaos::always(Faults::none().latency(1.0, secs(2)..=secs(4)), Random::seeded(1)).unwrap();
        let mut all = Vec::new();
        for _ in 0..100 {
            let began = Clock::system().now();
            chaos.around(|| (), async { Ok(()) }).await.unwrap();
            all.push(Clock::system().now() - began);
        }
        let (least, most) = (all.iter().min().unwrap(), all.iter().max().unwrap());
        assert!(*least >= secs(2) && *least < Duration::from_millis(2_300), "{least:?}");
        assert!(*most <= Duration::from_millis(4_001) && *most > Duration::from_millis(3_700), "{most:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_schedule_holds_at_its_times_and_no_others() {
        let dead = Faults::none().errors(1.0);
        let chaos = Chaos::scheduled([(secs(10)..secs(20), dead)], Random::seeded(1)).unwrap();
        for (second, works) in [(0, true), (9, true), (10, false), (19, false), (20, true)] {
            let now = Clock::system().now() - chaos.0.began;
            tokio::time::advance(secs(second) - now).await;
            assert_eq!(chaos.around(|| (), async { Ok(()) }).await.is_ok(), works, "{second}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let field = |faults| Chaos::always(faults, Random::seeded(1)).unwrap_err().field().to_owned();
        assert_eq!(field(Faults::none().hangs(f64::NAN)), "hangs");
        assert_eq!(field(Faults::none().drops(-0.1)), "drops");
        assert_eq!(field(Faults::none().latency(1.1, secs(1)..=secs(2))), "latency");
        assert_eq!(field(Faults::none().latency(0.1, secs(2)..=secs(1))), "latency");
        assert_eq!(field(Faults::none().errors(0.6).hangs(0.6)), "errors");
    }
}

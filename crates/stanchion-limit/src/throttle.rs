//! Refusing by chance what the other side would refuse anyway.

mod builder;
mod ring;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use stanchion_core::{Admission, Call, Clock, ConfigError, Gate, Outcome, Random, RejectionKind, Ticket};

pub use builder::{ClientThrottleBuilder, ClientThrottleConfig};

use ring::{Answer, Ring};

use crate::trace::GateReporter;

/// Refuses a call with the probability
/// `p = max(0, (requests − k · accepts) ÷ (requests + 1))`, over the last two
/// minutes, with `k` = 2: nothing while at least half of the requests are
/// accepted, and of a server that accepts nothing all but one in `requests + 1`.
///
/// ```text
/// refused │█
///   here  │███▙
///         │██████▙▖                p against the share that
///         │█████████▙▖             the other side accepts
///         └────────────┬─────────▶
///         0 %         1/k     100 %
/// ```
///
/// It stands at the client and keeps load from a server that refuses because it
/// has too much: refusing costs a server, too. A refusal is
/// [`Shed`](RejectionKind::Shed).
///
/// # What counts
/// Requests are all calls that asked here, those that were refused here included.
/// Each counts in the time in which it was sent, and one that isn't answered
/// counts as not accepted as soon as a 120th of the window has passed, a second:
/// a server that hangs is noticed long before its calls time out. The first
/// second, or two at most, a call counts neither way; else the calls that are on
/// their way at the start would be taken for refused.
///
/// | outcome | |
/// |---|---|
/// | `Throttled`, `TimedOut`, `Transient` | not accepted |
/// | `Abandoned` | in its first second it never was; later, not accepted |
/// | all others, `Permanent` too | accepted: the other side did the work of an answer |
///
/// # After an outage
/// Of a server that accepts nothing, hardly anything is asked any more: with 1,000
/// requests a second some two calls in two minutes get through. When it is back,
/// accepts bring accepts, and double in 52 s: it takes 17 minutes until all get
/// through. [`max_refused`](ClientThrottleBuilder::max_refused) shortens that:
/// with 0.9 a tenth always gets through, and it takes 4 minutes. Both are tested.
///
/// Source: *Site Reliability Engineering*, Google 2016, chapter 21, "Client-side
/// throttling".
///
/// ```
/// use stanchion_core::{Admission, Outcome};
/// use stanchion_limit::{Call, ClientThrottle, Gate, Permit};
///
/// let throttle = ClientThrottle::builder().name("search").build()?;
/// for _ in 0..100 {
///     // The other side has enough.
///     if let Ok(permit) = Permit::try_new(&throttle, &Call::new()) {
///         permit.settle(Outcome::Throttled { retry_after: None });
///     }
/// }
/// let snapshot = throttle.snapshot();
/// assert_eq!((snapshot.requests, snapshot.accepts), (100, 0));
/// assert!(snapshot.refused > 80 && snapshot.probability > 0.99);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ClientThrottle {
    window: Mutex<Window>,
    refused: AtomicU64,
    random: Random,
    clock: Clock,
    reporter: GateReporter,
}

/// What was counted, and by which numbers it is judged.
struct Window {
    ring: Ring,
    config: ClientThrottleConfig,
}

impl ClientThrottle {
    /// Settings, all with a default.
    pub fn builder() -> ClientThrottleBuilder {
        ClientThrottleConfig::default().into()
    }

    /// What it is called in rejections and telemetry.
    pub fn name(&self) -> &str {
        self.reporter.name().as_str()
    }

    /// How it stands now.
    pub fn snapshot(&self) -> ClientThrottleSnapshot {
        let (counts, probability) = {
            let now = self.clock.now();
            let mut window = lock(&self.window);
            let counts = window.ring.counts(now);
            (counts, window.config.probability(counts))
        };
        ClientThrottleSnapshot {
            name: self.name().to_owned(),
            requests: counts.requests,
            accepts: counts.accepts,
            probability,
            // Relaxed: a number for people.
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    /// Does as `config` says from now on. Where its window is another, what was
    /// counted so far is forgotten.
    ///
    /// # Errors
    /// As for [`build`](ClientThrottleBuilder::build); nothing is changed then.
    pub fn reconfigure(&self, config: ClientThrottleConfig) -> Result<(), ConfigError> {
        config.check()?;
        let mut window = lock(&self.window);
        if window.config.window != config.window {
            window.ring = Ring::new(config.window);
        }
        window.config = config;
        Ok(())
    }

    /// Counts a request, and by chance refuses it; else, the bucket that it is counted in.
    fn send(&self) -> Option<u64> {
        let now = self.clock.now();
        let mut window = lock(&self.window);
        let counts = window.ring.counts(now);
        let probability = window.config.probability(counts);
        let refused = probability > 0.0 && self.random.run().unit() < probability;
        let bucket = window.ring.send(refused);
        (!refused).then_some(bucket)
    }
}

/// Neither key, units nor priority is looked at.
impl Gate for ClientThrottle {
    fn try_admit(&self, _call: &Call<'_>) -> Admission {
        match self.send() {
            Some(bucket) => {
                self.reporter.admitted();
                Admission::Admitted(Ticket::new(bucket))
            }
            None => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Admission::Rejected(self.reporter.refused(RejectionKind::Shed))
            }
        }
    }

    fn settle(&self, ticket: Ticket, outcome: Outcome, _elapsed: Duration) {
        let answer = match outcome {
            Outcome::Throttled { .. } | Outcome::TimedOut | Outcome::Transient => Answer::NotAccepted,
            Outcome::Abandoned => Answer::GivenUp,
            _ => Answer::Accepted,
        };
        // How long ago it was sent matters then.
        let now = (answer == Answer::GivenUp).then(|| self.clock.now());
        let ring = &mut lock(&self.window).ring;
        if let Some(now) = now {
            ring.counts(now);
        }
        ring.answer(ticket.generation(), answer);
    }
}

/// Nothing inside panics; a poisoned lock would still hold numbers.
fn lock(window: &Mutex<Window>) -> std::sync::MutexGuard<'_, Window> {
    window.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for ClientThrottle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.snapshot(), f)
    }
}

/// How a [`ClientThrottle`] stands.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ClientThrottleSnapshot {
    /// The throttle's name.
    pub name: String,
    /// The requests of the window, those refused here included.
    pub requests: u64,
    /// Those of them that the other side accepted.
    pub accepts: u64,
    /// With which probability the next one is refused.
    pub probability: f64,
    /// The requests that were refused here so far.
    pub refused: u64,
}

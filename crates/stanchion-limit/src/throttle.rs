//! Refusing by chance what the other side would refuse anyway.

mod ring;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stanchion_core::{
    Admission, Call, Clock, ConfigError, Gate, IntoGate, Name, Outcome, Random, RejectionKind, Ticket,
};

use crate::trace::GateReporter;
use ring::{Answer, Counts, Ring};

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

/// What a client throttle's numbers are, as data. What it says is checked when a
/// [`ClientThrottle`] is built of it.
///
/// With the feature `serde`: `{ "k": 2.0, "window": "2m", "max_refused": 1.0 }`,
/// where all may be left out.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields, default))]
pub struct ClientThrottleConfig {
    /// How many requests an accept is good for. Default: 2.
    k: f64,
    /// How far back it looks. Default: 2 minutes.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    window: Duration,
    /// The greatest probability. Default: 1.
    max_refused: f64,
}

impl Default for ClientThrottleConfig {
    fn default() -> Self {
        Self { k: 2.0, window: Duration::from_secs(120), max_refused: 1.0 }
    }
}

impl ClientThrottleConfig {
    /// As [`ClientThrottleBuilder::k`]. Default: 2.
    pub const fn k(mut self, requests: f64) -> Self {
        self.k = requests;
        self
    }

    /// As [`ClientThrottleBuilder::window`]. Default: 2 minutes.
    pub const fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// As [`ClientThrottleBuilder::max_refused`]. Default: 1.
    pub const fn max_refused(mut self, probability: f64) -> Self {
        self.max_refused = probability;
        self
    }

    /// The pure decision.
    #[allow(clippy::cast_precision_loss, reason = "requests of minutes")]
    fn probability(&self, Counts { requests, accepts }: Counts) -> f64 {
        let (requests, accepts) = (requests as f64, accepts as f64);
        ((requests - self.k * accepts) / (requests + 1.0)).clamp(0.0, self.max_refused)
    }

    fn check(&self) -> Result<(), ConfigError> {
        if !(1.0..=1_000.0).contains(&self.k) {
            return Err(ConfigError::new("k", self.k, "must be 1 to 1000"));
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(86_400)).contains(&self.window) {
            return Err(ConfigError::new("window", format_args!("{:?}", self.window), "must be a second to a day"));
        }
        if !(0.0..=1.0).contains(&self.max_refused) {
            return Err(ConfigError::new("max_refused", self.max_refused, "must be 0 to 1"));
        }
        Ok(())
    }
}

/// Settings of a [`ClientThrottle`]. It is a gate in the making, too: a pipeline
/// takes it as it is.
#[derive(Debug, Clone)]
#[must_use = "a builder builds nothing until it is told to"]
pub struct ClientThrottleBuilder {
    config: ClientThrottleConfig,
    name: Name,
    random: Option<Random>,
    clock: Option<Clock>,
}

impl From<ClientThrottleConfig> for ClientThrottleBuilder {
    fn from(config: ClientThrottleConfig) -> Self {
        Self { config, name: "client-throttle".into(), random: None, clock: None }
    }
}

impl ClientThrottleBuilder {
    /// How many requests an accept is good for, 1 to 1,000: nothing is refused
    /// while at least `1 ÷ k` of the requests are accepted. Default: 2.
    pub const fn k(mut self, requests: f64) -> Self {
        self.config.k = requests;
        self
    }

    /// How far back it looks, to a 120th: a second to a day. Default: 2 minutes.
    pub const fn window(mut self, window: Duration) -> Self {
        self.config.window = window;
        self
    }

    /// The greatest probability, 0 to 1. Default: 1, as in the book.
    pub const fn max_refused(mut self, probability: f64) -> Self {
        self.config.max_refused = probability;
        self
    }

    /// What it is called in rejections and telemetry. Default: `client-throttle`.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = name.into();
        self
    }

    /// By which chance it refuses. Default: [`Random::system`].
    pub fn random(mut self, random: Random) -> Self {
        self.random = Some(random);
        self
    }

    /// Where it reads time. Default: [`Clock::system`].
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = Some(clock.into());
        self
    }

    /// The throttle, with an empty window.
    ///
    /// # Errors
    /// Names the field that can't be honoured.
    pub fn build(self) -> Result<ClientThrottle, ConfigError> {
        self.config.check()?;
        Ok(ClientThrottle {
            window: Mutex::new(Window { ring: Ring::new(self.config.window), config: self.config }),
            refused: AtomicU64::new(0),
            random: self.random.unwrap_or_default(),
            clock: self.clock.unwrap_or_default(),
            reporter: GateReporter::new(self.name),
        })
    }
}

impl IntoGate for ClientThrottleBuilder {
    fn into_gate(self) -> Result<Arc<dyn Gate>, ConfigError> {
        self.build()?.into_gate()
    }
}

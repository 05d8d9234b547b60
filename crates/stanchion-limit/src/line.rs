//! A line in which those wait who take what is not there yet.
//!
//! The first in line asks, sleeps for as long as the limit says, and asks again; the
//! others wait for their turn, in the order in which they came (tokio's semaphore of one
//! permit). Nothing is taken ahead of time: so dropping a waiter anywhere gives up its
//! place and nothing else, and whoever is admitted is admitted by an ordinary decision, which
//! the bound covers. A heavy request is not starved by light ones, since they are behind it,
//! and those that don't wait are refused as long as anybody does.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use stanchion_core::{Decision, RateRule, Rejection, RejectionKind, Verdict};
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// A line before one limit.
#[derive(Debug)]
pub(crate) struct Line {
    turn: Semaphore,
    /// How many wait, and for how many units.
    waiting: AtomicUsize,
    units: AtomicU64,
}

/// What a request in line must know.
pub(crate) struct Wait<'a> {
    /// The limiter's name.
    pub(crate) name: &'a str,
    pub(crate) units: u64,
    /// How long it may take, and what to say when that is too short.
    pub(crate) most: Duration,
    pub(crate) too_long: RejectionKind,
    /// How many may wait.
    pub(crate) queue: usize,
}

impl Line {
    pub(crate) fn new() -> Self {
        Self { turn: Semaphore::new(1), waiting: AtomicUsize::new(0), units: AtomicU64::new(0) }
    }

    /// Whether nobody waits.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        // Relaxed: who comes in the same instant as the first in line may be in front of it.
        self.waiting.load(Ordering::Relaxed) == 0
    }

    /// How many wait, for how many units.
    pub(crate) fn length(&self) -> (usize, u64) {
        (self.waiting.load(Ordering::Relaxed), self.units.load(Ordering::Relaxed))
    }

    /// Waits until `ask` allows it, at most for as long as `wait` says; `look` tells how the limit
    /// stands. Refuses at once where the wait is known to be too long.
    ///
    /// # Cancellation
    /// Dropping it gives up the place.
    pub(crate) async fn wait<F>(
        &self,
        wait: Wait<'_>,
        rules: impl Iterator<Item = &RateRule>,
        look: Decision,
        ask: impl Fn() -> F,
    ) -> Result<Decision, Rejection>
    where
        F: Future<Output = Result<Decision, Rejection>>,
    {
        let began = Instant::now();
        let refuse = |kind, after: Duration| Err(Rejection::new(wait.name.to_owned(), kind).retry_after(after));
        let Some(place) = Place::take(self, &wait) else {
            return refuse(RejectionKind::Saturated, least_wait(rules, &look, self.length().1, 1));
        };
        let least = least_wait(rules, &look, place.units_ahead, wait.units);
        if least > wait.most {
            return refuse(wait.too_long, least);
        }
        let turn = tokio::time::timeout(wait.most, self.turn.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return refuse(wait.too_long, least);
        };
        loop {
            let decision = ask().await?;
            match decision.verdict() {
                Verdict::Allowed => return Ok(decision),
                Verdict::Refused | Verdict::KeysFull => {}
                _ => return Err(rejection(wait.name, &decision)),
            }
            // Never zero: a wait that were would be asked again and again.
            let pause = decision.retry_after().unwrap_or_default().max(Duration::from_nanos(1));
            if pause > wait.most.saturating_sub(began.elapsed()) {
                return refuse(wait.too_long, pause);
            }
            tokio::time::sleep(pause).await;
        }
    }
}

/// A decision that refuses, in a gate's words.
fn rejection(name: &str, decision: &Decision) -> Rejection {
    let kind = decision.rejection_kind().unwrap_or(RejectionKind::RateLimited);
    let rejection = Rejection::new(name.to_owned(), kind);
    match decision.retry_after() {
        Some(wait) => rejection.retry_after(wait),
        None => rejection,
    }
}

/// A place in line, which is given up when it is dropped.
struct Place<'a> {
    line: &'a Line,
    units: u64,
    units_ahead: u64,
}

impl<'a> Place<'a> {
    fn take(line: &'a Line, wait: &Wait<'_>) -> Option<Self> {
        if line.waiting.fetch_add(1, Ordering::Relaxed) >= wait.queue {
            line.waiting.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let units_ahead = line.units.fetch_add(wait.units, Ordering::Relaxed);
        Some(Self { line, units: wait.units, units_ahead })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.line.units.fetch_sub(self.units, Ordering::Relaxed);
        self.line.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How long it takes at least until `units` fit after those ahead have been admitted, where the
/// limits stand as `look` says.
pub(crate) fn least_wait<'a>(
    rules: impl Iterator<Item = &'a RateRule>,
    look: &Decision,
    ahead: u64,
    units: u64,
) -> Duration {
    // `look` tells of one of the limits; of the others it is known that they had no more left.
    let mut least = Duration::ZERO;
    for (place, rule) in rules.enumerate() {
        if place == look.limit_index() {
            least = least.max(wait_of(rule, look, ahead.saturating_add(units)));
        }
    }
    least
}

fn wait_of(rule: &RateRule, look: &Decision, wanted: u64) -> Duration {
    let missing = wanted.saturating_sub(look.remaining());
    if missing == 0 {
        return Duration::ZERO;
    }
    let more = missing - 1;
    match rule {
        RateRule::TokenBucket(bucket) => {
            look.next_token_after().saturating_add(bucket.duration(more.saturating_mul(bucket.interval())))
        }
        _ => {
            // An estimate may let two windows' worth into one.
            let windows = match rule {
                RateRule::SlidingCounter(_) => (more / rule.limit()).saturating_sub(1),
                _ => more / rule.limit(),
            };
            let windows = u32::try_from(windows).unwrap_or(u32::MAX);
            look.next_token_after().saturating_add(rule.window().saturating_mul(windows))
        }
    }
}

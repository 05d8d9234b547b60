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
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

/// A line before one limit.
#[derive(Debug)]
pub(crate) struct Line {
    turn: Semaphore,
    /// How many wait, and for how many units.
    waiting: AtomicUsize,
    units: AtomicU64,
    changed: Notify,
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
        Self { turn: Semaphore::new(1), waiting: AtomicUsize::new(0), units: AtomicU64::new(0), changed: Notify::new() }
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

    /// Waits until `ask` allows it, at most for as long as `wait` says; `least` tells how long that takes
    /// at least behind so many units. Refuses at once where that is known to be too long.
    ///
    /// # Cancellation
    /// Dropping it gives up the place.
    pub(crate) async fn wait<F: Future<Output = Decision>>(
        &self,
        wait: Wait<'_>,
        least: impl Fn(u64) -> Duration,
        ask: impl Fn() -> F,
    ) -> Result<Decision, Rejection> {
        let began = Instant::now();
        let refuse = |kind, after: Duration| Err(Rejection::new(wait.name.to_owned(), kind).retry_after(after));
        // Looked at before a place is taken: who doesn't stay is in nobody's way.
        let (_, ahead) = self.length();
        let least = least(ahead);
        if least > wait.most {
            return refuse(wait.too_long, least);
        }
        let Some(_place) = Place::take(self, &wait) else {
            return refuse(RejectionKind::Saturated, least);
        };
        let turn = tokio::time::timeout(wait.most, self.turn.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return refuse(wait.too_long, least);
        };
        loop {
            let decision = ask().await;
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
            // Or until something is given back, or the limit is another.
            let _ = tokio::time::timeout(pause, self.changed.notified()).await;
        }
    }

    /// The first in line asks again: something has been given back, or the limit is another.
    pub(crate) fn changed(&self) {
        if !self.is_empty() {
            self.changed.notify_one();
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
}

impl<'a> Place<'a> {
    fn take(line: &'a Line, wait: &Wait<'_>) -> Option<Self> {
        let room = |waiting| (waiting < wait.queue).then_some(waiting + 1);
        line.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).ok()?;
        // No more than a limit can give, of which so many can't be that they overflow.
        line.units.fetch_add(wait.units, Ordering::Relaxed);
        Some(Self { line, units: wait.units })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.line.units.fetch_sub(self.units, Ordering::Relaxed);
        self.line.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How long it takes at least until `units` fit after those ahead have been admitted, where each of
/// the limits stands as it is said to.
pub(crate) fn least_wait(looks: &[(RateRule, Decision)], ahead: u64, units: u64) -> Duration {
    let wanted = ahead.saturating_add(units);
    looks.iter().map(|(rule, look)| wait_of(rule, look, wanted)).max().unwrap_or_default()
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
            // An estimate may let two windows' worth into one; and a month may be shorter than the longest.
            let sooner = match rule {
                RateRule::SlidingLog(_) => 0,
                _ => 1,
            };
            let windows = (more / rule.limit()).saturating_sub(sooner);
            let windows = u32::try_from(windows).unwrap_or(u32::MAX);
            look.next_token_after().saturating_add(rule.window().saturating_mul(windows))
        }
    }
}

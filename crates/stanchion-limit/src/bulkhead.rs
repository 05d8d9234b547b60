//! So many calls at a time, and a line for those who come in between.

mod builder;

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use stanchion_core::{
    Admission, BoxFuture, Call, Clock, ConfigError, Gate, Moment, Outcome, Permit, Rejection, RejectionKind, Ticket,
};
use tokio::sync::Semaphore;

pub use builder::{BulkheadBuilder, BulkheadConfig};

use crate::trace::GateReporter;

/// At most `permits` units under way at any moment, and at most `queue` calls
/// waiting, each for `max_wait` at most.
///
/// ```text
///            queue (FIFO)          permits
///  calls ──▶ │ 7 │ 6 │ 5 │ ──▶ │ 4 │ 3 │ 2 │ ──▶ the operation
///   full? refused at once        └ settled or dropped: the first in line is let in
///   too long in line? refused then
/// ```
///
/// By default there is no line: what finds no room is refused at once, as
/// [`Saturated`](RejectionKind::Saturated). With a line, a call takes its place when
/// its future is first polled.
///
/// # Weights
/// A call takes [`Call::units`] permits. A heavy call that is first in line is
/// handed permits as they come back until it has all of them; nobody overtakes
/// it, so none starves. One that costs more than all permits is refused as
/// [`NeverFits`](RejectionKind::NeverFits); one that costs 0 holds nothing and is
/// always let in.
///
/// # Deadlines
/// A call whose [`deadline`](Call::ends_by) lies before the end of `max_wait`
/// waits until its deadline and is refused then as
/// [`DeadlineTooShort`](RejectionKind::DeadlineTooShort); one that need not wait
/// is let in whatever its deadline. It isn't refused beforehand: nobody knows
/// when a permit comes back.
///
/// # Cancellation
/// Dropping a future that waits gives its place, and what it was handed already,
/// to the next in line. Dropping a [`Permit`] gives its units back.
///
/// # What it costs
/// One swap of a number to let a call in, without a lock; a short lock when it
/// ends. Only a place in line is a box and a timer.
///
/// # Panics
/// Whoever must wait does so on tokio's timer, and panics outside of a tokio
/// runtime that has one, like tokio's own `sleep`. Without a queue any runtime
/// does, or none.
///
/// ```
/// use std::time::Duration;
/// use stanchion_limit::{Bulkhead, RejectionKind};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bulkhead = Bulkhead::new(2).queue(1).max_wait(Duration::from_millis(50)).name("search").build()?;
/// let one = bulkhead.acquire().await?;
/// let _two = bulkhead.acquire().await?;
///
/// // No room: this one waits its 50 ms and is refused.
/// let refused = bulkhead.acquire().await.unwrap_err();
/// assert_eq!((refused.by(), refused.kind()), ("search", RejectionKind::Saturated));
///
/// drop(one);
/// assert!(bulkhead.try_acquire().is_ok());
/// # Ok(())
/// # }
/// ```
pub struct Bulkhead {
    /// tokio's: fair, weighted, safe to cancel; lock-free while nobody waits.
    semaphore: Semaphore,
    settings: Settings,
    /// Permits that were taken away while they were in use: whoever ends pays
    /// this first.
    owed: AtomicU32,
    /// How many stand in line, bounded by the settings' `queue`.
    waiting: AtomicU32,
    refused: AtomicU64,
    clock: Clock,
    reporter: GateReporter,
}

/// A [`BulkheadConfig`] that can be changed while it is read.
struct Settings {
    permits: AtomicU32,
    queue: AtomicU32,
    /// In nanoseconds.
    max_wait: AtomicU64,
}

// Relaxed throughout: the numbers guard no other memory.
impl Bulkhead {
    /// Settings for `permits` units at a time.
    ///
    /// It returns a builder, which is a gate in the making
    /// ([`IntoGate`](stanchion_core::IntoGate)), because 0 permits can't be honoured
    /// and that must be said somewhere: by [`build`](BulkheadBuilder::build), or by
    /// the pipeline that takes it as it is.
    #[allow(clippy::new_ret_no_self, reason = "a pipeline takes `Bulkhead::new(64)` as it is, and 0 is an error")]
    pub fn new(permits: u32) -> BulkheadBuilder {
        BulkheadConfig::new(permits).into()
    }

    /// Takes one permit, if it is there.
    ///
    /// # Errors
    /// [`Saturated`](RejectionKind::Saturated), also while others wait.
    pub fn try_acquire(&self) -> Result<Permit<'_>, Rejection> {
        self.try_acquire_for(&Call::new())
    }

    /// Takes the call's units, if they are there.
    ///
    /// # Errors
    /// [`Saturated`](RejectionKind::Saturated), also while others wait;
    /// [`NeverFits`](RejectionKind::NeverFits).
    pub fn try_acquire_for(&self, call: &Call<'_>) -> Result<Permit<'_>, Rejection> {
        match self.take(call.units()) {
            Ok(ticket) => Ok(Permit::of(self, ticket)),
            Err(kind) => Err(self.refuse(kind)),
        }
    }

    /// Takes one permit, and waits in line for it where it must.
    ///
    /// # Errors
    /// [`Saturated`](RejectionKind::Saturated): the line is full, or the wait was too long.
    ///
    /// # Cancellation
    /// Dropping the future gives its place to the next in line.
    pub async fn acquire(&self) -> Result<Permit<'_>, Rejection> {
        self.acquire_for(&Call::new()).await
    }

    /// Takes the call's units, and waits in line for them where it must.
    ///
    /// # Errors
    /// [`Saturated`](RejectionKind::Saturated): the line is full, or the wait was
    /// too long. [`DeadlineTooShort`](RejectionKind::DeadlineTooShort),
    /// [`NeverFits`](RejectionKind::NeverFits).
    ///
    /// # Cancellation
    /// Dropping the future gives its place, and what it was handed already, to the
    /// next in line.
    pub async fn acquire_for(&self, call: &Call<'_>) -> Result<Permit<'_>, Rejection> {
        let ticket = match self.try_admit(call) {
            Admission::Admitted(ticket) => ticket,
            Admission::Wait => self.wait(call).await?,
            Admission::Rejected(rejection) => return Err(rejection),
        };
        Ok(Permit::of(self, ticket))
    }

    /// What it is called in rejections and telemetry.
    pub fn name(&self) -> &str {
        self.reporter.name().as_str()
    }

    /// How it stands now.
    pub fn snapshot(&self) -> BulkheadSnapshot {
        let free = u32::try_from(self.semaphore.available_permits()).unwrap_or(u32::MAX);
        let permits = self.permits();
        BulkheadSnapshot {
            name: self.name().to_owned(),
            permits,
            queue: self.settings.queue.load(Ordering::Relaxed),
            in_use: (permits + self.owed.load(Ordering::Relaxed)).saturating_sub(free),
            waiting: self.waiting.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    /// Does as `config` says from now on.
    ///
    /// Fewer permits cut nothing off that is under way: as calls end, permits are
    /// taken away until there are as few as said. Calls that wait keep their places
    /// and the wait limit under which they began; one that costs more than all
    /// permits that are left waits in vain, and nobody overtakes it.
    ///
    /// # Errors
    /// As for [`build`](BulkheadBuilder::build); nothing is changed then.
    pub fn reconfigure(&self, config: BulkheadConfig) -> Result<(), ConfigError> {
        config.check()?;
        self.settings.queue.store(config.queue, Ordering::Relaxed);
        self.settings.max_wait.store(config.patience_nanos(), Ordering::Relaxed);
        let before = self.settings.permits.swap(config.permits, Ordering::Relaxed);
        if config.permits >= before {
            self.give_back(config.permits - before);
        } else {
            let fewer = before - config.permits;
            // Owed first, so that whoever ends from now on pays; then what is free is taken.
            self.owed.fetch_add(fewer, Ordering::Relaxed);
            self.give_back(u32::try_from(self.semaphore.forget_permits(size(fewer))).unwrap_or(fewer));
        }
        self.reporter.limit_is(config.permits);
        Ok(())
    }

    /// These permits are free, but for what is owed.
    fn give_back(&self, permits: u32) {
        let pay = |owed: u32| (owed > 0).then(|| owed.saturating_sub(permits));
        let owed = self.owed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay).unwrap_or(0);
        if permits > owed {
            self.semaphore.add_permits(size(permits - owed));
        }
    }

    fn permits(&self) -> u32 {
        self.settings.permits.load(Ordering::Relaxed)
    }

    /// Takes so many permits now. They aren't there for a newcomer while somebody
    /// waits: all that comes back is handed to the first in line.
    #[inline]
    fn take(&self, units: u64) -> Result<Ticket, RejectionKind> {
        let units = self.fitting(units)?;
        // The semaphore is never closed, so that an error means "not now".
        let permit = self.semaphore.try_acquire_many(units).map_err(|_| RejectionKind::Saturated)?;
        permit.forget();
        self.reporter.admitted();
        Ok(ticket(units))
    }

    fn fitting(&self, units: u64) -> Result<u32, RejectionKind> {
        let units = u32::try_from(units).ok().filter(|units| *units <= self.permits());
        units.ok_or(RejectionKind::NeverFits)
    }

    async fn wait(&self, call: &Call<'_>) -> Result<Ticket, Rejection> {
        let units = self.fitting(call.units()).map_err(|kind| self.refuse(kind))?;
        let _place = Place::take(self).ok_or_else(|| self.refuse(RejectionKind::Saturated))?;
        let (patience, then) = self.patience(call.ends_by());
        if patience.is_zero() {
            return Err(self.refuse(then));
        }
        match tokio::time::timeout(patience, self.semaphore.acquire_many(units)).await {
            Ok(Ok(permit)) => {
                permit.forget();
                self.reporter.admitted();
                Ok(ticket(units))
            }
            Ok(Err(_)) | Err(_) => Err(self.refuse(then)),
        }
    }

    /// Whether the line, with so many in it, takes another.
    fn has_place(&self, waiting: u32) -> bool {
        waiting < self.settings.queue.load(Ordering::Relaxed)
    }

    /// How long a call waits at most, and what it is told then.
    fn patience(&self, deadline: Option<Moment>) -> (Duration, RejectionKind) {
        let max_wait = Duration::from_nanos(self.settings.max_wait.load(Ordering::Relaxed));
        match deadline.map(|deadline| deadline - self.clock.now()) {
            Some(left) if left < max_wait => (left, RejectionKind::DeadlineTooShort),
            _ => (max_wait, RejectionKind::Saturated),
        }
    }

    #[cold]
    fn refuse(&self, kind: RejectionKind) -> Rejection {
        self.refused.fetch_add(1, Ordering::Relaxed);
        self.reporter.refused(kind)
    }
}

/// Takes the call's units; the key is not looked at, nor how the call ends.
impl Gate for Bulkhead {
    #[inline]
    fn try_admit(&self, call: &Call<'_>) -> Admission {
        match self.take(call.units()) {
            Ok(ticket) => Admission::Admitted(ticket),
            // A line that has room now may be full when its turn comes; that is told then.
            Err(RejectionKind::Saturated) if self.has_place(self.waiting.load(Ordering::Relaxed)) => Admission::Wait,
            Err(kind) => Admission::Rejected(self.refuse(kind)),
        }
    }

    fn admit<'a>(&'a self, call: &'a Call<'a>) -> BoxFuture<'a, Result<Ticket, Rejection>> {
        Box::pin(self.wait(call))
    }

    fn settle(&self, ticket: Ticket, _outcome: Outcome, _elapsed: Duration) {
        // The note is what `ticket` wrote: it fits.
        self.give_back(u32::try_from(ticket.note()).unwrap_or_default());
    }
}

fn size(permits: u32) -> usize {
    usize::try_from(permits).unwrap_or(Semaphore::MAX_PERMITS)
}

fn ticket(units: u32) -> Ticket {
    Ticket::new(0).with_note(u64::from(units))
}

/// A place in line, given back when dropped.
struct Place<'a>(&'a AtomicU32);

impl<'a> Place<'a> {
    fn take(bulkhead: &'a Bulkhead) -> Option<Self> {
        let one_more = |waiting: u32| bulkhead.has_place(waiting).then(|| waiting + 1);
        bulkhead.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Self(&bulkhead.waiting))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Bulkhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.snapshot(), f)
    }
}

/// How a [`Bulkhead`] stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BulkheadSnapshot {
    /// The bulkhead's name.
    pub name: String,
    /// The most units at a time.
    pub permits: u32,
    /// The most calls in line.
    pub queue: u32,
    /// The units under way, and those set aside for the first in line; more than
    /// `permits` for a while after these became fewer.
    pub in_use: u32,
    /// The calls that wait.
    pub waiting: u32,
    /// The calls that were refused so far, for whatever reason.
    pub refused: u64,
}

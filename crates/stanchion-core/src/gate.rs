//! Anything that may refuse a call.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::{BoxFuture, Call, Clock, ConfigError, Moment, Outcome, Rejection};

/// Anything that may refuse a call: a breaker, a limiter, a bulkhead, a load
/// shedder.
///
/// A gate decides; it never runs the operation. Whoever was admitted holds a
/// [`Ticket`] and settles it exactly once; a [`Permit`] sees to that.
pub trait Gate: Send + Sync {
    /// Decides at once where it can, without allocating.
    fn try_admit(&self, call: &Call<'_>) -> Admission;

    /// Waits in line, or asks a remote store. Only called after
    /// [`Admission::Wait`]; a gate that never says so needn't implement it.
    ///
    /// # Cancellation
    /// Dropping the future leaves the line. Nothing is held by it afterwards.
    fn admit<'a>(&'a self, call: &'a Call<'a>) -> BoxFuture<'a, Result<Ticket, Rejection>> {
        Box::pin(async move {
            match self.try_admit(call) {
                Admission::Admitted(ticket) => Ok(ticket),
                Admission::Rejected(rejection) => Err(rejection),
                Admission::Wait => Err(Rejection::new("gate", crate::RejectionKind::Saturated)),
            }
        })
    }

    /// Is told how the admitted call ended, once for each ticket.
    ///
    /// `elapsed` is zero unless [`needs_elapsed`](Self::needs_elapsed).
    fn settle(&self, ticket: Ticket, outcome: Outcome, elapsed: Duration);

    /// Whether `settle` reads how long the call took. Default: `false`, which
    /// spares two readings of the clock, [`Clock::system`].
    fn needs_elapsed(&self) -> bool {
        false
    }
}

/// A gate's answer to [`Gate::try_admit`].
#[derive(Debug)]
#[must_use = "an admitted call holds a ticket, which must be settled"]
pub enum Admission {
    /// Go ahead; settle the ticket afterwards.
    Admitted(Ticket),
    /// It can't be told at once: ask [`Gate::admit`].
    Wait,
    /// Not now, or not at all.
    Rejected(Rejection),
}

/// A gate's note to itself about a call that it admitted.
///
/// It carries the gate's generation, so that a late result of an earlier state
/// changes nothing.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a ticket must be settled"]
pub struct Ticket {
    generation: u64,
    note: u64,
}

impl Ticket {
    /// A ticket of this generation. Gates without generations use 0.
    pub const fn new(generation: u64) -> Self {
        Self { generation, note: 0 }
    }

    /// The same ticket with whatever else the gate must know when it is settled:
    /// which of its keys it was for, how many permits it holds.
    pub const fn with_note(mut self, note: u64) -> Self {
        self.note = note;
        self
    }

    /// The gate's generation when it admitted the call.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The gate's note; 0 without one.
    pub const fn note(&self) -> u64 {
        self.note
    }
}

/// The right to make one call through a gate.
///
/// [`settle`](Self::settle) it with the call's outcome. Dropping it settles
/// [`Outcome::Abandoned`], so that a cancelled call gives back what it holds.
///
/// ```
/// # use std::{sync::atomic::{AtomicU32, Ordering::SeqCst}, time::Duration};
/// # use stanchion_core::*;
/// # #[derive(Default)] struct Two(AtomicU32, AtomicU32);
/// # impl Gate for Two {
/// #     fn try_admit(&self, _: &Call<'_>) -> Admission { Admission::Admitted(Ticket::new(0)) }
/// #     fn settle(&self, _: Ticket, outcome: Outcome, _: Duration) {
/// #         match outcome { Outcome::Abandoned => &self.1, _ => &self.0 }.fetch_add(1, SeqCst);
/// #     }
/// # }
/// # let gate = Two::default();
/// let permit = Permit::try_new(&gate, &Call::new())?;
/// permit.settle(Outcome::Success);
///
/// drop(Permit::try_new(&gate, &Call::new())?); // settles `Abandoned`
/// # assert_eq!((gate.0.into_inner(), gate.1.into_inner()), (1, 1));
/// # Ok::<(), Rejection>(())
/// ```
#[must_use = "dropping a permit settles the call as abandoned"]
pub struct Permit<'a> {
    gate: &'a dyn Gate,
    // `None` once settled.
    ticket: Option<Ticket>,
    began: Option<Moment>,
}

impl<'a> Permit<'a> {
    /// Asks the gate once.
    ///
    /// # Errors
    /// The gate's refusal; and where the gate would have to wait,
    /// a [`Saturated`](crate::RejectionKind::Saturated) one.
    pub fn try_new(gate: &'a dyn Gate, call: &Call<'_>) -> Result<Self, Rejection> {
        match gate.try_admit(call) {
            Admission::Admitted(ticket) => Ok(Self::of(gate, ticket)),
            Admission::Wait => Err(Rejection::new("gate", crate::RejectionKind::Saturated)),
            Admission::Rejected(rejection) => Err(rejection),
        }
    }

    /// Asks the gate, and waits where it must.
    ///
    /// # Errors
    /// The gate's refusal.
    ///
    /// # Cancellation
    /// Dropping the future leaves the line; nothing is held.
    pub async fn new(gate: &'a dyn Gate, call: &Call<'_>) -> Result<Self, Rejection> {
        let ticket = match gate.try_admit(call) {
            Admission::Admitted(ticket) => ticket,
            Admission::Rejected(rejection) => return Err(rejection),
            Admission::Wait => gate.admit(call).await?,
        };
        Ok(Self::of(gate, ticket))
    }

    /// A permit for a ticket that the caller has from this gate.
    pub fn of(gate: &'a dyn Gate, ticket: Ticket) -> Self {
        Self { gate, ticket: Some(ticket), began: gate.needs_elapsed().then(|| Clock::system().now()) }
    }

    /// The call begins only now: what was waited for since the gate let it in is
    /// not its time.
    pub fn begin_now(&mut self) {
        if self.began.is_some() {
            self.began = Some(Clock::system().now());
        }
    }

    /// Tells the gate how the call ended.
    pub fn settle(mut self, outcome: Outcome) {
        self.settle_once(outcome);
    }

    fn settle_once(&mut self, outcome: Outcome) {
        if let Some(ticket) = self.ticket.take() {
            let elapsed = self.began.map_or(Duration::ZERO, |began| Clock::system().now() - began);
            self.gate.settle(ticket, outcome, elapsed);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.settle_once(Outcome::Abandoned);
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}

impl<G: Gate + ?Sized> Gate for Arc<G> {
    fn try_admit(&self, call: &Call<'_>) -> Admission {
        (**self).try_admit(call)
    }

    fn admit<'a>(&'a self, call: &'a Call<'a>) -> BoxFuture<'a, Result<Ticket, Rejection>> {
        (**self).admit(call)
    }

    fn settle(&self, ticket: Ticket, outcome: Outcome, elapsed: Duration) {
        (**self).settle(ticket, outcome, elapsed);
    }

    fn needs_elapsed(&self) -> bool {
        (**self).needs_elapsed()
    }
}

/// A gate, or a builder that becomes one.
///
/// A pipeline takes either, and reports the builder's error from its own build.
pub trait IntoGate {
    /// The gate, if its configuration can be honoured.
    ///
    /// # Errors
    /// The field that can't be, for a builder. Never for a gate.
    fn into_gate(self) -> Result<Arc<dyn Gate>, ConfigError>;
}

impl<G: Gate + 'static> IntoGate for G {
    fn into_gate(self) -> Result<Arc<dyn Gate>, ConfigError> {
        Ok(Arc::new(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RejectionKind;
    use std::sync::Mutex;

    /// Admits after a wait, if `open`, and remembers what it was told.
    struct Slow {
        open: bool,
        settled: Mutex<Vec<(u64, Outcome)>>,
    }

    impl Gate for Slow {
        fn try_admit(&self, _: &Call<'_>) -> Admission {
            Admission::Wait
        }

        fn admit<'a>(&'a self, _: &'a Call<'a>) -> BoxFuture<'a, Result<Ticket, Rejection>> {
            Box::pin(async {
                tokio::task::yield_now().await;
                if self.open { Ok(Ticket::new(9)) } else { Err(Rejection::new("slow", RejectionKind::Shed)) }
            })
        }

        fn settle(&self, ticket: Ticket, outcome: Outcome, _: Duration) {
            self.settled.lock().unwrap().push((ticket.generation(), outcome));
        }
    }

    fn slow(open: bool) -> Slow {
        Slow { open, settled: Mutex::default() }
    }

    #[tokio::test]
    async fn a_permit_settles_exactly_once() {
        let gate = slow(true);
        Permit::new(&gate, &Call::new()).await.unwrap().settle(Outcome::Success);
        drop(Permit::new(&gate, &Call::new()).await.unwrap());
        assert_eq!(*gate.settled.lock().unwrap(), [(9, Outcome::Success), (9, Outcome::Abandoned)]);
    }

    #[tokio::test]
    async fn a_panic_settles_as_abandoned() {
        let gate = slow(true);
        let permit = Permit::new(&gate, &Call::new()).await.unwrap();
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _held = permit;
            panic!("the operation fails");
        }));
        assert!(unwound.is_err());
        assert_eq!(*gate.settled.lock().unwrap(), [(9, Outcome::Abandoned)]);
    }

    #[tokio::test]
    async fn a_wait_that_is_dropped_settles_nothing() {
        let gate = slow(true);
        let call = Call::new();
        let mut waiting = Box::pin(Permit::new(&gate, &call));
        assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(waiting.as_mut().poll(cx).is_pending())).await);
        drop(waiting);
        assert!(gate.settled.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_refusal_after_a_wait_is_a_refusal() {
        let gate: Arc<dyn Gate> = slow(false).into_gate().unwrap();
        assert_eq!(Permit::new(&gate, &Call::new()).await.unwrap_err().kind(), RejectionKind::Shed);
        assert_eq!(Permit::try_new(&gate, &Call::new()).unwrap_err().kind(), RejectionKind::Saturated);
    }
}

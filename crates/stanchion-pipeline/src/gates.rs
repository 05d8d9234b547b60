//! Through several gates, one after the other.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use smallvec::SmallVec;
use stanchion_core::{Admission, Call, Gate, Moment, Outcome, Permit, Rejection};
use stanchion_retry::within;

/// The permits of all gates of one kind. Dropped, they settle as abandoned; if the
/// call was decided elsewhere meanwhile, as ignored.
///
/// Up to four are kept without allocating.
pub(crate) struct Permits<'a> {
    permits: SmallVec<[Permit<'a>; 4]>,
    decided: &'a AtomicBool,
    /// Whether a gate made the call wait.
    pub(crate) waited: bool,
}

/// Why nobody was let in.
pub(crate) enum Refused {
    /// A gate refused.
    Rejected(Rejection),
    /// The call's deadline came first.
    TimedOut,
}

impl<'a> Permits<'a> {
    /// None yet. They are filled where they stay: so many aren't moved for nothing.
    pub(crate) fn none(decided: &'a AtomicBool) -> Self {
        Self { permits: SmallVec::new(), decided, waited: false }
    }

    /// Asks each gate, and waits where it must, but not beyond the call's deadline.
    /// Where one refuses, those before it are told that the call wasn't made.
    pub(crate) async fn admit(
        &mut self,
        gates: &'a [Arc<dyn Gate>],
        call: &Call<'_>,
        now: impl Fn() -> Moment,
    ) -> Result<(), Refused> {
        for gate in gates {
            let gate: &dyn Gate = &**gate;
            let admitted = match gate.try_admit(call) {
                Admission::Admitted(ticket) => Ok(ticket),
                Admission::Rejected(rejection) => Err(Refused::Rejected(rejection)),
                Admission::Wait => {
                    self.waited = true;
                    wait(gate.admit(call), call, &now).await
                }
            };
            match admitted {
                Ok(ticket) => self.permits.push(Permit::of(gate, ticket)),
                Err(refused) => {
                    self.settle(Outcome::Ignored);
                    return Err(refused);
                }
            }
        }
        if self.waited {
            // What the later gates took is not the operation's time.
            self.permits.iter_mut().for_each(Permit::begin_now);
        }
        Ok(())
    }

    /// Tells each gate how it ended.
    pub(crate) fn settle(&mut self, outcome: Outcome) {
        for permit in self.permits.drain(..) {
            permit.settle(outcome);
        }
    }

    /// Asks each gate whether it would let the call in, and waits for none. Says
    /// whether all did; the permits of those that did are held.
    pub(crate) fn shadow(&mut self, gates: &'a [Arc<dyn Gate>], call: &Call<'_>) -> bool {
        let mut all = true;
        for gate in gates {
            match gate.try_admit(call) {
                Admission::Admitted(ticket) => self.permits.push(Permit::of(&**gate, ticket)),
                // One that would wait isn't a refusal.
                Admission::Wait => {}
                Admission::Rejected(_) => all = false,
            }
        }
        all
    }
}

impl Drop for Permits<'_> {
    fn drop(&mut self) {
        // Relaxed: it was set by the task that drops this.
        if self.decided.load(Ordering::Relaxed) {
            self.settle(Outcome::Ignored);
        }
    }
}

async fn wait<T>(
    admitted: impl Future<Output = Result<T, Rejection>>,
    call: &Call<'_>,
    now: impl Fn() -> Moment,
) -> Result<T, Refused> {
    let result = match call.ends_by() {
        None => Ok(admitted.await),
        Some(deadline) => within(deadline - now(), admitted).await,
    };
    match result {
        Ok(result) => result.map_err(Refused::Rejected),
        Err(_) => Err(Refused::TimedOut),
    }
}

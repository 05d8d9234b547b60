//! Through several gates, one after the other.

use std::future::Future;
use std::sync::Arc;

use smallvec::SmallVec;
use stanchion_core::{Admission, Call, Gate, Moment, Outcome, Permit, Rejection};
use stanchion_retry::within;

/// The permits of all gates of one kind. Dropped, they settle as abandoned.
pub(crate) struct Permits<'a>(SmallVec<[Permit<'a>; 4]>);

/// Why nobody was let in.
pub(crate) enum Refused {
    /// A gate refused.
    Rejected(Rejection),
    /// The call's deadline came first.
    TimedOut,
}

impl<'a> Permits<'a> {
    /// None yet. They are filled where they stay: so many aren't moved for nothing.
    pub(crate) fn none() -> Self {
        Self(SmallVec::new())
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
                Admission::Wait => wait(gate.admit(call), call, &now).await,
            };
            match admitted {
                Ok(ticket) => self.0.push(Permit::of(gate, ticket)),
                Err(refused) => {
                    self.settle(Outcome::Ignored);
                    return Err(refused);
                }
            }
        }
        Ok(())
    }

    /// Tells each gate how it ended.
    pub(crate) fn settle(&mut self, outcome: Outcome) {
        for permit in self.0.drain(..) {
            permit.settle(outcome);
        }
    }

    /// Asks each gate whether it would let the call in, and waits for none. Says
    /// whether all did; their permits are held all the same.
    pub(crate) fn shadow(gates: &'a [Arc<dyn Gate>], call: &Call<'_>) -> (Self, bool) {
        let mut permits = Self::none();
        let mut all = true;
        for gate in gates {
            match gate.try_admit(call) {
                Admission::Admitted(ticket) => permits.0.push(Permit::of(&**gate, ticket)),
                // One that would wait isn't a refusal.
                Admission::Wait => {}
                Admission::Rejected(_) => all = false,
            }
        }
        (permits, all)
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

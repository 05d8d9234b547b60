//! A limiter among other gates and limits.

use std::time::Duration;

use stanchion_core::{Admission, BoxFuture, Call, Decision, Gate, Name, Outcome, Rejection, Ticket};
#[cfg(feature = "tokio")]
use stanchion_core::{Clock, RejectionKind, Verdict};

use super::Limiter;
use crate::limit::Limit;

/// Takes the call's cost; the key is not looked at. How the call ends changes nothing. With a
/// [`max_wait`](crate::LimiterBuilder::max_wait) a call waits in line, but not beyond its deadline.
impl Gate for Limiter {
    fn try_admit(&self, call: &Call<'_>) -> Admission {
        let decision = self.check_n(call.units());
        #[cfg(feature = "tokio")]
        if decision.verdict() == Verdict::Refused && !self.waiting.0.is_zero() {
            return Admission::Wait;
        }
        admission(self.reporter.name(), &decision)
    }

    #[cfg(feature = "tokio")]
    fn admit<'a>(&'a self, call: &'a Call<'a>) -> BoxFuture<'a, Result<Ticket, Rejection>> {
        Box::pin(async move {
            let (most, too_long) = longest(self.waiting.0, call, &self.clock);
            self.wait_in_line(call.units(), most, too_long).await.map(|()| Ticket::new(0))
        })
    }

    fn settle(&self, _ticket: Ticket, _outcome: Outcome, _elapsed: Duration) {}
}

/// The key is not looked at.
impl Limit for Limiter {
    fn try_decide(&self, _key: &[u8], cost: u64) -> Option<Decision> {
        Some(self.check_n(cost))
    }

    fn decide<'a>(&'a self, _key: &'a [u8], cost: u64) -> BoxFuture<'a, Decision> {
        Box::pin(async move { self.check_n(cost) })
    }

    fn name(&self) -> &str {
        self.name()
    }
}

/// How long a call may wait, and what to say when that is too short.
#[cfg(feature = "tokio")]
pub(crate) fn longest(max_wait: Duration, call: &Call<'_>, clock: &Clock) -> (Duration, RejectionKind) {
    match call.ends_by().map(|end| end - clock.now()) {
        Some(left) if left < max_wait => (left, RejectionKind::DeadlineTooShort),
        _ => (max_wait, RejectionKind::RateLimited),
    }
}

/// A decision in a gate's words.
pub(crate) fn admission(name: &Name, decision: &Decision) -> Admission {
    match admitted(name, decision) {
        Ok(ticket) => Admission::Admitted(ticket),
        Err(rejection) => Admission::Rejected(rejection),
    }
}

/// The same, as a result.
pub(crate) fn admitted(name: &Name, decision: &Decision) -> Result<Ticket, Rejection> {
    let Some(kind) = decision.rejection_kind() else {
        return Ok(Ticket::new(0));
    };
    let rejection = Rejection::new(name, kind);
    Err(match decision.retry_after() {
        Some(wait) => rejection.retry_after(wait),
        None => rejection,
    })
}

//! Waiting for what is not there yet.

use std::time::Duration;

use stanchion_core::{Ask, BoxFuture, RateRequest, Rejection, RejectionKind, Verdict};

use super::{Limiter, admitted};
use crate::line::{Wait, least_wait};

impl Limiter {
    /// Takes one unit, and waits for it in line, for `max_wait` at most.
    ///
    /// # Errors
    /// At once if it is known that the wait would be longer, with the time after which to
    /// come back; after `max_wait` at the latest. [`Saturated`](RejectionKind::Saturated) if the line
    /// is [full](crate::LimiterBuilder::queue).
    ///
    /// # Cancellation
    /// Dropping the future gives up the place in line. Nothing is taken before it is ready. One that is
    /// neither polled nor dropped keeps its place, and holds up those behind it.
    ///
    /// # Rate
    /// tokio's timers tick in milliseconds and are late, and what drips into a full bucket meanwhile is
    /// lost: waiters come to the full rate where the burst holds what falls due in two milliseconds, and one more,
    /// as a [shaper](Self::shaper)'s does.
    ///
    /// # Panics
    /// Whoever must wait does so on tokio's timer, and panics outside of a tokio runtime that has one.
    pub async fn acquire(&self, max_wait: Duration) -> Result<(), Rejection> {
        match self.acquire_now(1) {
            Some(result) => result,
            None => self.wait_in_line(1, max_wait, RejectionKind::RateLimited).await,
        }
    }

    /// The same for `units` at once: nobody overtakes, so that many light requests don't starve a
    /// heavy one.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire); and [`NeverFits`](RejectionKind::NeverFits).
    pub async fn acquire_n(&self, units: u64, max_wait: Duration) -> Result<(), Rejection> {
        match self.acquire_now(units) {
            Some(result) => result,
            None => self.wait_in_line(units, max_wait, RejectionKind::RateLimited).await,
        }
    }

    /// What needs no waiting.
    #[inline(always)]
    fn acquire_now(&self, units: u64) -> Option<Result<(), Rejection>> {
        if !self.nobody_waits() && units > 0 {
            return None;
        }
        let decision = self.check_n(units);
        if decision.allowed() {
            return Some(Ok(()));
        }
        let may_pass = matches!(decision.verdict(), Verdict::Refused | Verdict::KeysFull);
        (!may_pass).then(|| admitted(self.reporter.name(), &decision).map(drop))
    }

    /// A box, so that those who need not wait don't carry what waiting takes.
    pub(super) fn wait_in_line(
        &self,
        units: u64,
        most: Duration,
        too_long: RejectionKind,
    ) -> BoxFuture<'_, Result<(), Rejection>> {
        Box::pin(async move {
            if let Some(never) = RateRequest::of(b"", units, &self.limits).never_fits() {
                return admitted(self.reporter.name(), &never).map(drop);
            }
            let wait = Wait { name: self.name(), units, most, too_long, queue: self.waiting.1 };
            let looks = self.looks();
            let least = |ahead| least_wait(&looks, ahead, units);
            let ask = || async { self.ask(Ask::Exactly, units) };
            let result = self.line.wait(wait, least, ask).await;
            result.map(|decision| self.reporter.decided(&decision))
        })
    }
}

//! Waiting for what is not there yet.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use stanchion_core::{Ask, BoxFuture, RateRequest, Rejection, RejectionKind};

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
    #[inline]
    pub fn acquire(&self, max_wait: Duration) -> Acquire<'_> {
        self.acquire_n(1, max_wait)
    }

    /// The same for `units` at once: nobody overtakes, so that many light requests don't starve a
    /// heavy one.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire); and [`NeverFits`](RejectionKind::NeverFits).
    #[inline]
    pub fn acquire_n(&self, units: u64, max_wait: Duration) -> Acquire<'_> {
        Acquire { limiter: self, units, max_wait, stage: Stage::New }
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

/// What [`Limiter::acquire`] and [`Limiter::acquire_n`] return: ready with the units, or with the
/// refusal.
///
/// Nothing is done before it is first polled. Where the units are there it is ready at once, and
/// nothing is allocated; a place in line is a box.
#[derive(Debug)]
#[must_use = "nothing is taken before it is awaited"]
pub struct Acquire<'a> {
    limiter: &'a Limiter,
    units: u64,
    max_wait: Duration,
    stage: Stage<'a>,
}

enum Stage<'a> {
    New,
    InLine(BoxFuture<'a, Result<(), Rejection>>),
    Done,
}

impl Future for Acquire<'_> {
    type Output = Result<(), Rejection>;

    /// # Panics
    /// When it was ready before.
    // By hand, and always inlined: a result is six words, of which most callers want one, and
    // where the units are there the others aren't written, nor copied from one await to the next.
    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let taken = match self.stage {
            Stage::New => self.limiter.take_at_once(self.units),
            _ => None,
        };
        if taken.is_some_and(|taken| taken.allowed()) {
            self.stage = Stage::Done;
            return Poll::Ready(Ok(()));
        }
        self.get_mut().poll_in_line(taken.is_some(), context)
    }
}

impl Acquire<'_> {
    /// What comes after a refusal, and where a bucket isn't all that there is to ask.
    #[inline(never)]
    #[allow(clippy::panic, reason = "as an `async` block does: it is no input, but a mistake of who polls")]
    fn poll_in_line(&mut self, is_refused: bool, context: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        if let Stage::New = self.stage {
            let (limiter, units) = (self.limiter, self.units);
            // Where others are ahead nothing is asked for yet.
            if !is_refused && (limiter.nobody_waits() || units == 0) && limiter.check_n(units).allowed() {
                self.stage = Stage::Done;
                return Poll::Ready(Ok(()));
            }
            self.stage = Stage::InLine(limiter.wait_in_line(units, self.max_wait, RejectionKind::RateLimited));
        }
        let Stage::InLine(place) = &mut self.stage else {
            // Else it would take once more what has been handed out.
            panic!("`Acquire` polled after it was ready")
        };
        let result = ready!(place.as_mut().poll(context));
        self.stage = Stage::Done;
        Poll::Ready(result)
    }
}

impl fmt::Debug for Stage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "New",
            Self::InLine(_) => "InLine",
            Self::Done => "Done",
        })
    }
}

//! The response on its way.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use stanchion_core::{CallError, Classifier, Clock, Gate, Moment, Outcome, Rejection, Ticket};

pin_project! {
    /// The response future of [`BreakerService`](crate::BreakerService).
    pub struct BreakerFuture<F, C> {
        #[pin]
        state: State<F, C>,
    }
}

pin_project! {
    #[project = Projected]
    enum State<F, C> {
        /// The inner service is at it.
        Passed { #[pin] inner: F, held: Held, classifier: C },
        /// The breaker refused.
        Refused { rejection: Option<Rejection> },
    }
}

/// A ticket that settles itself as abandoned when it is dropped.
pub(super) struct Held {
    gate: Arc<dyn Gate>,
    // `None` once settled.
    ticket: Option<Ticket>,
    began: Option<Moment>,
}

impl Held {
    #[inline]
    pub(super) fn new(gate: Arc<dyn Gate>, ticket: Ticket) -> Self {
        let began = gate.needs_elapsed().then(|| Clock::system().now());
        Self { gate, ticket: Some(ticket), began }
    }

    #[inline]
    fn settle(&mut self, outcome: Outcome) {
        if let Some(ticket) = self.ticket.take() {
            let elapsed = self.began.map(|began| Clock::system().now() - began).unwrap_or_default();
            self.gate.settle(ticket, outcome, elapsed);
        }
    }
}

impl Drop for Held {
    #[inline]
    fn drop(&mut self) {
        self.settle(Outcome::Abandoned);
    }
}

impl<F, C> BreakerFuture<F, C> {
    #[inline]
    pub(super) fn passed(inner: F, held: Held, classifier: C) -> Self {
        Self { state: State::Passed { inner, held, classifier } }
    }

    pub(super) fn refused(rejection: Rejection) -> Self {
        Self { state: State::Refused { rejection: Some(rejection) } }
    }
}

impl<F, C, T, E> Future for BreakerFuture<F, C>
where
    F: Future<Output = Result<T, E>>,
    C: Classifier<T, E>,
{
    type Output = Result<T, CallError<E>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            Projected::Passed { inner, held, classifier } => {
                let result = ready!(inner.poll(context));
                held.settle(classifier.classify(&result));
                Poll::Ready(result.map_err(|error| CallError::Inner { error, attempts: 1 }))
            }
            Projected::Refused { rejection } => {
                let rejection = rejection.take().expect("a future is not polled after it is ready");
                Poll::Ready(Err(CallError::Rejected(rejection)))
            }
        }
    }
}

impl<F, C> fmt::Debug for BreakerFuture<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.state {
            State::Passed { .. } => "BreakerFuture(passed)",
            State::Refused { .. } => "BreakerFuture(refused)",
        })
    }
}

//! The response on its way.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use pin_project_lite::pin_project;
use stanchion_core::{BoxFuture, Decision};
use tower_service::Service;

use super::layer::Settings;
use super::service::refusal;

pin_project! {
    /// The response future of [`RateLimit`](crate::RateLimit).
    pub struct RateLimitFuture<S, B, R>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        state: State<S, S::Future, B, R>,
    }
}

pin_project! {
    #[project = Projected]
    enum State<S, F, B, R> {
        /// The limiter's store is being asked.
        Asking { decision: BoxFuture<'static, Decision>, waiting: Option<(S, Request<B>)>, settings: Arc<Settings> },
        /// The inner service is at it; what is to be said of the limit comes on top.
        Called { #[pin] inner: F, limit: Option<(Arc<Settings>, Decision)> },
        /// The limiter refused.
        Refused { response: Option<Response<R>> },
    }
}

impl<S: Service<Request<B>>, B, R> RateLimitFuture<S, B, R> {
    pub(super) fn asking(
        decision: BoxFuture<'static, Decision>,
        inner: S,
        request: Request<B>,
        settings: Arc<Settings>,
    ) -> Self {
        Self { state: State::Asking { decision, waiting: Some((inner, request)), settings } }
    }

    pub(super) fn allowed(inner: S::Future, settings: Arc<Settings>, decision: Decision) -> Self {
        Self { state: State::Called { inner, limit: Some((settings, decision)) } }
    }

    pub(super) fn unlimited(inner: S::Future) -> Self {
        Self { state: State::Called { inner, limit: None } }
    }

    pub(super) fn refused(response: Response<R>) -> Self {
        Self { state: State::Refused { response: Some(response) } }
    }
}

impl<S, B, R> Future for RateLimitFuture<S, B, R>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Default,
{
    type Output = Result<Response<R>, S::Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                Projected::Asking { decision, waiting, settings } => {
                    let decision = ready!(decision.as_mut().poll(context));
                    match refusal(settings, &decision) {
                        Some(response) => State::Refused { response: Some(response) },
                        None => {
                            let (mut inner, request) = waiting.take().expect("the store is asked once");
                            let limit = Some((settings.clone(), decision));
                            State::Called { inner: inner.call(request), limit }
                        }
                    }
                }
                Projected::Called { inner, limit } => {
                    let mut result = ready!(inner.poll(context));
                    if let (Ok(response), Some((settings, decision))) = (&mut result, limit.take()) {
                        settings.headers.write(&settings.policy_name, &decision, response.headers_mut());
                    }
                    return Poll::Ready(result);
                }
                Projected::Refused { response } => {
                    return Poll::Ready(Ok(response.take().expect("a future is not polled after it is ready")));
                }
            };
            state.set(next);
        }
    }
}

impl<S: Service<Request<B>>, B, R> fmt::Debug for RateLimitFuture<S, B, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.state {
            State::Asking { .. } => "RateLimitFuture(asking)",
            State::Called { .. } => "RateLimitFuture(called)",
            State::Refused { .. } => "RateLimitFuture(refused)",
        })
    }
}

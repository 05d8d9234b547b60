//! The service.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response, StatusCode};
use stanchion_core::{Decision, Verdict};
use tower_service::Service;

use super::future::RateLimitFuture;
use super::layer::{MissingKey, Settings};
use crate::RequestHead;

/// The service of a [`RateLimitLayer`](crate::RateLimitLayer).
///
/// # Cancellation
/// Dropping the response future drops the inner call. A unit that was taken
/// stays taken.
#[derive(Clone)]
pub struct RateLimit<S> {
    pub(super) inner: S,
    pub(super) settings: Arc<Settings>,
}

impl<S, B, R> Service<Request<B>> for RateLimit<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = RateLimitFuture<S, B, R>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let head = RequestHead::of(&request);
        let key = match (self.settings.extractor.key(&head), self.settings.missing_key) {
            (Some(key), _) => key,
            (None, MissingKey::Share) => Cow::Borrowed(&[][..]),
            (None, MissingKey::Skip) => return RateLimitFuture::unlimited(self.inner.call(request)),
            (None, MissingKey::Refuse) => return RateLimitFuture::refused(empty(StatusCode::BAD_REQUEST)),
        };
        let cost = (self.settings.cost)(&head);
        match self.settings.limiter.try_decide(&key, cost) {
            Some(decision) => match refusal(&self.settings, &decision) {
                Some(response) => RateLimitFuture::refused(response),
                None => RateLimitFuture::allowed(self.inner.call(request), self.settings.clone(), decision),
            },
            None => {
                let (limiter, key) = (self.settings.limiter.clone(), key.into_owned());
                let asking = Box::pin(async move { limiter.decide(&key, cost).await });
                // The service that was polled ready is the one to call.
                let next = self.inner.clone();
                let inner = std::mem::replace(&mut self.inner, next);
                RateLimitFuture::asking(asking, inner, request, self.settings.clone())
            }
        }
    }
}

/// The response to a request that was refused; `None` if it wasn't.
pub(super) fn refusal<R: Default>(settings: &Settings, decision: &Decision) -> Option<Response<R>> {
    let status = match decision.verdict() {
        Verdict::Allowed => return None,
        Verdict::KeysFull | Verdict::StoreUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::TOO_MANY_REQUESTS,
    };
    let mut response = empty(status);
    settings.headers.write(&settings.policy_name, decision, response.headers_mut());
    Some(response)
}

fn empty<R: Default>(status: StatusCode) -> Response<R> {
    let mut response = Response::new(R::default());
    *response.status_mut() = status;
    response
}

impl<S: fmt::Debug> fmt::Debug for RateLimit<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit").field("inner", &self.inner).finish_non_exhaustive()
    }
}

//! The layer and its service.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use stanchion_core::{Admission, Call, CallError, Classifier, Gate, Rejection, RejectionKind};
use tower_layer::Layer;
use tower_service::Service;

use super::classify::ByStatus;
use super::future::{BreakerFuture, Held};
use crate::{KeyExtractor, RequestHead};

/// Lets requests pass a circuit breaker on their way out: what it refuses is
/// [`CallError::Rejected`], with the time after which to come back, and never
/// reaches the inner service.
///
/// The breaker is any [`Gate`] that decides at once: a `Breaker`, a
/// `KeyedBreaker` with [`key`](Self::key), an [`Arc`] of either. One that would have to
/// wait counts as saturated. The response counts when its head is here; how its
/// body ends isn't seen.
///
/// # Defaults
/// [`ByStatus`]; no key.
///
/// ```
/// use std::sync::Arc;
/// use http::{Request, Response};
/// use stanchion_breaker::{Breaker, State};
/// use stanchion_tower::BreakerLayer;
/// use tower::{Service, ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let breaker = Arc::new(Breaker::builder("upstream").consecutive_failures(2).build()?);
/// let mut upstream = ServiceBuilder::new()
///     .layer(BreakerLayer::new(breaker.clone()))
///     .service_fn(async |_: Request<()>| Response::builder().status(503).body(()));
///
/// for _ in 0..2 {
///     assert_eq!(upstream.ready().await?.call(Request::new(())).await?.status(), 503);
/// }
/// let refused = upstream.ready().await?.call(Request::new(())).await.unwrap_err();
/// assert!(refused.rejection().unwrap().come_back_after().is_some());
/// assert_eq!(breaker.state(), State::Open);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct BreakerLayer<C = ByStatus> {
    gate: Arc<dyn Gate>,
    classifier: C,
    key: Option<Arc<dyn KeyExtractor>>,
}

impl BreakerLayer {
    /// Asks `gate`, and tells it each response's status.
    pub fn new(gate: impl Gate + 'static) -> Self {
        Self { gate: Arc::new(gate), classifier: ByStatus, key: None }
    }
}

impl<C> BreakerLayer<C> {
    /// How a response or an error counts. It is cloned for each request; an `Arc`'s
    /// contents or a function are cheap.
    pub fn classify_by<D>(self, classifier: D) -> BreakerLayer<D> {
        BreakerLayer { gate: self.gate, classifier, key: self.key }
    }

    /// Whose breaker a request asks, for a keyed one. A request without a key asks
    /// that of the empty key. Default: all of them do.
    pub fn key(mut self, extractor: impl KeyExtractor + 'static) -> Self {
        self.key = Some(Arc::new(extractor));
        self
    }
}

impl<S, C: Clone> Layer<S> for BreakerLayer<C> {
    type Service = BreakerService<S, C>;

    fn layer(&self, inner: S) -> BreakerService<S, C> {
        BreakerService { inner, layer: self.clone() }
    }
}

/// The service of a [`BreakerLayer`].
///
/// # Cancellation
/// Dropping the response future drops the inner call, and the breaker is told that
/// it was abandoned.
#[derive(Clone)]
pub struct BreakerService<S, C = ByStatus> {
    inner: S,
    layer: BreakerLayer<C>,
}

impl<S, C, B, R> Service<Request<B>> for BreakerService<S, C>
where
    S: Service<Request<B>, Response = Response<R>>,
    C: Classifier<Response<R>, S::Error> + Clone,
{
    type Response = Response<R>;
    type Error = CallError<S::Error>;
    type Future = BreakerFuture<S::Future, C>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context).map_err(|error| CallError::Inner { error, attempts: 1 })
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let BreakerLayer { gate, classifier, key } = &self.layer;
        let head = RequestHead::of(&request);
        let key = key.as_ref().and_then(|extractor| extractor.key(&head)).unwrap_or_default();
        match gate.try_admit(&Call::new().key(&key)) {
            Admission::Admitted(ticket) => {
                let held = Held::new(gate.clone(), ticket);
                BreakerFuture::passed(self.inner.call(request), held, classifier.clone())
            }
            Admission::Rejected(rejection) => BreakerFuture::refused(rejection),
            Admission::Wait => BreakerFuture::refused(Rejection::new("gate", RejectionKind::Saturated)),
        }
    }
}

impl<C> fmt::Debug for BreakerLayer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerLayer").field("keyed", &self.key.is_some()).finish_non_exhaustive()
    }
}

impl<S: fmt::Debug, C> fmt::Debug for BreakerService<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

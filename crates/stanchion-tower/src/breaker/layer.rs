//! The layer and its service.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Request;
use stanchion_core::{Admission, Call, CallError, Classifier, Gate, Rejection, RejectionKind};
use tower_layer::Layer;
use tower_service::Service;

use super::future::{BreakerFuture, Held};
use crate::ByStatus;
use crate::{KeyExtractor, RequestHead};

/// Lets requests, of HTTP or of any other kind, pass a circuit breaker on their way out: what it refuses is
/// [`CallError::Rejected`], with the time after which to come back, and never
/// reaches the inner service.
///
/// The breaker is any [`Gate`] that decides at once: a `Breaker`, a
/// `KeyedBreaker` with [`key`](Self::key), an [`Arc`] of either. One that would have to
/// wait counts as saturated. The response counts when its head is here; how its
/// body ends isn't seen.
///
/// # Defaults
/// [`ByStatus`], which is for HTTP; no key.
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
pub struct BreakerLayer<C = ByStatus, K = NoKey> {
    gate: Arc<dyn Gate>,
    classifier: C,
    key: K,
}

/// All requests ask the breaker of the empty key, which is what any breaker but a
/// keyed one has.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoKey;

/// An HTTP request asks the breaker of the key that the extractor finds.
#[derive(Clone)]
pub struct ByKey(Arc<dyn KeyExtractor>);

/// Whose breaker a request asks.
pub trait BreakerKey<Req> {
    /// The key; empty where it has none.
    fn key<'r>(&self, request: &'r Req) -> Cow<'r, [u8]>;
}

impl<Req> BreakerKey<Req> for NoKey {
    #[inline]
    fn key<'r>(&self, _: &'r Req) -> Cow<'r, [u8]> {
        Cow::Borrowed(&[])
    }
}

impl<B> BreakerKey<Request<B>> for ByKey {
    fn key<'r>(&self, request: &'r Request<B>) -> Cow<'r, [u8]> {
        self.0.key(&RequestHead::of(request)).unwrap_or_default()
    }
}

impl BreakerLayer {
    /// Asks `gate`, and tells it each response's status.
    pub fn new(gate: impl Gate + 'static) -> Self {
        Self { gate: Arc::new(gate), classifier: ByStatus, key: NoKey }
    }
}

impl<C, K> BreakerLayer<C, K> {
    /// How a response or an error counts. It is cloned for each request; an `Arc`'s
    /// contents or a function are cheap.
    pub fn classify_by<D>(self, classifier: D) -> BreakerLayer<D, K> {
        BreakerLayer { gate: self.gate, classifier, key: self.key }
    }

    /// Whose breaker an HTTP request asks, for a keyed one. A request without a key
    /// asks that of the empty key. Default: all of them do.
    pub fn key(self, extractor: impl KeyExtractor + 'static) -> BreakerLayer<C, ByKey> {
        BreakerLayer { gate: self.gate, classifier: self.classifier, key: ByKey(Arc::new(extractor)) }
    }
}

impl<S, C: Clone, K: Clone> Layer<S> for BreakerLayer<C, K> {
    type Service = BreakerService<S, Self>;

    fn layer(&self, inner: S) -> BreakerService<S, Self> {
        BreakerService { inner, layer: self.clone() }
    }
}

/// The service of a [`BreakerLayer`].
///
/// # Cancellation
/// Dropping the response future drops the inner call, and the breaker is told that
/// it was abandoned.
#[derive(Clone)]
pub struct BreakerService<S, L = BreakerLayer> {
    inner: S,
    layer: L,
}

impl<S, C, K, Req> Service<Req> for BreakerService<S, BreakerLayer<C, K>>
where
    S: Service<Req>,
    C: Classifier<S::Response, S::Error> + Clone,
    K: BreakerKey<Req>,
{
    type Response = S::Response;
    type Error = CallError<S::Error>;
    type Future = BreakerFuture<S::Future, C>;

    #[inline]
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context).map_err(|error| CallError::Inner { error, attempts: 1 })
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let BreakerLayer { gate, classifier, key } = &self.layer;
        let admission = gate.try_admit(&Call::new().key(&key.key(&request)));
        match admission {
            Admission::Admitted(ticket) => {
                let held = Held::new(gate.clone(), ticket);
                BreakerFuture::passed(self.inner.call(request), held, classifier.clone())
            }
            Admission::Rejected(rejection) => BreakerFuture::refused(rejection),
            Admission::Wait => BreakerFuture::refused(Rejection::new("gate", RejectionKind::Saturated)),
        }
    }
}

impl<C, K> fmt::Debug for BreakerLayer<C, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerLayer").finish_non_exhaustive()
    }
}

impl fmt::Debug for ByKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByKey")
    }
}

impl<S: fmt::Debug, L> fmt::Debug for BreakerService<S, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

//! The gateway: it forwards `GET /…` to the upstream, and this is how Stanchion protects it.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, StatusCode, uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use stanchion_limit::{KeyedLimiter, Outage, Quota};
use stanchion_redis::RedisRateStore;
use stanchion_tower::{Header, RateLimitLayer};

/// What each tenant may ask for in a second, and at once. The most popular of
/// the quiet tenants asks for 17 a second.
pub(crate) const PER_SECOND: u64 = 30;
pub(crate) const BURST: u64 = 20;

/// What protects the gateway. Policies for what comes in are layers in
/// [`router`]; those for what goes out have their place in [`Gateway::call`].
#[derive(Debug, Default)]
pub(crate) struct Policies {
    tenants: Option<RateLimitLayer>,
    /// Kept to ask how the store did.
    on_redis: Option<Arc<KeyedLimiter<[u8], RedisRateStore>>>,
}

impl Policies {
    /// Stanchion's: one limit for each tenant, in memory, or on a Redis that all
    /// instances of a gateway share.
    pub(crate) fn stanchion(redis: Option<&str>) -> Result<Self, Box<dyn Error>> {
        let limiter = KeyedLimiter::<[u8]>::builder(Quota::per_second(PER_SECOND).burst(BURST)).name("tenants");
        let tenant = Header::new("x-tenant")?;
        let Some(url) = redis else {
            let tenants = Some(RateLimitLayer::new(limiter.build()?, tenant));
            return Ok(Self { tenants, on_redis: None });
        };
        let store = RedisRateStore::connect(url)?;
        let limiter = Arc::new(limiter.on(store, Outage::LocalShare { instances: 1 }).build()?);
        let tenants = Some(RateLimitLayer::new(limiter.clone(), tenant));
        Ok(Self { tenants, on_redis: Some(limiter) })
    }

    /// A gateway that forwards whatever comes.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// How many times Redis gave no answer.
    pub(crate) fn store_failures(&self) -> u64 {
        let limiter = self.on_redis.as_ref();
        limiter.map_or(0, |limiter| limiter.snapshot().store_failures)
    }
}

/// The gateway as a router. A layer is outside of what was added before it: the
/// limit comes first, and what it refuses never gets to the handler.
pub(crate) fn router(gateway: Gateway, policies: &Policies) -> Router {
    let router = Router::new().fallback(get(forward)).with_state(gateway);
    match &policies.tenants {
        Some(limit) => router.layer(limit.clone()),
        None => router,
    }
}

/// A call may take so long, from the first byte to the last.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(1);
/// The largest answer that is forwarded. It is read in full before it is passed
/// on, so that the timeout covers all of it.
const LARGEST_BODY: usize = 1 << 20;

pub(crate) const TENANT: HeaderName = HeaderName::from_static("x-tenant");

/// A gateway to one upstream. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Gateway {
    upstream: SocketAddr,
    client: Client<HttpConnector, Body>,
    timed_out: Arc<AtomicU64>,
}

impl Gateway {
    pub(crate) fn to(upstream: SocketAddr) -> Self {
        Self {
            upstream,
            client: Client::builder(TokioExecutor::new()).build_http(),
            timed_out: Arc::new(AtomicU64::new(0)),
        }
    }

    /// How many calls took too long.
    pub(crate) fn timed_out(&self) -> u64 {
        // Relaxed: the number stands for itself.
        self.timed_out.load(Ordering::Relaxed)
    }

    /// One call of the upstream: the status, the headers and the body of its answer.
    async fn call(&self, request: Request) -> Result<(StatusCode, HeaderMap, Bytes), Box<dyn Error + Send + Sync>> {
        let (head, body) = self.client.request(request).await?.into_parts();
        let body = to_bytes(Body::new(body), LARGEST_BODY).await?;
        Ok((head.status, head.headers, body))
    }

    /// The request as the upstream gets it.
    fn outgoing(&self, incoming: &Request) -> Result<Request, axum::http::Error> {
        let path = incoming.uri().path_and_query().map_or("/", uri::PathAndQuery::as_str);
        let mut outgoing = Request::get(format!("http://{}{path}", self.upstream));
        if let Some(tenant) = incoming.headers().get(TENANT) {
            outgoing = outgoing.header(TENANT, tenant);
        }
        outgoing.body(Body::empty())
    }
}

async fn forward(State(gateway): State<Gateway>, incoming: Request) -> Response {
    let Ok(outgoing) = gateway.outgoing(&incoming) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    match tokio::time::timeout(TOTAL_TIMEOUT, gateway.call(outgoing)).await {
        Ok(Ok((status, headers, body))) => {
            let mut response = (status, body).into_response();
            if let Some(kind) = headers.get(CONTENT_TYPE) {
                response.headers_mut().insert(CONTENT_TYPE, kind.clone());
            }
            response
        }
        Ok(Err(error)) => (StatusCode::BAD_GATEWAY, format!("{error}\n")).into_response(),
        Err(_) => {
            gateway.timed_out.fetch_add(1, Ordering::Relaxed);
            (StatusCode::GATEWAY_TIMEOUT, "the upstream took too long\n").into_response()
        }
    }
}

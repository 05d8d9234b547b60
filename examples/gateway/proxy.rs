//! The gateway: it forwards `GET /…` to the upstream, and this is how Stanchion protects it.

use std::error::Error;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{AGE, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use stanchion_cache::LoadError;
use stanchion_limit::{KeyedLimiter, Outage, Quota};
use stanchion_pipeline::CallError;
use stanchion_redis::RedisRateStore;
use stanchion_tower::{Header, RateLimitLayer};

use crate::exchange::{Answer, Asked, Fault, Origin, TENANT};
use crate::outbound::{Gateway, Outgoing};

/// What each tenant may ask for in a second, and at once. The most popular of
/// the quiet tenants asks for 17 a second.
pub(crate) const PER_SECOND: u64 = 30;
pub(crate) const BURST: u64 = 20;

/// What protects the gateway. Policies for what comes in are layers in
/// [`router`]; those for what goes out are [`Outgoing`]: a pipeline and two caches.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    tenants: Option<RateLimitLayer>,
    pub(crate) upstream: Option<Outgoing>,
    /// Kept to ask how the store did.
    on_redis: Option<Arc<KeyedLimiter<[u8], RedisRateStore>>>,
}

impl Policies {
    /// Stanchion's: one limit for each tenant, in memory, or on a Redis that all
    /// instances of a gateway share; and one pipeline to the upstream, with caches before and behind it.
    pub(crate) fn stanchion(redis: Option<&str>) -> Result<Self, Box<dyn Error>> {
        let limiter = KeyedLimiter::<[u8]>::builder(Quota::per_second(PER_SECOND).burst(BURST)).name("tenants");
        let tenant = Header::from(TENANT);
        let upstream = Some(Outgoing::stanchion()?);
        let Some(url) = redis else {
            let tenants = Some(RateLimitLayer::new(limiter.build()?, tenant));
            return Ok(Self { tenants, upstream, on_redis: None });
        };
        let store = RedisRateStore::connect(url).map_err(|error| format!("`--redis`: {error}"))?;
        let limiter = Arc::new(limiter.on(store, Outage::LocalShare { instances: 1 }).build()?);
        let tenants = Some(RateLimitLayer::new(limiter.clone(), tenant));
        Ok(Self { tenants, upstream, on_redis: Some(limiter) })
    }

    /// A gateway that forwards whatever comes, and insists on an answer.
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
    let router = Router::new().route("/products/{number}", get(product)).fallback(get(own)).with_state(gateway);
    match &policies.tenants {
        Some(limit) => router.layer(limit.clone()),
        None => router,
    }
}

/// How a client is told that its answer is one that was kept (RFC 9211).
pub(crate) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
pub(crate) const HIT: HeaderValue = HeaderValue::from_static("gateway; hit");
pub(crate) const LAST_KNOWN: HeaderValue = HeaderValue::from_static("gateway; hit; detail=last-known");

async fn own(State(gateway): State<Gateway>, incoming: Request) -> Response {
    match gateway.own(&Asked::by(&incoming)).await {
        Ok(answer) => answer.into_response(),
        Err(error) => failed(&error),
    }
}

async fn product(State(gateway): State<Gateway>, incoming: Request) -> Response {
    match gateway.product(&Asked::by_anybody(&incoming)).await {
        Ok(answer) => answer.into_response(),
        // All who waited for one load are told how it failed.
        Err(LoadError::Failed(error)) => failed(&error),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

fn failed(error: &CallError<Fault>) -> Response {
    match error {
        // What the upstream says of its trouble is passed on.
        CallError::Inner { error: Fault::Answered(answer), .. } => answer.clone().into_response(),
        CallError::Inner { error, .. } => (StatusCode::BAD_GATEWAY, format!("{error}\n")).into_response(),
        CallError::TimedOut { .. } => (StatusCode::GATEWAY_TIMEOUT, "the upstream took too long\n").into_response(),
        CallError::Rejected(rejection) => {
            let mut response = (StatusCode::SERVICE_UNAVAILABLE, format!("{rejection}\n")).into_response();
            if let Some(wait) = rejection.come_back_after() {
                // Rounded up: not too early.
                response.headers_mut().insert(RETRY_AFTER, (wait.as_secs() + 1).into());
            }
            response
        }
        error => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body).into_response();
        let headers = response.headers_mut();
        if let Some(kind) = self.kind {
            headers.insert(CONTENT_TYPE, kind);
        }
        let (age, status) = match self.origin {
            Origin::New => return response,
            Origin::Hit { age } => (age, HIT),
            Origin::LastKnown { age } => (age, LAST_KNOWN),
        };
        headers.insert(AGE, age.as_secs().into());
        headers.insert(CACHE_STATUS, status);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Bytes;
    use std::time::Duration;

    #[test]
    fn an_answer_that_was_kept_says_so_and_how_old_it_is() {
        let answered = |origin| {
            let answer = Answer { status: StatusCode::OK, kind: None, body: Bytes::new(), origin };
            let headers = answer.into_response().headers().clone();
            (headers.get(CACHE_STATUS).cloned(), headers.get(AGE).cloned())
        };
        let age = Duration::from_millis(7_900);
        assert_eq!(answered(Origin::LastKnown { age }), (Some(LAST_KNOWN), Some(7.into())));
        assert_eq!(answered(Origin::Hit { age }), (Some(HIT), Some(7.into())));
        assert_eq!(answered(Origin::New), (None, None));
    }
}

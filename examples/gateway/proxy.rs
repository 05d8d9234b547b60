//! The gateway: it forwards `GET /…` to the upstream, and this is how Stanchion protects it.

use std::error::Error;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{AGE, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use stanchion_limit::{KeyedLimiter, Outage, Quota};
use stanchion_pipeline::{CallError, Pipeline};
use stanchion_redis::RedisRateStore;
use stanchion_tower::{Header, RateLimitLayer};

use crate::outbound::{Answer, Asked, Fault, Gateway, pipeline};

/// What each tenant may ask for in a second, and at once. The most popular of
/// the quiet tenants asks for 17 a second.
pub(crate) const PER_SECOND: u64 = 30;
pub(crate) const BURST: u64 = 20;

/// What protects the gateway. Policies for what comes in are layers in
/// [`router`]; those for what goes out are the [`pipeline`] of [`Gateway::call`].
#[derive(Debug, Default)]
pub(crate) struct Policies {
    tenants: Option<RateLimitLayer>,
    pub(crate) upstream: Option<Pipeline>,
    /// Kept to ask how the store did.
    on_redis: Option<Arc<KeyedLimiter<[u8], RedisRateStore>>>,
}

impl Policies {
    /// Stanchion's: one limit for each tenant, in memory, or on a Redis that all
    /// instances of a gateway share; and one pipeline to the upstream.
    pub(crate) fn stanchion(redis: Option<&str>) -> Result<Self, Box<dyn Error>> {
        let limiter = KeyedLimiter::<[u8]>::builder(Quota::per_second(PER_SECOND).burst(BURST)).name("tenants");
        let tenant = Header::new("x-tenant")?;
        let upstream = Some(pipeline()?);
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
    let router = Router::new().fallback(get(forward)).with_state(gateway);
    match &policies.tenants {
        Some(limit) => router.layer(limit.clone()),
        None => router,
    }
}

/// How a client is told that its answer is the last known one, not a new one (RFC 9211).
pub(crate) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const IS_LAST_KNOWN: HeaderValue = HeaderValue::from_static("gateway; hit; detail=last-known");

async fn forward(State(gateway): State<Gateway>, incoming: Request) -> Response {
    match gateway.call(&Asked::by(&incoming)).await {
        Ok(answer) => answer.into_response(),
        // What the upstream says of its trouble is passed on.
        Err(CallError::Inner { error: Fault::Answered(answer), .. }) => answer.into_response(),
        Err(CallError::Inner { error, .. }) => (StatusCode::BAD_GATEWAY, format!("{error}\n")).into_response(),
        Err(CallError::TimedOut { .. }) => {
            (StatusCode::GATEWAY_TIMEOUT, "the upstream took too long\n").into_response()
        }
        Err(CallError::Rejected(rejection)) => {
            let mut response = (StatusCode::SERVICE_UNAVAILABLE, format!("{rejection}\n")).into_response();
            if let Some(wait) = rejection.come_back_after() {
                // Rounded up: not too early.
                response.headers_mut().insert(RETRY_AFTER, (wait.as_secs() + 1).into());
            }
            response
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body).into_response();
        let headers = response.headers_mut();
        if let Some(kind) = self.kind {
            headers.insert(CONTENT_TYPE, kind);
        }
        if let Some(age) = self.age {
            headers.insert(AGE, age.as_secs().into());
            headers.insert(CACHE_STATUS, IS_LAST_KNOWN);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Bytes;
    use std::time::Duration;

    #[test]
    fn only_the_last_known_answer_says_that_it_is_one() {
        let answer = |age| Answer { status: StatusCode::OK, kind: None, body: Bytes::new(), age }.into_response();
        let old = answer(Some(Duration::from_millis(7_900)));
        assert_eq!((&old.headers()[CACHE_STATUS], &old.headers()[AGE]), (&IS_LAST_KNOWN, &HeaderValue::from(7)));
        let new = answer(None);
        assert!(!new.headers().contains_key(CACHE_STATUS) && !new.headers().contains_key(AGE));
    }
}

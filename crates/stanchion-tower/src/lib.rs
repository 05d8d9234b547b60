//! Stanchion's policies as tower layers over HTTP.
//!
//! [`RateLimitLayer`] stands before a service of one's own; [`BreakerLayer`] before
//! one that is called. And there is what all policies need to know of HTTP: how a
//! response ends an attempt ([`ByStatus`]), and which request may be sent twice
//! ([`is_repeatable`]).
//!
//! ```
//! use http::{Request, Response};
//! use stanchion_limit::{KeyedLimiter, Quota};
//! use stanchion_tower::{Header, RateLimitLayer};
//! use tower::{Service, ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let limiter = KeyedLimiter::builder(Quota::per_minute(60).burst(1)).name("api").build()?;
//! let mut service = ServiceBuilder::new()
//!     .layer(RateLimitLayer::new(limiter, Header::new("x-api-key")?))
//!     .service_fn(async |_: Request<String>| Ok::<_, std::convert::Infallible>(Response::new(String::new())));
//!
//! let request = || Request::builder().header("x-api-key", "alice").body(String::new());
//! let response = service.ready().await?.call(request()?).await?;
//! assert_eq!(response.status(), 200);
//! assert_eq!(response.headers()["ratelimit"], r#""api";r=0;t=1"#);
//!
//! let response = service.ready().await?.call(request()?).await?;
//! assert_eq!(response.status(), 429);
//! assert_eq!(response.headers()["retry-after"], "1");
//! # Ok(())
//! # }
//! ```
//!
//! # With axum
//! A limiter in a layer is keyed by bytes: `KeyedLimiter<[u8]>`. A layer wraps
//! the routes that were added before it; put it on the routes that it is for,
//! since a 404 costs a unit, too, where it stands on all.
//!
//! ```
//! use axum::{Router, routing::get};
//! use stanchion_limit::{KeyedLimiter, Quota, WhenFull};
//! use stanchion_tower::{ForwardedFor, RateLimitLayer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Strangers choose their addresses: a flood of them must not lock others out.
//! let limiter = KeyedLimiter::<[u8]>::builder(Quota::per_minute(60))
//!     .name("clients")
//!     .when_full(WhenFull::Forget)
//!     .build()?;
//! let app: Router = Router::new()
//!     .route("/orders", get(|| async { "orders" }))
//!     .route_layer(RateLimitLayer::new(limiter, ForwardedFor::proxies(1)?))
//!     .route("/health", get(|| async { "ok" }));
//! # Ok(())
//! # }
//! ```
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::panic, clippy::unwrap_used)]

mod breaker;
mod key;
mod outcome;
mod rate_limit;

pub use breaker::{BreakerFuture, BreakerKey, BreakerLayer, BreakerService, ByKey, NoKey};
pub use key::{ForwardedFor, Header, KeyExtractor, RequestHead};
pub use outcome::{ByStatus, is_repeatable, outcome, retry_after};
pub use rate_limit::{Headers, MissingKey, RateLimit, RateLimitFuture, RateLimitLayer};

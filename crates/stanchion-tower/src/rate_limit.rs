//! A rate limit over HTTP requests.

mod future;
mod headers;
mod layer;
mod service;

pub use future::RateLimitFuture;
pub use headers::Headers;
pub use layer::{MissingKey, RateLimitLayer};
pub use service::RateLimit;

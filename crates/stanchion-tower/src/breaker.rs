//! A circuit breaker over HTTP requests.

mod future;
mod layer;

pub use future::BreakerFuture;
pub use layer::{BreakerKey, BreakerLayer, BreakerService, ByKey, NoKey};

//! A circuit breaker over HTTP requests.

mod classify;
mod future;
mod layer;

pub use classify::ByStatus;
pub use future::BreakerFuture;
pub use layer::{BreakerKey, BreakerLayer, BreakerService, ByKey, NoKey};

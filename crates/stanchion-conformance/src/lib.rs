//! The laws of Stanchion's stores, for the tests of whoever writes a backend.
//!
//! Each law is a function that panics where the law is broken. [`rate_laws!`], [`trip_laws!`]
//! and [`cache_laws!`] make a test of each, named after it. They need tokio among your
//! dev-dependencies, with the features `macros` and `rt-multi-thread`.
//!
//! ```
//! use std::sync::Arc;
//! use stanchion_conformance::{rate, rate_laws};
//! use stanchion_core::ManualClock;
//! # use stanchion_core::{Answer, Decision, RateRequest, RateStore, StoreError, StoreErrorKind};
//! # struct MyStore; impl MyStore { fn new(_: ManualClock) -> Self { Self } }
//! # impl RateStore for MyStore {
//! #     fn decide(&self, _: RateRequest<'_>) -> Answer<'_, Result<Decision, StoreError>> {
//! #         Answer::Ready(Err(StoreError::new(StoreErrorKind::Unsupported, "a sketch")))
//! #     }
//! # }
//!
//! async fn subject() -> rate::Subject {
//!     let clock = ManualClock::new();
//!     rate::Subject { store: Arc::new(MyStore::new(clock.clone())), clock }
//! }
//!
//! rate_laws!(subject);
//! # fn main() {}
//! ```
//!
//! [`Admissions`] is the oracle: it checks every window of a history against a
//! limit's bound, and is right by being naive. [`simulation`] is a server in
//! virtual time, for gates that must find out what it can bear.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod cache;
mod oracle;
pub mod rate;
#[cfg(feature = "redis-server")]
mod redis_cluster;
#[cfg(feature = "redis-server")]
mod redis_server;
pub mod simulation;
pub mod trip;

pub use oracle::Admissions;
#[cfg(feature = "redis-server")]
pub use redis_cluster::RedisCluster;
#[cfg(feature = "redis-server")]
pub use redis_server::RedisServer;

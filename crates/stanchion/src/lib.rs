//! Stanchion keeps a service standing when others fail, and its queue in order.
//!
//! A family of small crates that share one core of words and traits, work in
//! memory by default and on Redis when a service has many instances, alone or
//! as tower layers. This crate re-exports them; each is as good by itself.
//!
//! | feature | module | crate | what it is for |
//! |---|---|---|---|
//! | always | [`core`] | `stanchion-core` | the words: outcomes, gates, decisions, clocks, store traits |
//! | `breaker` (default) | `breaker` | `stanchion-breaker` | circuit breakers, for one thing, for each key, for a fleet |
//! | `cache` (default) | `cache` | `stanchion-cache` | a cache: one load however many ask, one hard budget, a freshness ladder, tags |
//! | `cache-tier` | `cache` | | the same in front of a store that all instances share |
//! | `limit` (default) | `limit` | `stanchion-limit` | rate limiters with a stated bound, direct and keyed; concurrency limits: bulkhead, adaptive, shedding |
//! | `retry` (default) | `retry` | `stanchion-retry` | retry, hedge, timeout, fallback; budgets |
//! | `pipeline` (default) | `pipeline` | `stanchion-pipeline` | all policies of a call as one plain value |
//! | `redis`, `redis-cluster` | `redis` | `stanchion-redis` | the stores, for all instances of a service together |
//! | `tower` | `tower` | `stanchion-tower` | layers over HTTP |
//!
//! ```
//! # #[cfg(feature = "limit")] {
//! use stanchion::limit::{KeyedLimiter, Quota};
//!
//! let limiter = KeyedLimiter::<str>::new(Quota::per_minute(100).burst(20))?;
//! assert!(limiter.check("alice").allowed());
//! # }
//! # Ok::<(), stanchion::core::ConfigError>(())
//! ```
//!
//! # Time in tests
//! With the feature `test-util`, tokio's clock drives every policy:
//!
#![cfg_attr(all(feature = "limit", feature = "test-util"), doc = "```")]
#![cfg_attr(not(all(feature = "limit", feature = "test-util")), doc = "```text")]
//! use std::time::Duration;
//! use stanchion::limit::Limiter;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), stanchion::core::ConfigError> {
//! let limiter = Limiter::per_minute(1).build()?;
//! assert!(limiter.check().allowed());
//! assert!(!limiter.check().allowed());
//! tokio::time::advance(Duration::from_secs(60)).await;
//! assert!(limiter.check().allowed());
//! # Ok(())
//! # }
//! ```
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "breaker")]
pub use stanchion_breaker as breaker;
#[cfg(feature = "cache")]
pub use stanchion_cache as cache;
pub use stanchion_core as core;
#[cfg(feature = "limit")]
pub use stanchion_limit as limit;
#[cfg(feature = "pipeline")]
pub use stanchion_pipeline as pipeline;
#[cfg(feature = "redis")]
pub use stanchion_redis as redis;
#[cfg(feature = "retry")]
pub use stanchion_retry as retry;
#[cfg(feature = "tower")]
pub use stanchion_tower as tower;

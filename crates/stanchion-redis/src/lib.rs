//! Stanchion's stores on Redis (7.0 or later) and Valkey.
//!
//! | Store | What it is for |
//! |---|---|
//! | [`RedisRateStore`] | the rate limiters of `stanchion-limit` |
//! | [`RedisTripStore`] | the circuit breakers of `stanchion-breaker` |
//! | [`RedisCacheStore`] | the caches of `stanchion-cache`, as their second tier |
//!
//! ```no_run
//! use stanchion_limit::{KeyedLimiter, Outage, Quota};
//! use stanchion_redis::RedisRateStore;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let store = RedisRateStore::connect("redis://127.0.0.1/")?;
//! let limiter: KeyedLimiter<str, _> = KeyedLimiter::builder(Quota::per_minute(100).burst(20))
//!     .name("api")
//!     .on(store, Outage::LocalShare { instances: 4 })
//!     .build()?;
//!
//! if !limiter.check("alice").await?.allowed() {
//!     // 429
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Each limit that is checked is a round trip; `stanchion_limit::Leased` in front of the
//! store spares most of them.
//!
//! # What every store here keeps to
//! * One round trip for each call: `EVALSHA`, and `EVAL` only after `NOSCRIPT`. (What concerns all of a
//!   cache that is spread over several hash slots takes two.)
//! * The server's clock, read once.
//! * All keys of a call in one hash slot.
//! * Each key has a time to live that outlives what it remembers.
//! * A call whose fate is unknown is never sent again.
//! * A deadline for each call.
//!
//! # On a cluster
//! With the feature `cluster` all stores have a `connect_cluster`. All keys of a call are
//! in one slot, by the hash tag in their name. A call that a node points elsewhere is sent
//! there, which is one more round trip; the successor of a master is found.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::panic, clippy::unwrap_used)]

mod cache;
mod client;
#[cfg(feature = "cluster")]
mod cluster;
mod error;
mod key;
mod link;
mod rate;
mod script;
mod trip;

pub use cache::RedisCacheStore;
#[cfg(feature = "cluster")]
pub use cluster::Cluster;
pub use error::classify;
pub use rate::RedisRateStore;
pub use trip::RedisTripStore;

//! A cache that is never stale behind an invalidation, and loads once however many ask.
//!
//! 1. After `invalidate`, `insert`, `clear`, `invalidate_if` or `invalidate_tag` has
//!    returned, nobody who asks then gets what was before, **not even from a load that was
//!    under way**. Recorded histories are checked against a sequential model.
//! 2. Of each key there is **at most one load at a time** whose value may be kept. It goes on
//!    whoever gives up, and tells its value, its error or its panic once, to all who wait.
//! 3. The entries and their weight **never exceed their bounds**, which are one budget
//!    for all shards.
//! 4. A hit allocates nothing, queues nothing and takes no exclusive lock.
//!
//! ```
//! use stanchion_cache::Cache;
//! use std::time::Duration;
//!
//! let users: Cache<u64, String> = Cache::builder()
//!     .name("users")
//!     .max_entries(10_000)
//!     .ttl(Duration::from_secs(3600))
//!     .stale_if_error(Duration::from_secs(600))
//!     .build()?;
//!
//! // In a thread; `get_or_load` is the same for tasks.
//! let user = users.get_or_load_blocking(&7, || Ok::<_, std::io::Error>(String::from("Alice")))?;
//! assert_eq!(user, "Alice");
//! assert_eq!(users.get(&7), Some(user));
//! users.invalidate(&7);
//! assert_eq!(users.get(&7), None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How fresh
//! | the entry's age | a call with a loader | [`get`](Cache::get) |
//! |---|---|---|
//! | below its time to live | gets it | gets it |
//! | the same, past `refresh_ahead` or by the chance of `early_refresh` | gets it; a refresh starts | gets it |
//! | past it, within `stale_while_revalidate` | gets it; a refresh starts | nothing |
//! | past it, within `stale_if_error` | waits for the load; gets it if that fails, takes longer than `load_timeout_soft`, or failed less than `failure_throttle` ago | nothing |
//! | beyond | waits for the load | nothing |
//!
//! The time to live counts from the *start* of the load: a value is as old as the moment
//! at which it may have been read. What does not exist (a loader's `None`) is remembered for
//! `negative_ttl`.
//!
//! # What a loader may say
//! A plain value, an `Option` of one, or a [`Loaded`] with a time to live, tags, a weight, a version.
//!
//! # Many instances
//! With the feature `tier`, [`CacheBuilder`]`::over(store, codec)` puts the cache in front of a store that all
//! instances of a service share, Redis for one: one load among all of them, changes that reach all of them, and no error when
//! the store is gone. See `TieredCache`.
//!
//! # What is written
//! With the feature `tokio`, `WriteThrough` writes to a store of the user's (`Sink`) and then into the cache; with
//! `write-behind`, `WriteBehind` accepts writes at once and writes them later, in batches, and says what that can lose.
//!
//! # What it costs
//! A hit is a hash, a shared lock and a clone of the value; with a time to live, a reading of the
//! system's coarse clock. An entry of two numbers takes at most 64 bytes, itself and its part of the index, the
//! policy and the growth of all these included.
//!
//! # What goes when there is no room
//! [`Eviction`]: the hybrid by default, S3-FIFO or LRU. [`policy::Simulator`] runs a stream of keys
//! through one of them.
//!
//! # Features
//! | feature | what it adds |
//! |---|---|
//! | `fast-clock` (default) | reads the CPU's timestamp counter where the system vouches for it, to measure loads |
//! | `tokio` (default) | `get_or_load`, `get_or_load_many`, `reload`, `janitor`, `Cached`, `WriteThrough`: loads and writes are tasks, and end by tokio's timer |
//! | `tier` | `TieredCache`: a cache in memory over a store that all instances share, and `MemoryCacheStore` |
//! | `json`, `postcard` | the codecs `Json` and `Postcard` for the store's values |
//! | `lz4` | `compress_above`, for large ones |
//! | `write-behind` | `WriteBehind`: a bounded queue of writes to the user's store, retried by stanchion-retry |
//! | `serde` | [`CacheConfig`] as configuration, snapshots as data |
//! | `tracing` | WARN for each load that fails, and each change that the store can't be told of; INFO when it was told after all; DEBUG for each load that was invalidated meanwhile; ERROR for writes that were given up, WARN for one that found no room |
//! | `metrics` | counters `stanchion_cache_loads_total` and `stanchion_cache_writes_total` (by `cache` and `ending`), histograms `stanchion_cache_load_seconds` (by `cache`), registered when a cache is built: install the recorder before |
//! | `test-util` | caches follow tokio's clock, paused or not |
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
#![warn(clippy::panic, clippy::unwrap_used)]

mod ancestry;
mod blocking;
mod budget;
mod builder;
mod bulk;
mod cache;
#[cfg(feature = "tokio")]
mod cached;
mod caches;
mod config;
mod ending;
mod error;
mod flight;
mod freshness;
mod hash;
mod histogram;
mod live;
#[cfg(feature = "tokio")]
mod load;
mod loaded;
mod pilot;
pub mod policy;
mod removal;
mod shard;
mod stats;
mod store;
mod sync;
mod tags;
#[cfg(feature = "tier")]
mod tier;
mod timer;
mod trace;
#[cfg(feature = "tokio")]
mod write;

pub use builder::CacheBuilder;
pub use cache::{Cache, CacheSnapshot, EntryInfo};
#[cfg(feature = "tokio")]
pub use cached::Cached;
pub use caches::Caches;
pub use config::{Abandoned, CacheConfig};
pub use error::{LoadError, OtherError};
pub use histogram::Durations;
pub use loaded::Loaded;
pub use policy::Eviction;
pub use removal::RemovalCause;
#[cfg(feature = "json")]
pub use tier::Json;
#[cfg(feature = "postcard")]
pub use tier::Postcard;
#[cfg(feature = "tier")]
pub use tier::{
    Codec, CodecError, MemoryCacheStore, Raw, RemoteKey, Shared, Spread, TierConfig, TieredBuilder, TieredCache,
    TieredSnapshot,
};
#[cfg(feature = "write-behind")]
pub use write::{FlushError, QueueError, WriteBehind, WriteBehindBuilder, WriteBehindConfig, WriteBehindSnapshot};
#[cfg(feature = "tokio")]
pub use write::{Sink, Write, WriteError, WriteThrough};

#[cfg(feature = "write-behind")]
pub use stanchion_retry::{Retry, RetryConfig};

pub use stanchion_core::{Clock, ConfigError, ManualClock, Moment, Outcome, Random};

#[cfg(feature = "tier")]
pub use stanchion_core::CacheStore;

/// The pure step, for those who test an executor against it.
pub mod pure {
    pub use crate::freshness::{Ladder, Rung, Times};
}

#[cfg(all(test, stanchion_loom))]
mod loom_tests;

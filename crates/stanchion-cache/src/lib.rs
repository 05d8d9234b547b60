//! x
#![forbid(unsafe_code)]
mod ancestry;
mod blocking;
mod budget;
mod builder;
mod bulk;
mod cache;
mod config;
mod ending;
mod error;
mod flight;
mod freshness;
mod hash;
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
mod timer;
mod trace;

pub use builder::CacheBuilder;
pub use cache::{Cache, CacheSnapshot, EntryInfo};
pub use config::{Abandoned, CacheConfig};
pub use error::{LoadError, OtherError};
pub use loaded::Loaded;
pub use policy::Eviction;
pub use removal::RemovalCause;

pub use stanchion_core::{Clock, ConfigError, ManualClock, Moment, Random};

/// The ladder.
pub mod pure {
    pub use crate::freshness::{Ladder, Rung, Times};
}

#[cfg(all(test, stanchion_loom))]
mod loom_tests;

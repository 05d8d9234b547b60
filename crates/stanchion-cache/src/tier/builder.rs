//! From settings to a tiered cache.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use stanchion_breaker::{Abandoned, Breaker};
use stanchion_core::{CacheStore, ConfigError};

use super::{Codec, RemoteKey, TierConfig, TieredCache};
use crate::builder::CacheBuilder;

/// Settings of a [`TieredCache`], from [`CacheBuilder::over`]. Where no default is stated it is
/// that of the field of the same name in [`TierConfig`].
#[must_use = "a builder builds nothing until it is told to"]
pub struct TieredBuilder<K, V> {
    pub(super) local: CacheBuilder<K, V>,
    pub(super) store: Arc<dyn CacheStore>,
    pub(super) codec: Arc<dyn Codec<V>>,
    pub(super) config: TierConfig,
    pub(super) breaker: Option<Breaker>,
}

impl<K, V> CacheBuilder<K, V> {
    /// The cache in front of a store that several instances share, in which values are kept by
    /// this codec. See [`TieredCache`].
    pub fn over(self, store: impl CacheStore + 'static, codec: impl Codec<V> + 'static) -> TieredBuilder<K, V> {
        let (store, codec) = (Arc::new(store), Arc::new(codec));
        TieredBuilder { local: self, store, codec, config: TierConfig::default(), breaker: None }
    }
}

impl<K, V> TieredBuilder<K, V> {
    /// All of these settings instead of those made so far.
    pub fn config(mut self, config: TierConfig) -> Self {
        self.config = config;
        self
    }

    /// The longest time that a value is served from memory without asking the store again.
    pub fn max_local_age(mut self, age: Duration) -> Self {
        self.config.max_local_age = age;
        self
    }

    /// A call of the store that takes so long has failed.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.config.timeout = timeout;
        self
    }

    /// How long a load holds its lease without renewing it.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.config.lease = lease;
        self
    }

    /// How long a caller waits for the load of another instance.
    pub fn lease_wait(mut self, wait: Duration) -> Self {
        self.config.lease_wait = wait;
        self
    }

    /// Larger values stay in memory.
    pub fn max_value_bytes(mut self, bytes: usize) -> Self {
        self.config.max_value_bytes = bytes;
        self
    }

    /// Values from this size on are compressed.
    pub fn compress_above(mut self, bytes: usize) -> Self {
        self.config.compress_above = Some(bytes);
        self
    }

    /// The number of the form that your values have.
    pub fn schema(mut self, schema: u32) -> Self {
        self.config.schema = schema;
        self
    }

    /// The most invalidations that are remembered while the store can't be reached.
    pub fn max_pending(mut self, invalidations: usize) -> Self {
        self.config.max_pending = invalidations;
        self
    }

    /// The breaker around the store. Default: one of the cache's name that opens after 5 failures
    /// on end, or when half of the last 100 calls have failed, for half a second at first, then
    /// for up to 5 s.
    pub fn breaker(mut self, breaker: Breaker) -> Self {
        self.breaker = Some(breaker);
        self
    }
}

impl<K, V> TieredBuilder<K, V>
where
    K: RemoteKey + Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// The cache, which listens to the store from now on.
    ///
    /// # Errors
    /// Names the first setting that can't be honoured.
    ///
    /// # Panics
    /// Where the store needs a runtime to listen, outside of one.
    pub fn build(mut self) -> Result<TieredCache<K, V>, ConfigError> {
        self.local.config.validate()?;
        self.config.validate(&self.local.config)?;
        if let Some(idle) = self.local.config.idle_ttl {
            // Nobody knows when other instances have read it.
            return Err(ConfigError::new("idle_ttl", format!("{idle:?}"), "can't be kept over a store: use a ttl"));
        }
        let breaker = match self.breaker.take() {
            Some(breaker) => breaker,
            None => Breaker::builder(self.local.name.clone())
                .consecutive_failures(5)
                // A caller that leaves says nothing about the store.
                .abandoned(Abandoned::Ignore)
                .open_for(Duration::from_millis(500), Duration::from_secs(5))
                .probes(1)
                .build()?,
        };
        Ok(TieredCache::build(self, breaker))
    }
}

impl<K, V> fmt::Debug for TieredBuilder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TieredBuilder")
            .field("local", &self.local)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

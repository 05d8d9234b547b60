//! Other settings, while it runs.

use std::hash::Hash;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use stanchion_core::ConfigError;

use super::{Cache, put};
use crate::config::CacheConfig;

impl<K: Hash + Eq, V> Cache<K, V> {
    /// Follows other settings from now on, all but two.
    ///
    /// An entry that is there keeps its end: a time to live with its jitter, and a negative one, are for what comes
    /// in later. What counts from an entry's end or from the last read of it is by the new settings at once: both stale windows
    /// and the idle time. Early refreshes are for entries that came in under settings with one, as the others don't
    /// know when they were born. A load under way keeps its time limit; whoever waits
    /// for it does so for the new one. Lower bounds evict before this returns, as by [`resize`](Self::resize).
    ///
    /// A hit costs what it did. Settings that are changed together may be seen changed one by one.
    ///
    /// # Errors
    /// Names the field that can't be honoured; the old settings stay. `eviction` can't be changed while it runs, and
    /// an `idle_ttl` can't be added to a cache that was built without: nobody has noted when its entries were read.
    ///
    /// ```
    /// use std::time::Duration;
    /// use stanchion_cache::{Cache, CacheConfig, Eviction};
    ///
    /// let users: Cache<u64, String> = Cache::builder().max_entries(1_000).build()?;
    /// let config = CacheConfig { max_entries: 5_000, ttl: Some(Duration::from_secs(60)), ..users.config() };
    /// users.reconfigure(&config)?;
    /// assert_eq!(users.config(), config);
    ///
    /// let error = users.reconfigure(&CacheConfig { eviction: Eviction::Lru, ..config }).unwrap_err();
    /// assert_eq!(error.field(), "eviction");
    /// # Ok::<(), stanchion_cache::ConfigError>(())
    /// ```
    pub fn reconfigure(&self, config: &CacheConfig) -> Result<(), ConfigError> {
        config.validate()?;
        let inner = &*self.0;
        // One after another, so that what is followed is what one of them has asked for.
        let mut last = inner.config.lock().unwrap_or_else(PoisonError::into_inner);
        if config.eviction != last.eviction {
            let value = format!("{:?}", config.eviction);
            let limit = format!("must stay {:?} while the cache runs", last.eviction);
            return Err(ConfigError::new("eviction", value, limit));
        }
        if let Some(idle) = config.idle_ttl
            && !inner.store.notes_reads()
        {
            let limit = "can't be added while the cache runs: build it with one";
            return Err(ConfigError::new("idle_ttl", format!("{idle:?}"), limit));
        }
        inner.live.set(config);
        let plain_ttl = put::plain_ttl(inner.weigher.is_none() && inner.listener.is_none(), config, &inner.store.timer);
        // Relaxed, as of all settings.
        inner.plain_ttl.store(plain_ttl, Ordering::Relaxed);
        inner.store.keep_for(config.ladder().grace(), config.idle_ttl);
        let is_resized = (config.max_entries, config.max_weight) != self.bounds();
        last.clone_from(config);
        drop(last);
        if is_resized { self.resize(config.max_entries, config.max_weight) } else { Ok(()) }
    }

    /// The settings that it follows, with its bounds of now.
    pub fn config(&self) -> CacheConfig {
        let mut config = self.0.config.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (config.max_entries, config.max_weight) = self.bounds();
        config
    }

    fn bounds(&self) -> (u64, Option<u64>) {
        (self.0.store.budget().max_entries(), self.0.weight_limit())
    }
}

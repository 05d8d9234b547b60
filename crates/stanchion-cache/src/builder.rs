//! From settings to a cache.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use stanchion_core::{Clock, ConfigError, Name, Random};

use crate::cache::Cache;
use crate::config::{Abandoned, CacheConfig};
use crate::policy::Eviction;
use crate::removal::{Listener, RemovalCause};

/// Settings of a [`Cache`], from [`Cache::builder`]. Where no default is stated it is
/// that of the field of the same name in [`CacheConfig`].
#[must_use = "a builder builds nothing until it is told to"]
pub struct CacheBuilder<K, V> {
    pub(crate) name: Name,
    pub(crate) config: CacheConfig,
    pub(crate) weigher: Option<Weigher<K, V>>,
    pub(crate) listener: Option<Listener<K, V>>,
    pub(crate) clock: Option<Clock>,
    pub(crate) seed: Option<u64>,
    pub(crate) shards: Option<usize>,
    #[cfg(feature = "tokio")]
    pub(crate) runtime: Option<tokio::runtime::Handle>,
}

pub(crate) type Weigher<K, V> = Arc<dyn Fn(&K, &V) -> u64 + Send + Sync>;

impl<K, V> CacheBuilder<K, V> {
    pub(crate) fn new() -> Self {
        Self {
            name: "cache".into(),
            config: CacheConfig::default(),
            weigher: None,
            listener: None,
            clock: None,
            seed: None,
            shards: None,
            #[cfg(feature = "tokio")]
            runtime: None,
        }
    }

    /// All of these settings instead of those made so far.
    pub fn config(mut self, config: CacheConfig) -> Self {
        self.config = config;
        self
    }

    /// What it is called in telemetry and snapshots. Default: `cache`.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = name.into();
        self
    }

    /// The most entries.
    pub fn max_entries(mut self, entries: u64) -> Self {
        self.config.max_entries = entries;
        self
    }

    /// The most weight of all entries together. It is a bound beside that of
    /// the entries: an entry without weight counts as an entry.
    pub fn max_weight(mut self, weight: u64) -> Self {
        self.config.max_weight = Some(weight);
        self
    }

    /// What an entry weighs, unless its loader says: at most 4,294,967,295, so choose a unit that suits.
    /// It is asked once for each value, outside of locks. Default: each weighs 1.
    pub fn weigher(mut self, weigher: impl Fn(&K, &V) -> u64 + Send + Sync + 'static) -> Self {
        self.weigher = Some(Arc::new(weigher));
        self
    }

    /// Which entry goes when there is no room.
    pub fn eviction(mut self, eviction: Eviction) -> Self {
        self.config.eviction = eviction;
        self
    }

    /// How long an entry is fresh, counted from the start of its load.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.config.ttl = Some(ttl);
        self
    }

    /// The share by which times to live are shortened by chance.
    pub fn ttl_jitter(mut self, share: f64) -> Self {
        self.config.ttl_jitter = share;
        self
    }

    /// An entry that nobody has read for so long is gone.
    pub fn idle_ttl(mut self, idle: Duration) -> Self {
        self.config.idle_ttl = Some(idle);
        self
    }

    /// After this share of its time to live an entry is refreshed while it is served.
    pub fn refresh_ahead(mut self, share: f64) -> Self {
        self.config.refresh_ahead = Some(share);
        self
    }

    /// XFetch's β.
    pub fn early_refresh(mut self, beta: f64) -> Self {
        self.config.early_refresh = Some(beta);
        self
    }

    /// So long after its end an entry is served while it is refreshed.
    pub fn stale_while_revalidate(mut self, window: Duration) -> Self {
        self.config.stale_while_revalidate = window;
        self
    }

    /// So long after its end an entry is served if it can't be loaded.
    pub fn stale_if_error(mut self, window: Duration) -> Self {
        self.config.stale_if_error = window;
        self
    }

    /// After a failed refresh no other for so long.
    pub fn failure_throttle(mut self, pause: Duration) -> Self {
        self.config.failure_throttle = pause;
        self
    }

    /// So long it is remembered that there is no such thing.
    pub fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.config.negative_ttl = Some(ttl);
        self
    }

    /// A caller waits no longer than this if there is a stale value that may be served.
    pub fn load_timeout_soft(mut self, timeout: Duration) -> Self {
        self.config.load_timeout_soft = Some(timeout);
        self
    }

    /// A load that takes so long has failed.
    pub fn load_timeout(mut self, timeout: Duration) -> Self {
        self.config.load_timeout = timeout;
        self
    }

    /// What becomes of a load that nobody waits for any more.
    pub fn abandoned(mut self, policy: Abandoned) -> Self {
        self.config.abandoned = policy;
        self
    }

    /// What a load costs, in any unit.
    pub fn load_cost(mut self, cost: f64) -> Self {
        self.config.load_cost = cost;
        self
    }

    /// Told of each value that left the cache, or never came in, after the fact and
    /// outside of locks, by whoever caused it. Default: nobody.
    pub fn on_removal(mut self, listener: impl Fn(&K, &V, RemovalCause) + Send + Sync + 'static) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// The time by which entries expire, read exactly. Default: the system's coarse clock,
    /// which moves by 1 to 10 ms; with the feature `test-util`, tokio's clock.
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = Some(clock.into());
        self
    }

    /// Makes all chance repeatable: the seed of hashes, jitter and early refreshes. Not for
    /// production, where nobody should be able to guess the hashes. Default: the
    /// operating system's choice.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The number of locks, rounded up to a power of two, at most 1024. Default: eight for
    /// each processor, so that two threads seldom want the same one, but at most one for 128 entries.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = Some(shards);
        self
    }

    /// Where loads run. Default: the runtime of whoever asks.
    #[cfg(feature = "tokio")]
    pub fn runtime(mut self, runtime: tokio::runtime::Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    pub(crate) fn shard_count(&self) -> usize {
        let by_size = usize::try_from(self.config.max_entries / 128).unwrap_or(usize::MAX).max(1);
        let by_machine = 8 * std::thread::available_parallelism().map_or(4, usize::from);
        self.shards.unwrap_or(by_machine.min(by_size)).clamp(1, 1024).next_power_of_two()
    }

    pub(crate) fn random(&self) -> Random {
        self.seed.map_or_else(Random::system, Random::seeded)
    }
}

impl<K: Hash + Eq, V> CacheBuilder<K, V> {
    /// The cache, empty.
    ///
    /// # Errors
    /// Names the first setting that can't be honoured.
    pub fn build(self) -> Result<Cache<K, V>, ConfigError> {
        self.config.validate()?;
        Ok(Cache::build(self))
    }
}

impl<K, V> fmt::Debug for CacheBuilder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheBuilder").field("name", &self.name).field("config", &self.config).finish_non_exhaustive()
    }
}

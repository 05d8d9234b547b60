//! Several types of data, each with its settings, in one place.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use stanchion_core::ConfigError;

use crate::builder::CacheBuilder;
use crate::cache::{Cache, CacheSnapshot};
use crate::config::CacheConfig;

/// The settings of all caches of a service, by name, and how they all stand.
///
#[cfg_attr(feature = "serde", doc = "```")]
#[cfg_attr(not(feature = "serde"), doc = "```text")]
/// use stanchion_cache::{Cache, Caches};
///
/// let caches = Caches::new(serde_json::from_str(
///     r#"{
///         "users":    { "ttl": "1h",   "max_entries": 10000, "stale_if_error": "10m" },
///         "products": { "ttl": "5m",   "max_entries": 5000, "refresh_ahead": 0.8 },
///         "settings": { "ttl": "1day", "max_entries": 100 },
///         "sessions": { "idle_ttl": "30m", "max_entries": 50000 }
///     }"#,
/// )?)?;
/// let users: Cache<u64, String> = caches.build("users")?;
/// let sessions: Cache<String, Vec<u8>> = caches.build_with("sessions", |cache| {
///     cache.weigher(|_, bytes: &Vec<u8>| bytes.len() as u64).max_weight(64 << 20)
/// })?;
/// users.insert(7, "Alice".into());
/// assert_eq!(caches.snapshots()[0].entries, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct Caches {
    settings: BTreeMap<String, CacheConfig>,
    built: Mutex<Vec<Watched>>,
}

/// `None` when the cache is gone.
type Watched = Box<dyn Fn() -> Option<CacheSnapshot> + Send + Sync>;

impl Caches {
    /// With these settings.
    ///
    /// # Errors
    /// Names the first field that can't be honoured, as `users.ttl`.
    pub fn new(settings: BTreeMap<String, CacheConfig>) -> Result<Self, ConfigError> {
        for (name, config) in &settings {
            config.validate().map_err(|error| error.inside(name))?;
        }
        Ok(Self { settings, built: Mutex::default() })
    }

    /// The settings of this name.
    pub fn config(&self, name: &str) -> Option<&CacheConfig> {
        self.settings.get(name)
    }

    /// A cache with the settings of this name. Each call builds another one.
    ///
    /// # Errors
    /// If there are no such settings.
    pub fn build<K, V>(&self, name: &str) -> Result<Cache<K, V>, ConfigError>
    where
        K: Hash + Eq + Send + Sync + 'static,
        V: Send + Sync + 'static,
    {
        self.build_with(name, |cache| cache)
    }

    /// The same, completed by what no file can say: a weigher, a listener.
    ///
    /// # Errors
    /// If there are no such settings, or if they can't be honoured any more.
    pub fn build_with<K, V>(
        &self,
        name: &str,
        complete: impl FnOnce(CacheBuilder<K, V>) -> CacheBuilder<K, V>,
    ) -> Result<Cache<K, V>, ConfigError>
    where
        K: Hash + Eq + Send + Sync + 'static,
        V: Send + Sync + 'static,
    {
        let Some(config) = self.settings.get(name) else {
            let known: Vec<&str> = self.settings.keys().map(String::as_str).collect();
            return Err(ConfigError::new("cache", name, format!("must be one of: {}", known.join(", "))));
        };
        let builder = Cache::builder().config(config.clone()).name(name.to_owned());
        let cache = complete(builder).build().map_err(|error| error.inside(name))?;
        let weak = cache.downgrade();
        let snapshot = move || weak.upgrade().map(|cache| cache.snapshot());
        self.built.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(snapshot));
        Ok(cache)
    }

    /// How all caches that were built here and still are in use stand.
    pub fn snapshots(&self) -> Vec<CacheSnapshot> {
        let mut snapshots = Vec::new();
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        built.retain(|watched| watched().map(|snapshot| snapshots.push(snapshot)).is_some());
        snapshots
    }
}

impl fmt::Debug for Caches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caches").field("settings", &self.settings).finish_non_exhaustive()
    }
}

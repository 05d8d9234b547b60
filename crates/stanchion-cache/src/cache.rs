//! The cache that users name.

mod admin;
mod look;
mod put;
mod reconfigure;

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use stanchion_core::{Clock, ConfigError, Name, Random};

use crate::builder::{CacheBuilder, Weigher};
use crate::config::CacheConfig;
use crate::hash::{KeyHasher, local};
use crate::histogram::Histogram;
use crate::live::Live;
use crate::loaded::Loaded;
use crate::removal::{Listener, Removals};
use crate::shard::{Extra, Record};
use crate::stats::{Count, Stats};
use crate::store::{Admitted, Right, Store};
use crate::timer::{NEVER, Timer};
use crate::trace::Reporter;

pub use admin::{CacheSnapshot, EntryInfo};
pub(crate) use look::Look;

/// A cache in memory, bounded in entries and in weight, of which any number of
/// threads and tasks ask. Cheap to clone; the clones are one cache.
///
/// A value is handed out by clone: put what is large into an `Arc`.
///
/// # The promise
/// After `invalidate`, `insert`, `clear`, `invalidate_if` or `invalidate_tag` has returned,
/// no call that begins then sees what the key's value was before, nor what a load brings
/// that had begun before. At any time at most
/// one load of a key is under way whose value may be kept. The entries and the weight
/// never exceed their bounds, not for a moment.
///
/// ```
/// use stanchion_cache::Cache;
///
/// let cache: Cache<&str, u64> = Cache::builder().name("answers").max_entries(1_000).build()?;
/// assert_eq!(cache.get("life"), None);
/// cache.insert("life", 42);
/// assert_eq!(cache.get("life"), Some(42));
/// assert!(cache.invalidate("life"));
/// assert_eq!(cache.get("life"), None);
/// # Ok::<(), stanchion_cache::ConfigError>(())
/// ```
pub struct Cache<K, V>(pub(crate) Arc<Inner<K, V>>);

pub(crate) struct Inner<K, V> {
    pub(crate) name: Name,
    /// What was last asked for; what is followed is in `live`, in the store and in its budget.
    pub(crate) config: Mutex<CacheConfig>,
    pub(crate) live: Live,
    pub(crate) store: Store<K, V>,
    pub(crate) stats: Stats,
    pub(crate) load_times: Histogram,
    /// Measures loads; by default not what entries expire by.
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    /// See [`plain_ttl`](put::plain_ttl).
    plain_ttl: AtomicU64,
    weigher: Option<Weigher<K, V>>,
    listener: Option<Listener<K, V>>,
    pub(crate) reporter: Reporter,
    #[cfg(feature = "tokio")]
    pub(crate) runtime: Option<tokio::runtime::Handle>,
}

impl<K, V> Cache<K, V> {
    /// The settings, to be completed.
    pub fn builder() -> CacheBuilder<K, V> {
        CacheBuilder::new()
    }
}

impl<K: Hash + Eq, V> Cache<K, V> {
    /// A cache of this name with these settings.
    ///
    /// # Errors
    /// Names the first setting that can't be honoured.
    pub fn from_config(name: impl Into<Name>, config: &CacheConfig) -> Result<Self, ConfigError> {
        Self::builder().name(name).config(config.clone()).build()
    }

    pub(crate) fn build(builder: CacheBuilder<K, V>) -> Self {
        let config = &builder.config;
        let timer = Timer::new(builder.clock.clone());
        let max = (config.max_entries, config.max_weight.unwrap_or(u64::MAX));
        let plain_ttl = put::plain_ttl(builder.weigher.is_none() && builder.listener.is_none(), config, &timer);
        let kept = (timer.after(0, config.ladder().grace()), config.idle_ttl.map(|idle| timer.after(0, idle)));
        let hasher = KeyHasher::new(builder.seed);
        Self(Arc::new(Inner {
            store: Store::new(builder.shard_count(), max, config.eviction, hasher, timer, kept),
            live: Live::new(config),
            stats: Stats::new(),
            load_times: Histogram::new(),
            random: builder.random(),
            clock: builder.clock.unwrap_or_default(),
            plain_ttl: plain_ttl.into(),
            weigher: builder.weigher,
            listener: builder.listener,
            reporter: Reporter::new(&builder.name),
            name: builder.name,
            config: Mutex::new(builder.config),
            #[cfg(feature = "tokio")]
            runtime: builder.runtime,
        }))
    }

    /// The key's value, if there is a fresh one. It allocates nothing, takes a shared
    /// lock for a moment, and reads the clock only if entries expire.
    #[inline]
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        let inner = &*self.0;
        if inner.store.is_timed() { inner.get_timed(key) } else { inner.get_untimed(key) }
    }

    /// Whether there is a fresh value. It counts as no access.
    pub fn contains<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let inner = &*self.0;
        let hash = inner.store.hash(key);
        let now = inner.store.now();
        let shard = inner.store.read(hash);
        shard.find(local(hash), key).is_some_and(|slot| inner.is_fresh(&shard, slot, now) == Some(true))
    }

    /// Puts a value in, in place of any other. A load under way becomes void: those who
    /// wait for it get its value, and the cache keeps this one.
    ///
    /// A value that is heavier than the whole budget is refused, and the old one
    /// goes all the same.
    pub fn insert(&self, key: K, value: V) {
        // Relaxed, as of all settings.
        match self.0.plain_ttl.load(Ordering::Relaxed) {
            0 => _ = self.insert_loaded(key, Loaded::new(value)),
            ttl => self.0.insert_plain(key, value, ttl),
        }
    }

    /// The same with a time to live, tags, a weight or a version of its own. Whether
    /// it was kept.
    pub fn insert_loaded(&self, key: K, loaded: Loaded<V>) -> bool {
        self.0.insert(key, loaded, Right::Insert)
    }

    /// Puts a value in if it is newer than what is there: of a higher version. What was put in
    /// without a version has version 0. Whether it was kept; if not, nothing has changed.
    ///
    /// ```
    /// # let cache = stanchion_cache::Cache::<u64, &str>::builder().build()?;
    /// assert!(cache.insert_if_newer(7, "second", 2));
    /// assert!(!cache.insert_if_newer(7, "first", 1));
    /// assert_eq!(cache.get(&7), Some("second"));
    /// # Ok::<(), stanchion_cache::ConfigError>(())
    /// ```
    pub fn insert_if_newer(&self, key: K, value: V, version: u64) -> bool {
        self.0.insert(key, Loaded::new(value).version(version), Right::IfNewer)
    }

    /// Takes the key's value out. A load under way becomes void. Whether there was a value,
    /// fresh or not.
    pub fn invalidate<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.0.invalidate_when(key, |_, _| true)
    }

    /// Takes the key's value out if it is older than this version. A load under way becomes
    /// void in any case, as nobody knows what it brings.
    pub fn invalidate_older<Q>(&self, key: &Q, version: u64) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.0.invalidate_when(key, |shard, slot| shard.extra(slot).map_or(0, |extra| extra.version) < version)
    }

    /// All values with this tag are gone, and so is what a load brings that has begun
    /// before, if it turns out to have the tag.
    ///
    /// It takes the same time however many they are: the tag gets a mark, and each value
    /// is compared with it when it is next read. The last
    /// 2,048 to 4,096 tags have a mark of their own; when a mark is given up, all tagged values from before it are gone.
    pub fn invalidate_tag(&self, tag: impl AsRef<str>) {
        let inner = &*self.0;
        inner.store.tags.invalidate(inner.store.hash(tag.as_ref()));
        inner.stats.count(Count::Invalidated);
    }

    /// Takes everything out. All loads under way become void.
    ///
    /// Each shard is emptied at once; a key that is put in meanwhile may stay.
    pub fn clear(&self) {
        let inner = &*self.0;
        inner.store.clear(|cleared| {
            inner.stats.add(Count::Invalidated, cleared.amount().0);
            // Without a listener it is dropped as it is.
            if inner.listener.is_some() {
                let mut removals = Removals::none();
                cleared.into_removals(&mut removals);
                removals.finish(inner.listener.as_ref());
            }
        });
    }

    /// Looks at `limit` slots, and takes out what has expired. Returns how many entries
    /// that were.
    ///
    /// Expired entries are never served, and each insert takes out some. A cache that
    /// nobody inserts into keeps what has expired in memory: that is what this is for. Several calls go on where the last one stopped.
    pub fn sweep(&self, limit: usize) -> u64 {
        let inner = &*self.0;
        let mut removals = Removals::none();
        let swept = inner.store.sweep_some(limit, &mut removals);
        inner.finish(removals);
        swept
    }

    /// The entries, with those that have expired and weren't taken out yet.
    pub fn len(&self) -> usize {
        self.0.store.read_all().map(|shard| shard.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        self.0.name.as_str()
    }
}

impl<K, V> Cache<K, V> {
    /// The same cache, if anybody else still has it when it is wanted.
    pub(crate) fn downgrade(&self) -> WeakCache<K, V> {
        WeakCache(Arc::downgrade(&self.0))
    }
}

/// A cache that may be gone.
pub(crate) struct WeakCache<K, V>(Weak<Inner<K, V>>);

impl<K, V> WeakCache<K, V> {
    pub(crate) fn upgrade(&self) -> Option<Cache<K, V>> {
        self.0.upgrade().map(Cache)
    }
}

impl<K: Hash + Eq, V> Inner<K, V> {
    fn insert(&self, key: K, loaded: Loaded<V>, right: Right) -> bool {
        let hash = self.store.hash(&key);
        // Read only if anything depends on it.
        let is_timed = self.live.has_ttl() || loaded.ttl.is_some();
        let now = if is_timed { self.store.timer.now() } else { 0 };
        let tags_since = self.store.tags.now();
        let hashes = self.tag_hashes(&loaded);
        let mut removals = Removals::none();
        let record = self.record(&key, loaded, hashes, Birth { born: now, load_time: Duration::ZERO, tags_since });
        let admitted = match record {
            Some(record) => self.store.admit(hash, key, record, right, &mut removals),
            None => {
                self.store.invalidate(&key, |_, _| true, &mut removals);
                Admitted::Refused
            }
        };
        self.finish(removals);
        if admitted == Admitted::Kept {
            self.stats.count(Count::Inserts);
        }
        admitted == Admitted::Kept
    }

    /// What is put in for a value, or `None` if it isn't to be kept. Asks the weigher: not
    /// to be called under a lock.
    pub(crate) fn record(&self, key: &K, loaded: Loaded<V>, tags: Box<[u64]>, birth: Birth) -> Option<Record<V>> {
        let ttl = match loaded.value {
            Some(_) => loaded.ttl.or(self.live.ttl()),
            None => {
                let most = self.live.negative_ttl()?;
                Some(loaded.ttl.map_or(most, |ttl| ttl.min(most)))
            }
        };
        if !loaded.is_kept || ttl.is_some_and(|ttl| ttl.is_zero()) {
            return None;
        }
        let expires = ttl.map_or(NEVER, |ttl| self.store.timer.after(birth.born, self.jittered(ttl)));
        let weight = match (loaded.weight, &loaded.value, &self.weigher) {
            (Some(weight), ..) => weight,
            (None, Some(value), Some(weigher)) => weigher(key, value),
            _ => 1,
        };
        // What doesn't fit is heavier than may be, whatever the bound.
        let weight = u32::try_from(weight).ok()?;
        let needs_extra = !tags.is_empty() || loaded.version > 0 || self.live.refreshes_early() && expires != NEVER;
        let extra = needs_extra.then(|| Extra {
            born: birth.born,
            load_time: birth.load_time,
            retry_at: 0,
            version: loaded.version,
            tags,
            tags_hold_since: birth.tags_since.into(),
        });
        let record = Record { value: loaded.value, expires, weight, extra };
        #[cfg(feature = "tier")]
        if let Some(age) = loaded.stale_for {
            return Some(self.stale_record(record, age, birth));
        }
        Some(record)
    }

    /// A record of what has been stale for so long already, as after a refresh that has failed.
    #[cfg(feature = "tier")]
    fn stale_record(&self, mut record: Record<V>, age: Duration, birth: Birth) -> Record<V> {
        let timer = &self.store.timer;
        let now = timer.now();
        record.expires = timer.before(now, age);
        let extra = record.extra.get_or_insert_with(|| Extra {
            born: birth.born,
            load_time: birth.load_time,
            retry_at: 0,
            version: 0,
            tags: Box::default(),
            tags_hold_since: birth.tags_since.into(),
        });
        extra.retry_at = timer.after(now, self.live.failure_throttle());
        record
    }

    pub(crate) fn jittered(&self, ttl: Duration) -> Duration {
        let jitter = self.live.ttl_jitter();
        if jitter == 0.0 || ttl == Duration::MAX {
            return ttl;
        }
        // A number between 0 and 1 times a duration is one.
        Duration::try_from_secs_f64(ttl.as_secs_f64() * (1.0 - jitter * self.random.run().unit())).unwrap_or(ttl)
    }

    pub(crate) fn tag_hashes(&self, loaded: &Loaded<V>) -> Box<[u64]> {
        if loaded.tags.is_empty() {
            return Box::default();
        }
        loaded.tags.iter().map(|tag| self.store.hash::<str>(tag)).collect()
    }

    fn invalidate_when<Q>(&self, key: &Q, is_it: impl FnOnce(&crate::shard::Shard<K, V>, u32) -> bool) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let mut removals = Removals::none();
        let was_there = self.store.invalidate(key, is_it, &mut removals);
        self.finish(removals);
        was_there
    }

    /// Counts, tells and drops what was taken out. Not to be called under a lock.
    pub(crate) fn finish(&self, removals: Removals<K, V>) {
        removals.count(&self.stats);
        removals.finish(self.listener.as_ref());
    }
}

/// How a value came to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Birth {
    /// When its load started, in the timer's unit: its time to live counts from there.
    pub(crate) born: u64,
    pub(crate) load_time: Duration,
    /// The tags' time then.
    pub(crate) tags_since: u64,
}

impl<K, V> Clone for Cache<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, V> fmt::Debug for Cache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("name", &self.0.name).finish_non_exhaustive()
    }
}

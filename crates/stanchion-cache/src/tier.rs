//! The remote tier: a cache in memory over a store that several instances share.

mod builder;
mod bulk;
mod codec;
mod config;
mod fetch;
mod frame;
mod key;
mod lease;
mod memory;
mod pending;
mod remote;
mod snapshot;
mod spread;

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use stanchion_breaker::Breaker;
use stanchion_core::{Change, Subscription};
use tokio::runtime::Handle;

use crate::cache::Cache;
use crate::error::LoadError;
use crate::freshness::Ladder;
use crate::loaded::Loaded;
use frame::Framing;
use key::bytes_of;
use pending::{Pending, What};
use remote::{Count, Counts, Remote};

pub use builder::TieredBuilder;
#[cfg(feature = "json")]
pub use codec::Json;
#[cfg(feature = "postcard")]
pub use codec::Postcard;
pub use codec::{Codec, CodecError, Raw, Shared};
pub use config::TierConfig;
pub use key::RemoteKey;
pub use memory::MemoryCacheStore;
pub use snapshot::TieredSnapshot;
pub use spread::Spread;

/// A [`Cache`] in memory in front of a store that all instances of a service share, such as
/// `RedisCacheStore` of `stanchion-redis`. Cheap to clone; the clones are one cache.
///
/// # The promise
/// 1. **One load** of a key at a time among all instances, as long as the store answers: whoever
///    loads holds a lease, and what the key's invalidation has overtaken is refused by the store. When
///    the process that loads dies, the next one loads after [`lease`](TierConfig::lease).
/// 2. After `insert`, `invalidate`, `invalidate_tag` or `clear` has returned
///    [`Spread::Everywhere`], no call that begins then gets an older value on this instance, nor on another
///    one as soon as it has been told: after a message's time, and after at most
///    [`max_local_age`](TierConfig::max_local_age) when messages are lost.
/// 3. **The store is never an error.** When it is slow, gone, full or tells nonsense, calls go to the
///    loader, one at a time for each key and instance; our breaker spares them the
///    waiting. What was invalidated meanwhile is sent again when it is back, and until then this
///    instance doesn't ask the store for it.
///
/// With `stale_while_revalidate` and `stale_if_error` a value is served for so much longer.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use stanchion_cache::{Cache, MemoryCacheStore, Raw, Spread, TieredCache};
/// use std::time::Duration;
///
/// // In earnest: RedisCacheStore::connect("redis://127.0.0.1/", "pages")?
/// let store = MemoryCacheStore::new();
/// let other = store.another();
///
/// let pages: TieredCache<String, Vec<u8>> =
///     Cache::builder().name("pages").ttl(Duration::from_secs(3600)).over(store, Raw).build()?;
/// let elsewhere: TieredCache<String, Vec<u8>> =
///     Cache::builder().name("pages").ttl(Duration::from_secs(3600)).over(other, Raw).build()?;
///
/// let load = || async { Ok::<_, std::io::Error>(b"<html>".to_vec()) };
/// assert_eq!(pages.get_or_load("/", load).await?, b"<html>");
/// // The other instance finds it in the store.
/// assert_eq!(elsewhere.get("/").await.as_deref(), Some(&b"<html>"[..]));
///
/// assert_eq!(pages.invalidate("/").await, Spread::Everywhere);
/// assert_eq!(elsewhere.get("/").await, None);
/// # Ok(())
/// # }
/// ```
///
/// # Where a call ends
/// | in memory | in the store | a call with a loader |
/// |---|---|---|
/// | fresh | not asked | gets it |
/// | none | fresh | gets it, and it is in memory for `max_local_age` |
/// | none | stale, within `stale_while_revalidate` | gets it; one of all instances loads in the background |
/// | none | stale, within `stale_if_error` | loads, and gets it if that fails |
/// | none | none, nobody loads | loads under a lease |
/// | none | none, somebody loads | waits for that load's value, at most `lease_wait` |
/// | none | no answer | loads without a lease; the value is in memory for `max_local_age` |
///
/// Settings of refreshes count by the value's whole age, in whatever tier.
///
/// # How stale
/// While all is well: not at all on the instance that made the change, and for the time of a message on the
/// others. While messages are lost: for `max_local_age`. When the store was away and has come back with what it
/// had: for `max_local_age`, counted from when the lost invalidations have arrived, for which they are sent at least
/// once a second.
///
/// # What can be lost
/// Invalidations that the store couldn't be told of are remembered by this cache: if the process dies or the last
/// handle is dropped before the store is back ([`pending`](TieredSnapshot::pending) says what is left), the store keeps
/// the older value until its time to live is over. An `insert` that the store couldn't be told of becomes an invalidation.
///
/// # What is different from a `Cache`
/// [`Loaded::version`] counts in memory only: the store takes what comes last. There is no `idle_ttl`. Batches hand
/// out all values when the last is there.
pub struct TieredCache<K, V>(pub(super) Arc<Inner<K, V>>);

pub(super) struct Inner<K, V> {
    local: Cache<K, V>,
    remote: Remote,
    codec: Arc<dyn Codec<V>>,
    framing: Framing,
    config: TierConfig,
    /// What the user has said of the values, of whatever tier. What the cache in memory has is shorter.
    ladder: Ladder,
    ttl: Option<Duration>,
    negative_ttl: Option<Duration>,
    load_timeout: Duration,
    loads: Count,
    pending: Pending,
    subscription: OnceLock<Subscription>,
    /// Where it was built.
    runtime: Option<Handle>,
    has_listened: AtomicBool,
}

impl<K, V> TieredCache<K, V>
where
    K: RemoteKey + Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn build(builder: TieredBuilder<K, V>, breaker: Breaker) -> Self {
        let TieredBuilder { mut local, store, codec, config, .. } = builder;
        let (ttl, negative_ttl, ladder) = (local.config.ttl, local.config.negative_ttl, local.config.ladder());
        local.config.ttl = Some(ttl.map_or(config.max_local_age, |ttl| ttl.min(config.max_local_age)));
        local.config.negative_ttl = negative_ttl.map(|ttl| ttl.min(config.max_local_age));
        // The loader has its time from when it is called; this is for the questions around it.
        let load_timeout = local.config.load_timeout;
        local.config.load_timeout = load_timeout + config.lease_wait + 6 * config.timeout;
        let runtime = local.runtime.clone().or_else(|| Handle::try_current().ok());
        let inner = Arc::new(Inner {
            local: Cache::build(local),
            remote: Remote {
                store: store.clone(),
                breaker,
                timeout: config.timeout,
                counts: Counts::default(),
                is_listening: false.into(),
            },
            codec,
            framing: Framing {
                schema: config.schema,
                compress_above: config.compress_above,
                max_bytes: config.max_value_bytes,
            },
            pending: Pending::new(config.max_pending),
            config,
            ladder,
            ttl,
            negative_ttl,
            load_timeout,
            loads: Count::default(),
            subscription: OnceLock::new(),
            runtime,
            has_listened: false.into(),
        });
        let weak = Arc::downgrade(&inner);
        let subscription = store.subscribe(Arc::new(move |change| {
            if let Some(inner) = Weak::upgrade(&weak) {
                inner.hear(change);
            }
        }));
        // It is the first.
        let _ = inner.subscription.set(subscription);
        Self(inner)
    }

    /// The key's value, if there is a fresh one in memory or in the store. What comes from the
    /// store is not put in memory: only a call with a loader does that.
    ///
    /// # Cancellation
    /// Dropping the future drops the question.
    pub async fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let inner = &*self.0;
        if let Some(value) = inner.local.get(key) {
            return Some(value);
        }
        let key = bytes_of(&key.to_owned());
        if inner.pending.covers(&key) {
            return None;
        }
        let doubtful = inner.pending.tags();
        let stored = inner.remote.ask(|store| store.get(&key)).await?.filter(|stored| stored.is_fresh());
        let opened = stored.and_then(|stored| inner.open(stored, &doubtful));
        let counts = &inner.remote.counts;
        if opened.is_some() { &counts.hits } else { &counts.misses }.one();
        opened?.loaded.value
    }

    /// The key's value; `load` brings it where no tier has one. However many ask for a key, in
    /// however many instances, one of them loads.
    ///
    /// As [`Cache::get_or_load`], but that `load` is called by the task that loads, if at all, so
    /// that it must own what it needs. A hit in memory costs what it costs there.
    ///
    /// ```
    /// # use stanchion_cache::{Cache, MemoryCacheStore, Raw, TieredCache};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pages: TieredCache<u64, Vec<u8>> = Cache::builder().over(MemoryCacheStore::new(), Raw).build()?;
    /// let page = pages.get_or_load(&7, || async { Ok::<_, std::io::Error>(vec![1, 2, 3]) }).await?;
    /// assert_eq!(page, [1, 2, 3]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancellation
    /// As [`Cache::get_or_load`]: the load goes on.
    ///
    /// # Errors
    /// The loader's, as of [`Cache::get_or_load`]; none is the store's.
    pub async fn get_or_load<Q, F, Fut, L, E>(&self, key: &Q, load: F) -> Result<V, LoadError<E>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<L, E>> + Send + 'static,
        L: Into<Loaded<V>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        let inner = &self.0;
        let loaded = inner.local.get_or_load(key, || inner.clone().fetch(key.to_owned(), load)).await;
        loaded.map_err(LoadError::told_as)
    }

    /// Loads the key's value anew, whatever there is, and waits for it: [`invalidate`](Self::invalidate), then
    /// [`get_or_load`](Self::get_or_load).
    ///
    /// # Errors
    /// As [`get_or_load`](Self::get_or_load).
    pub async fn reload<Q, F, Fut, L, E>(&self, key: &Q, load: F) -> Result<V, LoadError<E>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<L, E>> + Send + 'static,
        L: Into<Loaded<V>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        self.invalidate(key).await;
        self.get_or_load(key, load).await
    }

    /// Puts a value into the store, in place of any other, and tells all instances. This one, too, asks the
    /// store when it is next asked. A load under way becomes void.
    ///
    /// # Cancellation
    /// The key is invalidated, as when the store can't be reached.
    pub async fn insert(&self, key: K, value: V) -> Spread {
        self.insert_loaded(key, Loaded::new(value)).await
    }

    /// The same with a time to live or tags of its own.
    pub async fn insert_loaded(&self, key: K, loaded: Loaded<V>) -> Spread {
        self.0.insert(&key, &loaded).await
    }

    /// Takes the key's value out, in all instances. A load under way becomes void.
    ///
    /// # Cancellation
    /// It is sent again in the background, as when the store can't be reached.
    pub async fn invalidate<Q>(&self, key: &Q) -> Spread
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let bytes = bytes_of(&key.to_owned());
        let forget = || _ = self.0.local.invalidate(key);
        self.0.spread(What::Key(bytes.clone()), forget, |store| store.invalidate(&bytes)).await
    }

    /// All values with this tag are gone, in all instances, and so is what a load brings that
    /// has begun before, if it turns out to have the tag.
    ///
    /// # Cancellation
    /// As of [`invalidate`](Self::invalidate).
    pub async fn invalidate_tag(&self, tag: impl AsRef<str>) -> Spread {
        let tag = tag.as_ref();
        let forget = || self.0.local.invalidate_tag(tag);
        self.0.spread(What::Tag(tag.into()), forget, |store| store.invalidate_tag(tag)).await
    }

    /// Takes everything out, in all instances. All loads under way become void.
    ///
    /// # Cancellation
    /// As of [`invalidate`](Self::invalidate).
    pub async fn clear(&self) -> Spread {
        self.0.spread(What::All, || self.0.local.clear(), |store| store.clear()).await
    }

    /// The cache in memory: to look at, resize, pin and sweep. What is changed there by
    /// other means than this type's stays in this instance.
    pub fn local(&self) -> &Cache<K, V> {
        &self.0.local
    }

    /// How it stands now.
    pub fn snapshot(&self) -> TieredSnapshot {
        let inner = &*self.0;
        let counts = &inner.remote.counts;
        TieredSnapshot {
            local: inner.local.snapshot(),
            breaker: inner.remote.breaker.snapshot(),
            is_listening: inner.remote.is_listening.load(Ordering::Relaxed),
            remote_hits: counts.hits.get(),
            remote_misses: counts.misses.get(),
            loads: inner.loads.get(),
            remote_failed: counts.failed.get(),
            remote_timed_out: counts.timed_out.get(),
            remote_refused: counts.refused.get(),
            lease_waits: counts.lease_waits.get(),
            lease_wait_timeouts: counts.lease_wait_timeouts.get(),
            fenced: counts.fenced.get(),
            stale_served: counts.stale_served.get(),
            garbled: counts.garbled.get(),
            not_encoded: counts.not_encoded.get(),
            too_large: counts.too_large.get(),
            pending: inner.pending.len(),
            resent: counts.resent.get(),
            changes_heard: counts.heard.get(),
            flushes: counts.flushes.get(),
        }
    }
}

impl<K, V> Inner<K, V>
where
    K: RemoteKey + Hash + Eq,
{
    /// Another instance has changed something.
    fn hear(&self, change: Change<'_>) {
        let counts = &self.remote.counts;
        match change {
            Change::Key(key) => {
                counts.heard.one();
                self.forget_key(key);
            }
            Change::Tag(tag) => {
                counts.heard.one();
                self.local.invalidate_tag(tag);
            }
            Change::All => {
                counts.heard.one();
                self.local.clear();
            }
            // What is in memory has an end that doesn't depend on messages.
            Change::Interrupted => self.remote.is_listening.store(false, Ordering::Relaxed),
            Change::Resumed => {
                self.remote.is_listening.store(true, Ordering::Relaxed);
                if self.has_listened.swap(true, Ordering::Relaxed) {
                    self.flush();
                } else {
                    // There may be something from before the first word.
                    self.local.clear();
                }
            }
        }
    }

    /// Forgets in this instance's memory what was invalidated.
    fn forget(&self, what: &What) {
        match what {
            What::Key(key) => self.forget_key(key),
            What::Tag(tag) => self.local.invalidate_tag(tag),
            What::All => self.local.clear(),
        }
    }

    fn forget_key(&self, key: &[u8]) {
        // A key of the user's that panics on bytes is none, and nobody knows what was meant.
        match catch_unwind(|| K::from_bytes(key)) {
            Ok(Some(key)) => _ = self.local.invalidate(&key),
            _ => self.flush(),
        }
    }

    fn flush(&self) {
        self.remote.counts.flushes.one();
        self.local.clear();
    }
}

impl<K, V> Clone for TieredCache<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, V> fmt::Debug for TieredCache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TieredCache")
            .field("local", &self.0.local)
            .field("config", &self.0.config)
            .finish_non_exhaustive()
    }
}

//! A function whose answers are kept.

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;

use crate::cache::Cache;
use crate::error::LoadError;
use crate::loaded::Loaded;

/// An async function whose answers a cache keeps by its argument: [`Cache::get_or_load`]
/// with the loader said once. Several arguments are a tuple.
///
/// The clones are one, and so are all that share a cache. Each type can be named: it
/// is a function from `K` to `V` or `E`.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::io;
/// use stanchion_cache::{Cache, Cached};
///
/// struct Shop {
///     price: Cached<(u64, &'static str), u64, io::Error>,
/// }
///
/// let cache = Cache::builder().name("prices").max_entries(1_000).build()?;
/// let shop = Shop {
///     price: Cached::new(cache, |(article, currency)| async move {
///         if currency == "EUR" { Ok(article * 100) } else { Err(io::Error::other("no such currency")) }
///     }),
/// };
/// assert_eq!(shop.price.call(&(7, "EUR")).await?, 700);
/// assert_eq!(shop.price.cache().get(&(7, "EUR")), Some(700));
/// assert_eq!(shop.price.call(&(7, "GBP")).await.unwrap_err().to_string(), "no such currency");
/// # Ok(())
/// # }
/// ```
pub struct Cached<K, V, E> {
    cache: Cache<K, V>,
    load: Arc<Load<K, V, E>>,
}

type Load<K, V, E> = dyn Fn(K) -> Loading<V, E> + Send + Sync;
type Loading<V, E> = Pin<Box<dyn Future<Output = Result<Loaded<V>, E>> + Send>>;

impl<K, V, E> Cached<K, V, E>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// `function`, whose answers `cache` keeps. It gets its argument as the cache's key, and returns a
    /// value, an `Option` of one, or a [`Loaded`].
    pub fn new<F, Fut, L>(cache: Cache<K, V>, function: F) -> Self
    where
        F: Fn(K) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<L, E>> + Send + 'static,
        L: Into<Loaded<V>>,
    {
        let load = move |key| -> Loading<V, E> {
            let answer = function(key);
            Box::pin(async move { answer.await.map(Into::into) })
        };
        Self { cache, load: Arc::new(load) }
    }

    /// The function's answer: the one that is kept, or else a new one. However many ask for
    /// one key, the function runs once. A hit allocates nothing and copies no key.
    ///
    /// # Cancellation, errors
    /// As of [`Cache::get_or_load`].
    pub async fn call<Q>(&self, key: &Q) -> Result<V, LoadError<E>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.cache.get_or_load(key, || (self.load)(key.to_owned())).await
    }

    /// A new answer, whatever is kept.
    ///
    /// # Cancellation, errors
    /// As of [`Cache::reload`].
    pub async fn reload<Q>(&self, key: &Q) -> Result<V, LoadError<E>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.cache.reload(key, || (self.load)(key.to_owned())).await
    }

    /// Where the answers are: to invalidate them, or to see how it stands.
    pub fn cache(&self) -> &Cache<K, V> {
        &self.cache
    }
}

impl<K, V, E> Clone for Cached<K, V, E> {
    fn clone(&self) -> Self {
        Self { cache: self.cache.clone(), load: self.load.clone() }
    }
}

impl<K, V, E> fmt::Debug for Cached<K, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached").field("cache", &self.cache).finish_non_exhaustive()
    }
}

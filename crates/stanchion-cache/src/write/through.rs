//! Write-through: the store first, and then the cache.

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::turns::{Turn, Turns};
use super::{Sink, Write, WriteError};
use crate::cache::Cache;
use crate::error::panic_message;
use crate::loaded::Loaded;

/// Writes a value to the user's store, and then into the cache what the store has accepted.
///
/// When a call has returned, well or not, no call to the cache that begins then sees what the key's
/// value was before, **not even from a load that was under way**. Of each key there is
/// one write at a time, in order of arrival, so the cache doesn't end up with a value that another write has
/// replaced in the store. Where a write fails, or its fate is unknown, the key
/// is invalidated.
///
/// Reads go to the cache as ever. What others write into the store, past this, the cache doesn't see.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use stanchion_cache::{Cache, Sink, Write, WriteThrough};
///
/// struct Table;
///
/// impl Sink for Table {
///     type Key = u64;
///     type Value = String;
///     type Error = std::io::Error;
///
///     async fn write(&self, writes: &[Write<u64, String>]) -> Result<(), std::io::Error> {
///         if writes.iter().any(|write| *write.key() == 0) { Err(std::io::Error::other("no such user")) } else { Ok(()) }
///     }
/// }
///
/// let users = WriteThrough::new(Cache::builder().name("users").build()?, Table);
/// users.insert(7, "Alice".into()).await?;
/// assert_eq!(users.cache().get(&7).as_deref(), Some("Alice"));
/// users.remove(&7).await?;
/// assert_eq!(users.cache().get(&7), None);
/// assert_eq!(users.insert(0, "Nobody".into()).await.unwrap_err().to_string(), "no such user");
/// # Ok(())
/// # }
/// ```
pub struct WriteThrough<S: Sink> {
    cache: Cache<S::Key, S::Value>,
    sink: Arc<S>,
    limit: Duration,
    turns: Turns<S::Key>,
}

impl<S: Sink> WriteThrough<S> {
    /// Writes to `sink`, and keeps in `cache` what it has accepted. All who write a key must do so by clones of
    /// this, to have turns.
    pub fn new(cache: Cache<S::Key, S::Value>, sink: S) -> Self {
        Self { cache, sink: Arc::new(sink), limit: Duration::from_secs(30), turns: Turns::new() }
    }

    /// A write that takes so long has failed; and so long a call waits for others that write the same
    /// key. A store that carries a write out after that, does so without the cache's knowledge. At least 1 ms. Default: 30 s.
    pub fn write_timeout(mut self, limit: Duration) -> Self {
        self.limit = limit.max(Duration::from_millis(1));
        self
    }

    /// The key has this value from now on, in the store and in the cache.
    ///
    /// # Cancellation
    /// Dropped while it waits for others that write the same key, nothing is written. Later, the write goes on
    /// by itself, as a task, and the cache follows it, or the key is invalidated.
    ///
    /// # Errors
    /// The store's error, or what else kept the write from being known to be done. The
    /// key is invalidated then, unless the error says that nothing was written.
    pub async fn insert(&self, key: S::Key, value: S::Value) -> Result<(), WriteError<S::Error>> {
        self.insert_loaded(key, Loaded::new(value)).await
    }

    /// The same with a time to live, tags, a weight or a version of its own. An absent value
    /// is removed.
    ///
    /// # Cancellation, errors
    /// As of [`insert`](Self::insert).
    pub async fn insert_loaded(&self, key: S::Key, loaded: Loaded<S::Value>) -> Result<(), WriteError<S::Error>> {
        let Some(runtime) = self.cache.runtime() else { return Err(WriteError::NoRuntime) };
        let hash = self.cache.0.store.hash(&key);
        let turn = {
            // Timers are the runtime's, whoever polls this.
            let _inside = runtime.enter();
            timeout(self.limit, self.turns.take(hash, key.clone()))
        };
        let Ok(turn) = turn.await else { return Err(WriteError::Busy { after: self.limit }) };
        let unknown = Unknown { cache: self.cache.clone(), key: Some(key) };
        let task = runtime.spawn(write(self.sink.clone(), self.limit, turn, unknown, loaded));
        task.await.unwrap_or_else(|error| match error.try_into_panic() {
            Ok(panic) => Err(WriteError::Panicked(panic_message(&*panic))),
            Err(_) => Err(WriteError::Aborted),
        })
    }

    /// The key has no value from now on, in the store and in the cache, which remembers that for its
    /// `negative_ttl`.
    ///
    /// # Cancellation, errors
    /// As of [`insert`](Self::insert).
    pub async fn remove<Q>(&self, key: &Q) -> Result<(), WriteError<S::Error>>
    where
        S::Key: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = S::Key> + ?Sized,
    {
        self.insert_loaded(key.to_owned(), Loaded::absent()).await
    }

    /// Where to read.
    pub fn cache(&self) -> &Cache<S::Key, S::Value> {
        &self.cache
    }

    /// Where it writes to.
    pub fn sink(&self) -> &S {
        &self.sink
    }
}

/// A write, from its turn to what the cache has of it.
async fn write<S: Sink>(
    sink: Arc<S>,
    limit: Duration,
    _turn: Turn<S::Key>,
    // Dropped before the turn is over.
    mut unknown: Unknown<S::Key, S::Value>,
    loaded: Loaded<S::Value>,
) -> Result<(), WriteError<S::Error>> {
    let Some(key) = unknown.key.clone() else { return Ok(()) };
    let write = [Write::of(key.clone(), &loaded)];
    match timeout(limit, sink.write(&write)).await {
        Ok(Ok(())) => {
            // What isn't kept may have left another value where it was, for its version's sake.
            if unknown.cache.insert_loaded(key, loaded) {
                unknown.key = None;
            }
            Ok(())
        }
        Ok(Err(error)) => Err(WriteError::Failed(error)),
        Err(_) => Err(WriteError::TimedOut { after: limit }),
    }
}

/// A key of which nobody knows whether the cache has what the store has: dropped, it is invalidated.
struct Unknown<K: Hash + Eq, V> {
    cache: Cache<K, V>,
    /// Until it is known.
    key: Option<K>,
}

impl<K: Hash + Eq, V> Drop for Unknown<K, V> {
    fn drop(&mut self) {
        if let Some(key) = &self.key {
            self.cache.invalidate(key);
        }
    }
}

impl<S: Sink> Clone for WriteThrough<S> {
    fn clone(&self) -> Self {
        Self { cache: self.cache.clone(), sink: self.sink.clone(), limit: self.limit, turns: self.turns.clone() }
    }
}

impl<S: Sink> fmt::Debug for WriteThrough<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteThrough").field("cache", &self.cache).field("limit", &self.limit).finish_non_exhaustive()
    }
}

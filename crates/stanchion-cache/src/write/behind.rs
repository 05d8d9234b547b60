//! Write-behind: the queue first, the store later.

mod config;
mod error;
mod flush;
mod queue;
mod shared;
mod snapshot;
mod worker;

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use stanchion_core::ConfigError;

pub use config::{WriteBehindBuilder, WriteBehindConfig};
pub use error::{FlushError, QueueError};
pub use snapshot::WriteBehindSnapshot;

use super::{Sink, Write, WriteError};
use crate::cache::Cache;
use crate::error::LoadError;
use crate::loaded::Loaded;
use config::Settings;
use shared::Shared;

/// Somebody who is told of each write that is given up.
type Listener<S> =
    Arc<dyn Fn(&Write<<S as Sink>::Key, <S as Sink>::Value>, &WriteError<<S as Sink>::Error>) + Send + Sync>;

/// Accepts writes at once and writes them to the user's store later, in batches. A process that dies
/// loses **at most the newest values of `max_queued` keys**, and of those only what was accepted in the last `max_delay`, while a
/// batch before was under way, or while the store was failing. What the process lives to see is written, or is
/// given up after all retries and reported with its value: nothing is lost silently.
///
/// Whoever asks *this* gets what was accepted; whoever asks the cache itself gets what the
/// store has, which the cache follows. The store is asked for nothing that is still to be written, so a key that the
/// cache has evicted or that somebody invalidated doesn't come back old.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use stanchion_cache::{Sink, Write};
/// # struct Table;
/// # impl Sink for Table {
/// #     type Key = u64;
/// #     type Value = String;
/// #     type Error = std::io::Error;
/// #     async fn write(&self, _: &[Write<u64, String>]) -> Result<(), std::io::Error> { Ok(()) }
/// # }
/// use std::time::Duration;
/// use stanchion_cache::{Cache, WriteBehind};
///
/// let cache = Cache::builder().name("users").max_entries(10_000).build()?;
/// let users = WriteBehind::builder(cache, Table)
///     .max_queued(10_000)
///     .max_batch(100)
///     .max_delay(Duration::from_millis(200))
///     .on_given_up(|write, error| eprintln!("user {} is not in the store: {error}", write.key()))
///     .build()?;
/// users.insert(7, "Alice".into()).await?;
/// assert_eq!(users.get(&7).as_deref(), Some("Alice"));
/// assert_eq!(users.cache().get(&7), None, "the store doesn't have it yet");
/// users.flush().await?;
/// assert_eq!(users.cache().get(&7).as_deref(), Some("Alice"));
/// users.remove(&7).await?;
/// let unwritten = users.shutdown(Duration::from_secs(5)).await;
/// assert!(unwritten.is_empty());
/// # Ok(())
/// # }
/// ```
///
/// # Order
/// Of a key the newest value is written, in the order in which they were accepted; those that it replaced in the queue
/// are not. One batch is under way at a time, the oldest writes first, so a batch that is tried again holds up all others.
///
/// # Failures
/// A batch is tried again as the retry policy says. If it fails for good while the store says that another attempt
/// doesn't mend it ([`Sink::outcome`]), or if the store panics, it is halved until those that are at fault stand alone;
/// else it is given up as a whole. What is given up is counted, told to the listener with its error, and
/// invalidated in the cache. A write that a newer one of its key is to follow isn't given up: it is replaced.
///
/// # The end
/// Dropping the last handle closes the queue: what is in it is written without delay, for `drain_timeout` at most, and the rest
/// given up. A process that doesn't wait for that should [`shutdown`](Self::shutdown). A runtime
/// that is shut down takes its task with it: the next call on another one goes on, and without handles the rest is given up.
pub struct WriteBehind<S: Sink>(Arc<Handle<S>>);

/// What ends the queue when nobody has it any more.
struct Handle<S: Sink>(Arc<Shared<S>>);

impl<S: Sink> WriteBehind<S> {
    /// The settings, to be completed.
    pub fn builder(cache: Cache<S::Key, S::Value>, sink: S) -> WriteBehindBuilder<S> {
        WriteBehindBuilder::new(cache, sink)
    }

    fn new(builder: WriteBehindBuilder<S>, settings: Settings) -> Self {
        Self(Arc::new(Handle(Arc::new(Shared::new(builder, settings)))))
    }

    /// The key has this value from now on, for all who ask this; the store has it later.
    ///
    /// If the queue is full, it waits for room in order of arrival, `max_wait` at most. A key that waits in the
    /// queue gets its new value at once.
    ///
    /// # Cancellation
    /// Dropped before it returned, the write isn't accepted. Once accepted, it stays so.
    ///
    /// # Errors
    /// Why it wasn't accepted. Nothing has changed then.
    pub async fn insert(&self, key: S::Key, value: S::Value) -> Result<(), QueueError> {
        self.insert_loaded(key, Loaded::new(value)).await
    }

    /// The same with a time to live, tags, a weight or a version of its own, for when the cache
    /// gets it: when the store has it. An absent value is removed.
    ///
    /// # Cancellation, errors
    /// As of [`insert`](Self::insert).
    pub async fn insert_loaded(&self, key: S::Key, loaded: Loaded<S::Value>) -> Result<(), QueueError> {
        self.0.0.accept(key, loaded).await
    }

    /// The key has no value from now on, for all who ask this; the store hears of it later.
    ///
    /// # Cancellation, errors
    /// As of [`insert`](Self::insert).
    pub async fn remove<Q>(&self, key: &Q) -> Result<(), QueueError>
    where
        S::Key: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = S::Key> + ?Sized,
    {
        self.insert_loaded(key.to_owned(), Loaded::absent()).await
    }

    /// The key's value: the one that is to be written, or else the cache's, if that is fresh. It
    /// allocates nothing, and takes a shared lock more than the cache's [`get`](Cache::get) while anything is to be written.
    pub fn get<Q>(&self, key: &Q) -> Option<S::Value>
    where
        S::Key: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        match self.0.0.queued(key) {
            Some(value) => value,
            None => self.cache().get(key),
        }
    }

    /// The key's value: the one that is to be written, or else as
    /// [`Cache::get_or_load`], by whose loader the store is read.
    ///
    /// # Cancellation, errors
    /// As there. A key that is to be removed is [`LoadError::NotFound`].
    pub async fn get_or_load<Q, F, Fut, L, E>(&self, key: &Q, load: F) -> Result<S::Value, LoadError<E>>
    where
        S::Key: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = S::Key> + ?Sized,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<L, E>> + Send + 'static,
        L: Into<Loaded<S::Value>>,
        E: Send + Sync + 'static,
    {
        match self.0.0.queued(key) {
            Some(value) => value.ok_or(LoadError::NotFound),
            None => self.cache().get_or_load(key, load).await,
        }
    }

    /// Waits until all that was accepted before is settled, without delay for company. It ends when the retry policy lets it: by
    /// default a batch that fails takes ten attempts of `write_timeout` at most.
    ///
    /// # Cancellation
    /// Dropping it changes nothing; what was accepted is still written without delay.
    ///
    /// # Errors
    /// If any of it was given up.
    pub async fn flush(&self) -> Result<(), FlushError<S::Error>> {
        self.0.0.flush().await
    }

    /// Accepts nothing any more, writes what was accepted, for `within` at most, and returns what could not be written: what
    /// was given up since it began, and what was left when time was up. Of that, what was under way may be
    /// in the store or get there.
    ///
    /// # Cancellation
    /// Dropped, the queue stays closed and goes on to write; it can be shut down again. What was given
    /// up meanwhile is returned then.
    pub async fn shutdown(&self, within: Duration) -> Vec<Write<S::Key, S::Value>> {
        self.0.0.shutdown(within).await
    }

    /// Follows other settings from now on. A batch that is under way ends by the old ones, and so does a call that waits for
    /// room. If the queue becomes smaller than what is in it, it accepts nothing until it has shrunk. The retry policy becomes
    /// the configured one, with the budget, the hook and the name of the one before.
    ///
    /// # Errors
    /// Names the field that can't be honoured; the old settings stay.
    pub fn reconfigure(&self, config: &WriteBehindConfig) -> Result<(), ConfigError> {
        self.0.0.reconfigure(config)
    }

    /// The settings that it follows. Its `retry` is the configured one, whatever policy the builder was given.
    pub fn config(&self) -> WriteBehindConfig {
        self.0.0.read().settings.config.clone()
    }

    /// What the store has, as far as it is kept. Values that are put in here don't get into the store.
    pub fn cache(&self) -> &Cache<S::Key, S::Value> {
        &self.0.0.cache
    }

    /// Where it writes to.
    pub fn sink(&self) -> &S {
        &self.0.0.sink
    }

    /// How it stands now.
    pub fn snapshot(&self) -> WriteBehindSnapshot {
        self.0.0.snapshot()
    }
}

impl<S: Sink> Drop for Handle<S> {
    fn drop(&mut self) {
        self.0.clone().drain();
    }
}

impl<S: Sink> Clone for WriteBehind<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: Sink> fmt::Debug for WriteBehind<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteBehind").field("cache", self.cache()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(stanchion_loom)))]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::Ordering;

    use super::*;

    struct Nowhere;

    impl Sink for Nowhere {
        type Key = u64;
        type Value = u64;
        type Error = Infallible;

        async fn write(&self, _: &[Write<u64, u64>]) -> Result<(), Infallible> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_settled_leaves_nothing_to_look_at() -> Result<(), Box<dyn std::error::Error>> {
        let numbers = WriteBehind::builder(Cache::builder().build()?, Nowhere).build()?;
        let held = || numbers.0.0.held.load(Ordering::Relaxed);
        numbers.insert(1, 1).await?;
        numbers.insert(2, 1).await?;
        assert_eq!(held(), 2);
        {
            let mut flush = std::pin::pin!(numbers.flush());
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(flush.as_mut().poll(&mut context).is_pending());
            assert_eq!(numbers.0.0.read().flushes.len(), 1);
        }
        assert_eq!(numbers.0.0.read().flushes.len(), 0);
        numbers.flush().await?;
        assert_eq!((held(), numbers.0.0.read().flushes.len()), (0, 0));
        Ok(())
    }
}

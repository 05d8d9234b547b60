//! Writing to the user's store: through it, or behind it.

#[cfg(feature = "write-behind")]
mod behind;
mod error;
mod through;
mod turns;

use std::hash::Hash;
use std::sync::Arc;

use stanchion_core::Outcome;

use crate::loaded::Loaded;

#[cfg(feature = "write-behind")]
pub use behind::{FlushError, QueueError, WriteBehind, WriteBehindBuilder, WriteBehindConfig, WriteBehindSnapshot};
pub use error::WriteError;
pub use through::WriteThrough;

/// Where values are kept for good: a table of the user's database.
///
/// ```
/// use stanchion_cache::{Sink, Write};
///
/// struct Users(/* a pool of connections */);
///
/// impl Sink for Users {
///     type Key = u64;
///     type Value = String;
///     type Error = std::io::Error;
///
///     async fn write(&self, writes: &[Write<u64, String>]) -> Result<(), std::io::Error> {
///         for write in writes {
///             match write.value() {
///                 Some(name) => println!("INSERT … ON CONFLICT … {} {name}", write.key()),
///                 None => println!("DELETE … {}", write.key()),
///             }
///         }
///         Ok(())
///     }
/// }
/// ```
pub trait Sink: Send + Sync + 'static {
    /// The cache's key.
    type Key: Hash + Eq + Clone + Send + Sync + 'static;
    /// The cache's value.
    type Value: Clone + Send + Sync + 'static;
    /// How a write fails.
    type Error: Send + Sync + 'static;

    /// Writes all of these, each of another key. An error says that perhaps some were written, perhaps none:
    /// they may come again, the same or newer ones, so a write must be one that can be repeated: an
    /// upsert, not an addition.
    ///
    /// # Cancellation
    /// It is dropped when its time limit runs out.
    fn write(&self, writes: &[Write<Self::Key, Self::Value>]) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// How a write ended that failed so: `WriteBehind` tries again what is
    /// [retryable](Outcome::is_retryable), and takes a batch apart that isn't. Default: [`Outcome::Transient`].
    fn outcome(&self, error: &Self::Error) -> Outcome {
        let _ = error;
        Outcome::Transient
    }
}

impl<S: Sink> Sink for Arc<S> {
    type Key = S::Key;
    type Value = S::Value;
    type Error = S::Error;

    fn write(&self, writes: &[Write<S::Key, S::Value>]) -> impl Future<Output = Result<(), S::Error>> + Send {
        (**self).write(writes)
    }

    fn outcome(&self, error: &S::Error) -> Outcome {
        (**self).outcome(error)
    }
}

/// What a [`Sink`] is to write.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Write<K, V> {
    /// The key has this value from now on.
    Put {
        /// The key.
        key: K,
        /// Its value.
        value: V,
    },
    /// The key has no value from now on.
    Remove {
        /// The key.
        key: K,
    },
}

impl<K, V> Write<K, V> {
    /// The key that is written.
    pub fn key(&self) -> &K {
        match self {
            Self::Put { key, .. } | Self::Remove { key } => key,
        }
    }

    /// The key's value; `None` if it is to have none.
    pub fn value(&self) -> Option<&V> {
        match self {
            Self::Put { value, .. } => Some(value),
            Self::Remove { .. } => None,
        }
    }

    /// What the store is to hear of a value that the cache is to have.
    pub(crate) fn of(key: K, loaded: &Loaded<V>) -> Self
    where
        V: Clone,
    {
        match &loaded.value {
            Some(value) => Self::Put { key, value: value.clone() },
            None => Self::Remove { key },
        }
    }
}

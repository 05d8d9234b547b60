//! How a load ended, as those who waited are told.

use crate::error::{Failure, LoadError};

/// How a load ended.
#[derive(Debug)]
pub(crate) enum Ending<V> {
    /// It brought a value, or the news that there is none.
    Loaded {
        value: Option<V>,
        /// Hashes of the value's tags.
        tags: Box<[u64]>,
        /// The tags' time at the load's start.
        tags_since: u64,
    },
    /// It failed, and an old value will do.
    Stale(V),
    /// It failed.
    Failed(Failure),
}

impl<V: Clone> Ending<V> {
    /// The same, for one of those who waited.
    pub(crate) fn to_result<E: Send + Sync + 'static>(&self) -> Result<V, LoadError<E>> {
        match self {
            Self::Loaded { value: Some(value), .. } | Self::Stale(value) => Ok(value.clone()),
            Self::Loaded { value: None, .. } => Err(LoadError::NotFound),
            Self::Failed(failure) => Err(failure.clone().into_load_error()),
        }
    }
}

//! Why a queue of writes doesn't do what it was asked for.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::write::WriteError;

/// Why a write was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueError {
    /// There was no room for so long: the store doesn't keep up, or fails.
    Full {
        /// How long it was waited for.
        waited: Duration,
    },
    /// The queue is shut down.
    Closed,
    /// There is no runtime of tokio's to write on.
    NoRuntime,
}

impl fmt::Display for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { waited } => write!(f, "no room in the queue of writes within {waited:?}; try later"),
            Self::Closed => f.write_str("the queue of writes is shut down"),
            Self::NoRuntime => f.write_str("no tokio runtime to write on: call from one"),
        }
    }
}

impl Error for QueueError {}

/// Why not all that was accepted is in the store.
#[derive(Debug)]
#[non_exhaustive]
pub enum FlushError<E> {
    /// Some writes were given up. The listener was told of each.
    GivenUp {
        /// How many of those that were accepted before.
        writes: u64,
        /// Why the last of them was given up.
        error: Arc<WriteError<E>>,
    },
    /// There is no runtime of tokio's to write on, or the task that writes ended again and again: somebody's `Clone`
    /// panics. What was accepted still is.
    NoRuntime,
}

impl<E> Clone for FlushError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::GivenUp { writes, error } => Self::GivenUp { writes: *writes, error: error.clone() },
            Self::NoRuntime => Self::NoRuntime,
        }
    }
}

impl<E: fmt::Display> fmt::Display for FlushError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GivenUp { writes, error } => write!(f, "{writes} writes were given up: {error}"),
            Self::NoRuntime => f.write_str("no tokio runtime to write on: call from one"),
        }
    }
}

impl<E: Error + 'static> Error for FlushError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::GivenUp { error, .. } => Some(error),
            Self::NoRuntime => None,
        }
    }
}

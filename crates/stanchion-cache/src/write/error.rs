//! How a write fails.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use stanchion_core::{Classify, Outcome};

/// How a write to the user's store failed. Whether the store has it nobody knows, but
/// where a variant says so.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteError<E> {
    /// The store returned an error.
    Failed(E),
    /// The store gave no answer in time, and isn't waited for any longer.
    TimedOut {
        /// The limit that ran out.
        after: Duration,
    },
    /// Others were writing the same key all the time. Nothing was written.
    Busy {
        /// The limit that ran out.
        after: Duration,
    },
    /// The store panicked, with this message.
    Panicked(Arc<str>),
    /// The write was dropped: its runtime was shut down, or its time was over.
    Aborted,
    /// There is no runtime of tokio's to write on. Nothing was written.
    NoRuntime,
}

impl<E> WriteError<E> {
    /// The store's own error, if that is what failed.
    pub fn error(&self) -> Option<&E> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }

    /// In a word, for telemetry.
    #[cfg(feature = "write-behind")]
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Failed(_) => "error",
            Self::TimedOut { .. } => "timed_out",
            Self::Busy { .. } => "busy",
            Self::Panicked(_) => "panicked",
            Self::Aborted => "aborted",
            Self::NoRuntime => "no_runtime",
        }
    }

    /// The store's own error by value, if that is what failed.
    pub fn into_error(self) -> Option<E> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }
}

impl<E: fmt::Display> fmt::Display for WriteError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::TimedOut { after } => write!(f, "not written within {after:?}; perhaps it is yet"),
            Self::Busy { after } => write!(f, "others wrote the same key for {after:?}; try again"),
            Self::Panicked(message) => write!(f, "the store panicked: {message}"),
            Self::Aborted => f.write_str("the write was dropped before it finished; perhaps it is written"),
            Self::NoRuntime => f.write_str("no tokio runtime to write on: call from one"),
        }
    }
}

impl<E: Error + 'static> Error for WriteError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error().map(|error| error as _)
    }
}

/// The outcome of the store's own error.
impl<E: Classify> Classify for WriteError<E> {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Failed(error) => error.outcome(),
            Self::TimedOut { .. } => Outcome::TimedOut,
            Self::Panicked(_) => Outcome::Transient,
            Self::Aborted => Outcome::Abandoned,
            Self::Busy { .. } | Self::NoRuntime => Outcome::Ignored,
        }
    }
}

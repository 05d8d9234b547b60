//! How a load fails.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use stanchion_core::{Classify, Outcome};

/// How a load failed: shared by all who waited for it, so it is cheap to clone.
///
/// The caller's error is reachable by reference ([`error`](Self::error)), is the
/// [`source`](Error::source), and comes back by value where nobody else has it
/// ([`try_into_error`](Self::try_into_error)).
///
/// ```
/// use stanchion_cache::LoadError;
///
/// let failed = LoadError::Failed(std::io::Error::other("reset").into());
/// assert_eq!(failed.error().unwrap().to_string(), "reset");
/// assert_eq!(failed.try_into_error().unwrap().to_string(), "reset");
/// ```
#[non_exhaustive]
pub enum LoadError<E> {
    /// The loader returned an error.
    Failed(Arc<E>),
    /// The loader of somebody else, who asked for the same key with another type of
    /// error, returned one.
    FailedOtherwise(OtherError),
    /// The loader says that there is no such thing.
    NotFound,
    /// The loader gave no answer in time. It is not waited for any longer, and
    /// what it returns is not kept.
    TimedOut {
        /// The limit that ran out.
        after: Duration,
    },
    /// The loader panicked, with this message.
    Panicked(Arc<str>),
    /// The load waits for itself.
    Recursive,
    /// The load was dropped: its runtime was shut down, or nobody wanted it any more.
    Aborted,
    /// There is no runtime of tokio's to run the load on.
    NoRuntime,
}

/// An error of a type that the one who gets it doesn't know.
#[derive(Clone)]
pub struct OtherError {
    error: Arc<dyn Any + Send + Sync>,
    type_name: &'static str,
}

impl OtherError {
    /// The name of its type.
    pub fn type_name(&self) -> &'static str {
        self.type_name
    }

    /// The error itself, for those who know its type after all.
    pub fn downcast_ref<E: 'static>(&self) -> Option<&E> {
        self.error.downcast_ref()
    }
}

impl fmt::Debug for OtherError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OtherError({})", self.type_name)
    }
}

/// A failed load, as the cache keeps it for those who wait.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    Error(OtherError),
    #[cfg_attr(not(feature = "tokio"), allow(dead_code, reason = "only tasks need it"))]
    TimedOut(Duration),
    Panicked(Arc<str>),
    Aborted,
}

impl Failure {
    pub(crate) fn error<E: Send + Sync + 'static>(error: E) -> Self {
        // The remote tier says by itself what has failed.
        let mut error = Some(error);
        if let Some(failure) = (&mut error as &mut dyn Any).downcast_mut::<Option<Self>>().and_then(Option::take) {
            return failure;
        }
        let error = error.expect("it was taken as a failure only");
        Self::Error(OtherError { error: Arc::new(error), type_name: std::any::type_name::<E>() })
    }

    pub(crate) fn panic(payload: &(dyn Any + Send)) -> Self {
        Self::Panicked(panic_message(payload))
    }

    pub(crate) fn into_load_error<E: Send + Sync + 'static>(self) -> LoadError<E> {
        match self {
            Self::Error(OtherError { error, type_name }) => match error.downcast() {
                Ok(error) => LoadError::Failed(error),
                Err(error) => LoadError::FailedOtherwise(OtherError { error, type_name }),
            },
            Self::TimedOut(after) => LoadError::TimedOut { after },
            Self::Panicked(message) => LoadError::Panicked(message),
            Self::Aborted => LoadError::Aborted,
        }
    }

    /// In a word, for telemetry.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Error(_) => "error",
            Self::TimedOut(_) => "timed_out",
            Self::Panicked(_) => "panicked",
            Self::Aborted => "aborted",
        }
    }
}

/// What somebody panicked with.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> Arc<str> {
    let message = payload.downcast_ref::<&str>().copied();
    let message = message.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    message.unwrap_or("a panic without a message").into()
}

impl<E> LoadError<E> {
    /// The loader's own error, if that is what failed.
    pub fn error(&self) -> Option<&E> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }

    /// The loader's own error by value.
    ///
    /// # Errors
    /// This itself, if it is something else, or if others who waited have the error still.
    pub fn try_into_error(self) -> Result<E, Self> {
        match self {
            Self::Failed(error) => Arc::try_unwrap(error).map_err(Self::Failed),
            other => Err(other),
        }
    }

    /// Whether it only says that there is no such thing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound)
    }
}

#[cfg(feature = "tier")]
impl LoadError<Failure> {
    /// The same as the caller of the remote tier is told it, whose loader fails with an `E`.
    pub(crate) fn told_as<E: Send + Sync + 'static>(self) -> LoadError<E> {
        match self {
            Self::FailedOtherwise(other) => Failure::Error(other).into_load_error(),
            Self::TimedOut { after } => LoadError::TimedOut { after },
            Self::Panicked(message) => LoadError::Panicked(message),
            Self::NotFound => LoadError::NotFound,
            Self::Recursive => LoadError::Recursive,
            Self::NoRuntime => LoadError::NoRuntime,
            // A failure is never an error of its own type.
            Self::Failed(_) | Self::Aborted => LoadError::Aborted,
        }
    }
}

impl<E> Clone for LoadError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Failed(error) => Self::Failed(error.clone()),
            Self::FailedOtherwise(error) => Self::FailedOtherwise(error.clone()),
            Self::NotFound => Self::NotFound,
            Self::TimedOut { after } => Self::TimedOut { after: *after },
            Self::Panicked(message) => Self::Panicked(message.clone()),
            Self::Recursive => Self::Recursive,
            Self::Aborted => Self::Aborted,
            Self::NoRuntime => Self::NoRuntime,
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for LoadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
            Self::FailedOtherwise(error) => f.debug_tuple("FailedOtherwise").field(error).finish(),
            Self::TimedOut { after } => f.debug_struct("TimedOut").field("after", after).finish(),
            Self::Panicked(message) => f.debug_tuple("Panicked").field(message).finish(),
            Self::NotFound => f.write_str("NotFound"),
            Self::Recursive => f.write_str("Recursive"),
            Self::Aborted => f.write_str("Aborted"),
            Self::NoRuntime => f.write_str("NoRuntime"),
        }
    }
}

impl<E: fmt::Display> fmt::Display for LoadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::FailedOtherwise(error) => {
                write!(f, "another caller's load of the same key failed with a {}", error.type_name)
            }
            Self::NotFound => f.write_str("there is no such thing"),
            Self::TimedOut { after } => write!(f, "not loaded within {after:?}"),
            Self::Panicked(message) => write!(f, "the loader panicked: {message}"),
            Self::Recursive => f.write_str("the load waits for itself: a loader asks for the key that it loads"),
            Self::Aborted => f.write_str("the load was dropped before it finished; ask again"),
            Self::NoRuntime => f.write_str("no tokio runtime to load on: call from one, or use get_or_load_blocking"),
        }
    }
}

impl<E: Error + 'static> Error for LoadError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error().map(|error| error as _)
    }
}

/// The outcome of the loader's own error. What is not found is a success of the one
/// who was asked; a load that was dropped says nothing.
impl<E: Classify> Classify for LoadError<E> {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Failed(error) => error.outcome(),
            Self::FailedOtherwise(_) | Self::Panicked(_) => Outcome::Transient,
            Self::TimedOut { .. } => Outcome::TimedOut,
            Self::NotFound => Outcome::Success,
            Self::Aborted => Outcome::Abandoned,
            Self::Recursive | Self::NoRuntime => Outcome::Ignored,
        }
    }
}

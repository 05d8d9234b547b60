//! From a result to an outcome.

use std::io;

use crate::Outcome;

/// An error that knows how it speaks of the attempt that it ended.
///
/// ```
/// use stanchion_core::{Classify, Outcome};
///
/// enum PayError { Declined, Busy }
///
/// impl Classify for PayError {
///     fn outcome(&self) -> Outcome {
///         match self {
///             PayError::Declined => Outcome::Permanent,
///             PayError::Busy => Outcome::Throttled { retry_after: None },
///         }
///     }
/// }
/// # assert_eq!(PayError::Declined.outcome(), Outcome::Permanent);
/// # assert!(PayError::Busy.outcome().is_retryable());
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` doesn't say how an attempt that fails with it ended",
    label = "this error is not `Classify`",
    note = "implement `Classify` for it if it is yours; else put `.when(|error| …)` or `.classify(|result| …)` before `.run`"
)]
pub trait Classify {
    /// How an attempt that failed with this error ended.
    fn outcome(&self) -> Outcome;
}

/// From the whole result of an attempt to its outcome.
///
/// Implemented by closures, and by [`ByError`] for errors that are
/// [`Classify`].
///
/// ```
/// use stanchion_core::{ByError, Classifier, Outcome};
///
/// let by_value = |result: &Result<u16, ()>| match result {
///     Ok(200..=299) => Outcome::Success,
///     Ok(503) | Err(()) => Outcome::Transient,
///     Ok(_) => Outcome::Permanent,
/// };
/// assert_eq!(by_value.classify(&Ok(503)), Outcome::Transient);
///
/// let reset: Result<(), _> = Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
/// assert_eq!(ByError.classify(&reset), Outcome::Transient);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't tell the outcome of a `Result<{T}, {E}>`",
    note = "a classifier is a closure from `&Result<T, E>` to `Outcome`, with the type of its argument written out; without one the error must be `Classify`"
)]
pub trait Classifier<T, E> {
    /// How an attempt with this result ended.
    fn classify(&self, result: &Result<T, E>) -> Outcome;
}

impl<T, E, F: Fn(&Result<T, E>) -> Outcome> Classifier<T, E> for F {
    fn classify(&self, result: &Result<T, E>) -> Outcome {
        self(result)
    }
}

/// The classifier that takes each `Ok` for a success and asks each error for itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct ByError;

impl<T, E: Classify> Classifier<T, E> for ByError {
    fn classify(&self, result: &Result<T, E>) -> Outcome {
        match result {
            Ok(_) => Outcome::Success,
            Err(error) => error.outcome(),
        }
    }
}

/// By [`io::ErrorKind`]: what a network does to a connection is transient, a
/// timeout is a timeout, and the rest is permanent.
impl Classify for io::Error {
    fn outcome(&self) -> Outcome {
        use io::ErrorKind as Kind;
        match self.kind() {
            Kind::TimedOut => Outcome::TimedOut,
            Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::NotConnected
            | Kind::BrokenPipe
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
            | Kind::UnexpectedEof
            | Kind::WriteZero
            | Kind::ResourceBusy
            | Kind::WouldBlock
            | Kind::Interrupted => Outcome::Transient,
            _ => Outcome::Permanent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_errors_are_told_apart() {
        let outcome = |kind| io::Error::from(kind).outcome();
        assert_eq!(outcome(io::ErrorKind::ConnectionRefused), Outcome::Transient);
        assert_eq!(outcome(io::ErrorKind::TimedOut), Outcome::TimedOut);
        assert_eq!(outcome(io::ErrorKind::PermissionDenied), Outcome::Permanent);
    }
}

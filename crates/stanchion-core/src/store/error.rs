//! Why a store gave no answer.

use std::error::Error;
use std::fmt;

use crate::{Classify, Outcome};

/// Why a store gave no answer, and whether that may pass by itself.
///
/// ```
/// use stanchion_core::{StoreError, StoreErrorKind};
///
/// let error = StoreError::new(StoreErrorKind::TimedOut, "no answer within 50ms");
/// assert!(error.is_temporary());
/// ```
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What kept a store from answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// It can't be reached, or is not ready to serve. The request did not arrive,
    /// or it isn't known whether it did.
    Unavailable,
    /// It did not answer in time. It isn't known whether the request was carried out.
    TimedOut,
    /// It answered something that makes no sense.
    Garbled,
    /// It won't do this: a missing right, a key of another type, a command it lacks.
    Refused,
    /// The request can't be expressed in this store.
    Unsupported,
}

impl StoreError {
    /// An error of this kind.
    pub fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// The same error, caused by `source`.
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kept the store from answering.
    pub const fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Whether it may pass by itself: `Unavailable`, `TimedOut` and `Garbled`.
    /// The others need a person.
    pub const fn is_temporary(&self) -> bool {
        matches!(self.kind, StoreErrorKind::Unavailable | StoreErrorKind::TimedOut | StoreErrorKind::Garbled)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn Error + 'static))
    }
}

impl Classify for StoreError {
    fn outcome(&self) -> Outcome {
        match self.kind {
            StoreErrorKind::TimedOut => Outcome::TimedOut,
            _ if self.is_temporary() => Outcome::Transient,
            _ => Outcome::Permanent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_told_from_what_needs_a_person() {
        use StoreErrorKind as Kind;
        let outcome = |kind| StoreError::new(kind, "x").outcome();
        assert_eq!(outcome(Kind::TimedOut), Outcome::TimedOut);
        assert_eq!(outcome(Kind::Unavailable), Outcome::Transient);
        assert_eq!(outcome(Kind::Garbled), Outcome::Transient);
        assert_eq!(outcome(Kind::Refused), Outcome::Permanent);
        assert_eq!(outcome(Kind::Unsupported), Outcome::Permanent);
    }

    #[test]
    fn the_cause_is_kept() {
        let error = StoreError::new(StoreErrorKind::Unavailable, "redis").caused_by(std::io::Error::other("reset"));
        assert_eq!(error.source().unwrap().to_string(), "reset");
    }
}

//! The errors of calls and of configuration.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::{Classify, Outcome, Rejection};

/// How a call through any stack of policies failed: one flat error, whatever
/// the stack.
///
/// The caller's own error stays the [`source`](Error::source) and is reachable
/// by value.
///
/// ```
/// use stanchion_core::{CallError, Rejection, RejectionKind};
///
/// let failed: CallError<std::io::Error> = CallError::Inner {
///     error: std::io::ErrorKind::ConnectionReset.into(),
///     attempts: 3,
/// };
/// assert_eq!(failed.to_string(), "failed after 3 attempts: connection reset");
/// assert!(failed.into_inner().is_some());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallError<E> {
    /// The operation itself failed, and nothing is left to try.
    Inner {
        /// The operation's last error.
        error: E,
        /// How many attempts were made.
        attempts: u32,
    },
    /// A gate refused the call.
    Rejected(Rejection),
    /// No answer came in time.
    TimedOut {
        /// The limit that ran out.
        after: Duration,
        /// What it limited.
        scope: Scope,
    },
    /// The policy itself can't be honoured: nothing was tried. Only from a policy
    /// that is used without having been validated.
    Misconfigured(ConfigError),
}

/// What a timeout limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// The whole call with all its attempts and waits.
    Total,
    /// One attempt.
    Attempt,
}

impl<E> CallError<E> {
    /// The operation's own error, if it was that which failed.
    pub fn into_inner(self) -> Option<E> {
        match self {
            Self::Inner { error, .. } => Some(error),
            _ => None,
        }
    }

    /// The refusal, if a gate refused.
    pub const fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            _ => None,
        }
    }
}

impl<E> From<Rejection> for CallError<E> {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl<E> From<ConfigError> for CallError<E> {
    fn from(error: ConfigError) -> Self {
        Self::Misconfigured(error)
    }
}

/// A refusal of the family's own says nothing about the other side, and isn't
/// worth an attempt: [`Outcome::Ignored`].
impl Classify for Rejection {
    fn outcome(&self) -> Outcome {
        Outcome::Ignored
    }
}

/// The outcome of the operation's own error; a timeout is a timeout; a refusal
/// or a misconfigured policy is [`Outcome::Ignored`].
impl<E: Classify> Classify for CallError<E> {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Inner { error, .. } => error.outcome(),
            Self::TimedOut { .. } => Outcome::TimedOut,
            Self::Rejected(_) | Self::Misconfigured(_) => Outcome::Ignored,
        }
    }
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inner { error, attempts: 0 | 1 } => error.fmt(f),
            Self::Inner { error, attempts } => {
                write!(f, "failed after {attempts} attempts: {error}")
            }
            Self::Rejected(rejection) => rejection.fmt(f),
            Self::TimedOut { after, scope: Scope::Total } => write!(f, "no success within {after:?}"),
            Self::TimedOut { after, scope: Scope::Attempt } => write!(f, "no answer to an attempt within {after:?}"),
            Self::Misconfigured(error) => write!(f, "misconfigured: {error}"),
        }
    }
}

impl<E: Error + 'static> Error for CallError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Inner { error, .. } => Some(error),
            Self::Rejected(rejection) => Some(rejection),
            Self::Misconfigured(error) => Some(error),
            Self::TimedOut { .. } => None,
        }
    }
}

/// A configuration that cannot be honoured: which field, what it says, and
/// what it may say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    field: Cow<'static, str>,
    value: String,
    limit: String,
}

impl ConfigError {
    /// An error for `field`, which says `value` where only `limit` is possible.
    pub fn new(field: &'static str, value: impl fmt::Display, limit: impl fmt::Display) -> Self {
        Self { field: field.into(), value: value.to_string(), limit: limit.to_string() }
    }

    /// The same error, of a field of `parent`: `retry.max_attempts`.
    pub fn inside(mut self, parent: &str) -> Self {
        self.field = format!("{parent}.{}", self.field).into();
        self
    }

    /// The field, as it is called in the builder and in the config struct.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// What the field says.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// What it may say.
    pub fn limit(&self) -> &str {
        &self.limit
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}: {}", self.field, self.value, self.limit)
    }
}

impl Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RejectionKind;

    #[test]
    fn the_callers_error_stays_the_source() {
        let error = CallError::Inner { error: std::io::Error::other("deep"), attempts: 1 };
        assert_eq!(error.source().unwrap().to_string(), "deep");
        assert_eq!(error.to_string(), "deep");
    }

    #[test]
    fn a_config_error_names_field_value_and_limit() {
        let error = ConfigError::new("burst", 0, "must be at least 1");
        assert_eq!(error.to_string(), "burst is 0: must be at least 1");
        assert_eq!(error.inside("rate_limit").to_string(), "rate_limit.burst is 0: must be at least 1");
    }

    #[test]
    fn the_familys_own_refusals_are_no_failures() {
        let rejected: CallError<std::io::Error> = Rejection::new("x", RejectionKind::CircuitOpen).into();
        assert_eq!(rejected.outcome(), Outcome::Ignored);
        let error = CallError::Inner { error: std::io::Error::from(std::io::ErrorKind::TimedOut), attempts: 1 };
        assert_eq!(error.outcome(), Outcome::TimedOut);
    }

    #[test]
    fn a_rejection_is_reachable() {
        let error: CallError<std::io::Error> = Rejection::new("x", RejectionKind::Shed).into();
        assert_eq!(error.rejection().unwrap().kind(), RejectionKind::Shed);
        assert!(error.into_inner().is_none());
    }
}

//! How one attempt ended.

use std::time::Duration;

/// How one attempt ended, in the words that every policy reads.
///
/// It is found once, by a [`Classifier`](crate::Classifier), and handed to
/// retry, breaker, limiter and telemetry alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Outcome {
    /// It did what it was for.
    Success,
    /// It says nothing about the other side's health: a 404 for a key that was never there.
    Ignored,
    /// It failed in a way that passes: a connection reset, a 503.
    Transient,
    /// The other side asks for fewer calls: a 429.
    Throttled {
        /// When it said that it would take another, if it said so.
        retry_after: Option<Duration>,
    },
    /// No answer came in time.
    TimedOut,
    /// It failed and will fail again: a validation error, a 403.
    Permanent,
    /// The other side doesn't take the credentials: a 401. It may with new ones.
    Unauthenticated,
    /// The future was dropped before it finished, for instance by a timeout further out.
    Abandoned,
}

impl Outcome {
    /// Whether another attempt may end better: `Transient`, `Throttled` and `TimedOut`.
    ///
    /// ```
    /// use stanchion_core::Outcome;
    ///
    /// assert!(Outcome::TimedOut.is_retryable());
    /// assert!(!Outcome::Permanent.is_retryable());
    /// ```
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Transient | Self::Throttled { .. } | Self::TimedOut)
    }

    /// Whether it speaks against the other side's health: `Transient`,
    /// `Throttled` and `TimedOut`. A `Permanent` or `Unauthenticated` failure is
    /// the caller's fault, and `Abandoned` may be anybody's.
    pub const fn is_failure(&self) -> bool {
        self.is_retryable()
    }

    /// A short name for logs and metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Ignored => "ignored",
            Self::Transient => "transient",
            Self::Throttled { .. } => "throttled",
            Self::TimedOut => "timed_out",
            Self::Permanent => "permanent",
            Self::Unauthenticated => "unauthenticated",
            Self::Abandoned => "abandoned",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_passes_is_worth_another_attempt() {
        let retryable = [Outcome::Transient, Outcome::Throttled { retry_after: None }, Outcome::TimedOut];
        let not =
            [Outcome::Success, Outcome::Ignored, Outcome::Permanent, Outcome::Unauthenticated, Outcome::Abandoned];
        assert!(retryable.iter().all(Outcome::is_retryable));
        assert!(!not.iter().any(Outcome::is_retryable));
    }
}

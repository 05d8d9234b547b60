//! Who refused a call, why, and when to come back.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The name of a gate or policy, cheap to clone.
///
/// ```
/// use stanchion_core::Name;
///
/// let fixed = Name::from("payments");
/// let built = Name::from(format!("host-{}", 7));
/// assert_eq!((fixed.as_str(), built.as_str()), ("payments", "host-7"));
/// ```
#[derive(Clone)]
pub struct Name(Inner);

#[derive(Clone)]
enum Inner {
    Static(&'static str),
    Shared(Arc<str>),
}

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Inner::Static(name) => name,
            Inner::Shared(name) => name,
        }
    }
}

impl From<&'static str> for Name {
    fn from(name: &'static str) -> Self {
        Self(Inner::Static(name))
    }
}

impl From<String> for Name {
    fn from(name: String) -> Self {
        Self(Inner::Shared(name.into()))
    }
}

impl From<Cow<'static, str>> for Name {
    fn from(name: Cow<'static, str>) -> Self {
        match name {
            Cow::Borrowed(name) => name.into(),
            Cow::Owned(name) => name.into(),
        }
    }
}

impl From<&Self> for Name {
    fn from(name: &Self) -> Self {
        name.clone()
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Name {}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A gate's refusal: who, why, and when to come back.
///
/// It is no failure of the other side. Retry spends no attempts on it unless
/// told to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    by: Name,
    kind: RejectionKind,
    retry_after: Option<Duration>,
}

impl Rejection {
    /// A refusal by the gate of this name, which can't say when to come back.
    pub fn new(by: impl Into<Name>, kind: RejectionKind) -> Self {
        Self { by: by.into(), kind, retry_after: None }
    }

    /// The same refusal, with the time after which it may be different.
    pub const fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The name of the gate that refused.
    pub fn by(&self) -> &str {
        self.by.as_str()
    }

    /// Why it refused.
    pub const fn kind(&self) -> RejectionKind {
        self.kind
    }

    /// How long to wait before asking again, if the gate knows. Earlier is in vain.
    pub const fn come_back_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused by {}: {}", self.by, self.kind.as_str())?;
        match self.retry_after {
            Some(wait) => write!(f, "; come back in {wait:?}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Rejection {}

/// Why a gate refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum RejectionKind {
    /// A rate limit is used up for now.
    RateLimited,
    /// The call costs more than the limit can ever hold: waiting doesn't help.
    NeverFits,
    /// A keyed gate has no room to remember another key.
    KeysFull,
    /// A circuit breaker is open.
    CircuitOpen,
    /// As many calls as allowed are under way, and the queue is full.
    Saturated,
    /// Dropped in favour of more important calls.
    Shed,
    /// The wait would be longer than the call's deadline allows.
    DeadlineTooShort,
    /// The store that decides gave no answer, and the policy for that is to refuse.
    StoreUnavailable,
}

impl RejectionKind {
    /// The reason in a few words, for logs and metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::RateLimited => "rate limited",
            Self::NeverFits => "costs more than the limit can ever hold",
            Self::KeysFull => "no room for another key",
            Self::CircuitOpen => "circuit open",
            Self::Saturated => "too many calls under way",
            Self::Shed => "shed",
            Self::DeadlineTooShort => "the wait would outlast the deadline",
            Self::StoreUnavailable => "the store gave no answer",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_says_who_why_and_when() {
        let refusal = Rejection::new("api", RejectionKind::RateLimited).retry_after(Duration::from_millis(250));
        assert_eq!(refusal.to_string(), "refused by api: rate limited; come back in 250ms");
    }

    #[test]
    fn names_are_equal_by_text() {
        assert_eq!(Name::from("a"), Name::from(String::from("a")));
    }
}

//! The trait of the stores that keep rate limits.

use super::{Decision, TokenBucket};
use crate::{Answer, ConfigError, Name, StoreError};

/// Keeps rate limits by key, and decides in one atomic step.
///
/// # Laws
/// `stanchion-conformance` holds every implementation to these.
///
/// 1. *One step.* A decision is atomic: no two requests see the same tokens.
/// 2. *All or nothing.* A request with several limits takes its cost from each
///    of them, or from none.
/// 3. *A refusal writes nothing.* Neither does a request of cost 0, which only
///    looks. The one exception is law 6.
/// 4. *One arithmetic.* A limit has, for each key, a time `tat` at which its
///    bucket is full. With `debt = max(tat - now, 0)`, a request of `cost`
///    ticks is allowed when `debt + cost <= capacity`, and then
///    `tat = now + debt + cost`. All are integers, in ticks. A state outlives its
///    quota, and another quota's ticks may be others: keep their number in a
///    nanosecond beside it, and convert rounding up. A key without state has
///    `tat = now`.
/// 5. *The store's clock*, read once in a decision. (Not checked.)
/// 6. *Time that steps back.* A debt above `capacity + tolerance` can't have
///    come from this limit; it is cut to `capacity`, as if the bucket were
///    empty now, and that is written. So is the debt left by a larger quota.
/// 7. *Never fits.* A cost above a limit's burst is answered
///    [`NeverFits`](crate::Verdict::NeverFits), and nothing is written.
/// 8. *Bounded.* State that has become equal to no state goes away by itself. (Not
///    checked.)
///
/// # Cancellation
/// Dropping the answer of a remote store leaves open whether the tokens were
/// taken. They may be lost to the caller; they are never given twice.
pub trait RateStore: Send + Sync {
    /// Takes `request.cost` tokens from all of `request.limits`, or from none.
    ///
    /// The decision is that of the strictest limit; see [`Decision::strictest`].
    /// What the answer needs of the request it has copied: the key may be gone
    /// before the answer is there.
    fn decide(&self, request: RateRequest<'_>) -> Answer<'_, Result<Decision, StoreError>>;
}

impl<S: RateStore + ?Sized> RateStore for std::sync::Arc<S> {
    fn decide(&self, request: RateRequest<'_>) -> Answer<'_, Result<Decision, StoreError>> {
        (**self).decide(request)
    }
}

/// One question to a [`RateStore`].
#[derive(Debug, Clone, Copy)]
pub struct RateRequest<'a> {
    key: &'a [u8],
    cost: u64,
    limits: &'a [RateLimit],
}

impl<'a> RateRequest<'a> {
    /// May `key` take `cost` tokens from each of `limits`?
    ///
    /// # Errors
    /// Names `limits` when there are none, more than 64, or two of one name.
    pub fn new(key: &'a [u8], cost: u64, limits: &'a [RateLimit]) -> Result<Self, ConfigError> {
        if limits.is_empty() || limits.len() > 64 {
            return Err(ConfigError::new("limits", limits.len(), "must be 1 to 64 limits"));
        }
        for (place, limit) in limits.iter().enumerate() {
            if limits[..place].iter().any(|earlier| earlier.name == limit.name) {
                return Err(ConfigError::new("limits", &limit.name, "each limit needs a name of its own"));
            }
        }
        Ok(Self { key, cost, limits })
    }

    /// May `key` take `cost` tokens from this one limit?
    pub const fn single(key: &'a [u8], cost: u64, limit: &'a RateLimit) -> Self {
        Self { key, cost, limits: std::slice::from_ref(limit) }
    }

    /// The key: any bytes of any length.
    pub const fn key(&self) -> &'a [u8] {
        self.key
    }

    /// The tokens to take; 0 only looks.
    pub const fn cost(&self) -> u64 {
        self.cost
    }

    /// The limits, at least one.
    pub const fn limits(&self) -> &'a [RateLimit] {
        self.limits
    }

    /// The decision that needs no store: some limit's burst is below the cost.
    pub fn never_fits(&self) -> Option<Decision> {
        let place = self.limits.iter().position(|limit| limit.bucket.cost(self.cost).is_none())?;
        let index = u16::try_from(place).unwrap_or(u16::MAX);
        Some(Decision::never_fits(&self.limits[place].bucket).by_limit(index))
    }
}

/// A limit with the name under which a store keeps its state.
///
/// ```
/// use std::time::Duration;
/// use stanchion_core::{RateLimit, TokenBucket};
///
/// let bucket = TokenBucket::new(10, Duration::from_secs(1), 10)?;
/// let limit = RateLimit::new("per-second", bucket);
/// assert_eq!(limit.name(), "per-second");
/// # Ok::<(), stanchion_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    name: Name,
    bucket: TokenBucket,
}

impl RateLimit {
    /// The limit of this name. Requests that name it share its state, key by key.
    pub fn new(name: impl Into<Name>, bucket: TokenBucket) -> Self {
        Self { name: name.into(), bucket }
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// The numbers.
    pub const fn bucket(&self) -> &TokenBucket {
        &self.bucket
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn limit(name: &'static str, burst: u64) -> RateLimit {
        RateLimit::new(name, TokenBucket::new(1, Duration::from_secs(1), burst).unwrap())
    }

    #[test]
    fn limits_need_names_of_their_own() {
        let twice = [limit("a", 1), limit("b", 1), limit("a", 1)];
        assert_eq!(RateRequest::new(b"k", 1, &twice).unwrap_err().value(), "a");
        assert_eq!(RateRequest::new(b"k", 1, &[]).unwrap_err().field(), "limits");
        assert!(RateRequest::new(b"k", 1, &twice[..2]).is_ok());
    }

    #[test]
    fn never_fits_names_the_limit() {
        let limits = [limit("a", 5), limit("b", 3)];
        let request = |cost| RateRequest::new(b"k", cost, &limits).unwrap();
        assert!(request(3).never_fits().is_none());
        assert_eq!(request(4).never_fits().unwrap().limit_index(), 1);
    }
}

//! What a rate limit said to one request.

use std::fmt;
use std::time::Duration;

use super::TokenBucket;
use crate::RejectionKind;

/// What a rate limit said to one request: the same type from every limiter and
/// every store.
///
/// It holds integers; the numbers are worked out when they are asked for, so
/// that a check which only reads [`allowed`](Self::allowed) pays for no division.
///
/// ```
/// use std::time::Duration;
/// use stanchion_core::{Decision, TokenBucket, Verdict};
///
/// let bucket = TokenBucket::new(10, Duration::from_secs(1), 5)?;
/// // Four tokens are taken: their debt is paid off in four intervals.
/// let decision = Decision::allowed_by(&bucket, 4 * bucket.interval());
/// assert!(decision.allowed());
/// assert_eq!((decision.limit(), decision.remaining()), (5, 1));
/// assert_eq!(decision.reset_after(), Duration::from_millis(400));
/// assert_eq!(decision.retry_after(), None);
/// # Ok::<(), stanchion_core::ConfigError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[must_use = "a limiter only says; it is the caller who must refuse"]
pub struct Decision {
    bucket: TokenBucket,
    // Ticks until the bucket is full, counted after the request.
    debt: u64,
    // Ticks until the same request may fit; zero where that means nothing.
    wait: u64,
    verdict: Verdict,
    degraded: bool,
    limit_index: u16,
}

/// A [`Decision`] in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Verdict {
    /// The tokens are taken.
    Allowed,
    /// Not yet; nothing was taken.
    Refused,
    /// Never: the request costs more than the burst, so that waiting is in vain.
    NeverFits,
    /// The table of keys is full of keys in debt, and this is a new one.
    KeysFull,
    /// The store gave no answer, and the policy for that is to refuse.
    StoreUnavailable,
}

impl Decision {
    /// The tokens are taken, which leaves a debt of `debt` ticks.
    #[inline]
    pub const fn allowed_by(bucket: &TokenBucket, debt: u64) -> Self {
        Self::new(bucket, Verdict::Allowed, debt, 0)
    }

    /// There is a debt of `debt` ticks, and a request of `cost` ticks must wait
    /// until it fits.
    #[inline]
    pub const fn refused_by(bucket: &TokenBucket, debt: u64, cost: u64) -> Self {
        let wait = debt.saturating_add(cost).saturating_sub(bucket.capacity());
        Self::new(bucket, Verdict::Refused, debt, wait)
    }

    /// The request costs more than the burst. What the bucket holds was not looked at.
    #[inline]
    pub const fn never_fits(bucket: &TokenBucket) -> Self {
        Self::new(bucket, Verdict::NeverFits, 0, 0)
    }

    /// The key is new, and no room for it comes free for `wait` ticks.
    #[inline]
    pub const fn keys_full(bucket: &TokenBucket, wait: u64) -> Self {
        Self::new(bucket, Verdict::KeysFull, bucket.capacity(), wait)
    }

    /// The store gave no answer, and is asked again after `retry`.
    pub fn store_unavailable(bucket: &TokenBucket, retry: Duration) -> Self {
        let nanos = u64::try_from(retry.as_nanos()).unwrap_or(u64::MAX);
        let wait = nanos.saturating_mul(u64::from(bucket.ticks_per_nano()));
        Self { degraded: true, ..Self::new(bucket, Verdict::StoreUnavailable, bucket.capacity(), wait) }
    }

    #[inline]
    const fn new(bucket: &TokenBucket, verdict: Verdict, debt: u64, wait: u64) -> Self {
        Self { bucket: *bucket, debt, wait, verdict, degraded: false, limit_index: 0 }
    }

    /// The same decision, made by the limit at this place of several.
    pub const fn by_limit(mut self, index: u16) -> Self {
        self.limit_index = index;
        self
    }

    /// The same decision, made without the store that should have made it.
    pub const fn as_degraded(mut self) -> Self {
        self.degraded = true;
        self
    }

    /// Of the decisions of several limits on one request, the one to report:
    /// the refusal that takes longest to pass, or else the allowance with the
    /// fewest tokens left. Each is marked with its place.
    pub fn strictest(decisions: impl IntoIterator<Item = Self>) -> Option<Self> {
        (0..)
            .zip(decisions)
            .map(|(index, decision)| decision.by_limit(index))
            .reduce(|strictest, next| if next.strictness() > strictest.strictness() { next } else { strictest })
    }

    /// Greater is stricter.
    fn strictness(&self) -> (bool, bool, Duration, std::cmp::Reverse<u64>) {
        let never = matches!(self.verdict, Verdict::NeverFits);
        let wait = self.bucket.duration(self.wait);
        (!self.allowed(), never, wait, std::cmp::Reverse(self.remaining()))
    }

    /// Whether the request may go ahead.
    #[inline]
    pub const fn allowed(&self) -> bool {
        matches!(self.verdict, Verdict::Allowed)
    }

    /// The decision in one word.
    #[inline]
    pub const fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// The most tokens that the bucket holds: its burst.
    #[inline]
    pub const fn limit(&self) -> u64 {
        self.bucket.burst()
    }

    /// How many tokens are left after this request.
    ///
    /// For [`NeverFits`](Verdict::NeverFits) the bucket isn't looked at, and this is its burst.
    pub const fn remaining(&self) -> u64 {
        self.bucket.capacity().saturating_sub(self.debt) / self.bucket.interval()
    }

    /// How long until the bucket is full again if nobody else asks.
    pub const fn reset_after(&self) -> Duration {
        self.bucket.duration(self.debt)
    }

    /// How long until there is one token more than now; zero when it is full.
    pub const fn next_token_after(&self) -> Duration {
        let over = self.debt.saturating_sub(self.bucket.capacity());
        let whole = self.debt - over;
        let next = match whole % self.bucket.interval() {
            0 if whole == 0 => 0,
            0 => self.bucket.interval(),
            part => part,
        };
        self.bucket.duration(over + next)
    }

    /// How long until the same request may be allowed, if nobody else asks;
    /// `None` when it was allowed, and when it never will be.
    ///
    /// It is exact: a nanosecond earlier is too early.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self.verdict {
            Verdict::Allowed | Verdict::NeverFits => None,
            _ => Some(self.bucket.duration(self.wait)),
        }
    }

    /// The time in which the whole limit comes back.
    pub const fn window(&self) -> Duration {
        self.bucket.refill_duration()
    }

    /// Which of several limits decided, counted from 0.
    pub const fn limit_index(&self) -> usize {
        self.limit_index as usize
    }

    /// Whether the store that should have decided gave no answer, so that the
    /// outage policy did.
    pub const fn degraded(&self) -> bool {
        self.degraded
    }

    /// The same for a [`Rejection`](crate::Rejection); `None` when it was allowed.
    pub const fn rejection_kind(&self) -> Option<RejectionKind> {
        match self.verdict {
            Verdict::Allowed => None,
            Verdict::Refused => Some(RejectionKind::RateLimited),
            Verdict::NeverFits => Some(RejectionKind::NeverFits),
            Verdict::KeysFull => Some(RejectionKind::KeysFull),
            Verdict::StoreUnavailable => Some(RejectionKind::StoreUnavailable),
        }
    }
}

impl fmt::Debug for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decision")
            .field("verdict", &self.verdict)
            .field("limit", &self.limit())
            .field("remaining", &self.remaining())
            .field("reset_after", &self.reset_after())
            .field("retry_after", &self.retry_after())
            .field("limit_index", &self.limit_index)
            .field("degraded", &self.degraded)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10 a second, 5 at once.
    fn bucket() -> TokenBucket {
        TokenBucket::new(10, Duration::from_secs(1), 5).unwrap()
    }

    #[test]
    fn remaining_rounds_down_and_waits_round_up() {
        let bucket = bucket();
        let one_nano_over = Decision::allowed_by(&bucket, bucket.interval() + 1);
        assert_eq!(one_nano_over.remaining(), 3);
        assert_eq!(one_nano_over.next_token_after(), Duration::from_nanos(1));
        let exactly_one = Decision::allowed_by(&bucket, bucket.interval());
        assert_eq!(exactly_one.remaining(), 4);
        assert_eq!(exactly_one.next_token_after(), Duration::from_millis(100));
        assert_eq!(Decision::allowed_by(&bucket, 0).next_token_after(), Duration::ZERO);
    }

    #[test]
    fn a_refusal_says_when_the_same_request_fits() {
        let bucket = bucket();
        let decision = Decision::refused_by(&bucket, bucket.capacity(), 2 * bucket.interval());
        assert_eq!(decision.retry_after(), Some(Duration::from_millis(200)));
        assert_eq!(decision.remaining(), 0);
        assert_eq!(Decision::never_fits(&bucket).retry_after(), None);
    }

    #[test]
    fn a_debt_beyond_the_capacity_leaves_nothing() {
        let bucket = bucket();
        let decision = Decision::refused_by(&bucket, u64::MAX, bucket.interval());
        assert_eq!(decision.remaining(), 0);
        assert!(decision.next_token_after() > bucket.refill_duration());
    }

    #[test]
    fn the_strictest_of_several_is_reported_with_its_place() {
        let bucket = bucket();
        let allowed = |tokens: u64| Decision::allowed_by(&bucket, tokens * bucket.interval());
        let refused = |tokens: u64| Decision::refused_by(&bucket, bucket.capacity(), tokens * bucket.interval());
        let place = |decisions: &[Decision]| Decision::strictest(decisions.iter().copied()).unwrap().limit_index();
        assert_eq!(place(&[allowed(1), allowed(3), allowed(2)]), 1);
        assert_eq!(place(&[allowed(5), refused(1), refused(2)]), 2);
        assert_eq!(place(&[refused(5), Decision::never_fits(&bucket), refused(2)]), 1);
        assert_eq!(place(&[allowed(1), allowed(1)]), 0);
        assert!(Decision::strictest([]).is_none());
    }
}

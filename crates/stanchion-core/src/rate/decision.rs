//! What a rate limit said to one request.

use std::fmt;
use std::time::Duration;

use super::{RateRule, TokenBucket};
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
    standing: Standing,
    granted: u64,
    verdict: Verdict,
    degraded: bool,
    limit_index: u16,
}

/// How the limit stands after the request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Bucket {
        bucket: TokenBucket,
        // Ticks until the bucket is full.
        debt: u64,
        // Ticks until the same request may fit; zero where that means nothing.
        wait: u64,
    },
    Counted(Counted),
}

/// How a limit that counts in windows stands: see [`Decision::counted`]. Times are in
/// nanoseconds from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "made by those who write a store, of all that a decision tells")]
pub struct Counted {
    /// The most units in a window.
    pub limit: u64,
    /// The units that fit now, after the request.
    pub remaining: u64,
    /// Until the same request may fit; 0 where it was allowed.
    pub wait: u64,
    /// Until there is room for one unit more; 0 where all are there.
    pub next: u64,
    /// Until all units are there.
    pub reset: u64,
    /// The window.
    pub window: u64,
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
    /// Never: the request costs more than the limit, so that waiting is in vain.
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

    /// The same for a request that may go into the bucket's overdraft.
    #[inline]
    pub const fn overdraft_refused_by(bucket: &TokenBucket, debt: u64, cost: u64) -> Self {
        let wait = debt.saturating_add(cost).saturating_sub(bucket.most_debt());
        Self::new(bucket, Verdict::Refused, debt, wait)
    }

    /// What a limit that counts in windows said.
    #[inline]
    pub const fn counted(verdict: Verdict, standing: Counted) -> Self {
        Self { standing: Standing::Counted(standing), granted: 0, verdict, degraded: false, limit_index: 0 }
    }

    /// The request costs more than ever fits. What is there was not looked at.
    #[inline]
    pub fn never_fits(rule: impl Into<RateRule>) -> Self {
        Self::unlooked(&rule.into(), Verdict::NeverFits, 0, 0)
    }

    /// The key is new, and no room for it comes free for `wait`.
    pub fn keys_full(rule: impl Into<RateRule>, wait: Duration) -> Self {
        Self::unlooked(&rule.into(), Verdict::KeysFull, 1, nanos(wait))
    }

    /// The store gave no answer, and is asked again after `retry`.
    pub fn store_unavailable(rule: impl Into<RateRule>, retry: Duration) -> Self {
        Self { degraded: true, ..Self::unlooked(&rule.into(), Verdict::StoreUnavailable, 1, nanos(retry)) }
    }

    /// Allowed without a look at what is there.
    pub fn unchecked(rule: impl Into<RateRule>) -> Self {
        Self::unlooked(&rule.into(), Verdict::Allowed, 0, 0)
    }

    /// Without a look at the state: all is there, or (`used` is 1) nothing is.
    fn unlooked(rule: &RateRule, verdict: Verdict, used: u64, wait: u64) -> Self {
        match rule {
            RateRule::TokenBucket(bucket) => {
                let ticks = wait.saturating_mul(u64::from(bucket.ticks_per_nano()));
                Self::new(bucket, verdict, used * bucket.capacity(), ticks)
            }
            _ => {
                let (limit, window) = (rule.limit(), nanos(rule.window()));
                let remaining = if used == 0 { limit } else { 0 };
                let [next, reset] = [wait, window].map(|time| used * time);
                Self::counted(verdict, Counted { limit, remaining, wait, next, reset, window })
            }
        }
    }

    #[inline]
    const fn new(bucket: &TokenBucket, verdict: Verdict, debt: u64, wait: u64) -> Self {
        let standing = Standing::Bucket { bucket: *bucket, debt, wait };
        Self { standing, granted: 0, verdict, degraded: false, limit_index: 0 }
    }

    /// The same decision, by which so many units were taken, if it allows any.
    #[inline]
    pub const fn granting(mut self, units: u64) -> Self {
        self.granted = if self.allowed() { units } else { 0 };
        self
    }

    /// The refusal of a request that is to come back after `wait`, where the limit stands as
    /// in this decision.
    pub fn refused_for(mut self, wait: Duration) -> Self {
        let nanos = nanos(wait);
        match &mut self.standing {
            Standing::Bucket { bucket, wait, .. } => *wait = nanos.saturating_mul(u64::from(bucket.ticks_per_nano())),
            Standing::Counted(counted) => counted.wait = nanos,
        }
        Self { verdict: Verdict::Refused, granted: 0, ..self }
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
        let wait = self.wait();
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

    /// The most units at once: a bucket's burst, a window's count.
    #[inline]
    pub const fn limit(&self) -> u64 {
        match &self.standing {
            Standing::Bucket { bucket, .. } => bucket.burst(),
            Standing::Counted(counted) => counted.limit,
        }
    }

    /// How many units this request has taken: all that it asked for, or none; or in
    /// between, if it asked for [up to](crate::Ask::UpTo) so many.
    #[inline]
    pub const fn granted(&self) -> u64 {
        self.granted
    }

    /// How many units are left after this request; none where there is a debt.
    ///
    /// For [`NeverFits`](Verdict::NeverFits) nothing is looked at, and this is the [`limit`](Self::limit).
    pub const fn remaining(&self) -> u64 {
        match &self.standing {
            Standing::Bucket { bucket, debt, .. } => bucket.capacity().saturating_sub(*debt) / bucket.interval(),
            Standing::Counted(counted) => counted.remaining,
        }
    }

    /// How long until all units are there again if nobody else asks.
    pub const fn reset_after(&self) -> Duration {
        match &self.standing {
            Standing::Bucket { bucket, debt, .. } => bucket.duration(*debt),
            Standing::Counted(counted) => Duration::from_nanos(counted.reset),
        }
    }

    /// How long until there is one unit more than now; zero when all are there.
    pub const fn next_token_after(&self) -> Duration {
        let (bucket, debt) = match &self.standing {
            Standing::Bucket { bucket, debt, .. } => (bucket, *debt),
            Standing::Counted(counted) => return Duration::from_nanos(counted.next),
        };
        let over = debt.saturating_sub(bucket.capacity());
        let whole = debt - over;
        let next = match whole % bucket.interval() {
            0 if whole == 0 => 0,
            0 => bucket.interval(),
            part => part,
        };
        bucket.duration(over + next)
    }

    /// How long until the same request may be allowed, if nobody else asks;
    /// `None` when it was allowed, and when it never will be.
    ///
    /// It is exact: a nanosecond earlier is too early.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self.verdict {
            Verdict::Allowed | Verdict::NeverFits => None,
            _ => Some(self.wait()),
        }
    }

    const fn wait(&self) -> Duration {
        match &self.standing {
            Standing::Bucket { bucket, wait, .. } => bucket.duration(*wait),
            Standing::Counted(counted) => Duration::from_nanos(counted.wait),
        }
    }

    /// The time in which the whole limit comes back.
    pub const fn window(&self) -> Duration {
        match &self.standing {
            Standing::Bucket { bucket, .. } => bucket.refill_duration(),
            Standing::Counted(counted) => Duration::from_nanos(counted.window),
        }
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

/// At most some 584 years.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl fmt::Debug for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decision")
            .field("verdict", &self.verdict)
            .field("limit", &self.limit())
            .field("granted", &self.granted)
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
        assert_eq!(Decision::never_fits(bucket).retry_after(), None);
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
        assert_eq!(place(&[refused(5), Decision::never_fits(bucket), refused(2)]), 1);
        assert_eq!(place(&[allowed(1), allowed(1)]), 0);
        assert!(Decision::strictest([]).is_none());
    }
}

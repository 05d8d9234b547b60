//! The trait of the stores that keep rate limits.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::{Decision, RateRule, TokenBucket};
use crate::{Answer, ConfigError, Name, StoreError, StoreErrorKind};

/// Keeps rate limits by key, and decides in one atomic step.
///
/// # Laws
/// `stanchion-conformance` holds every implementation to these.
///
/// 1. *One step.* A decision is atomic: no two requests see the same tokens.
/// 2. *All or nothing.* A request with several limits takes as much from each
///    of them: its cost, or nothing; or, if it asks for [up to](Ask::UpTo) so many, as
///    many as all of them have.
/// 3. *A refusal writes nothing.* Neither does a request of cost 0, which only
///    looks. The one exception is law 6.
/// 4. *One arithmetic*, in integers, by which all stores decide alike.
///    - *Token bucket.* The state is a time `tat` at which the bucket is full. With
///      `debt = max(tat - now, 0)`, a request of `cost` ticks is allowed when
///      `debt + cost <= capacity`, and then `tat = now + debt + cost`. A state
///      outlives its quota, and another quota's ticks may be others: keep their number
///      in a nanosecond beside it, and convert rounding up. No state: `tat = now`.
///    - *Fixed window.* The state is the `end` of a window and the units `used`. It is over
///      at `end`; the next is [`FixedWindow::end`](super::FixedWindow::end).
///    - *Sliding counter.* Window number `now / window`, two counts, and
///      [`SlidingCounter::estimate`](super::SlidingCounter::estimate). The counts of another window's length are no
///      counts of this one: begin with their estimate, in the present window.
///    - *Sliding log.* Times and units; one counts from its time until `window` after it.
///      Two at one time are two.
///
///    The state of another algorithm under the same name is no state. An overdraft
///    widens what [`Ask::Overdraw`] may take, and nothing else. What is said of the numbers is
///    [`Decision::of_usages`].
/// 5. *The store's clock*, read once in a decision. Calendars go by the time of day. (Not checked.)
/// 6. *Time that steps back.* A request that would take something and meets a state further in
///    the future than the limit and a second's tolerance can explain is refused, and the state is
///    cut, as if the limit were used up now. So is the debt that is left by a larger bucket. A
///    state that is less far ahead is waited for.
/// 7. *Never fits.* A cost above what can ever be taken is answered
///    [`NeverFits`](crate::Verdict::NeverFits), and nothing is written.
/// 8. *Bounded.* State that has become equal to no state goes away by itself. (Not
///    checked.)
/// 9. *Nothing comes back twice.* Units that are given back are no more than were taken, and
///    never lift the limit above what it would be had they not been taken. A state that was
///    cut, or whose ticks or length of window have changed, takes nothing back from before.
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

    /// As [`decide`](Self::decide), with what is needed to give units back.
    ///
    /// A store that can't answers [`Unsupported`](StoreErrorKind::Unsupported), which is the default.
    fn reserve(&self, request: RateRequest<'_>) -> Answer<'_, Result<(Decision, Receipt), StoreError>> {
        let _ = request;
        Answer::Ready(Err(unsupported()))
    }

    /// Gives back `request.cost` of the units of a receipt, of the same key and limits,
    /// and says how many of them each limit has again, at the least.
    ///
    /// What it asks to be given back it [draws](Receipt::draw) from the receipt first, whatever becomes of it
    /// then. Of a limit of which nothing is used all units are there again.
    ///
    /// A token bucket has refilled meanwhile, and what it might have lost by being
    /// full is not given back on top: with nobody else about, that makes no
    /// difference; with others, it is at most as many units as have dripped in since.
    fn give_back(&self, request: RateRequest<'_>, receipt: &Receipt) -> Answer<'_, Result<u64, StoreError>> {
        let _ = (request, receipt);
        Answer::Ready(Err(unsupported()))
    }
}

fn unsupported() -> StoreError {
    StoreError::new(StoreErrorKind::Unsupported, "this store can't give units back")
}

/// What a store needs to give units back. What is in it is the store's own affair.
///
/// It can't be cloned: what has been drawn from it has been drawn.
///
/// ```
/// use stanchion_core::Receipt;
///
/// let receipt = Receipt::new(5, vec![[7, 0]]);
/// assert_eq!((receipt.draw(3), receipt.draw(3), receipt.draw(1)), (3, 2, 0));
/// assert_eq!(receipt.units(), 5);
/// ```
#[derive(Debug)]
pub struct Receipt {
    units: u64,
    left: AtomicU64,
    marks: Vec<[u64; 2]>,
}

impl Receipt {
    /// The receipt for so many units, with the numbers that the store needs.
    pub const fn new(units: u64, marks: Vec<[u64; 2]>) -> Self {
        Self { units, left: AtomicU64::new(units), marks }
    }

    /// The units that were taken.
    pub const fn units(&self) -> u64 {
        self.units
    }

    /// Draws up to `units` of those that have not been drawn before: these may be given back, once.
    pub fn draw(&self, units: u64) -> u64 {
        // Relaxed: no other memory hangs on the number.
        let left = self.left.fetch_update(Relaxed, Relaxed, |left| Some(left.saturating_sub(units)));
        left.unwrap_or(0).min(units)
    }

    /// The numbers, limit by limit.
    pub fn marks(&self) -> &[[u64; 2]] {
        &self.marks
    }
}

/// How a request takes its cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Ask {
    /// All of it, or nothing.
    #[default]
    Exactly,
    /// As much of it as is there; refused only if there is nothing.
    UpTo,
    /// All of it, into debt if need be, up to the limit's overdraft; else nothing. For
    /// costs that are known only afterwards.
    Overdraw,
}

impl<S: RateStore + ?Sized> RateStore for std::sync::Arc<S> {
    fn decide(&self, request: RateRequest<'_>) -> Answer<'_, Result<Decision, StoreError>> {
        (**self).decide(request)
    }

    fn reserve(&self, request: RateRequest<'_>) -> Answer<'_, Result<(Decision, Receipt), StoreError>> {
        (**self).reserve(request)
    }

    fn give_back(&self, request: RateRequest<'_>, receipt: &Receipt) -> Answer<'_, Result<u64, StoreError>> {
        (**self).give_back(request, receipt)
    }
}

/// One question to a [`RateStore`].
#[derive(Debug, Clone, Copy)]
pub struct RateRequest<'a> {
    key: &'a [u8],
    cost: u64,
    limits: &'a [RateLimit],
    ask: Ask,
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
        Ok(Self { key, cost, limits, ask: Ask::Exactly })
    }

    /// May `key` take `cost` tokens from this one limit?
    pub const fn single(key: &'a [u8], cost: u64, limit: &'a RateLimit) -> Self {
        Self { key, cost, limits: std::slice::from_ref(limit), ask: Ask::Exactly }
    }

    /// May `key` take `cost` tokens from each of `limits`, of which the caller has seen to it
    /// that they are 1 to 64, each with a name of its own? If not, stores may answer anything.
    pub const fn of(key: &'a [u8], cost: u64, limits: &'a [RateLimit]) -> Self {
        Self { key, cost, limits, ask: Ask::Exactly }
    }

    /// The same request, asked in another way. Default: [`Ask::Exactly`].
    pub const fn ask(mut self, ask: Ask) -> Self {
        self.ask = ask;
        self
    }

    /// How it takes its cost.
    pub const fn how(&self) -> Ask {
        self.ask
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

    /// The decision that needs no store: some limit can never give the cost.
    pub fn never_fits(&self) -> Option<Decision> {
        let most = |rule: &RateRule| match self.ask {
            Ask::Exactly => rule.limit(),
            Ask::UpTo => u64::MAX,
            Ask::Overdraw => rule.most_units(),
        };
        let place = self.limits.iter().position(|limit| self.cost > most(&limit.rule))?;
        let index = u16::try_from(place).unwrap_or(u16::MAX);
        Some(Decision::never_fits(self.limits[place].rule).by_limit(index))
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
    rule: RateRule,
}

impl RateLimit {
    /// The limit of this name. Requests that name it share its state, key by key.
    pub fn new(name: impl Into<Name>, rule: impl Into<RateRule>) -> Self {
        Self { name: name.into(), rule: rule.into() }
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// The numbers.
    #[inline]
    pub const fn rule(&self) -> &RateRule {
        &self.rule
    }

    /// The numbers, if they are a token bucket's.
    #[inline]
    pub const fn bucket(&self) -> Option<&TokenBucket> {
        match &self.rule {
            RateRule::TokenBucket(bucket) => Some(bucket),
            _ => None,
        }
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

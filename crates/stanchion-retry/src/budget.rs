//! How many retries and hedges all calls together may make.

mod ratio;
mod throttle;
mod tokens;

use std::fmt;
use std::sync::Arc;

use stanchion_core::{ConfigError, Moment, Outcome};

use ratio::Ratio;
pub use ratio::RatioBudget;
use throttle::Throttle;
pub use throttle::ThrottleBudget;
use tokens::Tokens;
pub use tokens::{Costs, TokensBudget};

/// How many retries and hedges all calls together may make, so that an upstream
/// in trouble isn't asked several times as often.
///
/// Its clones share it: give one to every policy that calls the same upstream.
/// The kinds, and what they promise:
///
/// | | at most | after |
/// |---|---|---|
/// | [`RatioBudget`], the default | a tenth of the calls of the last 10 s, and 1 a second | Finagle's `RetryBudget` |
/// | [`TokensBudget`] | 100 in a row without a success (500 tokens, 5 each) | the AWS SDKs' standard mode |
/// | [`ThrottleBudget`] | while fewer than half of the tokens are gone | gRPC's retry throttling (proposal A6) |
///
/// A retry that was granted and then never made, since the call was dropped in
/// the wait before it, is given back.
///
/// ```
/// use stanchion_retry::{Budget, RatioBudget, Retry};
///
/// let upstream = Budget::new(RatioBudget::default().percent(10.0).min_per_second(5))?;
/// let reads = Retry::exponential().budget(&upstream);
/// let writes = Retry::exponential().max_attempts(2).budget(&upstream);
/// # Ok::<(), stanchion_retry::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Budget(Arc<Kind>);

enum Kind {
    Ratio(Box<Ratio>),
    Tokens(Tokens),
    Throttle(Throttle),
}

/// What a [`Budget`] is made of: a [`RatioBudget`], [`TokensBudget`] or
/// [`ThrottleBudget`].
///
/// As configuration: `{ "ratio": { "percent": 10.0 } }`, `{ "tokens": { … } }`,
/// `{ "throttle": { … } }`.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum BudgetConfig {
    /// A share of the calls.
    Ratio(RatioBudget),
    /// Tokens that retries cost and successes bring back.
    Tokens(TokensBudget),
    /// Tokens that failures cost and successes bring back.
    Throttle(ThrottleBudget),
}

impl Budget {
    /// A budget of this kind.
    ///
    /// # Errors
    /// Names the field that can't be honoured.
    pub fn new(config: impl Into<BudgetConfig>) -> Result<Self, ConfigError> {
        let kind = match config.into() {
            BudgetConfig::Ratio(config) => Kind::Ratio(Box::new(Ratio::new(&config)?)),
            BudgetConfig::Tokens(config) => Kind::Tokens(Tokens::new(config)?),
            BudgetConfig::Throttle(config) => Kind::Throttle(Throttle::new(&config)?),
        };
        Ok(Self(Arc::new(kind)))
    }

    /// Whether it reads the time that it is told.
    pub(crate) fn reads_time(&self) -> bool {
        matches!(*self.0, Kind::Ratio(_))
    }

    /// A call begins. Once for each call, not for each attempt.
    ///
    /// Whoever drives attempts without this crate's drivers tells it so, and the
    /// other three facts below.
    #[inline]
    pub fn begun(&self, now: Moment) {
        if let Kind::Ratio(ratio) = &*self.0 {
            ratio.deposit(now);
        }
    }

    /// An attempt failed, whether or not another is wanted.
    pub fn failed(&self, outcome: Outcome) {
        if let Kind::Throttle(throttle) = &*self.0
            && outcome.is_retryable()
        {
            throttle.failed();
        }
    }

    /// Whether one more attempt may be made, after one with this outcome.
    pub fn try_spend(&self, outcome: Outcome, now: Moment) -> Option<Spent> {
        let cost = match &*self.0 {
            Kind::Ratio(ratio) => ratio.withdraw(now)?,
            Kind::Tokens(tokens) => tokens.withdraw(outcome)?,
            Kind::Throttle(throttle) => throttle.permits().then_some(0)?,
        };
        Some(Spent { budget: self.clone(), cost, made: false })
    }

    /// A call succeeded; `spent` is its last retry, if there was one.
    #[inline]
    pub fn succeeded(&self, spent: Option<Spent>) {
        match &*self.0 {
            Kind::Ratio(_) => {}
            Kind::Tokens(tokens) => tokens.succeeded(spent.as_ref().map(|spent| spent.cost)),
            Kind::Throttle(throttle) => throttle.succeeded(),
        }
    }

    /// Whether the two are clones of one.
    pub fn is_shared_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// How many retries it would grant now if they failed as `Transient` and nothing else happened.
    pub fn balance(&self, now: Moment) -> u64 {
        match &*self.0 {
            Kind::Ratio(ratio) => ratio.balance(now),
            Kind::Tokens(tokens) => tokens.balance(),
            Kind::Throttle(throttle) => throttle.balance(),
        }
    }
}

/// The default kind: a [`RatioBudget`] with its defaults.
impl Default for Budget {
    fn default() -> Self {
        Self::new(RatioBudget::default()).expect("the defaults are within their limits")
    }
}

impl From<&Self> for Budget {
    fn from(budget: &Self) -> Self {
        budget.clone()
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Kind::Ratio(ratio) => ratio.fmt(f),
            Kind::Tokens(tokens) => tokens.fmt(f),
            Kind::Throttle(throttle) => throttle.fmt(f),
        }
    }
}

impl From<RatioBudget> for BudgetConfig {
    fn from(config: RatioBudget) -> Self {
        Self::Ratio(config)
    }
}

impl From<TokensBudget> for BudgetConfig {
    fn from(config: TokensBudget) -> Self {
        Self::Tokens(config)
    }
}

impl From<ThrottleBudget> for BudgetConfig {
    fn from(config: ThrottleBudget) -> Self {
        Self::Throttle(config)
    }
}

/// One more attempt that a [`Budget`] has granted.
///
/// Dropped before it was [`made`](Self::made), it is given back.
#[must_use = "dropping it gives it back"]
#[derive(Debug)]
pub struct Spent {
    budget: Budget,
    /// What it cost: the kind knows in which unit.
    cost: u64,
    made: bool,
}

impl Spent {
    /// The attempt is made now: the grant is used up.
    pub fn made(&mut self) {
        self.made = true;
    }
}

impl Drop for Spent {
    fn drop(&mut self) {
        if self.made {
            return;
        }
        match &*self.budget.0 {
            Kind::Ratio(ratio) => ratio.give_back(self.cost),
            Kind::Tokens(tokens) => tokens.give_back(self.cost),
            Kind::Throttle(_) => {}
        }
    }
}

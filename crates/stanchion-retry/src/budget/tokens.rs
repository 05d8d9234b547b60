//! Tokens that retries cost and successes bring back: the AWS SDKs' standard
//! retry mode.

use std::sync::atomic::{AtomicU64, Ordering};

use stanchion_core::{ConfigError, Outcome};

/// Retries cost tokens, by outcome; a success brings some back: **at most
/// ⌊capacity / cost⌋ retries in a row without a success.**
///
/// After the standard retry mode of the AWS SDKs. What is paid for a retry comes
/// back if that retry succeeds; a call that succeeds at first brings one token.
/// The default is [`aws_2_0`](Self::aws_2_0).
///
/// As configuration:
/// `{ "capacity": 500, "costs": { "transient": 5, "throttled": 5, "timed_out": 10 }, "reward": 1 }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct TokensBudget {
    capacity: u64,
    costs: Costs,
    reward: u64,
}

/// What a retry costs, by the outcome of the attempt before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Costs {
    /// After a transient failure; and of a hedge.
    pub transient: u64,
    /// After the other side asked for fewer calls.
    pub throttled: u64,
    /// After a timeout.
    pub timed_out: u64,
}

impl TokensBudget {
    /// The standard mode 2.0: 500 tokens; a retry costs 5, after a timeout 10.
    pub const fn aws_2_0() -> Self {
        Self { capacity: 500, costs: Costs { transient: 5, throttled: 5, timed_out: 10 }, reward: 1 }
    }

    /// The standard mode 2.1 (`AWS_NEW_RETRIES_2026`): 500 tokens; a retry costs
    /// 14, after throttling 5.
    pub const fn aws_2_1() -> Self {
        Self { capacity: 500, costs: Costs { transient: 14, throttled: 5, timed_out: 14 }, reward: 1 }
    }

    /// The most tokens there are, and those at the start. Default: 500.
    pub const fn capacity(mut self, tokens: u64) -> Self {
        self.capacity = tokens;
        self
    }

    /// What a retry costs. Default: those of [`aws_2_0`](Self::aws_2_0).
    pub const fn costs(mut self, costs: Costs) -> Self {
        self.costs = costs;
        self
    }

    /// What a call brings that succeeds at first. Default: 1.
    pub const fn reward(mut self, tokens: u64) -> Self {
        self.reward = tokens;
        self
    }
}

impl Default for TokensBudget {
    fn default() -> Self {
        Self::aws_2_0()
    }
}

#[derive(Debug)]
pub(super) struct Tokens {
    left: AtomicU64,
    config: TokensBudget,
}

impl Tokens {
    pub(super) fn new(config: TokensBudget) -> Result<Self, ConfigError> {
        let costs = config.costs;
        for (field, cost) in
            [("transient", costs.transient), ("throttled", costs.throttled), ("timed_out", costs.timed_out)]
        {
            if cost == 0 {
                return Err(ConfigError::new(field, cost, "a retry must cost at least 1 token"));
            }
        }
        let cheapest = costs.transient.min(costs.throttled).min(costs.timed_out);
        if config.capacity < cheapest {
            return Err(ConfigError::new("capacity", config.capacity, "no retry would ever be granted"));
        }
        Ok(Self { left: AtomicU64::new(config.capacity), config })
    }

    /// Takes what a retry costs, if it is there, and says it.
    pub(super) fn withdraw(&self, outcome: Outcome) -> Option<u64> {
        let cost = self.cost(outcome);
        // Relaxed, here and below: the number guards no other memory.
        let paid = |left: u64| left.checked_sub(cost);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, paid).ok().map(|_| cost)
    }

    const fn cost(&self, outcome: Outcome) -> u64 {
        match outcome {
            Outcome::Throttled { .. } => self.config.costs.throttled,
            Outcome::TimedOut => self.config.costs.timed_out,
            _ => self.config.costs.transient,
        }
    }

    /// A call succeeded: at first, or after a retry that cost so much.
    #[inline]
    pub(super) fn succeeded(&self, paid: Option<u64>) {
        self.give_back(paid.unwrap_or(self.config.reward));
    }

    #[inline]
    pub(super) fn give_back(&self, tokens: u64) {
        // Full, which is the rule: nothing to write, and no cache line to fetch from another core.
        let left = self.left.load(Ordering::Relaxed);
        if left < self.config.capacity {
            let more = |left: u64| Some(left.saturating_add(tokens).min(self.config.capacity));
            // It never says no.
            let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        }
    }

    pub(super) fn balance(&self) -> u64 {
        self.left.load(Ordering::Relaxed) / self.config.costs.transient
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THROTTLED: Outcome = Outcome::Throttled { retry_after: None };

    fn tokens(config: TokensBudget) -> Tokens {
        Tokens::new(config).unwrap()
    }

    #[test]
    fn the_standard_modes_grant_what_amazon_says() {
        let granted = |config, outcome| {
            let tokens = tokens(config);
            std::iter::from_fn(|| tokens.withdraw(outcome)).count()
        };
        let (old, new) = (TokensBudget::aws_2_0(), TokensBudget::aws_2_1());
        assert_eq!([Outcome::Transient, THROTTLED, Outcome::TimedOut].map(|o| granted(old, o)), [100, 100, 50]);
        assert_eq!([Outcome::Transient, THROTTLED, Outcome::TimedOut].map(|o| granted(new, o)), [35, 100, 35]);
    }

    #[test]
    fn a_success_brings_back_its_last_retry_or_one_token() {
        let tokens = tokens(TokensBudget::aws_2_0().capacity(12));
        let left = || tokens.left.load(Ordering::Relaxed);
        assert_eq!(tokens.withdraw(Outcome::TimedOut), Some(10));
        assert_eq!((tokens.withdraw(Outcome::Transient), left()), (None, 2));
        tokens.succeeded(None);
        assert_eq!(left(), 3);
        tokens.succeeded(Some(10));
        assert_eq!(left(), 12, "no more than its capacity");
    }

    #[test]
    fn a_retry_that_costs_nothing_is_refused_by_name() {
        let free = Costs { transient: 5, throttled: 5, timed_out: 0 };
        assert_eq!(Tokens::new(TokensBudget::default().costs(free)).unwrap_err().field(), "timed_out");
    }

    #[test]
    fn two_threads_get_no_token_twice() {
        let tokens = tokens(TokensBudget::aws_2_0().capacity(50_000));
        let count = || std::iter::from_fn(|| tokens.withdraw(Outcome::Transient)).count();
        let granted: usize = std::thread::scope(|scope| {
            let threads = [(); 2].map(|()| scope.spawn(count));
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(granted, 10_000);
    }
}

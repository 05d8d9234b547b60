//! Tokens that failures cost and successes bring back: gRPC's retry throttling.

use std::sync::atomic::{AtomicU64, Ordering};

use stanchion_core::ConfigError;

use crate::backoff::whole;

/// Retries only while more than half of the tokens are left: **a retryable
/// failure takes one token, retried or not; a success brings `token_ratio`.**
///
/// gRPC's proposal A6, whose example is the default: 10 tokens, 0.1 for a
/// success. The ratio is kept to a thousandth.
///
/// As configuration: `{ "max_tokens": 10, "token_ratio": 0.1 }`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct ThrottleBudget {
    max_tokens: u32,
    token_ratio: f64,
}

impl ThrottleBudget {
    /// The most tokens there are, and those at the start: 1 to 1,000. Default: 10.
    pub const fn max_tokens(mut self, tokens: u32) -> Self {
        self.max_tokens = tokens;
        self
    }

    /// What a success brings: 0.001 to 1,000. Default: 0.1.
    pub const fn token_ratio(mut self, ratio: f64) -> Self {
        self.token_ratio = ratio;
        self
    }
}

impl Default for ThrottleBudget {
    fn default() -> Self {
        Self { max_tokens: 10, token_ratio: 0.1 }
    }
}

/// A token, in thousandths.
const TOKEN: u64 = 1_000;

#[derive(Debug)]
pub(super) struct Throttle {
    left: AtomicU64,
    most: u64,
    reward: u64,
}

impl Throttle {
    pub(super) fn new(config: &ThrottleBudget) -> Result<Self, ConfigError> {
        if !(1..=1_000).contains(&config.max_tokens) {
            return Err(ConfigError::new("max_tokens", config.max_tokens, "must be from 1 to 1000"));
        }
        if !(0.001..=1_000.0).contains(&config.token_ratio) {
            return Err(ConfigError::new("token_ratio", config.token_ratio, "must be a number from 0.001 to 1000"));
        }
        let most = u64::from(config.max_tokens) * TOKEN;
        // Thousandths beyond the third place are cut off, as A6 says.
        Ok(Self { left: AtomicU64::new(most), most, reward: whole(config.token_ratio * 1_000.0 + 1e-6) })
    }

    pub(super) fn failed(&self) {
        // Relaxed, here and below: the number guards no other memory. It never says no.
        let less = |left: u64| Some(left.saturating_sub(TOKEN));
        let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    #[inline]
    pub(super) fn succeeded(&self) {
        if self.left.load(Ordering::Relaxed) < self.most {
            let more = |left: u64| Some((left + self.reward).min(self.most));
            let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        }
    }

    pub(super) fn permits(&self) -> bool {
        self.left.load(Ordering::Relaxed) > self.most / 2
    }

    /// How many failures in a row would still be retried.
    pub(super) fn balance(&self) -> u64 {
        let above = self.left.load(Ordering::Relaxed).saturating_sub(self.most / 2);
        above.saturating_sub(1) / TOKEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_end_at_half_of_the_tokens_and_begin_above_it() {
        let throttle = Throttle::new(&ThrottleBudget::default()).unwrap();
        let granted = (0..10).filter(|_| {
            throttle.failed();
            throttle.permits()
        });
        assert_eq!(granted.count(), 4, "the fifth failure leaves just half");
        assert_eq!(throttle.balance(), 0);
        // None of ten are left; five and a tenth are more than half.
        (0..50).for_each(|_| throttle.succeeded());
        assert!(!throttle.permits());
        throttle.succeeded();
        assert!(throttle.permits());
    }

    #[test]
    fn the_balance_is_how_many_failures_are_still_retried() {
        let throttle = Throttle::new(&ThrottleBudget::default().max_tokens(9)).unwrap();
        for left in [4, 3, 2, 1, 0] {
            assert_eq!(throttle.balance(), left);
            throttle.failed();
            assert_eq!(throttle.permits(), left > 0);
        }
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let field = |config| Throttle::new(&config).unwrap_err().field().to_owned();
        let default = ThrottleBudget::default;
        assert_eq!([0, 1_001].map(|tokens| field(default().max_tokens(tokens))), ["max_tokens"; 2]);
        for ratio in [f64::NAN, 0.0, -1.0, f64::INFINITY] {
            assert_eq!(field(default().token_ratio(ratio)), "token_ratio");
        }
    }
}

//! How delays are spread.

use stanchion_core::{ConfigError, RandomRun};

use crate::backoff::{as_float, whole};

/// How delays are spread, so that callers that failed together don't come back
/// together. The first four are those of the AWS Architecture Blog ("Exponential
/// Backoff And Jitter", 2015), with `v` for the delay that the shape gives.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Jitter {
    /// None: `v`.
    None,
    /// Anywhere in `0 ..= v`. Spreads best.
    #[default]
    Full,
    /// Anywhere in `v/2 ..= v`.
    Equal,
    /// Anywhere between the first delay and three times the last one, whatever the
    /// shape.
    Decorrelated,
    /// `v`, more or less: anywhere in `v·(1 − f) ..= v·(1 + f)`, with `f` from 0 to 1.
    Fraction(f64),
}

impl Jitter {
    pub(crate) fn validate(self) -> Result<(), ConfigError> {
        match self {
            Self::Fraction(fraction) if !(0.0..=1.0).contains(&fraction) => {
                Err(ConfigError::new("jitter", fraction, "a fraction must be a number from 0 to 1"))
            }
            _ => Ok(()),
        }
    }

    /// A delay of at most `cap`, in nanoseconds.
    pub(crate) fn apply(self, first: u64, grown: u64, last: u64, cap: u64, random: &mut RandomRun) -> u64 {
        let capped = grown.min(cap);
        match self {
            Self::None => capped,
            Self::Full => random.up_to(capped),
            Self::Equal => capped / 2 + random.up_to(capped - capped / 2),
            Self::Decorrelated => {
                let most = last.saturating_mul(3).max(first);
                (first + random.up_to(most - first)).min(cap)
            }
            Self::Fraction(fraction) => {
                let spread = fraction * (2.0 * random.unit() - 1.0);
                whole(as_float(capped) * (1.0 + spread)).min(cap)
            }
        }
    }
}

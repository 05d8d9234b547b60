//! What a request of the bucket comes with, and what it comes to.

use stanchion_core::{Decision, TokenBucket};

/// The reading of the clock that dates a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reading {
    /// By the limiter, which may make another.
    Made(u64),
    /// By the caller.
    Given(u64),
}

impl Reading {
    pub(super) const fn ticks(self) -> u64 {
        match self {
            Self::Made(ticks) | Self::Given(ticks) => ticks,
        }
    }

    pub(super) const fn may_be_renewed(self) -> bool {
        matches!(self, Self::Made(_))
    }

    pub(super) fn renewed(self, now: &impl Fn() -> u64) -> Self {
        match self {
            Self::Made(_) => Self::Made(now()),
            Self::Given(_) => self,
        }
    }
}

/// What a check comes to, in two words; debts are in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    Allowed { debt: u64 },
    Refused { debt: u64 },
    NeverFits,
}

impl Taken {
    #[inline]
    pub(super) fn decision(self, bucket: &TokenBucket, units: u64) -> Decision {
        match self {
            Self::Allowed { debt } => Decision::allowed_by(bucket, debt),
            // No overflow: what never fits has been told apart.
            Self::Refused { debt } => Decision::refused_by(bucket, debt, bucket.interval().wrapping_mul(units)),
            Self::NeverFits => Decision::never_fits(bucket),
        }
    }
}

//! What a request of the bucket comes with.

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

//! One bucket's state in one atomic number.

use stanchion_core::{Decision, TokenBucket};

use crate::gcra::{Step, step};
use crate::sync::{AtomicU64, Ordering};

/// One bucket's state. All of it is in the one number, so that every change is
/// one compare-and-swap, and no ordering is needed but its own.
///
/// It has its cache lines to itself: what stands beside it in a limiter is only
/// read, and shouldn't travel between cores with it.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct TatCell(AtomicU64);

impl TatCell {
    /// A full bucket at `now`.
    pub(crate) fn full(now: u64) -> Self {
        Self(AtomicU64::new(now))
    }

    /// Takes `cost` ticks at `now`, if they are there.
    #[inline]
    pub(crate) fn take(&self, bucket: &TokenBucket, now: u64, cost: u64) -> Decision {
        // Relaxed throughout: the number guards no other memory, and a stale
        // one fails the swap.
        let mut tat = self.0.load(Ordering::Relaxed);
        loop {
            let (next, decision) = match step(bucket, tat, now, cost) {
                Step::Take { tat: next, debt } => (next, Decision::allowed_by(bucket, debt)),
                Step::Look { debt } => return Decision::allowed_by(bucket, debt),
                Step::Refuse { debt } => return Decision::refused_by(bucket, debt, cost),
                Step::Cut { tat: next } => (next, Decision::refused_by(bucket, bucket.capacity(), cost)),
            };
            match self
                .0
                .compare_exchange_weak(tat, next, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return decision,
                Err(seen) => {
                    // The one who was faster is likely to come again: not in its way.
                    std::hint::spin_loop();
                    tat = seen;
                }
            }
        }
    }
}

//! The least that any limiter of this kind must do.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::runs::{self, Run};

/// Reads the timestamp counter, in nanoseconds, as ours and governor do, and
/// puts the time into a number by one compare-and-swap.
pub(super) fn clock_and_swap() -> Run {
    let clock = quanta::Clock::new();
    let start = clock.raw();
    let cell = AtomicU64::new(0);
    runs::one_thread(move || {
        let now = clock.delta_as_nanos(0, clock.raw().saturating_sub(start));
        // Relaxed: the number guards no other memory.
        let seen = cell.load(Ordering::Relaxed);
        black_box(cell.compare_exchange(seen, now, Ordering::Relaxed, Ordering::Relaxed).is_ok());
    })
}

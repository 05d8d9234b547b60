//! What a cache counts, without being slower for it.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// What is counted.
#[derive(Debug, Clone, Copy)]
#[repr(usize)]
pub(crate) enum Count {
    Hits,
    Misses,
    StaleServed,
    NotFoundServed,
    Joined,
    Loads,
    LoadFailures,
    LoadsVoided,
    LoadNanos,
    Inserts,
    Replaced,
    Invalidated,
    Expired,
    Evicted,
    Refused,
}

const COUNTS: usize = 15;
/// Threads that count by themselves. The others share a place.
const STRIPES: usize = 32;
const SHARED: usize = STRIPES - 1;

/// Counters, in a stripe for each thread: a count is a plain addition, that no other
/// thread's cache line has to move for.
#[derive(Debug)]
pub(crate) struct Stats([Stripe; STRIPES]);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe([AtomicU64; COUNTS]);

impl Stats {
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|_| Stripe::default()))
    }

    #[inline]
    pub(crate) fn count(&self, count: Count) {
        self.add(count, 1);
    }

    #[inline]
    pub(crate) fn add(&self, count: Count, amount: u64) {
        let stripe = STRIPE.get();
        if stripe < SHARED {
            // The stripe is this thread's alone: nobody writes in between. A thread that has it next
            // got it through a lock.
            let counter = &self.0[stripe].0[count as usize];
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
        } else {
            self.add_otherwise(count, amount);
        }
    }

    /// The same on a thread that has no stripe, or none yet.
    #[cold]
    fn add_otherwise(&self, count: Count, amount: u64) {
        if STRIPE.get() == UNKNOWN {
            take();
        }
        // Of a stripe that was just taken it is as right.
        self.0[STRIPE.get()].0[count as usize].fetch_add(amount, Ordering::Relaxed);
    }

    pub(crate) fn sum(&self, count: Count) -> u64 {
        self.0.iter().fold(0, |sum, stripe| sum.wrapping_add(stripe.0[count as usize].load(Ordering::Relaxed)))
    }
}

const UNKNOWN: usize = usize::MAX;

thread_local! {
    static STRIPE: Cell<usize> = const { Cell::new(UNKNOWN) };
    static LEASE: Lease = const { Lease };
}

/// The stripes that no thread has, and how many were ever given out.
static FREE: Mutex<(Vec<usize>, usize)> = Mutex::new((Vec::new(), 0));

fn take() {
    let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
    let stripe = free.0.pop().unwrap_or_else(|| {
        free.1 += usize::from(free.1 < SHARED);
        if free.1 < SHARED { free.1 - 1 } else { SHARED }
    });
    drop(free);
    STRIPE.set(stripe);
    // The thread gives it back when it ends, if it can still be told to.
    if LEASE.try_with(|_| ()).is_err() {
        give_back();
    }
}

fn give_back() {
    // Whatever this thread still counts goes where all may.
    let stripe = STRIPE.replace(SHARED);
    if stripe < SHARED {
        FREE.lock().unwrap_or_else(PoisonError::into_inner).0.push(stripe);
    }
}

struct Lease;

impl Drop for Lease {
    fn drop(&mut self) {
        give_back();
    }
}

#[cfg(all(test, not(stanchion_loom)))]
mod tests {
    use super::*;

    #[test]
    fn no_count_is_lost_by_any_number_of_threads() {
        const THREADS: usize = 50;
        let (stats, start) = (Stats::new(), std::sync::Barrier::new(THREADS));
        for _ in 0..3 {
            std::thread::scope(|scope| {
                for _ in 0..THREADS {
                    scope.spawn(|| {
                        // So that there are more than there are stripes, all at once.
                        start.wait();
                        (0..20_000).for_each(|_| stats.count(Count::Hits));
                        start.wait();
                    });
                }
            });
        }
        assert_eq!(stats.sum(Count::Hits), 3_000_000);
        assert_eq!(stats.sum(Count::Refused), 0);
    }
}

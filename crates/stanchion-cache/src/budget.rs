//! How much all shards together may hold.

use std::sync::atomic::{AtomicU64, Ordering};

/// One budget for all shards, of entries and of weight. What is reserved is never more
/// than the most; whoever inserts reserves first.
#[derive(Debug)]
pub(crate) struct Budget {
    entries: Account,
    weight: Account,
}

/// A number that is kept below another.
#[derive(Debug)]
struct Account {
    used: AtomicU64,
    most: AtomicU64,
}

impl Account {
    fn new(most: u64) -> Self {
        Self { used: AtomicU64::new(0), most: AtomicU64::new(most) }
    }

    /// A full cache asks in vain with each insert: that is inlined, and writes nothing.
    #[inline]
    fn try_take(&self, amount: u64) -> bool {
        // Relaxed: the number guards no memory; that it is never too large is all that is asked of it.
        let (used, most) = (self.used.load(Ordering::Relaxed), self.most.load(Ordering::Relaxed));
        amount == 0 || used.saturating_add(amount) <= most && self.take(used, amount)
    }

    /// The same if so much was used a moment ago.
    fn take(&self, mut used: u64, amount: u64) -> bool {
        let most = self.most.load(Ordering::Relaxed);
        while let Some(sum) = used.checked_add(amount).filter(|&sum| sum <= most) {
            match self.used.compare_exchange_weak(used, sum, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => used = now,
            }
        }
        false
    }

    fn give_back(&self, amount: u64) {
        if amount > 0 {
            self.used.fetch_sub(amount, Ordering::Relaxed);
        }
    }
}

impl Budget {
    pub(crate) fn new(max_entries: u64, max_weight: u64) -> Self {
        Self { entries: Account::new(max_entries), weight: Account::new(max_weight) }
    }

    pub(crate) fn max_entries(&self) -> u64 {
        self.entries.most.load(Ordering::Relaxed)
    }

    pub(crate) fn max_weight(&self) -> u64 {
        self.weight.most.load(Ordering::Relaxed)
    }

    pub(crate) fn entries(&self) -> u64 {
        self.entries.used.load(Ordering::Relaxed)
    }

    pub(crate) fn weight(&self) -> u64 {
        self.weight.used.load(Ordering::Relaxed)
    }

    pub(crate) fn resize(&self, max_entries: u64, max_weight: u64) {
        self.entries.most.store(max_entries, Ordering::Relaxed);
        self.weight.most.store(max_weight, Ordering::Relaxed);
    }

    /// Takes so much, or nothing if there isn't enough.
    #[inline]
    pub(crate) fn try_take(&self, entries: u64, weight: u64) -> bool {
        if !self.entries.try_take(entries) {
            return false;
        }
        let is_light = self.weight.try_take(weight);
        if !is_light {
            self.entries.give_back(entries);
        }
        is_light
    }

    /// Whether more is used than may be: after a resize.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.entries() > self.max_entries() || self.weight() > self.max_weight()
    }
}

/// What somebody has of a budget and hasn't put to use. What is left goes back.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    budget: &'a Budget,
    entries: u64,
    weight: u64,
}

impl<'a> Held<'a> {
    pub(crate) fn nothing(budget: &'a Budget) -> Self {
        Self { budget, entries: 0, weight: 0 }
    }

    /// An entry went: its share is at hand for another.
    pub(crate) fn add(&mut self, entries: u64, weight: u64) {
        self.entries += entries;
        self.weight += weight;
    }

    /// Uses so much up, taking from the budget what isn't at hand. Nothing changes
    /// if there isn't enough.
    pub(crate) fn try_use(&mut self, entries: u64, weight: u64) -> bool {
        let (more_entries, more_weight) = (entries.saturating_sub(self.entries), weight.saturating_sub(self.weight));
        if !self.budget.try_take(more_entries, more_weight) {
            return false;
        }
        self.entries = self.entries + more_entries - entries;
        self.weight = self.weight + more_weight - weight;
        true
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.budget.entries.give_back(self.entries);
        self.budget.weight.give_back(self.weight);
    }
}

#[cfg(all(test, not(stanchion_loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_used_goes_back() {
        let budget = Budget::new(2, 10);
        let mut held = Held::nothing(&budget);
        assert!(held.try_use(1, 8));
        assert!(!held.try_use(1, 3), "eleven of ten");
        assert_eq!((budget.entries(), budget.weight()), (1, 8));
        // Somebody of weight 5 has gone, in whose place one of weight 3 comes.
        held.add(1, 5);
        assert!(held.try_use(1, 3));
        drop(held);
        assert_eq!((budget.entries(), budget.weight()), (1, 6));
    }

    #[test]
    fn sums_beyond_all_numbers_are_too_much() {
        let budget = Budget::new(u64::MAX, u64::MAX);
        let mut held = Held::nothing(&budget);
        assert!(held.try_use(1, u64::MAX));
        assert!(!held.try_use(1, 1));
        std::mem::forget(held);
    }
}

//! The states of a keyed limiter in this process.

use std::time::Duration;

#[cfg(feature = "tokio")]
use stanchion_core::RateRule;
use stanchion_core::{Ask, Clock, Decision, Moment, RateLimit, Receipt, TokenBucket};

use crate::gcra;
use crate::hash::KeyHasher;
use crate::memory::MemoryRateStore;
use crate::table::{Table, WhenFull};

/// All states, or those of the local share.
#[derive(Debug)]
pub(super) enum Local {
    /// None are needed.
    None,
    /// One token bucket for all keys, without a lock.
    Table { bucket: TokenBucket, table: Table },
    /// Anything else.
    Ledger(MemoryRateStore),
}

impl Local {
    /// For these limits; which may become others, if `changeable`.
    pub(super) fn new(
        limits: &[RateLimit],
        changeable: bool,
        max_keys: usize,
        when_full: WhenFull,
        clock: &Clock,
        hasher: &KeyHasher,
    ) -> Self {
        match limits {
            [limit] if !changeable && limit.bucket().is_some() => {
                let bucket = *limit.bucket().expect("it is one");
                Self::Table { bucket, table: Table::new(max_keys, when_full) }
            }
            limits => {
                let (states, hasher) = (limits.len(), hasher.clone());
                Self::Ledger(MemoryRateStore::assemble(max_keys, states, when_full, clock.clone(), hasher))
            }
        }
    }

    /// Asks in any way, for what is known to fit an empty state; at a moment that may have been read.
    pub(super) fn ask(
        &self,
        clock: &Clock,
        hash: u64,
        limits: &[RateLimit],
        ask: Ask,
        units: u64,
        at: Option<Moment>,
    ) -> Decision {
        match self {
            Self::Table { bucket, table } => {
                // A reading of the caller's comes by another way, unless somebody waits.
                let now = || gcra::ticks(bucket, at.unwrap_or_else(|| clock.now()));
                table.ask(hash, bucket, ask, units, now).0
            }
            Self::Ledger(store) => store.decide_hashed(hash, limits, units, ask, at).0,
            Self::None => Decision::keys_full(limits[0].rule(), Duration::from_secs(1)),
        }
    }

    /// How each of the limits stands.
    #[cfg(feature = "tokio")]
    pub(super) fn looks(&self, clock: &Clock, hash: u64, limits: &[RateLimit]) -> Vec<(RateRule, Decision)> {
        let look = |limit: &RateLimit| self.ask(clock, hash, std::slice::from_ref(limit), Ask::Exactly, 0, None);
        limits.iter().map(|limit| (*limit.rule(), look(limit))).collect()
    }

    /// The same with a receipt.
    pub(super) fn reserve(&self, clock: &Clock, hash: u64, limits: &[RateLimit], units: u64) -> (Decision, Receipt) {
        match self {
            Self::Table { bucket, table } => {
                let now = || gcra::ticks(bucket, clock.now());
                let (decision, mark) = table.reserve(hash, bucket, units, now);
                (decision, Receipt::new(decision.granted(), mark.to_vec()))
            }
            Self::Ledger(store) => store.reserve_hashed(hash, limits, units, Ask::Exactly),
            Self::None => (Decision::keys_full(limits[0].rule(), Duration::from_secs(1)), Receipt::new(0, Vec::new())),
        }
    }

    pub(super) fn give_back(
        &self,
        clock: &Clock,
        hash: u64,
        limits: &[RateLimit],
        receipt: &Receipt,
        units: u64,
    ) -> u64 {
        match (self, receipt.marks()) {
            (Self::Table { bucket, table }, [taken, number]) => {
                table.give_back(hash, bucket, [*taken, *number], units, || gcra::ticks(bucket, clock.now()))
            }
            (Self::Ledger(store), _) => store.give_back_hashed(hash, limits, receipt, units),
            _ => 0,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Table { table, .. } => table.bytes(),
            Self::Ledger(_) | Self::None => 0,
        }
    }

    /// How many new keys were refused for want of room, and how many were forgotten for new ones.
    pub(super) fn lost(&self) -> [u64; 2] {
        match self {
            Self::Table { table, .. } => [table.turned_away(), table.forgotten()],
            Self::Ledger(store) => store.lost(),
            Self::None => [0, 0],
        }
    }

    /// How many states are in debt.
    pub(super) fn in_debt(&self, clock: &Clock) -> usize {
        match self {
            Self::Table { bucket, table } => table.in_debt(gcra::ticks(bucket, clock.now())),
            Self::Ledger(store) => store.worthy(),
            Self::None => 0,
        }
    }
}

//! The ways of asking a table beside taking all or nothing, and giving back.

use stanchion_core::{Ask, Decision, TokenBucket};

use super::{LOCKS, Table, UNUSED, publishable};
use crate::gcra::{debt, plan};
use crate::returns::Returns;
use crate::state::returnable;
use crate::sync::{MutexGuard, Ordering};

impl Table {
    /// What the keys that share a lock with this one have given back.
    fn returns(&self, tag: u64) -> MutexGuard<'_, Returns> {
        let index = usize::try_from(tag % LOCKS).expect("below 64");
        self.returns[index].lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// [`take`](Self::take) for a request that asks in any way, for what an empty bucket can give; also
    /// the state that it leaves, or finds.
    pub(crate) fn ask(
        &self,
        hash: u64,
        bucket: &TokenBucket,
        ask: Ask,
        units: u64,
        now: impl Fn() -> u64,
    ) -> (Decision, u64) {
        let tag = if hash == UNUSED { 1 } else { hash };
        loop {
            let Some(slot) = self.find(tag) else {
                let granted = if ask == Ask::UpTo { units.min(bucket.burst()) } else { units };
                match self.insert(tag, bucket, granted * bucket.interval(), &now) {
                    Some((decision, tat)) => return (decision.granting(granted), tat),
                    None => continue,
                }
            };
            let plan = plan(bucket, ask, units, slot.state, now());
            match plan.step.state() {
                Some(next) if slot.swap(publishable(next), Ordering::Relaxed) => {
                    return (plan.decision(bucket), next);
                }
                // As in `take`, a refusal looks whether the slot still is what it was.
                None if slot.tat.load(Ordering::Relaxed) == slot.state => {
                    return (plan.decision(bucket), slot.state);
                }
                _ => {}
            }
        }
    }

    /// Takes units that may be given back, by the mark that is returned; see `returns.rs`.
    pub(crate) fn reserve(
        &self,
        hash: u64,
        bucket: &TokenBucket,
        units: u64,
        now: impl Fn() -> u64,
    ) -> (Decision, [[u64; 2]; 2]) {
        // Held while they are taken, so that the numbers are in the order of the takes.
        let mut returns = self.returns(hash);
        let number = returns.mark();
        let (decision, tat) = self.ask(hash, bucket, Ask::Exactly, units, now);
        (decision, [[tat, 0], number])
    }

    /// Gives back up to `units` of what a key reserved by this mark. How many whole units it has again.
    pub(crate) fn give_back(
        &self,
        hash: u64,
        bucket: &TokenBucket,
        mark: [[u64; 2]; 2],
        units: u64,
        now: impl Fn() -> u64,
    ) -> u64 {
        let tag = if hash == UNUSED { 1 } else { hash };
        let mut returns = self.returns(hash);
        let against = returns.against(tag, mark[1]);
        loop {
            // A key that is not there is out of debt: all has come back by itself.
            let Some(slot) = self.find(tag) else { return units };
            let reading = now();
            let owed = debt(slot.state, reading);
            if owed == 0 {
                return units;
            }
            let whole = returnable(bucket, reading, mark[0], against, units).min(owed);
            // A tick of debt is left: in a slot, what is published lies in the future (point 2 above).
            let ticks = whole.min(owed - 1);
            if ticks == 0 {
                return 0;
            }
            if slot.swap(publishable(slot.state.wrapping_sub(ticks)), Ordering::Relaxed) {
                returns.note(tag, mark[1], ticks);
                return whole / bucket.interval();
            }
        }
    }
}

//! A generous burst, a little of which lies in reservoirs, one for each thread:
//! most checks take from their thread's own, read no clock, write nothing that
//! another core reads, and swap nothing.
//!
//! # How
//! A [`Reservoir`] is a line of credit. While it is open, its `size` is *withheld*
//! from the bucket, which then admits up to `capacity - withheld`; and the thread
//! that holds it may use so many units without a word. When they are used up, the
//! thread *refills* it: what was used is charged to `tat`, together with the
//! request at hand, at one reading of the clock and with one swap.
//!
//! Before anything is refused, all reservoirs are *raided*, whoever holds them:
//! each is closed, charged, and no longer withheld. What another thread's holds
//! can't be got back: to take a unit so that a raider is sure to see it, costs a
//! swap or a fence for each unit (Attiya et al., *Laws of Order*, POPL 2011), half
//! of what governor's whole check costs; and a unit that is given to both would
//! break the bound. So another thread's reservoir is charged in full, and the
//! raider's own for what was used. A thread that was raided finds it out at its
//! next check, for it looks at the lease before it takes.
//!
//! # Why the bound holds
//! The *date* of an admission is its reading of the clock, or, from a reservoir,
//! the moment at which its thread saw that it holds the lease. (Caches are coherent: a
//! look that is made after the lease was taken away sees that.) Units from a
//! reservoir are charged at a reading that is made after their date: a refill reads
//! the clock after they were used, a raid after it has taken the lease away. To
//! be charged late is to be charged more, for time pays off debts.
//!
//! `withheld` covers each open reservoir: it is raised before one is opened and
//! lowered after it was charged, and in between `tat` changes. So whoever loads
//! `tat`, then `withheld`, and then swaps `tat`, fails if a reservoir was opened or
//! charged in the meantime. Hence each change that admits something, at a
//! reading `now`, leaves `tat <= now + capacity - withheld`.
//!
//! Now let a window `[a, b]` be given, and let `l` be the last change that admits
//! something at a reading in it: a request of the bucket's, a refill or an opening.
//! - What is dated in the window and charged up to `l` costs `C`, charged at
//!   readings of `a` at least: `a + C <= tat <= b + capacity - withheld`, as in `gcra.rs`.
//! - What is dated in the window and not charged by then, was used from reservoirs
//!   that are open at `l`; and once from each, for to fill it again in time would be another
//!   `l`. So it is at most what `l` found withheld.
//!
//! Together that is at most `capacity + (b - a)`. Where a thread was held up, a
//! reservoir may be opened after `l` and yet at a reading before `a`; but
//! it was opened by a bucket that owes at most the `margin`, so that `C <= margin`, and
//! with all reservoirs that is less than the capacity. So it is without any `l`.
//!
//! # What it costs
//! Units are charged late, or though they were not used: the bucket may refuse
//! early. All reservoirs together hold at most the margin: a [`PART`]th of the
//! burst, and what comes back in [`MOST_NANOS`].
//! - After a pause in which the bucket fills, it lacks at most the margin, once.
//! - A reservoir is opened, or changes hands, only while the bucket's debt is
//!   within the margin: what was lost before is paid off by then but for that. So
//!   losses don't add up, and nothing is refused that an exact bucket would allow
//!   whose burst is less by four margins: the debt at the last opening; what was
//!   used before it and is charged after it; what is charged unused; and the same
//!   again for a holder that refills while it is raided. (A thread that is held up
//!   in the midst of a check until its reservoir has another holder, may spoil the
//!   other's level; that is charged as used.)
//! - A bucket that refuses has no reservoirs, and is exact.

#[cfg(all(test, not(stanchion_loom)))]
mod tests;

use stanchion_core::{Ask, Decision, TokenBucket};

use crate::cell::{Taken, TatCell};
use crate::gcra::{debt, plan};
use crate::sync::{AtomicU64, Ordering};
use crate::thread_id::{self, NOBODY};
use one::{Holder, Lease, Reservoir};
use request::Reading;

mod one;
mod request;

/// There are so many reservoirs at most.
const MOST: usize = 64;
/// A burst below this is not generous.
const LEAST_BURST: u64 = 4_096;
/// The units in a reservoir: what a refill costs is spread over them. With less it
/// isn't worth while; with more, little would be gained.
const LEAST_UNITS: u64 = 16;
const MOST_UNITS: u64 = 32;
/// All reservoirs together hold at most this part of the burst
const PART: u64 = 64;
/// and what comes back in this time: slow limits are exact, since they needn't be fast.
const MOST_NANOS: u64 = 10_000_000;

/// One bucket, with reservoirs if its burst is generous.
#[derive(Debug)]
pub(crate) struct Reservoirs {
    cell: TatCell,
    // What follows is hardly ever written.
    /// The ticks of all reservoirs that are open, or just being opened or closed.
    withheld: AtomicU64,
    /// None, or a power of two.
    each: Box<[Reservoir]>,
    /// The units in each.
    size: u64,
    /// A debt of so many ticks is a small one.
    margin: u64,
}

impl Reservoirs {
    /// A full bucket at `now`.
    pub(crate) fn full(bucket: &TokenBucket, now: u64) -> Self {
        // Elsewhere there is no need to ask the system for it.
        let cores = if bucket.burst() < LEAST_BURST { 1 } else { cores() };
        Self::for_cores(bucket, now, cores)
    }

    /// The same on a machine with so many cores.
    fn for_cores(bucket: &TokenBucket, now: u64, cores: usize) -> Self {
        let margin = (bucket.capacity() / PART).min(MOST_NANOS * u64::from(bucket.ticks_per_nano()));
        let count = cores.next_power_of_two().min(MOST);
        let size = (margin / bucket.interval() / count as u64).min(MOST_UNITS);
        let generous = bucket.burst() >= LEAST_BURST && size >= LEAST_UNITS;
        Self::with(now, if generous { count } else { 0 }, size, margin)
    }

    /// The same with `count` reservoirs of `size` units.
    pub(crate) fn with(now: u64, count: usize, size: u64, margin: u64) -> Self {
        let each = (0..count).map(|_| Reservoir::closed()).collect();
        Self { cell: TatCell::full(now), withheld: AtomicU64::new(0), each, size, margin }
    }

    /// Takes `units`, or none; 0 only looks. `now` reads the clock, and is
    /// asked only if need be.
    // Always: see `Taken`.
    #[inline(always)]
    pub(crate) fn take(&self, bucket: &TokenBucket, units: u64, now: impl Fn() -> u64) -> Taken {
        if !self.each.is_empty() {
            return self.take_by(bucket, thread_id::current(), units, now);
        }
        match bucket.cost(units) {
            Some(cost) => self.cell.take(bucket, now(), cost, || once_more(&now)),
            None => Taken::NeverFits,
        }
    }

    /// The same by the thread of this number, where there are reservoirs.
    #[inline(always)]
    pub(crate) fn take_by(&self, bucket: &TokenBucket, me: u32, units: u64, now: impl Fn() -> u64) -> Taken {
        match self.home(me).take(me, units, bucket.interval()) {
            Some(debt) => Taken::Allowed { debt },
            None => self.take_shared(bucket, me, units, &now),
        }
    }

    /// The same at a reading that the caller has made, and from no reservoir; `now` is
    /// asked to date what a raid charges.
    #[inline]
    pub(crate) fn take_at(&self, bucket: &TokenBucket, units: u64, at: u64, now: impl Fn() -> u64) -> Taken {
        let Some(cost) = bucket.cost(units) else { return Taken::NeverFits };
        if self.each.is_empty() {
            return self.cell.take(bucket, at, cost, || None);
        }
        self.take_or_raid(bucket, thread_id::current(), Reading::Given(at), cost, &now)
    }

    /// Takes for a request that asks in any way, which an empty bucket can give; also the state that
    /// it leaves, or finds. All reservoirs are raided before, but for a look.
    pub(crate) fn ask(&self, bucket: &TokenBucket, ask: Ask, units: u64, now: impl Fn() -> u64) -> (Decision, u64) {
        if units == 0 {
            return (self.take(bucket, 0, &now).decision(bucket, 0), 0);
        }
        if self.each.is_empty() {
            let (plan, tat) = self.cell.ask(bucket, ask, units, now);
            return (plan.decision(bucket), tat);
        }
        self.ask_by(bucket, thread_id::current(), ask, units, now)
    }

    /// The same by the thread of this number, where there are reservoirs.
    pub(crate) fn ask_by(
        &self,
        bucket: &TokenBucket,
        me: u32,
        ask: Ask,
        units: u64,
        now: impl Fn() -> u64,
    ) -> (Decision, u64) {
        self.raid(&self.each, bucket, me, &now);
        let mut tat = self.cell.load();
        loop {
            // Others may have opened theirs again. As in `take_or_raid`, what they withhold is owed.
            let withheld = self.withheld.load(Ordering::Acquire);
            let reading = now();
            let owed = reading.wrapping_add(debt(tat, reading) + withheld);
            let plan = plan(bucket, ask, units, owed, reading);
            let Some(next) = plan.step.state() else { return (plan.decision(bucket), tat) };
            let next = next.wrapping_sub(withheld);
            match self.cell.swap(tat, next) {
                Ok(()) => return (plan.decision(bucket), next),
                Err(seen) => tat = seen,
            }
        }
    }

    /// Gives back up to `units` of what was taken when the state was left as in `mark`: see
    /// [`TatCell::give_back`]. What was used from reservoirs is an admission of when it is charged, and
    /// with a smaller debt they withhold as much as before.
    pub(crate) fn give_back(
        &self,
        bucket: &TokenBucket,
        mark: [u64; 2],
        returned: u64,
        units: u64,
        now: impl Fn() -> u64,
    ) -> Option<u64> {
        self.cell.give_back(bucket, mark, returned, units, now)
    }

    /// What a thread comes to whose own reservoir doesn't do: it refills or
    /// opens one, or takes from the bucket.
    #[inline(never)]
    fn take_shared(&self, bucket: &TokenBucket, me: u32, units: u64, now: &impl Fn() -> u64) -> Taken {
        let Some(cost) = bucket.cost(units) else { return Taken::NeverFits };
        let me = if me == NOBODY { thread_id::claim() } else { me };
        let reading = now();
        if cost > 0
            && me != NOBODY
            && let Some(debt) = self.take_with_reservoir(bucket, me, reading, cost, now)
        {
            return Taken::Allowed { debt };
        }
        self.take_or_raid(bucket, me, Reading::Made(reading), cost, now)
    }

    /// Takes `cost`, so that afterwards the thread's reservoir is full; `None` if
    /// that can't be, and then nothing is taken.
    fn take_with_reservoir(
        &self,
        bucket: &TokenBucket,
        me: u32,
        reading: u64,
        cost: u64,
        now: &impl Fn() -> u64,
    ) -> Option<u64> {
        let home = self.home(me);
        let lease = home.lease();
        match lease.holder() {
            Holder::Thread(holder) if holder == me => self.refill(home, lease, bucket, reading, cost),
            Holder::Thread(_) => {
                // One that doesn't get to the end of it within a second needs none.
                let held = self.held(bucket);
                if home.is_idle(reading, bucket.tolerance()) && self.is_nearly_full(reading, held + cost) {
                    self.raid(std::slice::from_ref(home), bucket, me, now);
                }
                self.open(home, bucket, me, reading, cost)
            }
            Holder::None => self.open(home, bucket, me, reading, cost),
            Holder::InTransit => None,
        }
    }

    /// Charges what was used of the thread's own reservoir, and `cost`.
    fn refill(&self, home: &Reservoir, lease: Lease, bucket: &TokenBucket, reading: u64, cost: u64) -> Option<u64> {
        let used = (self.size - home.left(lease)) * bucket.interval();
        let debt = self.charge_if(reading, used + cost, |debt, withheld| debt + withheld <= bucket.capacity())?;
        // If it has been raided since, this fills what nobody may use.
        home.fill(lease, self.size, debt, reading);
        Some(debt.saturating_sub(self.held(bucket)))
    }

    /// Opens a reservoir that is closed, for a bucket that is nearly full, and charges `cost`.
    fn open(&self, home: &Reservoir, bucket: &TokenBucket, me: u32, reading: u64, cost: u64) -> Option<u64> {
        if !self.is_nearly_full(reading, cost) || !home.begin_opening() {
            return None;
        }
        let held = self.held(bucket);
        // Relaxed: the swap of `tat` publishes it.
        self.withheld.fetch_add(held, Ordering::Relaxed);
        let Some(debt) = self.charge_if(reading, cost, |debt, _| debt <= self.margin) else {
            self.withheld.fetch_sub(held, Ordering::Relaxed);
            home.finish_closing();
            return None;
        };
        home.finish_opening(me, self.size, debt, reading);
        Some(debt.saturating_sub(held))
    }

    /// Adds `cost` to the debt if that is `fit` then, with what is withheld
    /// beside it. Returns the debt with all that is withheld.
    fn charge_if(&self, reading: u64, cost: u64, fit: impl Fn(u64, u64) -> bool) -> Option<u64> {
        let mut tat = self.cell.load();
        loop {
            let withheld = self.withheld.load(Ordering::Acquire);
            let debt = debt(tat, reading) + cost;
            if !fit(debt, withheld) {
                return None;
            }
            match self.cell.swap(tat, reading.wrapping_add(debt)) {
                Ok(()) => return Some(debt + withheld),
                Err(seen) => tat = seen,
            }
        }
    }

    /// Takes `cost` from the bucket, for which all reservoirs are raided if need be.
    fn take_or_raid(
        &self,
        bucket: &TokenBucket,
        me: u32,
        mut reading: Reading,
        cost: u64,
        now: &impl Fn() -> u64,
    ) -> Taken {
        let mut raided = false;
        let mut tat = self.cell.load();
        loop {
            // Acquire: whoever lowered it has changed `tat` before.
            let withheld = self.withheld.load(Ordering::Acquire);
            let debt = debt(tat, reading.ticks());
            let owed = debt + withheld;
            let (next, taken) = if cost == 0 || owed + cost <= bucket.capacity() {
                let left = self.left_of(me) * bucket.interval();
                (debt + cost, Taken::Allowed { debt: (owed + cost).saturating_sub(left) })
            } else if withheld > 0 && !raided {
                self.raid(&self.each, bucket, me, now);
                raided = true;
                reading = reading.renewed(now);
                tat = self.cell.load();
                continue;
            } else if debt > bucket.capacity() + bucket.tolerance() && reading.may_be_renewed() {
                // As in `gcra::second_look`: a debt that can't be, unless the reading is old.
                reading = reading.renewed(now);
                if crate::gcra::debt(tat, reading.ticks()) <= bucket.capacity() + bucket.tolerance() {
                    continue;
                }
                (bucket.capacity(), Taken::Refused { debt: bucket.capacity() })
            } else {
                return Taken::Refused { debt: owed };
            };
            if cost == 0 {
                return taken;
            }
            match self.cell.swap(tat, reading.ticks().wrapping_add(next)) {
                Ok(()) => return taken,
                Err(seen) => tat = seen,
            }
        }
    }

    /// Closes those that are open, and charges them: the thread's own for what
    /// was used of it, the others in full.
    fn raid(&self, reservoirs: &[Reservoir], bucket: &TokenBucket, me: u32, now: &impl Fn() -> u64) {
        let (mut closing, mut units) = (0_u64, 0);
        for (place, reservoir) in reservoirs.iter().enumerate() {
            if let Some(left) = reservoir.begin_closing(me) {
                closing |= 1 << place;
                units += self.size - left;
            }
        }
        if closing == 0 {
            return;
        }
        // Read after the leases were taken away: what is used later isn't theirs.
        let reading = now();
        if units > 0 {
            self.charge_if(reading, units * bucket.interval(), |_, _| true);
        }
        // Release: whoever sees it lowered sees that it was charged.
        self.withheld.fetch_sub(u64::from(closing.count_ones()) * self.held(bucket), Ordering::Release);
        for (place, reservoir) in reservoirs.iter().enumerate() {
            if closing >> place & 1 == 1 {
                reservoir.finish_closing();
            }
        }
    }

    fn is_nearly_full(&self, reading: u64, cost: u64) -> bool {
        debt(self.cell.load(), reading) + cost <= self.margin
    }

    /// What all threads together can't have at this moment.
    #[cfg(test)]
    pub(crate) fn withheld(&self) -> u64 {
        self.withheld.load(Ordering::Relaxed)
    }

    /// The ticks that a reservoir withholds.
    fn held(&self, bucket: &TokenBucket) -> u64 {
        self.size * bucket.interval()
    }

    /// The units in the thread's own reservoir.
    fn left_of(&self, me: u32) -> u64 {
        let home = self.home(me);
        let lease = home.lease();
        if lease.holder() == Holder::Thread(me) { home.left(lease) } else { 0 }
    }

    /// The reservoir that the thread holds, if it holds one.
    #[inline]
    fn home(&self, me: u32) -> &Reservoir {
        &self.each[me as usize & (self.each.len() - 1)]
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The time, for the rare occasion that it is wanted twice.
#[cold]
#[inline(never)]
fn once_more(now: &impl Fn() -> u64) -> Option<u64> {
    Some(now())
}

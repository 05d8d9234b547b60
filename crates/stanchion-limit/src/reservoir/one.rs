//! One reservoir: who holds it, and what is in it.

use crate::gcra::debt;
use crate::sync::{AtomicU64, Ordering};

/// What one thread may use without asking. Closed, it holds nothing.
///
/// The *lease* says who holds it, and its number in the low half: each opening
/// has another. It changes hands by a swap. The *level* is the holder's: it alone
/// writes there, plainly, what is left, with the number of its lease. So a level
/// means something only beside the lease of its number, and whoever takes the
/// lease away need not know the level.
///
/// A thread may be held up between its look at the lease and its store of the
/// level, and the store then comes when the reservoir is another's: the number
/// is an old one, and the new holder finds nothing left. (Numbers come again
/// after 2^32 openings of one reservoir; a thread would have to be held up for
/// exactly as many.)
///
/// It has its cache lines to itself, or to its holder.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Reservoir {
    lease: AtomicU64,
    level: AtomicU64,
    /// The debt when it is used up, as seen when it was filled.
    debt_when_dry: AtomicU64,
    filled_at: AtomicU64,
}

/// Who holds a reservoir.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    /// It is closed.
    None,
    /// It is being opened or closed by one thread, and the others leave it alone.
    InTransit,
    /// It is open.
    Thread(u32),
}

/// A lease, as it was seen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lease(u64);

impl Lease {
    const NONE: u32 = 0;
    /// No thread's number: see [`thread_id`](crate::thread_id).
    const IN_TRANSIT: u32 = u32::MAX;

    #[inline]
    fn of(holder: u32, number: u64) -> Self {
        Self(u64::from(holder) << 32 | number)
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "the upper half is 32 bits")]
    const fn upper(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline]
    const fn number(self) -> u64 {
        self.0 & u32::MAX as u64
    }

    pub(crate) const fn holder(self) -> Holder {
        match self.upper() {
            Self::NONE => Holder::None,
            Self::IN_TRANSIT => Holder::InTransit,
            thread => Holder::Thread(thread),
        }
    }
}

impl Reservoir {
    pub(crate) fn closed() -> Self {
        Self {
            lease: AtomicU64::new(0),
            level: AtomicU64::new(0),
            debt_when_dry: AtomicU64::new(0),
            filled_at: AtomicU64::new(0),
        }
    }

    /// Takes `units` if the thread holds it and so many are left; 0 are never
    /// left. Returns the debt, as if nothing had happened elsewhere since it was
    /// filled, and no time had passed.
    #[inline]
    pub(crate) fn take(&self, me: u32, units: u64, interval: u64) -> Option<u64> {
        let lease = self.lease();
        let left = self.left(lease);
        if lease.upper() != me || units.wrapping_sub(1) >= left {
            return None;
        }
        let left = left - units;
        self.level.store(lease.number() << 32 | left, Ordering::Relaxed);
        Some(self.debt_when_dry.load(Ordering::Relaxed).wrapping_sub(left * interval))
    }

    #[inline]
    pub(crate) fn lease(&self) -> Lease {
        // Relaxed, here and at the level: what a holder knows of its reservoir it
        // has written itself, and whoever takes the lease away reads none of it.
        Lease(self.lease.load(Ordering::Relaxed))
    }

    /// What is left under this lease. Only its holder can rely on it.
    #[inline]
    pub(crate) fn left(&self, lease: Lease) -> u64 {
        let left = self.level.load(Ordering::Relaxed) ^ lease.number() << 32;
        if left >> 32 == 0 { left } else { 0 }
    }

    /// Whether it was last filled more than `ticks` ago.
    pub(crate) fn is_idle(&self, reading: u64, ticks: u64) -> bool {
        debt(reading, self.filled_at.load(Ordering::Relaxed)) > ticks
    }

    /// Fills it, for the thread that had or is to have this lease.
    pub(crate) fn fill(&self, lease: Lease, units: u64, debt_when_dry: u64, reading: u64) {
        self.debt_when_dry.store(debt_when_dry, Ordering::Relaxed);
        self.filled_at.store(reading, Ordering::Relaxed);
        self.level.store(lease.number() << 32 | units, Ordering::Relaxed);
    }

    /// Whether it was closed, and is this thread's to open.
    pub(crate) fn begin_opening(&self) -> bool {
        let lease = self.lease();
        lease.holder() == Holder::None && self.take_away(lease)
    }

    /// Opens it, full, under the next number.
    pub(crate) fn finish_opening(&self, me: u32, units: u64, debt_when_dry: u64, reading: u64) {
        let lease = Lease::of(me, self.lease().number().wrapping_add(1) & u64::from(u32::MAX));
        self.fill(lease, units, debt_when_dry, reading);
        // Release: whoever takes it away sees that something is withheld for it.
        self.lease.store(lease.0, Ordering::Release);
    }

    /// If it was open, takes the lease away, so that it is this thread's to
    /// close, and says what is left for certain: nothing, unless it was its own.
    pub(crate) fn begin_closing(&self, me: u32) -> Option<u64> {
        let lease = self.lease();
        let left = match lease.holder() {
            Holder::None | Holder::InTransit => return None,
            Holder::Thread(holder) if holder == me => self.left(lease),
            Holder::Thread(_) => 0,
        };
        self.take_away(lease).then_some(left)
    }

    /// Closes it, or leaves it closed.
    pub(crate) fn finish_closing(&self) {
        let closed = Lease::of(Lease::NONE, self.lease().number());
        // Release: whoever opens it sees that nothing is withheld for it any more.
        self.lease.store(closed.0, Ordering::Release);
    }

    fn take_away(&self, lease: Lease) -> bool {
        let taken = Lease::of(Lease::IN_TRANSIT, lease.number());
        // Acquire: see the two that release it. Where it fails, someone else was faster.
        self.lease.compare_exchange(lease.0, taken.0, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }
}

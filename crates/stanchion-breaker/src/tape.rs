//! The window of a closed breaker, for many threads at once and without a lock.
//!
//! # The idea
//! Every number here stands in one 64-bit word beside a *tag*, the generation
//! that it belongs to, and changes by a compare-and-swap of the whole word. So a
//! result that comes late finds another tag and changes nothing, however late
//! it is between two instructions; and a new generation begins by writing a few
//! words, whatever the window's length: what is left in the ring has an old tag
//! and counts as empty.
//!
//! A call takes a place in the ring, puts its bit there, and if the bit has
//! changed, changes the count of bits. While all goes well no bit changes, and a
//! call costs one swap and two loads.
//!
//! # How exact it is
//! One call after the other: exactly the reference, `tally.rs`. At once: whoever
//! changes a bit changes the count by as much, so the count is that of the bits
//! whenever nobody is at it, and off by at most one for each thread that is. A
//! thread that is held up between its place and its bit for a whole lap of the
//! window overwrites one later call. No error outlives a lap. Two failures at once in
//! neighbouring buckets of a time window may each miss the other: then the next one
//! trips.
//!
//! # The time window
//! Ten buckets of counts. A bucket's tag is its number since the clock's start,
//! plus twelve for each generation: so all buckets of earlier generations are out
//! of the window, and those out of it are begun anew by whoever comes next.
//! (Tags have 32 bits: a bucket that was last touched a multiple of 2^32 buckets
//! ago would pass for new, with the shortest window that is 497 days.)

use stanchion_core::Moment;

use crate::machine::Cause;
use crate::plan::{BUCKETS, Plan, Span};
use crate::sync::{AtomicU64, Ordering};
use crate::tally::{Counts, cause, weighed};

/// The window of a closed breaker.
#[derive(Debug)]
pub(crate) struct Tape {
    head: Head,
    failed: Box<[AtomicU64]>,
    slow: Box<[AtomicU64]>,
    buckets: Box<[Bucket]>,
}

/// What every call looks at, in cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Head {
    /// Of a ring of `n`: the next place, and from `n` on those of later laps. Of an
    /// EWMA: the calls, as far as they are told apart.
    place: AtomicU64,
    /// Bits set in the ring, or the mean.
    failed: AtomicU64,
    slow: AtomicU64,
    /// Failures since the last success.
    streak: AtomicU64,
}

#[derive(Debug)]
struct Bucket {
    calls: AtomicU64,
    failed: AtomicU64,
    slow: AtomicU64,
}

/// Bits of a word of the ring; the other half is the tag.
const BITS: u32 = 32;
/// Tags of neighbouring generations are further apart than a window is long.
const STRIDE: u32 = BUCKETS + 2;

impl Tape {
    /// An empty window for this generation.
    pub(crate) fn new(plan: &Plan, generation: u64) -> Self {
        let bits = |wanted: bool| match plan.span {
            Span::Count { calls } if wanted => zeros(calls.div_ceil(BITS)),
            _ => zeros(0),
        };
        let buckets = if matches!(plan.span, Span::Time { .. }) { BUCKETS } else { 0 };
        let tape = Self {
            head: Head { place: zero(), failed: zero(), slow: zero(), streak: zero() },
            failed: bits(plan.failure_rate.is_some()),
            slow: bits(plan.slow_rate.is_some()),
            buckets: (0..buckets).map(|_| Bucket { calls: zero(), failed: zero(), slow: zero() }).collect(),
        };
        tape.begin(generation);
        tape
    }

    /// Begins a generation, with nothing in the window. Called by one thread at a
    /// time, and before anybody holds a ticket of that generation.
    pub(crate) fn begin(&self, generation: u64) {
        let Head { place, failed, slow, streak } = &self.head;
        for word in [place, failed, slow, streak] {
            // Relaxed: the generation is published after this, by a Release. A swap, like all
            // that is done to these words: so there is one order of them, and a late
            // one finds the new tag.
            word.swap(joined(tag(generation), 0), Ordering::Relaxed);
        }
    }

    /// Puts a call of this generation in, or nothing if that is over. `now` is
    /// only read for a time window.
    #[inline]
    pub(crate) fn record(
        &self,
        plan: &Plan,
        generation: u64,
        now: impl Fn() -> Moment,
        failed: bool,
        slow: bool,
    ) -> Option<Cause> {
        let tag = tag(generation);
        match plan.span {
            Span::Count { calls } => {
                let place = self.take_place(tag, calls)?;
                put(&self.failed, &self.head.failed, tag, place, failed)?;
                put(&self.slow, &self.head.slow, tag, place, slow)?;
                self.judge(plan, tag, failed, slow, || self.ring_counts(calls))
            }
            Span::Time { bucket_nanos } => {
                let number = number(now(), bucket_nanos, generation);
                let bucket = &self.buckets[slot(number)];
                // Those of a bucket that is gone still count for the streak, as in the reference.
                let counted = bump(&bucket.calls, number);
                if counted && failed {
                    bump(&bucket.failed, number);
                }
                if counted && slow {
                    bump(&bucket.slow, number);
                }
                self.judge(plan, tag, failed, slow, || self.bucket_counts(number))
            }
            Span::Ewma { parts } => {
                let most = parts.max(plan.minimum);
                let (_, calls) = update(&self.head.place, tag, |calls| calls.saturating_add(1).min(most))?;
                let weight = calls.min(parts);
                update(&self.head.failed, tag, |mean| weighed(mean, weight, failed))?;
                update(&self.head.slow, tag, |mean| weighed(mean, weight, slow))?;
                self.judge(plan, tag, failed, slow, || self.means())
            }
        }
    }

    /// What is in the window now.
    pub(crate) fn counts(&self, plan: &Plan, generation: u64, now: impl Fn() -> Moment) -> Counts {
        match plan.span {
            Span::Count { calls } => self.ring_counts(calls),
            Span::Time { bucket_nanos } => self.bucket_counts(number(now(), bucket_nanos, generation)),
            Span::Ewma { .. } => self.means(),
        }
    }

    /// The next place in a ring of so many.
    #[inline]
    fn take_place(&self, tag: u32, calls: u32) -> Option<u32> {
        // The first lap is told from all later ones.
        let (place, _) = update(&self.head.place, tag, |place| if place + 1 == 2 * calls { calls } else { place + 1 })?;
        Some(if place >= calls { place - calls } else { place })
    }

    #[inline]
    fn judge(&self, plan: &Plan, tag: u32, failed: bool, slow: bool, counts: impl Fn() -> Counts) -> Option<Cause> {
        let mut streak = 0;
        if plan.consecutive.is_some() {
            (_, streak) = update(&self.head.streak, tag, |n| if failed { n.saturating_add(1) } else { 0 })?;
        }
        if !failed && !slow {
            return None;
        }
        cause(plan, streak, &counts(), failed, slow)
    }

    fn ring_counts(&self, calls: u32) -> Counts {
        // Relaxed: whoever has counted a failure has seen the places before it; see `update`.
        let failed = bits(low(self.head.failed.load(Ordering::Relaxed)));
        let slow = bits(low(self.head.slow.load(Ordering::Relaxed)));
        let filled = low(self.head.place.load(Ordering::Relaxed)).min(calls);
        Counts { calls: filled.into(), failed: failed.into(), slow: slow.into() }
    }

    fn bucket_counts(&self, number: u32) -> Counts {
        let mut sum = Counts::default();
        for bucket in &self.buckets {
            // Relaxed, and the calls last: as in a ring.
            let within = |word: &AtomicU64| {
                let word = word.load(Ordering::Relaxed);
                if number.wrapping_sub(high(word)) < BUCKETS { u64::from(low(word)) } else { 0 }
            };
            sum.failed += within(&bucket.failed);
            sum.slow += within(&bucket.slow);
            sum.calls += within(&bucket.calls);
        }
        sum
    }

    fn means(&self) -> Counts {
        let read = |word: &AtomicU64| u64::from(low(word.load(Ordering::Relaxed)));
        Counts { calls: read(&self.head.place), failed: read(&self.head.failed), slow: read(&self.head.slow) }
    }

    /// The bytes that it takes beside itself.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.failed) + size_of_val(&*self.slow) + size_of_val(&*self.buckets)
    }
}

/// Puts a bit into the ring, and counts it if that changed anything. `None` if the
/// generation is over.
#[inline]
fn put(ring: &[AtomicU64], count: &AtomicU64, tag: u32, place: u32, bit: bool) -> Option<()> {
    // No words where the rule isn't set.
    let Some(word) = ring.get((place / BITS) as usize) else { return Some(()) };
    let mask = 1 << (place % BITS);
    // Relaxed: all that is made of the bits is made of this one word.
    let mut seen = word.load(Ordering::Relaxed);
    let was = loop {
        if is_after(high(seen), tag) {
            return None;
        }
        let bits = if high(seen) == tag { low(seen) } else { 0 };
        let next = joined(tag, if bit { bits | mask } else { bits & !mask });
        if next == seen {
            break bits & mask != 0;
        }
        match word.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => break bits & mask != 0,
            Err(now) => seen = now,
        }
    };
    if was != bit {
        // Wrapping: whoever takes a bit away may come before the one who counts it.
        update(count, tag, |count| if bit { count.wrapping_add(1) } else { count.wrapping_sub(1) })?;
    }
    Some(())
}

/// Changes the number beside this tag: what it was and what it is. `None` if the
/// tag is another's.
#[inline]
fn update(word: &AtomicU64, tag: u32, change: impl Fn(u32) -> u32) -> Option<(u32, u32)> {
    let mut seen = word.load(Ordering::Relaxed);
    loop {
        if high(seen) != tag {
            return None;
        }
        let next = change(low(seen));
        if next == low(seen) {
            return Some((next, next));
        }
        // AcqRel: of two failures at once, whoever is counted second sees the
        // places of both, and so as many calls as failures.
        match word.compare_exchange_weak(seen, joined(tag, next), Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return Some((low(seen), next)),
            Err(now) => {
                // The one who was faster is likely to come again: not in its way.
                std::hint::spin_loop();
                seen = now;
            }
        }
    }
}

/// One more in the bucket of this number; `false` if the bucket is a later one's.
#[inline]
fn bump(word: &AtomicU64, number: u32) -> bool {
    let mut seen = word.load(Ordering::Relaxed);
    loop {
        let count = match high(seen) {
            same if same == number => low(seen).saturating_add(1),
            later if is_after(later, number) && low(seen) > 0 => return false,
            _ => 1,
        };
        // AcqRel: as in `update`.
        match word.compare_exchange_weak(seen, joined(number, count), Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return true,
            Err(now) => seen = now,
        }
    }
}

/// A count of bits, which is below 0 for as long as somebody has not yet counted one.
fn bits(count: u32) -> u32 {
    if count < 1 << 31 { count } else { 0 }
}

fn number(now: Moment, bucket_nanos: u64, generation: u64) -> u32 {
    tag(now.as_nanos() / bucket_nanos).wrapping_add(tag(generation).wrapping_mul(STRIDE))
}

fn slot(number: u32) -> usize {
    (number % BUCKETS) as usize
}

/// Whether a tag is later than another, of any two within 2^31.
fn is_after(one: u32, other: u32) -> bool {
    one != other && one.wrapping_sub(other) < 1 << 31
}

#[allow(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
const fn tag(number: u64) -> u32 {
    number as u32
}

const fn high(word: u64) -> u32 {
    tag(word >> 32)
}

const fn low(word: u64) -> u32 {
    tag(word)
}

fn joined(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

fn zero() -> AtomicU64 {
    AtomicU64::new(0)
}

fn zeros(count: u32) -> Box<[AtomicU64]> {
    (0..count).map(|_| zero()).collect()
}

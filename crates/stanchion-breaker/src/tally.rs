//! The window of a closed breaker, in the hands of one at a time: the reference
//! for the one in atomics, and what a keyed breaker keeps.

use stanchion_core::Moment;

use crate::machine::Cause;
use crate::plan::{BUCKETS, Plan, Span};

/// What a window holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// The calls, up to what the window holds; of an EWMA as many as are told apart.
    pub calls: u64,
    /// Those that failed; of an EWMA parts of 2^32 - 1.
    pub failed: u64,
    /// Those that were slow, likewise.
    pub slow: u64,
}

impl Counts {
    /// What the shares are shares of.
    pub(crate) fn whole(&self, plan: &Plan) -> u64 {
        if matches!(plan.span, Span::Ewma { .. }) { u64::from(u32::MAX) } else { self.calls }
    }
}

/// The window of a closed breaker.
#[derive(Debug, Clone)]
pub struct Tally {
    kind: Kind,
    /// Failures since the last success.
    streak: u32,
}

#[derive(Debug, Clone)]
enum Kind {
    Count { place: u32, filled: u32, failed: Bits, slow: Bits },
    Time(Box<[Bucket; BUCKETS as usize]>),
    Ewma { calls: u32, failed: u32, slow: u32 },
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    /// Which bucket since the clock's start.
    number: u64,
    calls: u32,
    failed: u32,
    slow: u32,
}

impl Tally {
    /// An empty window.
    pub fn new(plan: &Plan) -> Self {
        let kind = match plan.span {
            Span::Count { calls } => Kind::Count {
                place: 0,
                filled: 0,
                failed: Bits::new(if plan.failure_rate.is_some() { calls } else { 0 }),
                slow: Bits::new(if plan.slow_rate.is_some() { calls } else { 0 }),
            },
            Span::Time { .. } => Kind::Time(Box::default()),
            Span::Ewma { .. } => Kind::Ewma { calls: 0, failed: 0, slow: 0 },
        };
        Self { kind, streak: 0 }
    }

    /// Puts a call in. Only a call that speaks against the other side trips, and
    /// only the rules that it speaks for.
    pub fn record(&mut self, plan: &Plan, now: Moment, failed: bool, slow: bool) -> Option<Cause> {
        self.streak = if failed { self.streak.saturating_add(1) } else { 0 };
        match (&mut self.kind, plan.span) {
            (Kind::Count { place, filled, failed: failures, slow: slows }, Span::Count { calls }) => {
                failures.put(*place, failed);
                slows.put(*place, slow);
                *place = (*place + 1) % calls;
                *filled = (*filled + 1).min(calls);
            }
            (Kind::Time(buckets), Span::Time { bucket_nanos }) => {
                let number = now.as_nanos() / bucket_nanos;
                let bucket = &mut buckets[slot(number)];
                if bucket.number < number {
                    *bucket = Bucket { number, ..Bucket::default() };
                }
                // An older reading is of a bucket that is gone.
                if bucket.number == number {
                    bucket.calls = bucket.calls.saturating_add(1);
                    bucket.failed = bucket.failed.saturating_add(failed.into());
                    bucket.slow = bucket.slow.saturating_add(slow.into());
                }
            }
            (Kind::Ewma { calls, failed: failures, slow: slows }, Span::Ewma { parts }) => {
                *calls = calls.saturating_add(1).min(parts.max(plan.minimum));
                let weight = (*calls).min(parts);
                *failures = weighed(*failures, weight, failed);
                *slows = weighed(*slows, weight, slow);
            }
            // A tally is made anew with each plan.
            _ => {}
        }
        if !failed && !slow { None } else { cause(plan, self.streak, &self.counts(plan, now), failed, slow) }
    }

    /// What is in it now.
    pub fn counts(&self, plan: &Plan, now: Moment) -> Counts {
        match (&self.kind, plan.span) {
            (Kind::Count { filled, failed, slow, .. }, _) => {
                Counts { calls: u64::from(*filled), failed: failed.count.into(), slow: slow.count.into() }
            }
            (Kind::Time(buckets), Span::Time { bucket_nanos }) => {
                let number = now.as_nanos() / bucket_nanos;
                let live = buckets
                    .iter()
                    .filter(|bucket| number.checked_sub(bucket.number).is_some_and(|age| age < u64::from(BUCKETS)));
                live.fold(Counts::default(), |sum, bucket| Counts {
                    calls: sum.calls + u64::from(bucket.calls),
                    failed: sum.failed + u64::from(bucket.failed),
                    slow: sum.slow + u64::from(bucket.slow),
                })
            }
            (Kind::Ewma { calls, failed, slow }, _) => {
                Counts { calls: (*calls).into(), failed: (*failed).into(), slow: (*slow).into() }
            }
            (Kind::Time(_), _) => Counts::default(),
        }
    }
}

/// Which rule trips, if any, after a call that failed, was slow, or both.
pub(crate) fn cause(plan: &Plan, streak: u32, counts: &Counts, failed: bool, slow: bool) -> Option<Cause> {
    if failed && plan.consecutive.is_some_and(|most| streak >= most) {
        return Some(Cause::ConsecutiveFailures);
    }
    if counts.calls < u64::from(plan.minimum) {
        return None;
    }
    let whole = counts.whole(plan);
    // A mean is rounded at each call: a ten-millionth less is as much.
    let slack = if matches!(plan.span, Span::Ewma { .. }) { u64::from(u32::MAX) / 10_000_000 } else { 0 };
    if failed && plan.failure_rate.is_some_and(|share| share.is_reached(counts.failed + slack, whole)) {
        return Some(Cause::FailureRate);
    }
    (slow && plan.slow_rate.is_some_and(|share| share.is_reached(counts.slow + slack, whole)))
        .then_some(Cause::SlowRate)
}

/// A mean of zeros and ones as parts of 2^32 - 1, with one more that weighs a
/// `weight`th. Rounded towards it, so that it gets there.
pub(crate) fn weighed(mean: u32, weight: u32, one: bool) -> u32 {
    if one { mean + (u32::MAX - mean).div_ceil(weight) } else { mean - mean.div_ceil(weight) }
}

fn slot(number: u64) -> usize {
    usize::try_from(number % u64::from(BUCKETS)).expect("below ten")
}

/// A ring of bits that knows how many are set.
#[derive(Debug, Clone)]
struct Bits {
    words: Box<[u64]>,
    count: u32,
}

impl Bits {
    fn new(bits: u32) -> Self {
        Self { words: vec![0; bits.div_ceil(64) as usize].into(), count: 0 }
    }

    fn put(&mut self, place: u32, bit: bool) {
        // No words where the rule isn't set.
        let Some(word) = self.words.get_mut(place as usize / 64) else { return };
        let mask = 1 << (place % 64);
        let was = *word & mask != 0;
        *word = if bit { *word | mask } else { *word & !mask };
        self.count = self.count + u32::from(bit) - u32::from(was);
    }
}

//! What a limit remembers of a key, by whichever rule, and the pure steps on it: the
//! reference for every store. The token bucket's own is in `gcra.rs`.
//!
//! A state is as the last admission left it, however late it is: what it is worth at a
//! moment is worked out when somebody asks, and nothing but an admission, units that are given
//! back, and the cut of law 6 change it. So a refusal leaves no trace, here as on Redis.
//!
//! # Giving back
//! A bucket's admission that is undone can't just be subtracted. Had it not been, the
//! bucket might have been full for a while since, and what drips into a full bucket is
//! lost. Let `tat` be the state that admission `i` left, `now` the time at which it gives
//! back, and `S` the state now. The admissions that came after `i` cost at most `S - tat` in
//! all, and at worst were all made just now, when without `i` the state would be
//! `max(now, ..) + S - tat`. So the state may sink to `now + S - tat` and no further: what comes
//! back is at most `tat - now`, the part of the debt that `i` left which has not been
//! paid off by itself. Where nobody came after `i`, that is exactly as if it had not been.
//!
//! Others that came before `i` and give back after it make `S` smaller without making those
//! after `i` any fewer. So each state counts what was given back in all (`returned`), and
//! what has been since `i` is subtracted, too, as if all of it were theirs. (`returns.rs` tells them
//! apart, for the buckets that are one number.)
//!
//! Once the bucket is full, all has come back by itself, and nothing can be given back any
//! more: a new period begins, by whose number a state knows the receipts that are its own.
//! So does it when the state is cut, or converted to other ticks. Nothing needs to be
//! remembered of a full bucket.

mod counter;
mod log;

use stanchion_core::{Ask, Moment, RateRule, Span, TokenBucket, Usage};

use crate::gcra;
use counter::Counter;
use log::Log;

/// The time by both clocks: windows and buckets go by the one that doesn't step, the
/// calendar by the time of day. Nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) moment: Moment,
    pub(crate) unix: u64,
    /// The moment is of the caller's reading, which may be old: nothing is cut by it.
    pub(crate) given: bool,
}

impl Now {
    /// By this clock; the time of day is only read for a rule that goes by it.
    pub(crate) fn read<'a>(clock: &stanchion_core::Clock, rules: impl IntoIterator<Item = &'a RateRule>) -> Self {
        let moment = clock.now();
        let by_calendar = rules.into_iter().any(goes_by_calendar);
        let unix = if by_calendar { clock.since_1970() } else { std::time::Duration::ZERO };
        Self { moment, unix: u64::try_from(unix.as_nanos()).unwrap_or(u64::MAX), given: false }
    }

    /// At this moment, which the caller has read, on this day.
    pub(crate) fn given(self, moment: Moment) -> Self {
        Self { moment, given: true, ..self }
    }

    /// The time by which this rule goes.
    fn by(self, rule: &RateRule) -> u64 {
        if goes_by_calendar(rule) { self.unix } else { self.moment.as_nanos() }
    }
}

fn goes_by_calendar(rule: &RateRule) -> bool {
    matches!(rule, RateRule::FixedWindow(window) if matches!(window.span(), Span::Calendar(_)))
}

/// A clock may be this far behind the state before it is taken to have stepped back.
const TOLERANCE: u64 = 1_000_000_000;
/// The time of day may be set back by so much without a calendar's units being given twice.
const DAY: u64 = 86_400_000_000_000;

/// What a limit remembers of a key.
#[derive(Debug, Clone)]
pub(crate) struct State(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Bucket(Bucket),
    Fixed(Fixed),
    Counter(Counter),
    Log(Log),
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    /// When it is full, in ticks of `1 / ticks_per_nano` ns, and at which moment
    /// that is: ticks wrap around in some years, moments in some centuries.
    tat: u64,
    ticks_per_nano: u32,
    full_at: Moment,
    /// The ticks that were given back in this period.
    returned: u64,
    period: u64,
}

/// When the window ends, and the units used in it.
#[derive(Debug, Clone, Copy, Default)]
struct Fixed {
    end: u64,
    used: u64,
}

impl State {
    /// The state of a key that is not known.
    pub(crate) fn fresh(rule: &RateRule) -> Self {
        Self(match rule {
            RateRule::FixedWindow(_) => Kind::Fixed(Fixed::default()),
            RateRule::SlidingCounter(_) => Kind::Counter(Counter::default()),
            RateRule::SlidingLog(_) => Kind::Log(Log::default()),
            // A token bucket, and whatever core may learn yet.
            _ => Kind::Bucket(Bucket::default()),
        })
    }

    /// Whether it is one of this rule's algorithm. Another's is no state.
    pub(crate) fn is_of(&self, rule: &RateRule) -> bool {
        matches!(
            (&self.0, rule),
            (Kind::Bucket(_), RateRule::TokenBucket(_))
                | (Kind::Fixed(_), RateRule::FixedWindow(_))
                | (Kind::Counter(_), RateRule::SlidingCounter(_))
                | (Kind::Log(_), RateRule::SlidingLog(_))
        )
    }

    /// How it stands now, for a request of `units`.
    pub(crate) fn usage(&self, rule: &RateRule, now: Now, ask: Ask, units: u64) -> Usage {
        let time = now.by(rule);
        match (&self.0, rule) {
            (Kind::Bucket(state), RateRule::TokenBucket(bucket)) => {
                Usage::Bucket { debt: state.at(bucket, now.moment).map_or(0, |state| state.debt(bucket, now.moment)) }
            }
            (Kind::Fixed(state), _) => {
                let Fixed { end, used } = state.at(time);
                Usage::Fixed { used, left: end.saturating_sub(time) }
            }
            (Kind::Counter(state), RateRule::SlidingCounter(counter)) => state.at(counter, time).usage(time),
            (Kind::Log(state), RateRule::SlidingLog(log)) => {
                let most = if ask == Ask::Overdraw { log.most_units() } else { log.limit() };
                state.usage(log.limit(), log.window(), time, units, most)
            }
            _ => Usage::Bucket { debt: 0 },
        }
    }

    /// Whether it lies further in the future than the limit and a clock that is a little behind can
    /// explain, or owes more than a bucket can.
    pub(crate) fn is_beyond(&self, rule: &RateRule, now: Now) -> bool {
        let time = now.by(rule);
        match (&self.0, rule) {
            (Kind::Bucket(state), RateRule::TokenBucket(bucket)) => {
                let most = bucket.capacity() + bucket.tolerance();
                state.at(bucket, now.moment).is_some_and(|state| state.debt(bucket, now.moment) > most)
            }
            (Kind::Fixed(state), RateRule::FixedWindow(window)) => {
                let Fixed { end, used } = state.at(time);
                used > 0 && window.is_beyond(end, time)
            }
            (Kind::Counter(state), RateRule::SlidingCounter(counter)) => state.at(counter, time).is_beyond(time),
            (Kind::Log(state), RateRule::SlidingLog(log)) => state.is_beyond(log.window(), time),
            _ => false,
        }
    }

    /// Cuts it, as if the limit were used up now. `serial` is a number that no other step has.
    pub(crate) fn cut(&mut self, rule: &RateRule, now: Now, serial: u64) {
        let time = now.by(rule);
        match (&mut self.0, rule) {
            (Kind::Bucket(state), RateRule::TokenBucket(bucket)) => {
                *state = Bucket { ticks_per_nano: bucket.ticks_per_nano(), period: serial, ..Bucket::default() }.owing(
                    bucket,
                    now.moment,
                    bucket.capacity(),
                );
            }
            (Kind::Fixed(state), RateRule::FixedWindow(window)) => {
                *state = Fixed { end: window.end(time), used: window.limit() };
            }
            (Kind::Counter(state), RateRule::SlidingCounter(counter)) => *state = Counter::cut(counter, time),
            (Kind::Log(state), RateRule::SlidingLog(log)) => state.cut(log.window(), time, log.limit()),
            _ => {}
        }
    }

    /// Takes units for which there is room. `serial` is a number that no other step has.
    pub(crate) fn take(&mut self, rule: &RateRule, now: Now, units: u64, serial: u64) {
        let time = now.by(rule);
        match (&mut self.0, rule) {
            (Kind::Bucket(state), RateRule::TokenBucket(bucket)) => {
                let fresh = || Bucket { ticks_per_nano: bucket.ticks_per_nano(), period: serial, ..Bucket::default() };
                let (kept, debt) = match state.at(bucket, now.moment) {
                    Some(kept) if kept.ticks_per_nano == state.ticks_per_nano => (kept, kept.debt(bucket, now.moment)),
                    Some(converted) => (fresh(), converted.debt(bucket, now.moment)),
                    None => (fresh(), 0),
                };
                *state = kept.owing(bucket, now.moment, debt + units * bucket.interval());
            }
            (Kind::Fixed(state), RateRule::FixedWindow(window)) => {
                *state = state.at(time);
                if state.used == 0 {
                    state.end = window.end(time);
                }
                state.used += units;
            }
            (Kind::Counter(state), RateRule::SlidingCounter(counter)) => {
                *state = state.at(counter, time);
                state.current += units;
            }
            (Kind::Log(state), RateRule::SlidingLog(log)) => state.take(log.window(), time, units),
            _ => {}
        }
    }

    /// From when on the state is worth no more than none, as a moment; of the time of
    /// day, as far off as it is by that, and a day later: it may be set.
    pub(crate) fn worthless_at(&self, rule: &RateRule, now: Now) -> Moment {
        let grace = if goes_by_calendar(rule) { DAY } else { 0 };
        let after = |end: u64| {
            let left = end.saturating_sub(now.by(rule)).saturating_add(grace);
            now.moment + std::time::Duration::from_nanos(left)
        };
        match &self.0 {
            Kind::Bucket(state) => state.full_at,
            Kind::Fixed(Fixed { used: 0, .. }) => now.moment,
            Kind::Fixed(Fixed { end, .. }) => after(*end),
            Kind::Counter(state) => after(state.end()),
            Kind::Log(state) => state.last().map_or(now.moment, |at| after(at.saturating_add(state.window))),
        }
    }

    /// What is needed to give back what has just been taken.
    pub(crate) fn mark(&self) -> [[u64; 2]; 2] {
        match &self.0 {
            Kind::Bucket(Bucket { tat, returned, period, .. }) => [[*tat, *returned], [*period, 0]],
            Kind::Fixed(Fixed { end, .. }) => [[*end, 0], [0, 0]],
            Kind::Counter(Counter { number, window, .. }) => [[*number, *window], [0, 0]],
            Kind::Log(state) => [[state.last().unwrap_or(0), 0], [0, 0]],
        }
    }

    /// Gives back up to `units` of what was taken when the state's mark was `mark`. Says how
    /// many are there again: of a limit of which nothing is used, all.
    pub(crate) fn give_back(&mut self, rule: &RateRule, now: Now, mark: [[u64; 2]; 2], units: u64) -> u64 {
        let time = now.by(rule);
        match (&mut self.0, rule) {
            (Kind::Bucket(state), RateRule::TokenBucket(bucket)) => {
                let Some(kept) = state.at(bucket, now.moment) else { return units };
                let debt = kept.debt(bucket, now.moment);
                if debt == 0 {
                    return units;
                }
                if kept.ticks_per_nano != state.ticks_per_nano || state.period != mark[1][0] {
                    return 0;
                }
                let reading = gcra::ticks(bucket, now.moment);
                let ticks = returnable(bucket, reading, mark[0], state.returned, units).min(debt);
                state.returned = state.returned.wrapping_add(ticks);
                if ticks == debt {
                    *state = Bucket::default();
                    return units;
                }
                *state = state.owing(bucket, now.moment, debt - ticks);
                ticks / bucket.interval()
            }
            (Kind::Fixed(state), _) => {
                let kept = state.at(time);
                let back = if kept.end == mark[0][0] { units.min(kept.used) } else { 0 };
                match (kept.used, back) {
                    (0, _) => return units,
                    (_, 0) => {}
                    (used, _) => *state = Fixed { used: used - back, ..kept },
                }
                back
            }
            (Kind::Counter(state), RateRule::SlidingCounter(counter)) => {
                let mut kept = state.at(counter, time);
                if kept.is_empty() {
                    return units;
                }
                let back = kept.give_back(mark[0], units);
                if back > 0 {
                    *state = kept;
                }
                back
            }
            (Kind::Log(state), RateRule::SlidingLog(log)) => match state.used(log.window(), time) {
                0 => units,
                // What has expired is there again, too, but whether it was this one nobody knows.
                _ if mark[0][0].saturating_add(log.window()) <= time => 0,
                _ => state.give_back(mark[0][0], units),
            },
            _ => units,
        }
    }
}

impl Bucket {
    /// The state now; `None` if it is full. In other ticks it is rounded up to a microsecond.
    fn at(self, bucket: &TokenBucket, now: Moment) -> Option<Self> {
        if self.full_at <= now {
            return None;
        }
        if self.ticks_per_nano == bucket.ticks_per_nano() {
            return Some(self);
        }
        let full_at = Moment::from_nanos(self.full_at.as_nanos().div_ceil(1_000).saturating_mul(1_000));
        // A debt that these ticks can't hold is no less for that: it will be cut.
        let nanos = full_at.as_nanos() - now.as_nanos();
        let debt = nanos.saturating_mul(u64::from(bucket.ticks_per_nano())).min(u64::MAX >> 1);
        let tat = gcra::ticks(bucket, now).wrapping_add(debt);
        Some(Self { tat, ticks_per_nano: bucket.ticks_per_nano(), full_at, ..self })
    }

    fn debt(self, bucket: &TokenBucket, now: Moment) -> u64 {
        gcra::debt(self.tat, gcra::ticks(bucket, now))
    }

    fn owing(self, bucket: &TokenBucket, now: Moment, debt: u64) -> Self {
        let tat = gcra::ticks(bucket, now).wrapping_add(debt);
        Self { tat, full_at: now + bucket.duration(debt), ..self }
    }
}

impl Fixed {
    /// The state at this time: nothing, once the window is over.
    const fn at(self, time: u64) -> Self {
        if self.end <= time || self.used == 0 { Self { end: time, used: 0 } } else { self }
    }
}

/// How many of the ticks of `units` may come back to a bucket: see the head of this file.
pub(crate) fn returnable(bucket: &TokenBucket, reading: u64, mark: [u64; 2], returned: u64, units: u64) -> u64 {
    let [tat, returned_then] = mark;
    let unpaid = gcra::debt(tat, reading);
    let since = returned.wrapping_sub(returned_then);
    units.saturating_mul(bucket.interval()).min(unpaid.saturating_sub(since))
}

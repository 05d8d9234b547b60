//! What a limit remembers of a key, by whichever rule, and the pure steps on it: the
//! reference for every store. The token bucket's own is in `gcra.rs`.
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
//! what has been since `i` is subtracted, too, as if all of it were theirs.

use std::collections::VecDeque;

use stanchion_core::{Counted, Decision, Moment, RateRule, TokenBucket, Verdict};

use crate::gcra;

/// The time by both clocks: windows and buckets go by the one that doesn't step, the
/// calendar by the time of day. Nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) moment: Moment,
    pub(crate) unix: u64,
}

impl Now {
    /// By this clock; the time of day is only read for a rule that goes by it.
    pub(crate) fn read<'a>(clock: &stanchion_core::Clock, rules: impl IntoIterator<Item = &'a RateRule>) -> Self {
        let moment = clock.now();
        let by_calendar = rules.into_iter().any(goes_by_calendar);
        let unix = if by_calendar { clock.since_1970() } else { std::time::Duration::ZERO };
        Self { moment, unix: u64::try_from(unix.as_nanos()).unwrap_or(u64::MAX) }
    }

    /// The time by which this rule goes.
    fn by(self, rule: &RateRule) -> u64 {
        if goes_by_calendar(rule) { self.unix } else { self.moment.as_nanos() }
    }
}

fn goes_by_calendar(rule: &RateRule) -> bool {
    matches!(rule, RateRule::FixedWindow(window) if matches!(window.span(), stanchion_core::Span::Calendar(_)))
}

/// A clock may be this far behind the state before it is taken to have stepped back.
const TOLERANCE: u64 = 1_000_000_000;

/// What a limit remembers of a key.
#[derive(Debug, Clone)]
pub(crate) enum State {
    /// When the bucket is full, in ticks of `1 / ticks_per_nano` ns, and at which moment
    /// that is: ticks wrap around in some years, moments in some centuries.
    Bucket { tat: u64, ticks_per_nano: u32, full_at: Moment, returned: u64 },
    /// When the window ends, and the units used in it.
    Fixed { end: u64, used: u64 },
    /// The number of the window of this length, and the units in it and in the one before.
    Counter { window: u64, number: u64, previous: u64, current: u64 },
    /// The times and units of the admissions that still count, oldest first, the window, and
    /// the units in all.
    Log { entries: VecDeque<(u64, u64)>, window: u64, used: u64 },
}

impl State {
    /// The state of a key that is not known.
    pub(crate) fn fresh(rule: &RateRule, now: Now) -> Self {
        let time = now.by(rule);
        match rule {
            RateRule::FixedWindow(_) => Self::Fixed { end: time, used: 0 },
            RateRule::SlidingCounter(counter) => {
                let window = counter.window();
                Self::Counter { window, number: time / window, previous: 0, current: 0 }
            }
            RateRule::SlidingLog(log) => Self::Log { entries: VecDeque::new(), window: log.window(), used: 0 },
            // A token bucket, and whatever core may learn yet.
            _ => {
                let (tat, ticks_per_nano) =
                    bucket_of(rule).map_or((0, 1), |bucket| (gcra::ticks(bucket, now.moment), bucket.ticks_per_nano()));
                Self::Bucket { tat, ticks_per_nano, full_at: now.moment, returned: 0 }
            }
        }
    }

    /// Brings the state up to `now` and to the rule, which may be another than
    /// before. Says whether it has changed otherwise than by time: it was cut, as by a clock that has
    /// stepped back, or is of a window of another length now.
    pub(crate) fn turn(&mut self, rule: &RateRule, now: Now) -> bool {
        let time = now.by(rule);
        match (self, rule) {
            (Self::Bucket { tat, ticks_per_nano, full_at, returned }, RateRule::TokenBucket(bucket)) => {
                let reading = gcra::ticks(bucket, now.moment);
                if *full_at <= now.moment {
                    *tat = reading;
                } else if *ticks_per_nano != bucket.ticks_per_nano() {
                    *tat = gcra::ticks(bucket, *full_at);
                }
                if *ticks_per_nano != bucket.ticks_per_nano() {
                    // Receipts in other ticks are worth nothing.
                    *returned = returned.wrapping_add(1 << 62);
                    *ticks_per_nano = bucket.ticks_per_nano();
                }
                let cut = gcra::debt(*tat, reading) > bucket.capacity() + bucket.tolerance();
                if cut {
                    *tat = reading.wrapping_add(bucket.capacity());
                    *full_at = now.moment + bucket.refill_duration();
                }
                cut
            }
            (Self::Fixed { end, used }, RateRule::FixedWindow(window)) => {
                let cut = window.is_beyond(*end, time);
                if cut {
                    (*end, *used) = (window.end(time), window.limit());
                } else if *end <= time {
                    (*end, *used) = (time, 0);
                }
                cut
            }
            (Self::Counter { window, number, previous, current }, RateRule::SlidingCounter(counter)) => {
                let length = counter.window();
                let other = *window != length;
                if other {
                    // In the old windows' time, what the last of them counts now.
                    let (then, elapsed) = (time / *window, time % *window);
                    let old = match then.checked_sub(*number) {
                        Some(0) | None => covered(*previous, *window - elapsed, *window).saturating_add(*current),
                        Some(1) => covered(*current, *window - elapsed, *window),
                        Some(_) => 0,
                    };
                    (*window, *number, *previous, *current) = (length, time / length, 0, old);
                }
                let present = time / length;
                match present.checked_sub(*number) {
                    Some(0) => other,
                    Some(1) => {
                        (*number, *previous, *current) = (present, *current, 0);
                        other
                    }
                    Some(_) => {
                        (*number, *previous, *current) = (present, 0, 0);
                        other
                    }
                    // The clock has stepped back, or is a little behind.
                    None => {
                        let begins = number.saturating_mul(length);
                        let cut = begins - time > length.saturating_add(TOLERANCE);
                        if cut {
                            (*number, *previous, *current) = (present, 0, counter.limit());
                        }
                        cut || other
                    }
                }
            }
            (Self::Log { entries, window, used }, RateRule::SlidingLog(log)) => {
                let other = *window != log.window();
                *window = log.window();
                while let Some(&(at, units)) = entries.front().filter(|(at, _)| at.saturating_add(*window) <= time) {
                    let _ = at;
                    *used -= units;
                    entries.pop_front();
                }
                let cut = entries.back().is_some_and(|(at, _)| *at > time.saturating_add(TOLERANCE));
                if cut {
                    entries.clear();
                    entries.push_back((time, log.limit()));
                    *used = log.limit();
                }
                cut || other
            }
            // The state of another algorithm is no state.
            (state, _) => {
                *state = Self::fresh(rule, now);
                false
            }
        }
    }

    /// How many units fit, of a state that has been turned to `now`: within the limit, or
    /// into its overdraft.
    pub(crate) fn room(&self, rule: &RateRule, now: Now, overdraw: bool) -> u64 {
        if let Some((bucket, debt)) = self.debt(rule, now) {
            return gcra::fitting(bucket, debt, if overdraw { bucket.most_debt() } else { bucket.capacity() });
        }
        let most = if overdraw { rule.most_units() } else { rule.limit() };
        most.saturating_sub(self.used(rule, now))
    }

    /// Takes units for which there is room, of a state that has been turned to `now`.
    pub(crate) fn take(&mut self, rule: &RateRule, now: Now, units: u64) {
        if units == 0 {
            return;
        }
        let time = now.by(rule);
        match (self, rule) {
            (Self::Bucket { tat, full_at, .. }, RateRule::TokenBucket(bucket)) => {
                let reading = gcra::ticks(bucket, now.moment);
                let debt = gcra::debt(*tat, reading) + units * bucket.interval();
                (*tat, *full_at) = (reading.wrapping_add(debt), now.moment + bucket.duration(debt));
            }
            (Self::Fixed { end, used }, RateRule::FixedWindow(window)) => {
                if *used == 0 {
                    *end = window.end(time);
                }
                *used += units;
            }
            (Self::Counter { current, .. }, _) => *current += units,
            (Self::Log { entries, used, .. }, _) => {
                // Never before the last one: the clock may be a little behind.
                let at = entries.back().map_or(time, |(last, _)| time.max(*last));
                match entries.back_mut() {
                    Some((last, count)) if *last == at => *count += units,
                    _ => entries.push_back((at, units)),
                }
                *used += units;
            }
            _ => {}
        }
    }

    /// What is said to a request for `wanted` units, of which `granted` were taken, if the
    /// verdict is that it is allowed; of a state that has been turned to `now`. A refused one must fit
    /// within the limit, or in `overdraw` within the overdraft.
    pub(crate) fn decision(
        &self,
        rule: &RateRule,
        now: Now,
        verdict: Verdict,
        wanted: u64,
        overdraw: bool,
    ) -> Decision {
        if let Some((bucket, debt)) = self.debt(rule, now) {
            if verdict == Verdict::Allowed {
                return Decision::allowed_by(bucket, debt);
            }
            let cost = wanted.saturating_mul(bucket.interval());
            return if overdraw {
                Decision::overdraft_refused_by(bucket, debt, cost)
            } else {
                Decision::refused_by(bucket, debt, cost)
            };
        }
        let (limit, used, time) = (rule.limit(), self.used(rule, now), now.by(rule));
        let remaining = limit.saturating_sub(used);
        let most = if overdraw { rule.most_units() } else { limit };
        let wait = if verdict == Verdict::Allowed { 0 } else { self.wait(rule, time, wanted, most) };
        let next = if used == 0 { 0 } else { self.wait(rule, time, remaining + 1, limit) };
        let reset = if used == 0 { 0 } else { self.wait(rule, time, limit, limit) };
        let window = u64::try_from(rule.window().as_nanos()).unwrap_or(u64::MAX);
        Decision::counted(verdict, Counted { limit, remaining, wait, next, reset, window })
    }

    /// How long until `units` fit below `most`, in a rule that counts in windows.
    fn wait(&self, rule: &RateRule, time: u64, units: u64, most: u64) -> u64 {
        match (self, rule) {
            (Self::Fixed { end, used }, _) => {
                if used.saturating_add(units) <= most {
                    0
                } else {
                    end.saturating_sub(time)
                }
            }
            (Self::Counter { window, number, previous, current }, RateRule::SlidingCounter(counter)) => {
                // A clock that is a little behind waits for the window to begin.
                let ahead = number.saturating_mul(*window).saturating_sub(time);
                let elapsed = if ahead > 0 { 0 } else { time % window };
                let wait = counter.wait(*previous, *current, elapsed, units, most);
                ahead.saturating_add(wait.unwrap_or(u64::MAX))
            }
            (Self::Log { entries, window, used }, _) => {
                if used.saturating_add(units) <= most {
                    return 0;
                }
                let mut left = *used;
                let blocking = entries.iter().find(|(_, counted)| {
                    left -= counted;
                    left.saturating_add(units) <= most
                });
                blocking.map_or(u64::MAX, |(at, _)| at.saturating_add(*window).saturating_sub(time))
            }
            (Self::Bucket { .. } | Self::Counter { .. }, _) => 0,
        }
    }

    /// The units that count now, in a rule that counts in windows.
    fn used(&self, rule: &RateRule, now: Now) -> u64 {
        match (self, rule) {
            (Self::Fixed { used, .. } | Self::Log { used, .. }, _) => *used,
            (Self::Counter { window, number, previous, current }, RateRule::SlidingCounter(counter)) => {
                let time = now.by(rule);
                let elapsed = time.saturating_sub(number.saturating_mul(*window));
                counter.estimate(*previous, *current, elapsed)
            }
            _ => 0,
        }
    }

    /// A bucket's numbers and debt in ticks.
    fn debt<'a>(&self, rule: &'a RateRule, now: Now) -> Option<(&'a TokenBucket, u64)> {
        match (self, rule) {
            (Self::Bucket { tat, .. }, RateRule::TokenBucket(bucket)) => {
                Some((bucket, gcra::debt(*tat, gcra::ticks(bucket, now.moment))))
            }
            _ => None,
        }
    }

    /// From when on the state is worth no more than none, as a moment; of the time of
    /// day, as far off as it is by that.
    pub(crate) fn worthless_at(&self, rule: &RateRule, now: Now) -> Moment {
        let (moment, time) = (now.moment, now.by(rule));
        let after = |end: u64| moment + std::time::Duration::from_nanos(end.saturating_sub(time));
        match self {
            // Receipts are worth something for as long as a full bucket takes to
            // empty; what was given back in that time must not be forgotten.
            Self::Bucket { full_at, returned, .. } => match bucket_of(rule) {
                Some(bucket) if *returned > 0 => (*full_at).max(moment + bucket.duration(bucket.most_debt())),
                _ => *full_at,
            },
            Self::Fixed { end, .. } => after(*end),
            Self::Counter { window, number, current, .. } => {
                let windows = if *current > 0 { 2 } else { 1 };
                after(number.saturating_add(windows).saturating_mul(*window))
            }
            Self::Log { entries, window, .. } => {
                entries.back().map_or(moment, |(at, _)| after(at.saturating_add(*window)))
            }
        }
    }

    /// What is needed to give back what has just been taken at `now`.
    pub(crate) fn mark(&self) -> [u64; 2] {
        match self {
            Self::Bucket { tat, returned, .. } => [*tat, *returned],
            Self::Fixed { end, .. } => [*end, 0],
            Self::Counter { number, window, .. } => [*number, *window],
            Self::Log { entries, .. } => [entries.back().map_or(0, |(at, _)| *at), 0],
        }
    }

    /// Gives back up to `units` of what was taken when the state's mark was `mark`, of a
    /// state that has been turned to `now`. Says how many.
    pub(crate) fn give_back(&mut self, rule: &RateRule, now: Now, mark: [u64; 2], units: u64) -> u64 {
        match self {
            Self::Bucket { tat, full_at, returned, .. } => {
                let Some(bucket) = bucket_of(rule) else { return 0 };
                let reading = gcra::ticks(bucket, now.moment);
                let ticks = returnable(bucket, reading, mark, *returned, units);
                // Never below empty debt: what was forgotten meanwhile has come back by itself.
                let ticks = ticks.min(gcra::debt(*tat, reading));
                *tat = tat.wrapping_sub(ticks);
                *returned = returned.wrapping_add(ticks);
                *full_at = now.moment + bucket.duration(gcra::debt(*tat, reading));
                ticks / bucket.interval()
            }
            Self::Fixed { end, used } => {
                let back = if *end == mark[0] { units.min(*used) } else { 0 };
                *used -= back;
                back
            }
            Self::Counter { window, number, previous, current } => {
                let count = match number.checked_sub(mark[0]) {
                    _ if *window != mark[1] => return 0,
                    Some(0) => current,
                    Some(1) => previous,
                    _ => return 0,
                };
                let back = units.min(*count);
                *count -= back;
                back
            }
            Self::Log { entries, used, .. } => {
                let Ok(place) = entries.binary_search_by_key(&mark[0], |(at, _)| *at) else { return 0 };
                let count = &mut entries[place].1;
                let back = units.min(*count);
                *count -= back;
                *used -= back;
                if *count == 0 {
                    entries.remove(place);
                }
                back
            }
        }
    }
}

/// How many of the ticks of `units` may come back to a bucket: see the head of this file.
pub(crate) fn returnable(bucket: &TokenBucket, reading: u64, mark: [u64; 2], returned: u64, units: u64) -> u64 {
    let [tat, returned_then] = mark;
    let unpaid = gcra::debt(tat, reading);
    let since = returned.wrapping_sub(returned_then);
    units.saturating_mul(bucket.interval()).min(unpaid.saturating_sub(since))
}

const fn bucket_of(rule: &RateRule) -> Option<&TokenBucket> {
    match rule {
        RateRule::TokenBucket(bucket) => Some(bucket),
        _ => None,
    }
}

/// The share of a count that is still covered when `left` of a window of this length is; rounded up.
fn covered(count: u64, left: u64, window: u64) -> u64 {
    u64::try_from((u128::from(count) * u128::from(left)).div_ceil(u128::from(window))).unwrap_or(u64::MAX)
}

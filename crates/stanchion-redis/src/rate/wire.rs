//! What the scripts are told, and what they answer, in numbers.

use stanchion_core::{Ask, CalendarUnit, Decision, RateRequest, RateRule, Receipt, Span, TokenBucket, Usage};

/// Numbers of a receipt for each limit; with its rule's they are three of [`Receipt::marks`]' pairs.
const MARKS: usize = 5;
/// Lua holds no larger integer exactly.
const MOST_WANTED: u64 = (1 << 53) - 1;

/// A request to one token bucket, exactly, in whole microseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct One {
    bucket: TokenBucket,
    units: u64,
}

impl One {
    /// The request, if it is one.
    pub(super) fn of(request: &RateRequest<'_>) -> Option<Self> {
        let ([limit], Ask::Exactly) = (request.limits(), request.how()) else { return None };
        let bucket = *limit.bucket()?;
        let whole = bucket.interval().is_multiple_of(parts(&bucket)) && bucket.most_debt() == bucket.capacity();
        whole.then_some(Self { bucket, units: request.cost() })
    }

    pub(super) fn arguments(&self) -> [i64; 2] {
        [self.units * self.bucket.interval(), self.bucket.capacity()].map(|ticks| signed(ticks / parts(&self.bucket)))
    }

    /// The decision in a reply: the debt, or -1 - the debt. `None` if that can't be.
    pub(super) fn decision(&self, reply: i64) -> Option<Decision> {
        let (granted, debt) = if reply >= 0 { (self.units, reply) } else { (0, -1 - reply) };
        let debt = ticks(&self.bucket, debt, 0)?;
        // What is more the script has cut, but for one that only looks.
        if self.units > 0 && debt > self.bucket.capacity() + self.bucket.tolerance() {
            return None;
        }
        let usage = Usage::Bucket { debt };
        let rule = self.bucket.into();
        let decision = Decision::of_usages(Ask::Exactly, self.units, granted, [(&rule, usage, false)])?;
        (decision.allowed() == (reply >= 0)).then_some(decision)
    }
}

/// A request to any limits.
#[derive(Debug)]
pub(super) struct Asked {
    ask: Ask,
    units: u64,
    rules: Vec<RateRule>,
    with_receipt: bool,
}

impl Asked {
    pub(super) fn of(request: &RateRequest<'_>, with_receipt: bool) -> Self {
        let ask = request.how();
        let units = if ask == Ask::UpTo { request.cost().min(MOST_WANTED) } else { request.cost() };
        let rules = request.limits().iter().map(|limit| *limit.rule()).collect();
        Self { ask, units, rules, with_receipt }
    }

    pub(super) fn arguments(&self, time: [i64; 2], nonce: i64) -> Vec<i64> {
        let ask = match self.ask {
            Ask::UpTo => 1,
            Ask::Overdraw => 2,
            _ => 0,
        };
        // Of a bucket that is asked for what is there, the interval; else the cost.
        let of_bucket = if self.ask == Ask::UpTo { 1 } else { self.units };
        let mut arguments = Vec::with_capacity(5 + 8 * self.rules.len());
        arguments.extend(time);
        arguments.extend([ask, signed(self.units), nonce]);
        for rule in &self.rules {
            columns(rule, of_bucket, &mut arguments);
        }
        arguments
    }

    /// The decision in a reply, with a receipt. `None` if the reply is something else.
    pub(super) fn decision(&self, reply: &[i64]) -> Option<(Decision, Receipt)> {
        let (&granted, limits) = reply.split_first()?;
        let granted = match (self.ask, u64::try_from(granted).ok()?) {
            (_, 0) => 0,
            (Ask::UpTo, granted) if granted <= self.units => granted,
            (Ask::UpTo, _) => return None,
            _ => self.units,
        };
        let width = if self.with_receipt { 5 + MARKS } else { 5 };
        if limits.len() != width * self.rules.len() {
            return None;
        }
        let mut usages = Vec::with_capacity(self.rules.len());
        let mut marks = Vec::new();
        for (numbers, rule) in limits.chunks_exact(width).zip(&self.rules) {
            let cut = match numbers[0] {
                0 => false,
                1 if granted == 0 && self.units > 0 => true,
                _ => return None,
            };
            usages.push((rule, usage(rule, &numbers[1..5])?, cut));
            if self.with_receipt && granted > 0 {
                marks.extend(marks_of(rule, &numbers[5..])?);
            }
        }
        let decision = Decision::of_usages(self.ask, self.units, granted, usages)?;
        (decision.granted() == granted && (granted > 0 || self.units == 0) == decision.allowed())
            .then(|| (decision, Receipt::new(granted, marks)))
    }
}

/// Units to give back.
#[derive(Debug)]
pub(super) struct Returned {
    units: u64,
    limits: Vec<(RateRule, [i64; MARKS])>,
}

impl Returned {
    /// Of a receipt for these limits; `None` of another's.
    pub(super) fn of(request: &RateRequest<'_>, receipt: &Receipt, units: u64) -> Option<Self> {
        let limits = request.limits();
        let (marks, []) = receipt.marks().as_chunks::<3>() else { return None };
        if marks.len() != limits.len() {
            return None;
        }
        let limit = |(limit, mark): (&stanchion_core::RateLimit, &[[u64; 2]; 3])| {
            let &[[kind, a], [b, c], [d, e]] = mark;
            let mut numbers = [0; MARKS];
            // Those of another algorithm are of no worth to this one.
            if i64::try_from(kind) == Ok(number(limit.rule())) {
                for (number, mark) in numbers.iter_mut().zip([a, b, c, d, e]) {
                    *number = i64::try_from(mark).ok()?;
                }
            }
            Some((*limit.rule(), numbers))
        };
        let limits = limits.iter().zip(marks).map(limit).collect::<Option<_>>()?;
        Some(Self { units, limits })
    }

    pub(super) fn arguments(&self, time: [i64; 2]) -> Vec<i64> {
        let mut arguments = Vec::with_capacity(5 + (8 + MARKS) * self.limits.len());
        arguments.extend(time);
        arguments.extend([0, signed(self.units), 0]);
        for (rule, marks) in &self.limits {
            columns(rule, self.units, &mut arguments);
            arguments.extend(marks);
        }
        arguments
    }

    /// How many units all limits have again. `None` if the reply is something else.
    pub(super) fn units(&self, reply: &[i64]) -> Option<u64> {
        let (pairs, []) = reply.as_chunks::<2>() else { return None };
        if pairs.len() != self.limits.len() {
            return None;
        }
        let mut least = self.units;
        for (&[whole, ticks], (rule, _)) in pairs.iter().zip(&self.limits) {
            let back = match rule {
                _ if (whole, ticks) == (-1, 0) => self.units,
                RateRule::TokenBucket(bucket) => self::ticks(bucket, whole, ticks)? / bucket.interval(),
                _ if ticks == 0 => u64::try_from(whole).ok()?,
                _ => return None,
            };
            if back > self.units {
                return None;
            }
            least = least.min(back);
        }
        Some(least)
    }
}

/// A rule's number in the scripts.
const fn number(rule: &RateRule) -> i64 {
    match rule {
        RateRule::FixedWindow(_) => 1,
        RateRule::SlidingCounter(_) => 2,
        RateRule::SlidingLog(_) => 3,
        _ => 0,
    }
}

/// A rule's number and its columns; a bucket's with the cost of so many units.
fn columns(rule: &RateRule, units: u64, arguments: &mut Vec<i64>) {
    arguments.push(number(rule));
    let window = match rule {
        RateRule::TokenBucket(bucket) => {
            let parts = parts(bucket);
            arguments.push(signed(parts));
            for ticks in [units.saturating_mul(bucket.interval()), bucket.capacity(), bucket.most_debt()] {
                arguments.extend([signed(ticks / parts), signed(ticks % parts)]);
            }
            return;
        }
        RateRule::FixedWindow(fixed) => match fixed.span() {
            Span::Calendar(unit) => [0, calendar(unit)],
            _ => [micros(fixed.longest()), 0],
        },
        RateRule::SlidingCounter(counter) => [micros(counter.window()), 0],
        RateRule::SlidingLog(log) => [micros(log.window()), 0],
        _ => [0, 0],
    };
    arguments.extend([signed(rule.limit()), signed(rule.most_units()), window[0]]);
    if matches!(rule, RateRule::FixedWindow(_)) {
        arguments.push(window[1]);
    }
}

/// The number of a unit of the calendar.
const fn calendar(unit: CalendarUnit) -> i64 {
    match unit {
        CalendarUnit::Minute => 1,
        CalendarUnit::Hour => 2,
        CalendarUnit::Day => 3,
        CalendarUnit::Week => 4,
        CalendarUnit::Month => 5,
        CalendarUnit::Year => 6,
        // Unknown to the script, which then fails.
        _ => 7,
    }
}

/// How a limit stands, by its four numbers. `None` if that can't be.
fn usage(rule: &RateRule, numbers: &[i64]) -> Option<Usage> {
    let &[a, b, c, d] = numbers else { return None };
    let units = |number: i64| u64::try_from(number).ok();
    let nanos = |micros: i64| u64::try_from(micros).ok()?.checked_mul(1_000);
    Some(match rule {
        RateRule::TokenBucket(bucket) => Usage::Bucket { debt: ticks(bucket, a, b)? },
        RateRule::FixedWindow(_) => Usage::Fixed { used: units(a)?, left: nanos(b)? },
        RateRule::SlidingCounter(_) => {
            Usage::Counter { previous: units(a)?, current: units(b)?, elapsed: nanos(c)?, ahead: nanos(d)? }
        }
        RateRule::SlidingLog(_) => Usage::Log { used: units(a)?, wait: nanos(b)?, next: nanos(c)?, reset: nanos(d)? },
        _ => return None,
    })
}

fn marks_of(rule: &RateRule, numbers: &[i64]) -> Option<[[u64; 2]; 3]> {
    let &[a, b, c, d, e] = numbers else { return None };
    let mark = |number: i64| u64::try_from(number).ok();
    Some([[mark(number(rule))?, mark(a)?], [mark(b)?, mark(c)?], [mark(d)?, mark(e)?]])
}

/// Ticks in a microsecond.
fn parts(bucket: &TokenBucket) -> u64 {
    1_000 * u64::from(bucket.ticks_per_nano())
}

/// A debt in ticks; what they can't hold is that of another quota, and as much as they can.
fn ticks(bucket: &TokenBucket, whole: i64, ticks: i64) -> Option<u64> {
    let whole = u64::try_from(whole).ok()?.saturating_mul(parts(bucket));
    Some(whole.saturating_add(u64::try_from(ticks).ok()?).min(u64::MAX >> 1))
}

fn micros(nanos: u64) -> i64 {
    signed(nanos / 1_000)
}

/// The scripts' numbers are far below 2^63: ticks of a bucket below 2^62, and units fit some limit.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use stanchion_core::{FixedWindow, RateLimit, SlidingCounter, SlidingLog};
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits() -> [RateLimit; 4] {
        [
            RateLimit::new("bucket", TokenBucket::new(10, SECOND, 5).unwrap()),
            RateLimit::new("window", FixedWindow::new(5, SECOND).unwrap()),
            RateLimit::new("counter", SlidingCounter::new(5, SECOND).unwrap()),
            RateLimit::new("log", SlidingLog::new(5, SECOND).unwrap()),
        ]
    }

    #[test]
    fn a_reply_becomes_a_decision() {
        let limits = limits();
        let one = One::of(&RateRequest::single(b"k", 1, &limits[0])).unwrap();
        assert_eq!(one.arguments(), [100_000, 500_000]);
        let allowed = one.decision(100_000).unwrap();
        assert_eq!((allowed.granted(), allowed.remaining()), (1, 4));
        let refused = one.decision(-1 - 450_000).unwrap();
        assert_eq!(refused.retry_after(), Some(Duration::from_millis(50)));
        // It can't be refused with four left, nor taken with a debt of less than nothing.
        assert!(one.decision(-1 - 100_000).is_none());
        assert!(one.decision(i64::MIN).is_none());

        let request = RateRequest::new(b"k", 3, &limits[..2]).unwrap().ask(Ask::UpTo);
        let asked = Asked::of(&request, false);
        let (some, _) = asked.decision(&[2, 0, 200_000, 0, 0, 0, 0, 4, 600_000, 0, 0]).unwrap();
        assert_eq!((some.granted(), some.limit_index(), some.remaining()), (2, 1, 1));
        assert!(asked.decision(&[4, 0, 200_000, 0, 0, 0, 0, 4, 600_000, 0, 0]).is_none());
        assert!(asked.decision(&[2, 1, 200_000, 0, 0, 0, 0, 4, 600_000, 0, 0]).is_none());
    }

    #[test]
    fn a_bucket_with_an_overdraft_is_no_case_for_the_short_script() {
        let bucket = TokenBucket::new(10, SECOND, 5).unwrap();
        let single = |bucket| One::of(&RateRequest::single(b"k", 1, &RateLimit::new("b", bucket))).is_some();
        assert!(single(bucket));
        assert!(!single(bucket.overdraft(1).unwrap()));
        assert!(!single(TokenBucket::new(7, SECOND, 5).unwrap()));
    }

    fn numbers() -> impl Strategy<Value = i64> {
        prop_oneof![4 => 0..6_i64, 2 => Just(0), 1 => any::<i64>(), 1 => 0..2_000_000_i64]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        /// Whatever the server says is a decision that fits the request, or none; and no panic.
        #[test]
        fn a_garbled_reply_is_no_decision_and_no_panic(
            reply in prop_oneof![0..50_usize, Just(8), Just(21), Just(41)]
                .prop_flat_map(|length| prop::collection::vec(numbers(), length)),
            ask in prop::sample::select(vec![Ask::Exactly, Ask::UpTo, Ask::Overdraw]),
            cost in 0..6_u64, with_receipt in any::<bool>(),
        ) {
            let limits = limits();
            let request = RateRequest::new(b"k", cost, &limits).unwrap().ask(ask);
            if let Some((decision, receipt)) = Asked::of(&request, with_receipt).decision(&reply) {
                prop_assert_eq!(reply.len(), if with_receipt { 41 } else { 21 });
                prop_assert!(decision.granted() <= cost && decision.allowed() == (reply[0] > 0 || cost == 0));
                prop_assert!(decision.retry_after().is_some() != decision.allowed());
                prop_assert_eq!(receipt.units(), decision.granted());
            }
            let receipt = Receipt::new(cost, vec![[0; 2]; 12]);
            let returned = Returned::of(&request, &receipt, cost).unwrap();
            if let Some(units) = returned.units(&reply) {
                prop_assert!(reply.len() == 8 && units <= cost);
            }
        }

        #[test]
        fn a_garbled_reply_of_the_short_script_is_no_decision_and_no_panic(reply in numbers(), cost in 0..6_u64) {
            let limit = &limits()[0];
            let one = One::of(&RateRequest::single(b"k", cost, limit)).unwrap();
            if let Some(decision) = one.decision(reply) {
                prop_assert_eq!(decision.allowed(), reply >= 0);
            }
        }
    }

    #[test]
    fn a_receipt_of_other_limits_is_none_and_of_another_algorithm_worth_nothing() {
        let limits = limits();
        let request = RateRequest::new(b"k", 1, &limits[..1]).unwrap();
        assert!(Returned::of(&request, &Receipt::new(1, vec![[0; 2]; 2]), 1).is_none());
        assert!(Returned::of(&request, &Receipt::new(1, vec![[0; 2]; 6]), 1).is_none());
        let of_a_log = Receipt::new(1, vec![[3, 7], [7, 7], [7, 7]]);
        assert_eq!(Returned::of(&request, &of_a_log, 1).unwrap().limits[0].1, [0; MARKS]);
        let of_a_bucket = Receipt::new(1, vec![[0, 7], [8, 9], [10, 11]]);
        assert_eq!(Returned::of(&request, &of_a_bucket, 1).unwrap().limits[0].1, [7, 8, 9, 10, 11]);
    }
}

//! Reservoirs beside an exact bucket, thread by thread and step by step.

use std::cell::Cell;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::gcra::{Step, step};

/// A token each ten ticks, and so many at once.
const BURST: u64 = 200;
const INTERVAL: u64 = 10;
/// Three threads share two reservoirs: those of odd numbers the second.
const THREADS: std::ops::RangeInclusive<u32> = 1..=3;
const COUNT: usize = 2;
const SIZE: u64 = 4;
const ALL: u64 = COUNT as u64 * SIZE;
const MARGIN: u64 = 100;

/// A limiter of many threads, whose clock the test turns, and an exact bucket
/// that is charged with what the limiter admits when it admits it.
struct Beside {
    bucket: TokenBucket,
    reservoirs: Reservoirs,
    now: Cell<u64>,
    exact: Cell<u64>,
}

impl Beside {
    fn new() -> Self {
        let bucket = TokenBucket::new(1, Duration::from_nanos(INTERVAL), BURST).expect("representable");
        let now = 1_000;
        Self {
            bucket,
            reservoirs: Reservoirs::with(now, COUNT, SIZE, MARGIN),
            now: Cell::new(now),
            exact: Cell::new(now),
        }
    }

    fn pause(&self, ticks: u64) {
        self.now.set(self.now.get() + ticks);
    }

    fn ask(&self, thread: u32, units: u64) -> Decision {
        let decision =
            self.reservoirs.take_by(&self.bucket, thread, units, || self.now.get()).decision(&self.bucket, units);
        self.compared(decision, units)
    }

    fn ask_at(&self, units: u64) -> Decision {
        let decision = self
            .reservoirs
            .take_at(&self.bucket, units, self.now.get(), || self.now.get())
            .decision(&self.bucket, units);
        self.compared(decision, units)
    }

    /// The exact bucket allows whatever is allowed. What is refused it would have
    /// refused with a burst that is less by the stated slack.
    fn compared(&self, decision: Decision, units: u64) -> Decision {
        let cost = units * INTERVAL;
        let exact = step(&self.bucket, self.exact.get(), self.now.get(), cost);
        if decision.allowed() {
            assert!(matches!(exact, Step::Take { .. } | Step::Look { .. }), "{units} units: {exact:?}");
            self.exact.set(exact.state().unwrap_or(self.exact.get()));
        } else {
            // The debt at the last opening, what was used before it, what was charged unused.
            let slack = MARGIN + 2 * ALL * INTERVAL;
            let owed = debt(self.exact.get(), self.now.get());
            assert!(owed + cost + slack > self.bucket.capacity(), "{owed} and {cost} ticks are refused");
            // It has no reservoirs now, and its word is exact.
            assert_eq!(self.withheld(), 0);
        }
        decision
    }

    fn withheld(&self) -> u64 {
        self.reservoirs.withheld()
    }

    fn holder(&self, place: usize) -> Holder {
        self.reservoirs.each[place].lease().holder()
    }
}

#[test]
fn generous_bursts_have_reservoirs_and_others_have_none() {
    let count = |per_second: u64, burst: u64, cores: usize| {
        let bucket = TokenBucket::new(per_second, Duration::from_secs(1), burst).unwrap();
        let reservoirs = Reservoirs::for_cores(&bucket, 0, cores);
        // What the proof and the stated slack need.
        let all = reservoirs.each.len() as u64 * reservoirs.held(&bucket);
        assert!(all <= reservoirs.margin && reservoirs.margin <= bucket.capacity() / 64);
        assert!(bucket.duration(reservoirs.margin) <= Duration::from_millis(10));
        assert!(reservoirs.each.is_empty() || (16..=32).contains(&reservoirs.size));
        reservoirs.each.len()
    };
    // A burst of 4,096, and of 1,024 for each core.
    assert_eq!((count(1_000_000, 4_095, 1), count(1_000_000, 4_096, 1)), (0, 1));
    assert_eq!((count(1_000_000, 4_095, 2), count(1_000_000, 4_096, 2)), (0, 2));
    assert_eq!((count(1_000_000, 8_191, 8), count(1_000_000, 8_192, 8)), (0, 8));
    // 1,600 a second for each core.
    assert_eq!((count(1_599, 1 << 20, 1), count(1_600, 1 << 20, 1)), (0, 1));
    assert_eq!((count(12_799, 1 << 20, 8), count(12_800, 1 << 20, 8)), (0, 8));
    // Cores are rounded up to a power of two, and 64 are as many as there may be.
    assert_eq!((count(1 << 20, 1 << 20, 3), count(1 << 20, 1 << 20, 65)), (4, 64));
    assert_eq!((count(1_000_000_000, 1_000_000_000, 2), count(1_000_000_000, 1_000, 2)), (2, 0));
    // On this machine.
    let bucket = TokenBucket::new(1_000_000_000, Duration::from_secs(1), 1_000_000_000).unwrap();
    assert_eq!(Reservoirs::full(&bucket, 0).each.len(), cores().next_power_of_two().min(64));
}

#[test]
fn a_full_bucket_admits_its_burst_at_once_unit_by_unit_and_in_one() {
    let beside = Beside::new();
    for taken in 1..=BURST {
        let decision = beside.ask(1, 1);
        assert_eq!((decision.allowed(), decision.remaining()), (true, BURST - taken));
    }
    assert_eq!(beside.ask(1, 1).retry_after(), Some(Duration::from_nanos(INTERVAL)));

    let beside = Beside::new();
    assert!(beside.ask(1, 1).allowed());
    // The reservoir is full and its own: nothing of it is lost.
    assert!(!beside.ask(1, BURST).allowed());
    assert!(beside.ask(1, BURST - 1).allowed());
    assert!(!beside.ask(1, 1).allowed());
}

#[test]
fn most_checks_read_no_clock() {
    let (beside, readings) = (Beside::new(), Cell::new(0));
    let now = || {
        readings.set(readings.get() + 1);
        beside.now.get()
    };
    for _ in 0..100 {
        assert!(beside.reservoirs.take_by(&beside.bucket, 1, 1, now).allowed());
    }
    // One opens it; of the others each fifth fills it, and is paid for with it.
    assert_eq!(readings.get(), 20);
}

#[test]
fn what_others_hold_is_raided_before_anything_is_refused() {
    let beside = Beside::new();
    assert!(beside.ask(1, 1).allowed() && beside.ask(2, 1).allowed());
    assert_eq!(beside.withheld(), ALL * INTERVAL);
    // 198 are left, four of them in the reservoir of 2, which can't be got back.
    assert!(!beside.ask(1, BURST - 2 - SIZE + 1).allowed());
    assert!(beside.ask(1, BURST - 2 - SIZE).allowed());
    assert!(!beside.ask(2, 1).allowed());
    // They were charged, and so they come back.
    beside.pause(BURST * INTERVAL - 1);
    assert!(!beside.ask(2, BURST).allowed());
    beside.pause(1);
    assert!(beside.ask(2, BURST).allowed());
}

#[test]
fn a_raided_reservoir_is_never_used_again() {
    let beside = Beside::new();
    assert!(beside.ask(2, 1).allowed());
    assert!(!beside.ask(1, BURST).allowed());
    assert_eq!(beside.holder(0), Holder::None);
    let left = beside.reservoirs.each[0].left(beside.reservoirs.each[0].lease());
    assert_eq!(left, SIZE, "so many were left in it");
    assert_eq!(beside.reservoirs.home(2).take(2, 1, INTERVAL), None);
}

#[test]
fn a_check_with_a_time_of_its_own_takes_from_no_reservoir_and_raids_them() {
    let beside = Beside::new();
    assert!(beside.ask(1, 1).allowed());
    for taken in 2..=BURST - SIZE {
        let decision = beside.ask_at(1);
        assert_eq!((decision.allowed(), decision.remaining()), (true, BURST - SIZE - taken));
    }
    assert_eq!(beside.withheld(), SIZE * INTERVAL);
    assert!(!beside.ask_at(1).allowed());
    assert_eq!(beside.withheld(), 0);
    // Nobody asked with a number: what lay in the reservoir was charged.
    assert!(!beside.ask(1, 1).allowed());
}

/// Units that were used long ago and not settled yet are dated now.
#[test]
fn after_a_pause_a_full_bucket_lacks_at_most_what_reservoirs_hold() {
    let beside = Beside::new();
    for thread in [1, 2] {
        for _ in 0..=SIZE {
            assert!(beside.ask(thread, 1).allowed());
        }
    }
    beside.pause(BURST * INTERVAL);
    assert!(!beside.ask(1, BURST - ALL + 1).allowed());
    assert!(beside.ask(1, BURST - ALL).allowed());
    // That was once: now it is exact.
    beside.pause(BURST * INTERVAL);
    assert!(beside.ask(1, BURST).allowed());
    assert!(!beside.ask(1, 1).allowed());
}

#[test]
fn a_bucket_in_debt_opens_no_reservoirs() {
    let beside = Beside::new();
    assert!(beside.ask(1, BURST).allowed());
    let open = |wait| {
        beside.pause(wait);
        assert!(beside.ask(1, 1).allowed());
        beside.holder(1) == Holder::Thread(1)
    };
    // After the check it owes the margin and a tick; and then the margin.
    assert!(!open(BURST * INTERVAL - MARGIN + INTERVAL - 1));
    assert!(open(INTERVAL + 1));
}

#[test]
fn a_reservoir_that_lies_idle_goes_to_a_thread_that_shares_it() {
    let beside = Beside::new();
    assert!(beside.ask(1, 1).allowed());
    beside.pause(beside.bucket.tolerance());
    assert!(beside.ask(3, 1).allowed());
    assert_eq!(beside.holder(1), Holder::Thread(1));
    beside.pause(1);
    assert!(beside.ask(3, 1).allowed());
    assert_eq!(beside.holder(1), Holder::Thread(3));
    assert_eq!(beside.withheld(), SIZE * INTERVAL);
    // The last holder notices.
    assert_eq!(beside.reservoirs.home(1).take(1, 1, INTERVAL), None);
    assert!(beside.ask(1, 1).allowed());
    // A bucket that isn't nearly full can't afford to charge what may not have been used.
    beside.pause(beside.bucket.tolerance() + 1);
    assert!(beside.ask_at(MARGIN / INTERVAL).allowed() && beside.ask(1, 1).allowed());
    assert_eq!(beside.holder(1), Holder::Thread(3));
}

#[test]
fn what_a_raid_sets_free_is_decided_at_the_time_after_it() {
    let beside = Beside::new();
    assert!(beside.ask(2, 1).allowed());
    // The unit that is owed is paid off between the first reading and the second.
    let (first, began) = (Cell::new(true), beside.now.get());
    let now = || if first.replace(false) { began } else { began + INTERVAL };
    assert!(beside.reservoirs.take_by(&beside.bucket, 1, BURST - SIZE, now).allowed());
    assert!(!beside.reservoirs.take_by(&beside.bucket, 1, 1, now).allowed());
}

/// A thread that is held up between its look and its store spoils the account
/// of a new holder, who must not gain by it.
#[test]
fn a_store_that_comes_too_late_gives_nobody_anything() {
    let beside = Beside::new();
    assert!(beside.ask(1, 1).allowed());
    let home = beside.reservoirs.home(1);
    let held_up = home.lease();
    beside.pause(beside.bucket.tolerance() + 1);
    for _ in 0..2 {
        assert!(beside.ask(3, 1).allowed());
    }
    home.fill(held_up, SIZE - 1, 0, 0);
    assert_eq!(home.take(3, 1, INTERVAL), None);
    assert_eq!(home.take(1, 1, INTERVAL), None);
    // The new holder goes on, and pays for all that it may have used.
    let before = debt(beside.reservoirs.cell.load(), beside.now.get());
    assert!(beside.ask(3, 1).allowed());
    assert_eq!(debt(beside.reservoirs.cell.load(), beside.now.get()), before + (SIZE + 1) * INTERVAL);
}

/// As in the plain cell: a debt that can't be is of a clock that has stepped back.
#[test]
fn a_clock_that_has_stepped_back_empties_the_bucket_once() {
    let beside = Beside::new();
    let ask = |units| beside.reservoirs.take_by(&beside.bucket, 1, units, || beside.now.get()).allowed();
    beside.pause(100 * beside.bucket.tolerance());
    assert!(ask(1) && ask(1));
    beside.now.set(1_000);
    for _ in 0..=SIZE {
        let _ = ask(1);
    }
    assert!(!ask(1) && !ask(1));
    beside.pause(BURST * INTERVAL - 1);
    assert!(!ask(BURST));
    beside.pause(1);
    assert!(ask(BURST));
}

#[test]
fn a_reading_that_is_merely_old_empties_nothing() {
    let beside = Beside::new();
    let late = 100 * beside.bucket.tolerance();
    beside.pause(late);
    assert!(beside.ask(1, BURST).allowed());
    beside.pause(INTERVAL);
    // Held up between its first reading and its second.
    let first = Cell::new(true);
    let now = || if first.replace(false) { 1_000 } else { beside.now.get() };
    assert!(beside.reservoirs.take_by(&beside.bucket, 1, 1, now).allowed());
    let at = beside.reservoirs.take_at(&beside.bucket, 1, 1_000, || beside.now.get()).decision(&beside.bucket, 1);
    assert!(!at.allowed() && at.retry_after() > Some(Duration::from_secs(99)));
    beside.pause(INTERVAL);
    assert!(beside.reservoirs.take_by(&beside.bucket, 1, 1, || beside.now.get()).allowed());
}

/// What a history is made of: who asks, after which pause, for how many units;
/// and whether at a time of its own.
fn histories() -> impl Strategy<Value = Vec<(u32, u64, u64, bool)>> {
    let pause = prop_oneof![
        6 => Just(0),
        3 => 0..3 * INTERVAL,
        2 => 0..30 * INTERVAL,
        1 => 0..2 * BURST * INTERVAL,
        1 => Just(2_000_000_000_u64),
    ];
    let units = prop_oneof![8 => Just(1), 2 => 0..SIZE + 2, 1 => 0..=BURST];
    prop::collection::vec((THREADS, pause, units, prop::bool::weighted(0.1)), 1..400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// See `Beside::compared`; and afterwards all of the burst is there again.
    #[test]
    fn it_allows_no_more_than_an_exact_bucket_and_refuses_little_more(history in histories()) {
        let beside = Beside::new();
        for (thread, pause, units, at) in history {
            beside.pause(pause);
            let decision = if at { beside.ask_at(units) } else { beside.ask(thread, units) };
            let gone = if decision.allowed() { units } else { 0 };
            prop_assert!(decision.remaining() <= BURST - gone);
            prop_assert!(beside.withheld() <= ALL * INTERVAL);
        }
        let _ = beside.ask(1, BURST);
        beside.pause(BURST * INTERVAL);
        prop_assert!(beside.ask(2, BURST).allowed());
        prop_assert!(!beside.ask(3, 1).allowed());
    }

    /// What a look shows can be had by the thread that looked, and no more; and a
    /// refusal says when, to the tick.
    #[test]
    fn what_it_says_is_so(history in histories(), thread in THREADS, units in 1..=BURST) {
        let beside = Beside::new();
        for (thread, pause, units, at) in history {
            beside.pause(pause);
            let _ = if at { beside.ask_at(units) } else { beside.ask(thread, units) };
        }
        let remaining = beside.ask(thread, 0).remaining();
        if remaining < BURST {
            prop_assert!(!beside.ask(thread, remaining + 1).allowed());
        }
        prop_assert!(beside.ask(thread, remaining).allowed());
        if let Some(wait) = beside.ask(thread, units).retry_after() {
            beside.pause(u64::try_from(wait.as_nanos()).unwrap() - 1);
            prop_assert!(!beside.ask(1, units).allowed());
            beside.pause(1);
            prop_assert!(beside.ask(2, units).allowed());
        }
    }
}

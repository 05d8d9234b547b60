//! The interleavings of the lock-free parts, with up to three preemptions, by
//! loom. Run by `cargo xtask loom`.

use std::time::Duration;

use loom::sync::Arc;
use loom::thread;
use stanchion_core::{Ask, Decision, TokenBucket, Verdict};

use crate::cell::TatCell;
use crate::reservoir::Reservoirs;
use crate::table::{SLOTS, Table, WhenFull};

/// `burst` at once, one more each nanosecond.
fn bucket(burst: u64) -> TokenBucket {
    TokenBucket::new(1, Duration::from_nanos(1), burst).unwrap()
}

fn explore(body: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.max_branches = 10_000;
    model.check(body);
}

fn allowed(decisions: impl IntoIterator<Item = Decision>) -> usize {
    decisions.into_iter().filter(Decision::allowed).count()
}

/// What is said to a request for one unit of such a bucket.
fn took(cell: &TatCell, burst: u64, reading: u64) -> Decision {
    let (bucket, one) = (bucket(burst), 1);
    cell.take(&bucket, reading, one, || None).decision(&bucket, one)
}

#[test]
fn loom_three_threads_never_share_a_token() {
    explore(|| {
        let cell = Arc::new(TatCell::full(10));
        let others: Vec<_> = (0..2)
            .map(|_| {
                let cell = cell.clone();
                thread::spawn(move || took(&cell, 2, 10))
            })
            .collect();
        let ours = took(&cell, 2, 10);
        let all = others.into_iter().map(|other| other.join().unwrap()).chain([ours]);
        assert_eq!(allowed(all), 2);
    });
}

#[test]
fn loom_readings_out_of_order_never_admit_more() {
    explore(|| {
        // One token; the windows [10, 11] and [11, 11] admit two and one.
        let cell = Arc::new(TatCell::full(10));
        let late = {
            let cell = cell.clone();
            thread::spawn(move || [took(&cell, 1, 11), took(&cell, 1, 11)])
        };
        let early = took(&cell, 1, 10);
        let late = late.join().unwrap();
        assert!(allowed(late) <= 1);
        assert!(allowed(late.into_iter().chain([early])) <= 2);
    });
}

#[test]
fn loom_a_new_key_is_put_in_once() {
    explore(|| {
        let table = Arc::new(Table::with_sets(1, WhenFull::Refuse));
        let other = {
            let table = table.clone();
            thread::spawn(move || table.take(7, &bucket(1), 1, || 10, || None))
        };
        let ours = table.take(7, &bucket(1), 1, || 10, || None);
        assert_eq!(allowed([ours, other.join().unwrap()]), 1);
        assert_eq!(table.in_debt(10), 1);
    });
}

/// Both keys like the same slot best.
#[test]
fn loom_two_new_keys_get_two_slots() {
    explore(|| {
        let table = Arc::new(Table::with_sets(1, WhenFull::Refuse));
        let other = {
            let table = table.clone();
            thread::spawn(move || table.take(8, &bucket(1), 1, || 10, || None))
        };
        let ours = table.take(6, &bucket(1), 1, || 10, || None);
        assert_eq!(allowed([ours, other.join().unwrap()]), 2);
        // Both are remembered.
        assert_eq!(allowed([6, 8].map(|key| table.take(key, &bucket(1), 1, || 10, || None))), 0);
    });
}

/// A reader whose clock reading is old comes upon a slot that is just changing
/// hands: it must not take the debt of the slot's last owner for its own.
#[test]
fn loom_a_new_key_never_inherits_a_debt() {
    use loom::sync::atomic::{AtomicU64, Ordering::SeqCst};

    explore(|| {
        let table = Table::with_sets(1, WhenFull::Refuse);
        for key in (11..).take(SLOTS - 1) {
            assert!(table.take(key, &bucket(1_000), 1_000, || 9, || None).allowed());
        }
        // Key 4 is in debt until 109.
        assert!(table.take(4, &bucket(100), 100, || 9, || None).allowed());
        let (table, clock) = (Arc::new(table), Arc::new(AtomicU64::new(10)));
        let newcomer = {
            let (table, clock) = (table.clone(), clock.clone());
            thread::spawn(move || {
                clock.store(109, SeqCst);
                table.take(5, &bucket(2), 1, || clock.load(SeqCst), || None).allowed()
            })
        };
        // Before that, there is no room; afterwards, there is a token left. Seen
        // from 10, what the newcomer took then lies far ahead: a late reading may
        // be refused, but on its own key's account (110), not on key 4's (109).
        let ours = table.take(5, &bucket(2), 1, || clock.load(SeqCst), || None);
        assert!(newcomer.join().unwrap());
        match ours.verdict() {
            Verdict::Refused => assert_eq!(ours.retry_after(), Some(Duration::from_nanos(99))),
            verdict => assert!(matches!(verdict, Verdict::Allowed | Verdict::KeysFull)),
        }
    });
}

/// All slots but one are in debt; the last one's key is out of debt at 10. One
/// thread displaces it, another asks for it again. Whatever the order, each of
/// the two keys is admitted once at most, and never on the other's account.
#[test]
fn loom_a_slot_changes_hands_under_its_readers() {
    explore(|| {
        let table = Table::with_sets(1, WhenFull::Refuse);
        for key in (11..).take(SLOTS - 1) {
            assert!(table.take(key, &bucket(100), 100, || 9, || None).allowed());
        }
        assert!(table.take(4, &bucket(1), 1, || 9, || None).allowed());
        let table = Arc::new(table);
        let displacer = {
            let table = table.clone();
            thread::spawn(move || {
                [table.take(5, &bucket(1), 1, || 10, || None), table.take(5, &bucket(1), 1, || 10, || None)]
            })
        };
        let owner = [table.take(4, &bucket(1), 1, || 10, || None), table.take(4, &bucket(1), 1, || 10, || None)];
        let displacer = displacer.join().unwrap();
        assert!(allowed(owner) <= 1 && allowed(displacer) <= 1);
        // The slot is one: whoever came second found no room, or found the other in debt.
        assert_eq!(allowed(owner) + allowed(displacer), 1);
        // And the others were never touched: this one owes 99 of its 100.
        assert!(!table.take(11, &bucket(100), 2, || 10, || None).allowed());
    });
}

/// A clock that moves on while a slot changes hands: the key that was displaced
/// while out of debt begins afresh, in its other set, with a reading made after
/// that. The clock orders nothing by itself, and the key lay in no slot that is
/// looked at first, so that only what the table does keeps the readings in order.
#[test]
fn loom_a_displaced_key_never_begins_afresh_too_early() {
    use loom::sync::atomic::{AtomicU64, Ordering::Relaxed};

    /// Its sets are the first and the second, and it likes the slots of odd keys best.
    const OWNER: u64 = 5 | 1 << 31;
    explore(|| {
        let table = Table::with_sets(2, WhenFull::Refuse);
        // An odd key takes the best slot of the first set, and is out of debt when
        // the owner comes and takes the other; then it is in debt for long.
        assert!(table.take(11, &bucket(100), 1, || 5, || None).allowed());
        assert!(table.take(OWNER, &bucket(2), 2, || 9, || None).allowed());
        assert!(table.take(11, &bucket(100), 100, || 9, || None).allowed());
        // The owner is in debt until 11, in the slot that key 4 likes best.
        let (table, clock) = (Arc::new(table), Arc::new(AtomicU64::new(10)));
        let displacer = {
            let (table, clock) = (table.clone(), clock.clone());
            thread::spawn(move || {
                clock.store(11, Relaxed);
                // Both of its sets are the first.
                table.take(4, &bucket(1), 1, || clock.load(Relaxed), || None).allowed()
            })
        };
        // Two units: at 10 one of the owner's is still owed, at 11 none. So nobody
        // may believe at 10 that it is new.
        let reading = std::cell::Cell::new(0);
        let read = || {
            reading.set(clock.load(Relaxed));
            reading.get()
        };
        if table.take(OWNER, &bucket(2), 2, read, || None).allowed() {
            assert!(reading.get() >= 11, "fresh at {}", reading.get());
        }
        displacer.join().unwrap();
    });
}

/// The key that displaced another has an account of its own: a reader that still
/// takes the slot for the other's must not charge it.
#[test]
fn loom_nobody_pays_on_anothers_account() {
    explore(|| {
        let table = Table::with_sets(1, WhenFull::Refuse);
        for key in (11..).take(SLOTS - 1) {
            assert!(table.take(key, &bucket(100), 100, || 9, || None).allowed());
        }
        assert!(table.take(4, &bucket(2), 1, || 9, || None).allowed());
        let table = Arc::new(table);
        let newcomer = {
            let table = table.clone();
            thread::spawn(move || [(); 2].map(|()| table.take(6, &bucket(2), 1, || 10, || None)))
        };
        let owner = table.take(4, &bucket(2), 1, || 10, || None);
        let newcomer = newcomer.join().unwrap();
        // Two tokens for whoever has the slot, and none of them for the other.
        assert_eq!(allowed(newcomer), if owner.allowed() { 0 } else { 2 });
    });
}

/// A clock that all see go forward at once: the fences make its readings one
/// order with what is done before and after them, as real time is.
struct Time(loom::sync::atomic::AtomicU64);

impl Time {
    fn at(now: u64) -> Arc<Self> {
        Arc::new(Self(loom::sync::atomic::AtomicU64::new(now)))
    }

    fn read(&self) -> u64 {
        loom::sync::atomic::fence(loom::sync::atomic::Ordering::SeqCst);
        let now = self.0.load(loom::sync::atomic::Ordering::SeqCst);
        loom::sync::atomic::fence(loom::sync::atomic::Ordering::SeqCst);
        now
    }

    fn set(&self, now: u64) {
        self.0.store(now, loom::sync::atomic::Ordering::SeqCst);
        loom::sync::atomic::fence(loom::sync::atomic::Ordering::SeqCst);
    }
}

/// Six at once, of which two lie in each reservoir that is open.
const SIX: u64 = 6;

fn reservoirs(count: usize) -> Arc<Reservoirs> {
    // Opened while the bucket owes two at most.
    Arc::new(Reservoirs::with(10, count, 2, 2))
}

fn asked(reservoirs: &Reservoirs, thread: u32, units: u64, now: impl Fn() -> u64) -> u64 {
    if reservoirs.take_by(&bucket(SIX), thread, units, now).allowed() { units } else { 0 }
}

/// At one moment no more than the burst is admitted, whoever opens, refills and
/// raids; and some time later all of it is there again.
fn check_the_burst(count: usize, theirs: (u32, &'static [u64]), ours: (u32, &'static [u64])) {
    explore(move || {
        let shared = reservoirs(count);
        let all = |shared: &Reservoirs, (thread, costs): (u32, &[u64])| -> u64 {
            costs.iter().map(|units| asked(shared, thread, *units, || 10)).sum()
        };
        let other = {
            let shared = shared.clone();
            thread::spawn(move || all(&shared, theirs))
        };
        let taken = all(&shared, ours) + other.join().unwrap();
        let rest: u64 = (0..SIX).map(|_| asked(&shared, 1, 1, || 10)).sum();
        assert!(taken + rest <= SIX, "{taken} and {rest}");
        // Nothing is charged but what somebody may have had; a raider and a
        // holder may have charged the same.
        assert_eq!(asked(&shared, 1, 1, || 10), 0);
        assert_eq!(shared.withheld(), 0);
        assert_eq!(asked(&shared, 2, SIX, || 10 + 2 * SIX), SIX);
        assert_eq!(asked(&shared, 2, 1, || 10 + 2 * SIX), 0);
    });
}

#[test]
fn loom_a_reservoir_is_opened_beside_one_who_takes_nearly_all() {
    check_the_burst(1, (1, &[1, 1, 1]), (2, &[5]));
}

#[test]
fn loom_two_open_reservoirs_of_their_own() {
    check_the_burst(2, (1, &[1, 1, 1]), (2, &[1, 1, 1]));
}

#[test]
fn loom_two_share_a_reservoir() {
    check_the_burst(1, (1, &[1, 1, 1]), (2, &[1, 1]));
}

#[test]
fn loom_two_raid_each_other() {
    check_the_burst(2, (1, &[1, 5]), (2, &[1, 5]));
}

/// Who asks for as much as is there goes around the reservoirs, whoever opens and refills them.
#[test]
fn loom_who_asks_otherwise_never_gets_what_lies_in_a_reservoir() {
    explore(|| {
        let shared = reservoirs(1);
        let other = {
            let shared = shared.clone();
            thread::spawn(move || (0..3).map(|_| asked(&shared, 1, 1, || 10)).sum::<u64>())
        };
        let ours: u64 =
            [4, 3].map(|units| shared.ask_by(&bucket(SIX), 2, Ask::UpTo, units, || 10).0.granted()).iter().sum();
        let theirs = other.join().unwrap();
        let rest: u64 = (0..SIX).map(|_| asked(&shared, 1, 1, || 10)).sum();
        assert!(ours + theirs + rest <= SIX, "{ours}, {theirs} and {rest}");
    });
}

/// What is given back while another takes is not given twice.
#[test]
fn loom_units_come_back_once() {
    explore(|| {
        let cell = Arc::new(TatCell::full(10));
        let (_, tat) = cell.ask(&bucket(2), Ask::Exactly, 2, || 10);
        let other = {
            let cell = cell.clone();
            thread::spawn(move || [(); 2].map(|()| took(&cell, 2, 10)))
        };
        let back = cell.give_back(&bucket(2), [tat, 0], 0, 2, || 10).expect("two are owed");
        let again = cell.give_back(&bucket(2), [tat, 0], back, 2, || 10);
        let others = allowed(other.join().unwrap());
        assert_eq!((back, again.unwrap_or(0)), (2, 0));
        let rest = allowed((0..3).map(|_| took(&cell, 2, 10)));
        assert_eq!(others + rest, 2);
    });
}

/// The same in the table.
#[test]
fn loom_units_of_a_key_come_back_once() {
    explore(|| {
        let table = Arc::new(Table::with_sets(1, WhenFull::Refuse));
        let now = || 10;
        let (decision, mark) = table.reserve(7, &bucket(3), 3, now);
        assert!(decision.allowed());
        let other = {
            let table = table.clone();
            thread::spawn(move || table.take(7, &bucket(3), 1, now, || None))
        };
        let back = table.give_back(7, &bucket(3), mark, 2, now);
        let others = allowed([other.join().unwrap()]);
        assert_eq!(back, 2);
        let rest = allowed((0..3).map(|_| table.take(7, &bucket(3), 1, now, || None)));
        assert_eq!(others + rest, 2);
    });
}

#[test]
fn loom_a_holder_refills_while_it_is_raided() {
    check_the_burst(1, (1, &[1, 1, 1, 1]), (2, &[5, 1]));
}

#[test]
fn loom_a_raider_lowers_nothing_that_it_has_not_charged() {
    check_the_burst(1, (1, &[1, 1, 1, 5]), (2, &[4]));
}

/// The reservoir is taken away while its holder may use it. What the holder uses
/// at 20 is charged at 20, or the raider would have all of the burst then.
#[test]
fn loom_a_raid_charges_no_earlier_than_what_it_charges_was_used() {
    explore(|| {
        let (shared, time) = (reservoirs(1), Time::at(10));
        assert_eq!(asked(&shared, 1, 1, || 10), 1);
        let raider = {
            let (shared, time) = (shared.clone(), time.clone());
            thread::spawn(move || {
                // What it is allowed is dated by the last reading that it makes.
                let date = std::cell::Cell::new(0);
                let read = || {
                    date.set(time.read());
                    date.get()
                };
                let mut at_20 = 0;
                for _ in 0..2 {
                    let taken = asked(&shared, 2, SIX, read);
                    at_20 += if date.get() == 20 { taken } else { 0 };
                }
                at_20
            })
        };
        time.set(20);
        let ours = asked(&shared, 1, 1, || time.read());
        let theirs = raider.join().unwrap();
        assert!(ours + theirs <= SIX, "{ours} and {theirs}");
    });
}

/// A holder that refills is raided in the midst of it, and the reservoir is
/// another's before it goes on.
#[test]
fn loom_a_refill_that_comes_late_fills_nobody_elses() {
    explore(|| {
        let shared = reservoirs(1);
        for _ in 0..3 {
            assert_eq!(asked(&shared, 1, 1, || 10), 1);
        }
        let raider = {
            let shared = shared.clone();
            thread::spawn(move || {
                asked(&shared, 2, SIX, || 20);
                (0..5).map(|_| asked(&shared, 2, 1, || 40)).sum::<u64>()
            })
        };
        asked(&shared, 1, 1, || 20);
        let at_40 = raider.join().unwrap() + (0..SIX).map(|_| asked(&shared, 2, 1, || 40)).sum::<u64>();
        assert!(at_40 <= SIX, "{at_40}");
    });
}

/// Raided at 10, and at 20 all is paid off: whoever sees that it is 20 sees that
/// the reservoir isn't its own any more.
#[test]
fn loom_nothing_is_taken_from_a_reservoir_after_it_was_raided() {
    explore(|| {
        let (shared, time) = (reservoirs(1), Time::at(10));
        assert_eq!(asked(&shared, 1, 1, || 10), 1);
        let raider = {
            let (shared, time) = (shared.clone(), time.clone());
            thread::spawn(move || {
                assert_eq!(asked(&shared, 2, SIX, || 10), 0);
                time.set(20);
                asked(&shared, 2, SIX, || 20)
            })
        };
        let now = time.read();
        let ours = asked(&shared, 1, 1, || time.read());
        let theirs = raider.join().unwrap();
        if now == 20 {
            assert!(ours + theirs <= SIX, "{ours} and {theirs}");
        }
    });
}

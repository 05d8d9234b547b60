//! Histories of loads, inserts, invalidations and reads of one key by several threads,
//! recorded and checked against a sequential model; and the promise about staleness, under stress.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;

use stanchion_cache::{Cache, CacheSnapshot, Loaded, Random};

/// What happened between two readings of a clock that all threads share.
#[derive(Debug, Clone)]
struct Event {
    from: u64,
    to: u64,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum What {
    Insert(u64),
    /// And whether something was there.
    Invalidate(bool),
    Clear,
    Get(Option<u64>),
    /// A call that loaded: its flight began in between.
    Lead(u64),
    /// A call that was told this value without loading.
    Told(u64),
    /// The end of a load: published in between, if nobody had voided it.
    Publish(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Model {
    content: Option<u64>,
    flight: Option<u64>,
}

impl Model {
    /// The state after an event, if it may happen in this one.
    fn step(self, what: What) -> Option<Self> {
        let nothing = Self::default();
        match what {
            What::Insert(value) => Some(Self { content: Some(value), flight: None }),
            What::Invalidate(was_there) => (self.content.is_some() == was_there).then_some(nothing),
            What::Clear => Some(nothing),
            What::Get(value) => (self.content == value).then_some(self),
            What::Lead(value) => (self == nothing).then_some(Self { content: None, flight: Some(value) }),
            What::Told(value) => {
                let is_joined = self.content.is_none() && self.flight == Some(value);
                (is_joined || self.content == Some(value)).then_some(self)
            }
            What::Publish(value) if self.flight == Some(value) => Some(Self { content: Some(value), flight: None }),
            What::Publish(_) => Some(self),
        }
    }
}

/// Whether the events can be put in an order that the model allows and that keeps what was over
/// before something else began before it (Wing and Gong, 1993).
fn is_linearizable(events: &[Event]) -> bool {
    fn search(events: &[Event], done: u64, model: Model, seen: &mut HashSet<(u64, Model)>) -> bool {
        if done.count_ones() as usize == events.len() {
            return true;
        }
        if !seen.insert((done, model)) {
            return false;
        }
        let open = || events.iter().enumerate().filter(|(index, _)| done >> index & 1 == 0);
        let earliest_end = open().map(|(_, event)| event.to).min().unwrap();
        open().filter(|(_, event)| event.from <= earliest_end).any(|(index, event)| {
            model.step(event.what).is_some_and(|next| search(events, done | 1 << index, next, seen))
        })
    }
    assert!(events.len() <= 64);
    search(events, 0, Model::default(), &mut HashSet::new())
}

/// The clock, and the events so far.
#[derive(Default)]
struct Recorder {
    time: AtomicU64,
    events: Mutex<Vec<Event>>,
}

impl Recorder {
    fn now(&self) -> u64 {
        self.time.fetch_add(1, Ordering::SeqCst)
    }

    fn note(&self, from: u64, to: u64, what: What) {
        self.events.lock().unwrap().push(Event { from, to, what });
    }
}

fn spin(turns: u64) {
    (0..turns * 20).for_each(|_| std::hint::spin_loop());
}

/// A thread's random operations on key 1.
fn work(cache: &Cache<u64, u64>, recorder: &Recorder, values: &AtomicU64, seed: u64) {
    let mut random = Random::seeded(seed).run();
    for _ in 0..4 {
        spin(random.up_to(20));
        let value = values.fetch_add(1, Ordering::Relaxed);
        let (operation, pause) = (random.up_to(9), random.up_to(40));
        let from = recorder.now();
        match operation {
            0 | 1 => {
                cache.insert(1, value);
                recorder.note(from, recorder.now(), What::Insert(value));
            }
            2 | 3 => {
                let was_there = cache.invalidate(&1);
                recorder.note(from, recorder.now(), What::Invalidate(was_there));
            }
            4 => {
                cache.clear();
                recorder.note(from, recorder.now(), What::Clear);
            }
            5 => {
                let found = cache.get(&1);
                recorder.note(from, recorder.now(), What::Get(found));
            }
            _ => {
                let mut ran = None;
                let load = || {
                    let began = recorder.now();
                    spin(pause);
                    ran = Some((began, recorder.now()));
                    Ok::<_, Infallible>(value)
                };
                let told = cache.get_or_load_blocking(&1, load).unwrap();
                let to = recorder.now();
                match ran {
                    None => recorder.note(from, to, What::Told(told)),
                    Some((began, ended)) => {
                        assert_eq!(told, value);
                        recorder.note(from, began, What::Lead(value));
                        recorder.note(ended, to, What::Publish(value));
                    }
                }
            }
        }
    }
}

#[test]
fn loads_inserts_invalidations_and_clears_are_linearizable() {
    const THREADS: usize = 4;
    let rounds = 3_000;
    let cache: Cache<u64, u64> = Cache::builder().max_entries(100).build().unwrap();
    let values = AtomicU64::new(1);
    for round in 0..rounds {
        cache.clear();
        let (recorder, start) = (Recorder::default(), Barrier::new(THREADS));
        thread::scope(|scope| {
            for thread in 0..THREADS as u64 {
                let (cache, recorder, values, start) = (&cache, &recorder, &values, &start);
                scope.spawn(move || {
                    start.wait();
                    work(cache, recorder, values, round * THREADS as u64 + thread);
                });
            }
        });
        let mut events = recorder.events.into_inner().unwrap();
        // A value that a joined call was told was published before that call returned.
        let told: Vec<Event> = events.iter().filter(|event| matches!(event.what, What::Told(_))).cloned().collect();
        for event in &mut events {
            if let What::Publish(value) = event.what {
                for told in told.iter().filter(|told| told.what == What::Told(value)) {
                    event.to = event.to.min(told.to);
                }
            }
        }
        events.sort_by_key(|event| event.from);
        assert!(is_linearizable(&events), "round {round}: {events:#?}");
    }
    let snapshot = cache.snapshot();
    assert!(snapshot.loads_voided > 2 && snapshot.loads_joined > 2, "nothing was under test: {snapshot:?}");
}

#[test]
fn the_checker_finds_what_is_wrong() {
    let event = |from, to, what| Event { from, to, what };
    let lead = [event(0, 1, What::Lead(7)), event(4, 9, What::Publish(7))];
    let with = |more: &[Event]| is_linearizable(&[&lead, more].concat());
    assert!(with(&[event(10, 11, What::Get(Some(7)))]));
    assert!(with(&[event(2, 3, What::Invalidate(false)), event(10, 11, What::Get(None))]));
    assert!(!with(&[event(2, 3, What::Invalidate(false)), event(10, 11, What::Get(Some(7)))]), "stale");
    assert!(!with(&[event(2, 3, What::Insert(8)), event(10, 11, What::Get(Some(7)))]), "old wins");
    assert!(!with(&[event(2, 3, What::Clear), event(5, 11, What::Told(7))]), "joins what was voided");
    assert!(!with(&[event(2, 3, What::Lead(8)), event(4, 12, What::Publish(8))]), "two loads");
}

/// How somebody who has changed the truth tells the cache.
type Tell = fn(&Cache<u64, u64>, u64);

/// A writer counts a number up and tells the cache each time; nobody who asks after it was
/// told may see a smaller one.
fn never_stale(tell: Tell) -> CacheSnapshot {
    let cache: Cache<u64, u64> = Cache::builder().max_entries(100).build().unwrap();
    let (truth, told, is_over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let asked = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    let least = told.load(Ordering::SeqCst);
                    let load = || {
                        let read = truth.load(Ordering::SeqCst);
                        asked.fetch_add(1, Ordering::SeqCst);
                        if read % 3 == 0 {
                            thread::yield_now();
                        }
                        Ok::<_, Infallible>(Loaded::new(read).tag("all"))
                    };
                    let seen = cache.get_or_load_blocking(&1, load).unwrap();
                    assert!(seen >= least, "{seen} after {least} was told");
                    // With few processors, one that never waits would keep the others out.
                    thread::yield_now();
                    let seen = cache.get(&1);
                    assert!(seen.is_none_or(|seen| seen >= least), "{seen:?} after {least} was told");
                }
            });
        }
        // However it ends, the others are to end, too.
        let over = OnDrop(&is_over);
        for number in 1..=200_000 {
            truth.store(number, Ordering::SeqCst);
            tell(&cache, number);
            told.store(number, Ordering::SeqCst);
            // Somebody has to load in between, or all this happens in one go.
            let so_far = asked.load(Ordering::SeqCst);
            for _ in 0..20 {
                if asked.load(Ordering::SeqCst) > so_far {
                    break;
                }
                thread::yield_now();
            }
            spin(number % 11);
            // Until enough loads were overtaken, however the threads are scheduled.
            if number % 100 == 0 && number >= 1_000 && is_busy(&cache.snapshot()) {
                break;
            }
        }
        drop(over);
    });
    cache.snapshot()
}

struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Whether the test has tested anything.
fn is_busy(snapshot: &CacheSnapshot) -> bool {
    snapshot.loads > 50 && snapshot.loads_voided > 2
}

fn assert_busy(snapshot: &CacheSnapshot) {
    assert!(is_busy(snapshot), "{snapshot:?}");
}

#[test]
fn nothing_is_stale_after_invalidate() {
    assert_busy(&never_stale(|cache, _| {
        cache.invalidate(&1);
    }));
}

#[test]
fn nothing_is_stale_after_clear() {
    assert_busy(&never_stale(|cache, _| cache.clear()));
}

#[test]
fn nothing_is_stale_after_a_tag_was_invalidated() {
    assert_busy(&never_stale(|cache, _| cache.invalidate_tag("all")));
}

#[test]
fn nothing_is_stale_after_a_predicate() {
    assert_busy(&never_stale(|cache, number| {
        cache.invalidate_if(|_, value| *value < number);
    }));
}

/// Every other time the key is gone first, so that there are loads to overtake.
#[test]
fn nothing_is_stale_after_insert() {
    assert_busy(&never_stale(|cache, number| {
        if number % 2 == 0 {
            cache.invalidate(&1);
        } else {
            cache.insert(1, number);
        }
    }));
}

#[test]
fn nothing_is_stale_after_a_newer_version() {
    assert_busy(&never_stale(|cache, number| {
        if number % 2 == 0 {
            cache.invalidate(&1);
        } else {
            cache.insert_if_newer(1, number, number);
        }
    }));
}

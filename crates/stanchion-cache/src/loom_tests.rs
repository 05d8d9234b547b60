//! The interleavings of the flights' protocol, with up to three preemptions, by loom.
//! Run by `cargo xtask loom`.
//!
//! A shard is modelled as what the protocol needs of it: a lock around the flights
//! and one key's value.

use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use loom::sync::{Arc, Mutex};
use loom::thread;
use stanchion_core::Moment;

use crate::flight::{Boarding, Flight, Flights, Seat};

type Load = std::sync::Arc<Flight<u64>>;

struct Shard {
    flights: Flights<u8, Flight<u64>>,
    value: Option<u64>,
}

#[derive(Clone)]
struct Cache {
    shard: Arc<Mutex<Shard>>,
    /// What loads read.
    truth: Arc<AtomicU64>,
    loads: Arc<AtomicU64>,
}

const KEY: u8 = 1;
const HASH: u32 = 7;

impl Cache {
    fn new(truth: u64) -> Self {
        let shard = Shard { flights: Flights::new(), value: None };
        Self {
            shard: Arc::new(Mutex::new(shard)),
            truth: Arc::new(AtomicU64::new(truth)),
            loads: Arc::new(AtomicU64::new(0)),
        }
    }

    /// As in `pilot.rs`, with `id` for the number of the load, should this one load.
    fn get_or_load(&self, id: u64) -> u64 {
        let mut shard = self.shard.lock().unwrap();
        if let Some(value) = shard.value {
            return value;
        }
        let boarding = shard.flights.board(HASH, KEY, id, Moment::default(), |_| false);
        drop(shard);
        match boarding {
            Boarding::Joins(flight) => {
                flight.join();
                let value = flight.wait(Duration::MAX).unwrap();
                assert!(flight.leave(&mut Seat::default()).is_none());
                value
            }
            Boarding::Leads(flight) => {
                self.loads.fetch_add(1, SeqCst);
                let value = self.truth.load(SeqCst);
                self.publish(&flight, value);
                value
            }
        }
    }

    fn publish(&self, flight: &Load, value: u64) {
        let mut shard = self.shard.lock().unwrap();
        if shard.flights.stands(HASH, flight.id()) {
            drop(shard.flights.void(HASH, &KEY));
            shard.value = Some(value);
        }
        drop(shard);
        flight.land(value);
    }

    fn invalidate(&self) {
        let mut shard = self.shard.lock().unwrap();
        drop(shard.flights.void(HASH, &KEY));
        shard.value = None;
    }

    fn insert(&self, value: u64) {
        let mut shard = self.shard.lock().unwrap();
        drop(shard.flights.void(HASH, &KEY));
        shard.value = Some(value);
    }

    fn value(&self) -> Option<u64> {
        self.shard.lock().unwrap().value
    }
}

fn explore(body: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.max_branches = 10_000;
    model.check(body);
}

#[test]
fn loom_two_who_ask_at_once_load_once() {
    explore(|| {
        let cache = Cache::new(5);
        let other = thread::spawn({
            let cache = cache.clone();
            move || cache.get_or_load(1)
        });
        assert_eq!(cache.get_or_load(2), 5);
        assert_eq!(other.join().unwrap(), 5);
        assert_eq!(cache.loads.load(SeqCst), 1);
        assert_eq!(cache.value(), Some(5));
    });
}

#[test]
fn loom_nothing_older_than_an_invalidation_is_kept_or_seen_after_it() {
    explore(|| {
        let cache = Cache::new(5);
        let other = thread::spawn({
            let cache = cache.clone();
            move || cache.get_or_load(1)
        });
        cache.truth.store(6, SeqCst);
        cache.invalidate();
        assert_eq!(cache.get_or_load(2), 6);
        other.join().unwrap();
        assert_eq!(cache.value(), Some(6));
    });
}

#[test]
fn loom_an_insert_wins_over_a_load_that_had_begun() {
    explore(|| {
        let cache = Cache::new(5);
        let other = thread::spawn({
            let cache = cache.clone();
            move || cache.get_or_load(1)
        });
        cache.insert(6);
        assert_eq!(cache.value(), Some(6));
        assert!([5, 6].contains(&other.join().unwrap()));
        assert_eq!(cache.value(), Some(6));
    });
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

#[test]
fn loom_a_task_that_waits_is_woken() {
    explore(|| {
        let flight = Arc::new(Flight::new(1, Moment::default()));
        let pilot = thread::spawn({
            let flight = flight.clone();
            move || flight.land(5)
        });
        let woken = std::sync::Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(woken.clone());
        let mut seat = Seat::default();
        flight.join();
        let first = flight.poll(&mut seat, &mut Context::from_waker(&waker));
        pilot.join().unwrap();
        match first {
            Poll::Ready(value) => assert_eq!(value, 5),
            Poll::Pending => {
                assert!(woken.0.load(SeqCst));
                assert_eq!(flight.poll(&mut seat, &mut Context::from_waker(&waker)), Poll::Ready(5));
            }
        }
        assert!(flight.leave(&mut seat).is_none());
    });
}

/// Of two who give up the last one aborts, and nobody aborts what has landed.
#[test]
fn loom_the_last_who_leaves_ends_a_load() {
    explore(|| {
        let flight = Arc::new(Flight::<u64>::new(1, Moment::default()));
        flight.abort_with(|| ());
        flight.join();
        flight.join();
        let other = thread::spawn({
            let flight = flight.clone();
            move || flight.leave(&mut Seat::default()).is_some()
        });
        let pilot = thread::spawn({
            let flight = flight.clone();
            move || flight.land(5)
        });
        let ours = flight.leave(&mut Seat::default()).is_some();
        let theirs = other.join().unwrap();
        pilot.join().unwrap();
        assert!(!(ours && theirs));
        assert_eq!(flight.ending(), Some(5));
    });
}

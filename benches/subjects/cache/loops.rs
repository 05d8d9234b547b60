//! What is done to each cache.

use std::any::Any;
use std::hint::black_box;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::runs::{self, Run, Samples};
use crate::workload::{self, SplitMix};

/// A cache of numbers by numbers, as far as all of them are alike.
pub trait Subject: Send + Sync + 'static {
    /// The value, if it is there.
    fn look_up(&self, key: u64) -> Option<u64>;

    /// Puts a value in.
    fn put(&self, key: u64, value: u64);

    /// Does what it has put off.
    fn settle(&self) {}
}

/// Seconds: nothing ends while it is measured.
pub(super) const HOUR: u64 = 3_600;

/// A cache for so many has [`HOT`] in it, so that nobody must evict.
const ROOMY: usize = 10_000;
const HOT: usize = 1_000;
/// Keys in the order in which they are asked for, again and again: a power of two.
const ASKED: usize = 1 << 14;
/// A tenth of the keys of the Zipf workload.
const TIGHT: usize = 10_000;
/// References of the workload that make the cache what it will be.
const WARM_UP: usize = 50_000;
/// Entries where each insert is timed by itself: more than the CPU's caches hold.
const LARGE: usize = 200_000;

/// With the hot keys in it.
pub(super) fn hot<C: Subject>(make: impl Fn(usize) -> C) -> C {
    let cache = make(ROOMY);
    for key in SplitMix(1).take(HOT) {
        cache.put(key, !key);
    }
    cache.settle();
    assert!(SplitMix(1).take(HOT).all(|key| cache.look_up(key) == Some(!key)));
    cache
}

/// The hot keys, in no order, for ever.
pub(super) fn hot_keys() -> impl FnMut() -> u64 + 'static {
    let asked = asked();
    let mut place = 0;
    move || {
        let key = asked[place % ASKED];
        place = place.wrapping_add(1);
        key
    }
}

fn asked() -> &'static [u64] {
    static ASKED_KEYS: OnceLock<Vec<u64>> = OnceLock::new();
    ASKED_KEYS.get_or_init(|| {
        let keys: Vec<u64> = SplitMix(1).take(HOT).collect();
        let mut random = SplitMix(4);
        (0..ASKED).map(|_| keys[random.below(HOT as u64)]).collect()
    })
}

/// Reads keys that are there.
pub(super) fn hit<C: Subject>(make: fn(usize) -> C) -> Run {
    let cache = hot(make);
    let mut next = hot_keys();
    runs::one_thread(move || {
        black_box(cache.look_up(next()));
    })
}

/// The same by two threads, half a row of keys apart.
pub(super) fn hit_by_two<C: Subject>(make: fn(usize) -> C) -> Run {
    runs::two_threads(
        move || (hot(make), AtomicUsize::new(0)),
        |(cache, start), count| {
            let asked = asked();
            let mut place = start.fetch_add(ASKED / 2, Ordering::Relaxed);
            for _ in 0..count {
                black_box(cache.look_up(asked[place % ASKED]));
                place = place.wrapping_add(1);
            }
        },
    )
}

/// Reads a key that comes by Zipf's law, and puts it in if it isn't there.
pub(super) fn mixed<C: Subject>(make: fn(usize) -> C) -> Run {
    let cache = make(TIGHT);
    let mut next = workload::numbers().cycle();
    let mut operation = move || {
        let key = next();
        if black_box(cache.look_up(key)).is_none() {
            cache.put(key, !key);
        }
    };
    (0..WARM_UP).for_each(|_| operation());
    runs::one_thread(operation)
}

/// Puts a new key into a full cache.
pub(super) fn insert<C: Subject>(make: fn(usize) -> C) -> Run {
    runs::one_thread(new_keys(full(make, TIGHT)))
}

/// The same, each timed by itself, in a large cache.
pub(super) fn insert_sampled<C: Subject>(make: fn(usize) -> C) -> Samples {
    runs::each_timed(new_keys(full(make, LARGE)))
}

fn new_keys<C: Subject>(cache: C) -> impl FnMut() + 'static {
    let mut keys = SplitMix(5);
    move || {
        let key = keys.next().expect("the generator doesn't end");
        cache.put(key, !key);
    }
}

/// A cache into which twice as many were put as fit: whoever remembers what has left has
/// done so.
fn full<C: Subject>(make: fn(usize) -> C, capacity: usize) -> C {
    let cache = make(capacity);
    for key in SplitMix(6).take(2 * capacity) {
        cache.put(key, !key);
    }
    cache.settle();
    cache
}

/// The same, to be weighed.
pub(super) fn weighed<C: Subject>(make: fn(usize) -> C, capacity: usize) -> Box<dyn Any> {
    Box::new(full(make, capacity))
}

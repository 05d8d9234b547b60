//! The budget is never exceeded, whoever inserts, and is used.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use stanchion_cache::{Cache, Eviction, Loaded, Random, RemovalCause};

const EVICTIONS: [Eviction; 3] = [Eviction::Hybrid, Eviction::S3Fifo, Eviction::Lru];

/// A value that counts how much of it there is.
#[derive(Clone)]
struct Counted(Arc<Inner>);

struct Inner {
    weight: u64,
    alive: Arc<(AtomicU64, AtomicU64)>,
}

impl Counted {
    fn new(weight: u64, alive: &Arc<(AtomicU64, AtomicU64)>) -> Self {
        alive.0.fetch_add(1, Ordering::SeqCst);
        alive.1.fetch_add(weight, Ordering::SeqCst);
        Self(Arc::new(Inner { weight, alive: alive.clone() }))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.alive.0.fetch_sub(1, Ordering::SeqCst);
        self.alive.1.fetch_sub(self.weight, Ordering::SeqCst);
    }
}

/// Single-threaded, so that what is alive is what the cache holds.
#[test]
fn after_each_operation_the_cache_holds_no_more_than_its_budget() {
    for eviction in EVICTIONS {
        for seed in 0..30 {
            let alive = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
            let mut random = Random::seeded(seed).run();
            let (mut entries, mut weight) = (1 + random.up_to(60), 1 + random.up_to(500));
            let cache: Cache<u64, Counted> = Cache::builder()
                .max_entries(entries)
                .max_weight(weight)
                .weigher(|_, value: &Counted| value.0.weight)
                .eviction(eviction)
                .shards(1 << random.up_to(4))
                .build()
                .unwrap();
            for step in 0..2_000 {
                let key = random.up_to(150);
                match random.up_to(20) {
                    0 => _ = cache.invalidate(&key),
                    1 => _ = cache.pin(&key),
                    2 => _ = cache.unpin(&key),
                    3 if step % 100 == 0 => {
                        (entries, weight) = (1 + random.up_to(60), 1 + random.up_to(500));
                        for key in 0..150 {
                            cache.unpin(&key);
                        }
                        cache.resize(entries, Some(weight)).unwrap();
                    }
                    4..10 => drop(cache.get(&key)),
                    _ => cache.insert(key, Counted::new(random.up_to(80), &alive)),
                }
                let snapshot = cache.snapshot();
                let held = (alive.0.load(Ordering::SeqCst), alive.1.load(Ordering::SeqCst));
                assert_eq!(held, (snapshot.entries, snapshot.weight), "seed {seed}, step {step}");
                assert!(held.0 <= entries && held.1 <= weight, "{held:?} of {entries}, {weight}; seed {seed}");
            }
            cache.clear();
            assert_eq!(alive.0.load(Ordering::SeqCst), 0);
        }
    }
}

/// Whoever looks at the entries, at any time, sees no more than there may be; and in the
/// end what is free is free for use.
#[test]
fn concurrent_inserts_never_exceed_the_budget() {
    for eviction in EVICTIONS {
        let cache: Cache<u64, u64> =
            Cache::builder().max_entries(500).max_weight(2_000).eviction(eviction).shards(8).build().unwrap();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let writers: Vec<_> = (0..4)
                .map(|seed| {
                    let cache = &cache;
                    scope.spawn(move || {
                        let mut random = Random::seeded(seed).run();
                        for _ in 0..20_000 {
                            let key = random.up_to(2_000);
                            match random.up_to(9) {
                                0 => _ = cache.invalidate(&key),
                                1 => cache.clear_sometimes(random.up_to(200)),
                                _ => _ = cache.insert_loaded(key, Loaded::new(key).weight(random.up_to(20))),
                            }
                        }
                    })
                })
                .collect();
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    // Shard by shard, while entries move between them: at most what is there, and
                    // what comes in place of what was counted already. So only the budget itself is exact.
                    let snapshot = cache.snapshot();
                    assert!(snapshot.reserved_entries <= 500 && snapshot.reserved_weight <= 2_000, "{snapshot:?}");
                }
            });
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            is_over.store(true, Ordering::SeqCst);
        });
        let snapshot = cache.snapshot();
        assert_eq!((snapshot.reserved_entries, snapshot.reserved_weight), (snapshot.entries, snapshot.weight));
        assert!(snapshot.entries <= 500 && snapshot.weight <= 2_000);
        // Nothing of the budget was lost on the way.
        cache.clear();
        (0..500).for_each(|key| cache.insert(key, key));
        assert_eq!(cache.len(), 500);
    }
}

trait Sometimes {
    fn clear_sometimes(&self, chance: u64);
}

impl Sometimes for Cache<u64, u64> {
    fn clear_sometimes(&self, chance: u64) {
        if chance == 0 {
            self.clear();
        }
    }
}

#[test]
fn a_shard_that_is_poor_takes_from_the_rich() {
    let cache: Cache<u64, u64> = Cache::builder().max_entries(1_000).shards(4).seed(3).build().unwrap();
    (0..1_000).for_each(|key| cache.insert(key, key));
    // Each of the new ones finds a place and stays until the next thousand have come.
    for key in 1_000..1_100 {
        cache.insert(key, key);
        assert_eq!(cache.get(&key), Some(key));
        assert_eq!(cache.len(), 1_000);
    }
}

#[test]
fn what_is_pinned_stays_and_the_rest_is_refused() {
    let causes = Arc::new(Mutex::new(Vec::new()));
    let told = causes.clone();
    let cache: Cache<u64, u64> = Cache::builder()
        .max_entries(4)
        .on_removal(move |key, _, cause| told.lock().unwrap().push((*key, cause)))
        .build()
        .unwrap();
    (0..4).for_each(|key| cache.insert(key, key));
    assert!((0..3).all(|key| cache.pin(&key)));
    assert!(!cache.pin(&99));
    (10..20).for_each(|key| cache.insert(key, key));
    assert!((0..3).all(|key| cache.contains(&key)));
    assert_eq!(cache.get(&19), Some(19), "the last place is for the others");
    assert!(cache.pin(&19));
    causes.lock().unwrap().clear();
    assert!(!cache.insert_loaded(30, Loaded::new(30)));
    assert_eq!(*causes.lock().unwrap(), [(30, RemovalCause::Refused)]);
    // A pinned entry can be replaced, and stays pinned; and it can be invalidated.
    cache.insert(0, 100);
    assert!(cache.entry_info(&0).unwrap().is_pinned);
    assert_eq!(cache.snapshot().pinned, 4);
    assert!(cache.invalidate(&0));
    assert_eq!(cache.snapshot().pinned, 3);
    cache.insert(31, 31);
    assert_eq!(cache.get(&31), Some(31));
    assert!(cache.unpin(&1));
    cache.insert(32, 32);
    cache.insert(33, 33);
    assert_eq!(cache.len(), 4);
    assert!(cache.contains(&2) && cache.contains(&19));
}

#[test]
fn a_resize_evicts_before_it_returns() {
    let cache: Cache<u64, u64> = Cache::builder().max_entries(1_000).build().unwrap();
    (0..1_000).for_each(|key| cache.insert(key, key));
    cache.resize(100, None).unwrap();
    assert_eq!(cache.len(), 100);
    cache.resize(200, Some(150)).unwrap();
    (0..1_000).for_each(|key| cache.insert(key, key));
    assert_eq!((cache.len(), cache.snapshot().max_weight), (150, Some(150)));
    assert_eq!(cache.resize(0, None).unwrap_err().field(), "max_entries");
    assert_eq!(cache.snapshot().max_entries, 200);
}

//! What comes from outside: a clear error or the stated policy, never a panic of ours.

use std::cell::Cell;
use std::convert::Infallible;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stanchion_cache::{Cache, CacheConfig, Clock, Eviction, LoadError, Loaded, ManualClock, Moment, RemovalCause};

fn refused(change: impl FnOnce(&mut CacheConfig)) -> String {
    let mut config = CacheConfig::default();
    change(&mut config);
    Cache::<u64, u64>::from_config("users", &config).unwrap_err().to_string()
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    assert_eq!(refused(|config| config.max_entries = 0), "max_entries is 0: must be 1 to 4000000000");
    assert_eq!(refused(|config| config.max_entries = u64::MAX).split(' ').next(), Some("max_entries"));
    assert_eq!(refused(|config| config.max_weight = Some(0)), "max_weight is 0: must be at least 1");
    let zero = Some(Duration::ZERO);
    for (field, text) in [
        ("ttl", refused(|config| config.ttl = zero)),
        ("idle_ttl", refused(|config| config.idle_ttl = zero)),
        ("negative_ttl", refused(|config| config.negative_ttl = zero)),
        ("ttl_jitter", refused(|config| config.ttl_jitter = f64::NAN)),
        ("ttl_jitter", refused(|config| config.ttl_jitter = 1.1)),
        ("refresh_ahead", refused(|config| config.refresh_ahead = Some(1.0))),
        ("refresh_ahead", refused(|config| config.refresh_ahead = Some(f64::NAN))),
        ("early_refresh", refused(|config| config.early_refresh = Some(0.0))),
        ("early_refresh", refused(|config| config.early_refresh = Some(f64::INFINITY))),
        ("load_timeout", refused(|config| config.load_timeout = Duration::ZERO)),
        ("load_timeout", refused(|config| config.load_timeout = Duration::MAX)),
        ("load_timeout_soft", refused(|config| config.load_timeout_soft = Some(config.load_timeout))),
        ("load_cost", refused(|config| config.load_cost = f64::INFINITY)),
    ] {
        assert!(text.starts_with(&format!("{field} is ")), "{text}");
    }
}

#[test]
fn the_longest_times_are_for_ever() {
    let clock = ManualClock::new();
    let builder = Cache::builder().ttl(Duration::MAX).ttl_jitter(1.0).stale_if_error(Duration::MAX);
    let builder = builder.stale_while_revalidate(Duration::MAX).idle_ttl(Duration::MAX).refresh_ahead(0.5);
    let cache: Cache<u64, u64> = builder.clock(clock.clone()).build().unwrap();
    cache.insert(1, 1);
    clock.advance(Duration::from_secs(500 * 365 * 86_400));
    assert_eq!(cache.get(&1), Some(1));
    assert_eq!(cache.entry_info(&1).unwrap().expires_in, None);
    assert_eq!(cache.sweep(1_000), 0);
}

#[test]
fn the_smallest_cache_holds_one() {
    for eviction in [Eviction::Hybrid, Eviction::S3Fifo, Eviction::Lru] {
        let cache: Cache<u64, u64> =
            Cache::builder().max_entries(1).eviction(eviction).shards(usize::MAX).build().unwrap();
        for key in 0..100 {
            cache.insert(key, key);
            assert_eq!((cache.get(&key), cache.len()), (Some(key), 1));
        }
    }
}

#[test]
fn weights_beyond_all_bounds_are_refused() {
    let cache: Cache<u64, u64> = Cache::builder().weigher(|_, weight| *weight).build().unwrap();
    cache.insert(1, u64::MAX);
    cache.insert(2, u64::from(u32::MAX));
    assert_eq!((cache.get(&1), cache.get(&2)), (None, Some(u64::from(u32::MAX))));
    cache.insert(2, u64::MAX);
    assert_eq!(cache.len(), 0, "the old value goes all the same");
}

/// It jumps forward by a century and back again. `Clock` stands still when a source steps back.
#[test]
fn a_clock_that_jumps_expires_things_early_at_worst() {
    let time = Arc::new(AtomicU64::new(1_000_000_000));
    let source = time.clone();
    let clock = Clock::custom(move || Moment::from_nanos(source.load(Ordering::SeqCst)));
    let cache: Cache<u64, u64> = Cache::builder().ttl(Duration::from_secs(10)).clock(clock).build().unwrap();
    cache.insert(1, 1);
    time.store(0, Ordering::SeqCst);
    assert_eq!(cache.get(&1), Some(1));
    time.store(u64::MAX / 2, Ordering::SeqCst);
    assert_eq!(cache.get(&1), None);
    cache.insert(1, 2);
    time.store(5, Ordering::SeqCst);
    assert_eq!(cache.get(&1), Some(2));
    time.store(u64::MAX, Ordering::SeqCst);
    assert_eq!(cache.get(&1), None);
}

thread_local! {
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

/// Panics when the countdown reaches one.
fn tick() {
    PANICS.set(PANICS.get().saturating_sub(1));
    if PANICS.get() == 1 {
        PANICS.set(0);
        panic!("injected");
    }
}

/// Everything of it may panic.
#[derive(Debug)]
struct Nasty(u64);

impl Hash for Nasty {
    fn hash<H: Hasher>(&self, state: &mut H) {
        tick();
        self.0.hash(state);
    }
}

impl PartialEq for Nasty {
    fn eq(&self, other: &Self) -> bool {
        tick();
        self.0 == other.0
    }
}

impl Eq for Nasty {}

impl Clone for Nasty {
    fn clone(&self) -> Self {
        tick();
        Self(self.0)
    }
}

impl Drop for Nasty {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            tick();
        }
    }
}

/// Whatever of the user's panics, wherever: the cache goes on, and its books are right.
#[test]
fn a_panic_in_hash_eq_clone_drop_weigher_or_listener_leaves_the_cache_consistent() {
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|info| {
        if !info.to_string().contains("injected") {
            eprintln!("{info}")
        }
    }));
    let cache: Cache<Nasty, Nasty> = Cache::builder()
        .max_entries(20)
        .max_weight(60)
        .weigher(|_, value: &Nasty| {
            tick();
            value.0 % 5
        })
        .on_removal(|_, _, _| tick())
        .seed(1)
        .shards(2)
        .build()
        .unwrap();
    let mut panics = 0;
    for step in 0..3_000_u64 {
        // Each operation panics at each of its first points in turn.
        PANICS.set(u32::try_from(step % 37).unwrap() + 1);
        let key = step * 7 % 40;
        let result = catch_unwind(AssertUnwindSafe(|| match step % 5 {
            0 => drop(cache.get(&Nasty(key))),
            1 => _ = cache.invalidate(&Nasty(key)),
            2 => drop(cache.get_or_load_blocking(&Nasty(key), || {
                tick();
                if step % 3 == 0 { Err("down") } else { Ok(Nasty(step)) }
            })),
            3 => _ = cache.invalidate_if(|_, value| value.0 % 11 == 0),
            _ => cache.insert(Nasty(key), Nasty(step)),
        }));
        PANICS.set(0);
        panics += u32::from(result.is_err());
        let snapshot = cache.snapshot();
        assert!(snapshot.entries <= 20 && snapshot.weight <= 60, "{snapshot:?}");
        assert_eq!((snapshot.reserved_entries, snapshot.reserved_weight), (snapshot.entries, snapshot.weight));
        assert_eq!(snapshot.loading, 0, "step {step}");
    }
    std::panic::set_hook(quiet);
    assert!(panics > 100, "{panics}");
    cache.clear();
    for key in 0..20 {
        cache.insert(Nasty(key), Nasty(5));
    }
    assert_eq!((0..20).filter(|key| cache.get(&Nasty(*key)).is_some()).count(), 20);
}

#[test]
fn a_listener_is_told_of_each_value_that_leaves_and_may_use_the_cache() {
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let notes = told.clone();
    let shared: Arc<std::sync::OnceLock<Cache<u64, u64>>> = Arc::default();
    let inside = shared.clone();
    let cache: Cache<u64, u64> = Cache::builder()
        .max_entries(2)
        .on_removal(move |key, value, cause| {
            // Under a lock this would never come back.
            if let Some(cache) = inside.get() {
                cache.invalidate(&1_000);
                cache.get(key);
            }
            notes.lock().unwrap().push((*key, *value, cause));
        })
        .build()
        .unwrap();
    let _ = shared.set(cache.clone());
    cache.insert(1, 1);
    cache.insert(1, 2);
    cache.invalidate(&1);
    cache.insert_loaded(1, Loaded::new(3).ttl(Duration::from_nanos(1)));
    (10..13).for_each(|key| cache.insert(key, key));
    cache.clear();
    let told = told.lock().unwrap();
    assert_eq!(told[..2], [(1, 1, RemovalCause::Replaced), (1, 2, RemovalCause::Invalidated)]);
    let count = |cause| told.iter().filter(|(_, _, found)| *found == cause).count();
    assert_eq!(count(RemovalCause::Invalidated), 3, "{told:?}");
    assert_eq!(count(RemovalCause::Evicted) + count(RemovalCause::Expired), 2, "{told:?}");
    assert_eq!(told.len(), 6);
}

#[test]
fn a_loader_that_panics_in_a_thread_is_an_error() {
    let cache: Cache<u64, u64> = Cache::builder().build().unwrap();
    let result = cache.get_or_load_blocking(&1, || {
        if cache.snapshot().loading == 1 {
            panic!("no {}", "luck");
        }
        Ok::<u64, Infallible>(1)
    });
    assert!(matches!(&result, Err(LoadError::Panicked(message)) if &**message == "no luck"), "{result:?}");
    assert_eq!(cache.get_or_load_blocking(&1, || Ok::<_, Infallible>(5)).unwrap(), 5);
}

//! A value of which nothing is said gets in by a short way. It does what the long one does.

use std::sync::Arc;
use std::time::Duration;

use stanchion_cache::{Cache, CacheBuilder, Eviction, Loaded, ManualClock, Random};

const EVICTIONS: [Eviction; 3] = [Eviction::Hybrid, Eviction::S3Fifo, Eviction::Lru];
const KEYS: u64 = 120;

/// Does the same to two caches of one seed. To one of them somebody listens, who is told of each value:
/// it never goes the short way.
#[test]
fn the_short_way_does_what_the_long_one_does() {
    for (seed, eviction) in (0..42).zip(EVICTIONS.into_iter().cycle()) {
        let mut random = Random::seeded(seed).run();
        let clock = ManualClock::new();
        clock.advance(Duration::from_secs(1));
        let ttl = Duration::from_millis(1 + random.up_to(400));
        let (is_timed, is_idle_timed, has_grace) = (seed % 2 == 0, seed % 7 == 0, seed % 3 == 0);
        let (most, shards) = (1 + random.up_to(90), 1 << random.up_to(3));
        let is_rarely_odd = seed % 5 > 0;
        let build = |builder: CacheBuilder<u64, u64>| {
            let mut builder = builder.max_entries(most).shards(shards).seed(seed).clock(clock.clone());
            builder = builder.eviction(eviction).negative_ttl(ttl);
            if is_timed {
                builder = builder.ttl(ttl);
            }
            if is_idle_timed {
                builder = builder.idle_ttl(ttl);
            }
            if has_grace {
                builder = builder.stale_while_revalidate(ttl / 3);
            }
            builder.build().unwrap()
        };
        let (short, long) = (build(Cache::builder()), build(Cache::builder().on_removal(|_, _, _| {})));
        let both = |act: &dyn Fn(&Cache<u64, u64>)| [&short, &long].into_iter().for_each(act);
        for step in 0..2_000 {
            let (key, number) = (random.up_to(KEYS), random.up_to(9));
            let what = if is_rarely_odd && step % 100 > 0 { 15 + random.up_to(15) } else { random.up_to(30) };
            match what {
                0 => both(&|cache| _ = cache.insert_loaded(key, Loaded::new(step).ttl(ttl / 2))),
                1 => both(&|cache| _ = cache.insert_loaded(key, Loaded::new(step).weight(number))),
                2 => both(&|cache| _ = cache.insert_loaded(key, Loaded::new(step).tag("a"))),
                3 => both(&|cache| _ = cache.insert_loaded(key, Loaded::absent())),
                4 => both(&|cache| _ = cache.insert_if_newer(key, step, number)),
                5 => both(&|cache| cache.invalidate_tag("a")),
                6 => both(&|cache| _ = cache.pin(&key)),
                7 => both(&|cache| (0..=KEYS).for_each(|key| _ = cache.unpin(&key))),
                8 => both(&|cache| cache.resize(1 + most.min(number * 10), (key > 60).then_some(50)).unwrap()),
                9 => both(&|cache| _ = cache.sweep(8)),
                10 if number == 0 => both(&|cache| cache.clear()),
                11..16 => both(&|cache| _ = cache.invalidate(&key)),
                16 => clock.advance(ttl / 5),
                17..23 => both(&|cache| _ = cache.get(&(key / 3))),
                _ => both(&|cache| cache.insert(key, step)),
            }
            for key in 0..=KEYS {
                let [one, other] = [&short, &long].map(|cache| (cache.entry_info(&key), cache.contains(&key)));
                assert_eq!(one, other, "seed {seed}, step {step}, key {key}");
            }
            assert_eq!(short.snapshot(), long.snapshot(), "seed {seed}, step {step}");
        }
        for key in 0..=KEYS {
            assert_eq!(short.get(&key), long.get(&key), "seed {seed}, key {key}");
        }
    }
}

/// Whoever is displaced, and its key, is gone when the insert has returned.
#[test]
fn nothing_that_was_displaced_is_kept() {
    let (key, value) = (Arc::new(0_u64), Arc::new(()));
    let cache: Cache<(u64, Arc<u64>), Arc<()>> = Cache::builder().max_entries(50).build().unwrap();
    for number in 0..1_000 {
        cache.insert((number % 70, key.clone()), value.clone());
        let alive = cache.len() + 1;
        assert!(alive <= 51);
        assert_eq!((Arc::strong_count(&key), Arc::strong_count(&value)), (alive, alive));
    }
}

/// What is put in without a load is refreshed early like any other: the short way isn't for such a cache.
#[test]
fn what_was_put_in_is_refreshed_ahead() {
    let clock = ManualClock::new();
    let builder = Cache::builder().max_entries(10).ttl(Duration::from_secs(10)).refresh_ahead(0.5);
    let cache: Cache<u64, u64> = builder.clock(clock.clone()).build().unwrap();
    cache.insert(1, 10);
    let load = |value| cache.get_or_load_blocking(&1, || Ok::<u64, std::convert::Infallible>(value)).unwrap();
    clock.advance(Duration::from_millis(4_999));
    assert_eq!((load(11), cache.get(&1)), (10, Some(10)));
    clock.advance(Duration::from_millis(1));
    load(12);
    assert_eq!(cache.get(&1), Some(12));
}

/// Whatever else is known of an entry, it ends when it ends.
#[test]
fn an_entry_with_a_tag_ends_as_one_without() {
    let clock = ManualClock::new();
    let builder = Cache::builder().max_entries(10).ttl(Duration::from_secs(10));
    let cache: Cache<u64, u64> = builder.clock(clock.clone()).build().unwrap();
    cache.insert_loaded(1, Loaded::new(10).tag("a"));
    cache.insert(2, 20);
    clock.advance(Duration::from_nanos(9_999_999_999));
    assert_eq!((cache.get(&1), cache.get(&2)), (Some(10), Some(20)));
    clock.advance(Duration::from_nanos(1));
    assert_eq!((cache.get(&1), cache.get(&2)), (None, None));
}

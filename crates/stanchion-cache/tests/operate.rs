//! Tags, versions, introspection, statistics, several caches, the janitor.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use stanchion_cache::{Cache, CacheConfig, Caches, Loaded, ManualClock};

fn cache() -> Cache<u64, u64> {
    Cache::builder().max_entries(1_000).build().unwrap()
}

#[test]
fn a_tag_takes_all_its_values_and_no_others() {
    let cache = cache();
    for key in 0..100 {
        let tags = Loaded::new(key).tag(format!("tenant:{}", key % 10)).tag("users");
        cache.insert_loaded(key, tags);
    }
    cache.invalidate_tag("tenant:7");
    cache.invalidate_tag("nobody");
    let left: Vec<u64> = (0..100).filter(|key| cache.get(key).is_some()).collect();
    assert_eq!(left.len(), 90);
    assert!(left.iter().all(|key| key % 10 != 7));
    // What comes after the mark is not touched by it.
    cache.insert_loaded(7, Loaded::new(70).tag("tenant:7"));
    assert_eq!(cache.get(&7), Some(70));
    // They give their room back to whoever sweeps.
    assert_eq!(cache.len(), 91 + 9);
    let swept: u64 = (0..100).map(|_| cache.sweep(100)).sum();
    assert_eq!((swept, cache.len()), (9, 91));
    cache.invalidate_tag("users");
    assert_eq!((0..100).filter(|key| cache.contains(key)).collect::<Vec<_>>(), [7], "tagged anew without it");
}

#[test]
fn tags_beyond_what_is_remembered_cost_values_and_not_truth() {
    let cache = cache();
    cache.insert_loaded(1, Loaded::new(1).tag("first"));
    cache.insert(2, 2);
    cache.invalidate_tag("first");
    for tag in 0..10_000 {
        cache.invalidate_tag(format!("tag-{tag}"));
    }
    assert_eq!((cache.get(&1), cache.get(&2)), (None, Some(2)));
    cache.insert_loaded(1, Loaded::new(11).tag("first"));
    assert_eq!(cache.get(&1), Some(11));
}

#[test]
fn an_older_version_never_takes_a_newer_ones_place() {
    let cache = cache();
    assert!(cache.insert_if_newer(1, 20, 2));
    assert!(!cache.insert_if_newer(1, 21, 2), "the same is not newer");
    assert!(!cache.insert_loaded(1, Loaded::new(10).version(1)));
    assert_eq!(cache.get(&1), Some(20));
    assert!(cache.insert_loaded(1, Loaded::new(22).version(2)), "whoever says so may put the same version");
    assert_eq!(cache.get_or_load_blocking(&1, || Ok::<_, Infallible>(0)).unwrap(), 22);
    assert!(!cache.invalidate_older(&1, 2));
    assert!(cache.invalidate_older(&1, 3));
    assert_eq!(cache.get(&1), None);
}

/// A load that read an older version than what an event has put in meanwhile.
#[test]
fn a_refused_version_voids_no_load_and_an_older_load_is_not_kept() {
    let cache = cache();
    let told = cache.get_or_load_blocking(&1, || {
        assert!(!cache.insert_if_newer(2, 0, 0) || cache.invalidate(&2));
        Ok::<_, Infallible>(Loaded::new(10).version(1))
    });
    assert_eq!((told.unwrap(), cache.get(&1)), (10, Some(10)));
    cache.clear();
    let told = cache.get_or_load_blocking(&1, || {
        cache.insert_if_newer(1, 20, 2);
        Ok::<_, Infallible>(Loaded::new(10).version(1))
    });
    assert_eq!((told.unwrap(), cache.get(&1)), (10, Some(20)));
}

#[test]
fn a_predicate_takes_what_it_matches() {
    let cache = cache();
    (0..500).for_each(|key| cache.insert(key, key * 2));
    assert_eq!(cache.invalidate_if(|key, value| *key < 100 && value % 4 == 0), 50);
    assert_eq!(cache.len(), 450);
    // It may use the cache.
    // It runs outside of locks, and may use the cache.
    assert_eq!(cache.invalidate_if(|key, _| *key >= 400 && cache.invalidate(&(key - 400))), 50);
    assert_eq!(cache.len(), 350);
}

#[test]
fn an_entry_can_be_looked_at_without_being_touched() {
    let clock = ManualClock::new();
    let cache: Cache<u64, u64> =
        Cache::builder().ttl(Duration::from_secs(10)).weigher(|_, value| *value).clock(clock.clone()).build().unwrap();
    cache.insert_loaded(1, Loaded::new(5).tag("a").version(3));
    cache.pin(&1);
    clock.advance(Duration::from_secs(4));
    let info = cache.entry_info(&1).unwrap();
    assert!(info.is_fresh && info.is_pinned && !info.is_absent && !info.is_loading);
    assert_eq!((info.weight, info.version, info.tags), (5, 3, 1));
    assert_eq!(info.expires_in, Some(Duration::from_secs(6)));
    clock.advance(Duration::from_secs(6));
    assert!(!cache.entry_info(&1).unwrap().is_fresh);
    assert_eq!(cache.entry_info(&2), None);
    assert_eq!(cache.snapshot().misses, 0);
}

#[test]
fn the_snapshot_counts() {
    let cache: Cache<u64, u64> = Cache::builder().name("users").max_entries(2).load_cost(0.5).build().unwrap();
    let load = |key: u64| cache.get_or_load_blocking(&key, move || Ok::<_, &str>(key));
    assert_eq!(load(1).unwrap(), 1);
    for _ in 0..3 {
        load(1).unwrap();
    }
    assert!(cache.get_or_load_blocking(&9, || Err::<u64, _>("down")).is_err());
    cache.insert(2, 2);
    cache.insert(2, 3);
    cache.insert(3, 3);
    cache.invalidate(&3);
    let snapshot = cache.snapshot();
    assert_eq!((snapshot.name.as_str(), snapshot.max_entries, snapshot.max_weight), ("users", 2, None));
    assert_eq!((snapshot.hits, snapshot.misses, snapshot.hit_ratio), (3, 2, 0.6));
    assert_eq!((snapshot.loads, snapshot.load_failures), (2, 1));
    assert_eq!((snapshot.inserts, snapshot.replaced, snapshot.evicted, snapshot.invalidated), (3, 1, 1, 1));
    assert_eq!((snapshot.saved_loads, snapshot.saved), (3, 1.5));
    assert_eq!((snapshot.entries, snapshot.weight), (1, 1));
}

#[test]
fn the_times_of_loads_are_told_by_mean_and_quantiles() {
    let clock = ManualClock::new();
    let cache: Cache<u64, u64> = Cache::builder().clock(clock.clone()).build().unwrap();
    assert_eq!(cache.snapshot().load_times, Default::default());
    for millis in 1..=100 {
        let load = || {
            clock.advance(Duration::from_millis(millis));
            if millis % 2 == 0 { Ok(millis) } else { Err("odd") }
        };
        let _ = cache.get_or_load_blocking(&millis, load);
    }
    let times = cache.snapshot().load_times;
    assert_eq!((times.count, times.mean), (100, Duration::from_micros(50_500)));
    let ms = Duration::from_millis;
    for (told, exact) in [(times.p50, ms(50)), (times.p90, ms(90)), (times.p99, ms(99)), (times.max, ms(100))] {
        assert!(told > exact && told <= exact + exact / 4, "{told:?} for {exact:?}");
    }
}

#[test]
fn several_types_of_data_have_their_settings_in_one_place() {
    let users = CacheConfig { max_entries: 7, ..CacheConfig::default() };
    let settings = BTreeMap::from([("users".to_owned(), users), ("products".to_owned(), CacheConfig::default())]);
    let caches = Caches::new(settings).unwrap();
    let users: Cache<u64, u64> = caches.build("users").unwrap();
    let products: Cache<String, u64> = caches.build_with("products", |cache| cache.max_entries(9)).unwrap();
    users.insert(1, 1);
    let snapshots = caches.snapshots();
    let sizes: Vec<_> = snapshots.iter().map(|one| (one.name.as_str(), one.max_entries, one.entries)).collect();
    assert_eq!(sizes, [("users", 7, 1), ("products", 9, 0)]);
    drop(products);
    assert_eq!(caches.snapshots().len(), 1, "nobody uses it any more");
    let unknown = caches.build::<u64, u64>("orders").unwrap_err();
    assert_eq!(unknown.to_string(), "cache is orders: must be one of: products, users");
    let wrong = CacheConfig { max_entries: 0, ..CacheConfig::default() };
    let error = Caches::new(BTreeMap::from([("users".to_owned(), wrong)])).unwrap_err();
    assert_eq!(error.field(), "users.max_entries");
}

#[cfg(feature = "serde")]
#[test]
fn configuration_and_snapshot_are_data() {
    let text = r#"{ "max_entries": 5000, "max_weight": 1000, "eviction": "s3_fifo", "ttl": "5m", "ttl_jitter": 0.1,
        "refresh_ahead": 0.8, "stale_while_revalidate": "1m", "negative_ttl": "5s", "load_timeout": "5s",
        "load_timeout_soft": "200ms", "abandoned": "abort" }"#;
    let config: CacheConfig = serde_json::from_str(text).unwrap();
    assert_eq!((config.ttl, config.refresh_ahead), (Some(Duration::from_secs(300)), Some(0.8)));
    let again: CacheConfig = serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
    assert_eq!(again, config);
    assert!(serde_json::from_str::<CacheConfig>(r#"{ "max_entires": 1 }"#).is_err());
    let cache: Cache<u64, u64> = Cache::from_config("products", &config).unwrap();
    let snapshot = serde_json::to_value(cache.snapshot()).unwrap();
    assert_eq!((snapshot["name"].as_str(), snapshot["max_weight"].as_u64()), (Some("products"), Some(1000)));
}

#[cfg(feature = "tokio")]
#[tokio::test(start_paused = true)]
async fn the_janitor_cleans_up_and_goes_with_the_cache() {
    let clock = ManualClock::new();
    let cache: Cache<u64, u64> = Cache::builder().ttl(Duration::from_secs(1)).clock(clock.clone()).build().unwrap();
    (0..100).for_each(|key| cache.insert(key, key));
    let janitor = tokio::spawn(cache.janitor(Duration::from_secs(60), 1_000));
    clock.advance(Duration::from_secs(1));
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!((cache.len(), cache.snapshot().expired), (0, 100));
    drop(cache);
    tokio::time::timeout(Duration::from_secs(61), janitor).await.unwrap().unwrap();
}

//! Other settings while it runs: what follows them at once, what only comes in by them, and what can't be changed.

use std::time::Duration;

use stanchion_cache::{Cache, CacheConfig, Eviction, Loaded, ManualClock};

const SECOND: Duration = Duration::from_secs(1);

fn cache(config: CacheConfig) -> (Cache<u64, u64>, ManualClock) {
    let clock = ManualClock::new();
    (Cache::builder().config(config).clock(clock.clone()).seed(1).build().unwrap(), clock)
}

fn change(cache: &Cache<u64, u64>, change: impl FnOnce(&mut CacheConfig)) {
    let mut config = cache.config();
    change(&mut config);
    cache.reconfigure(&config).unwrap();
    assert_eq!(cache.config(), config);
}

fn expires_in(cache: &Cache<u64, u64>, key: u64) -> Option<Duration> {
    cache.entry_info(&key).unwrap().expires_in
}

#[test]
fn an_entry_keeps_its_end_and_those_that_come_in_later_have_the_new_one() {
    let (cache, clock) = cache(CacheConfig { ttl: Some(10 * SECOND), ..CacheConfig::default() });
    cache.insert(1, 1);
    change(&cache, |config| config.ttl = Some(60 * SECOND));
    cache.insert(2, 2);
    assert_eq!((expires_in(&cache, 1), expires_in(&cache, 2)), (Some(10 * SECOND), Some(60 * SECOND)));
    change(&cache, |config| config.ttl_jitter = 0.5);
    cache.insert(3, 3);
    let jittered = expires_in(&cache, 3).unwrap();
    assert!(jittered >= 30 * SECOND && jittered < 60 * SECOND, "{jittered:?}");
    change(&cache, |config| config.ttl = None);
    cache.insert(4, 4);
    assert_eq!(expires_in(&cache, 4), None);
    assert_eq!(cache.get_or_load_blocking(&5, || Ok::<_, &str>(5)).unwrap(), 5);
    assert_eq!(expires_in(&cache, 5), None);
    clock.advance(60 * SECOND);
    assert_eq!((cache.get(&1), cache.get(&2), cache.get(&4)), (None, None, Some(4)));
}

/// A cache that reads no clock begins to.
#[test]
fn a_cache_without_times_can_get_some() {
    let (cache, clock) = cache(CacheConfig::default());
    cache.insert(1, 1);
    clock.advance(SECOND);
    change(&cache, |config| config.ttl = Some(SECOND));
    cache.insert(2, 2);
    clock.advance(SECOND);
    assert_eq!((cache.get(&1), cache.get(&2)), (Some(1), None));
}

#[test]
fn stale_windows_hold_for_what_is_there() {
    let ttl = Some(10 * SECOND);
    let (cache, clock) = cache(CacheConfig { ttl, stale_if_error: 100 * SECOND, ..CacheConfig::default() });
    cache.insert(1, 1);
    clock.advance(20 * SECOND);
    let down = |cache: &Cache<u64, u64>| cache.get_or_load_blocking(&1, || Err::<u64, _>("down")).ok();
    change(&cache, |config| config.stale_if_error = 10 * SECOND);
    assert_eq!(down(&cache), None, "the window has just ended");
    change(&cache, |config| config.stale_if_error = 11 * SECOND);
    assert_eq!(down(&cache), Some(1));
    clock.advance(5 * SECOND);
    assert_eq!(down(&cache), None);
    change(&cache, |config| config.stale_while_revalidate = 100 * SECOND);
    assert_eq!(down(&cache), Some(1));
    // What is kept for it is swept when it is over.
    cache.insert(2, 2);
    clock.advance(20 * SECOND);
    assert_eq!(cache.sweep(1_000), 0);
    change(&cache, |config| {
        (config.stale_while_revalidate, config.stale_if_error) = (Duration::ZERO, Duration::ZERO);
    });
    assert_eq!(cache.sweep(1_000), 2);
}

/// Whoever loads is counted; a refresh by a thread is done by who asks.
#[test]
fn early_refreshes_are_for_entries_that_know_when_they_were_born() {
    let (cache, clock) = cache(CacheConfig { ttl: Some(10 * SECOND), ..CacheConfig::default() });
    clock.advance(100 * SECOND);
    cache.insert(1, 1);
    // Its tag makes the cache remember more of it.
    cache.insert_loaded(2, Loaded::new(2).tag("a"));
    change(&cache, |config| config.refresh_ahead = Some(0.5));
    cache.insert(3, 3);
    let ask = |key: u64| cache.get_or_load_blocking(&key, || Ok::<_, &str>(key + 10)).unwrap();
    clock.advance(4 * SECOND);
    assert_eq!([1, 2, 3].map(ask), [1, 2, 3]);
    clock.advance(SECOND);
    assert_eq!([1, 2, 3].map(ask), [1, 12, 13]);
    clock.advance(5 * SECOND);
    assert_eq!(ask(1), 11, "it has ended");
    change(&cache, |config| config.refresh_ahead = None);
    clock.advance(9 * SECOND);
    assert_eq!(ask(1), 11);
    assert_eq!(cache.snapshot().loads, 3);
    // By chance, with a load that took long.
    change(&cache, |config| config.early_refresh = Some(1e6));
    let slow = || {
        clock.advance(SECOND);
        Ok::<_, &str>(4)
    };
    assert_eq!(cache.get_or_load_blocking(&4, slow).unwrap(), 4);
    assert_eq!(ask(4), 14);
}

#[test]
fn idle_times_can_be_changed_where_there_are_any() {
    let (cache, clock) = cache(CacheConfig { idle_ttl: Some(10 * SECOND), ..CacheConfig::default() });
    cache.insert(1, 1);
    clock.advance(9 * SECOND);
    change(&cache, |config| config.idle_ttl = Some(5 * SECOND));
    assert_eq!(cache.get(&1), None, "it wasn't read for 9 s");
    change(&cache, |config| config.idle_ttl = None);
    assert_eq!(cache.get(&1), Some(1));
    clock.advance(100 * SECOND);
    assert_eq!(cache.get(&1), Some(1));
    change(&cache, |config| config.idle_ttl = Some(10 * SECOND));
    clock.advance(9 * SECOND);
    assert_eq!(cache.get(&1), Some(1));
    clock.advance(10 * SECOND);
    assert_eq!(cache.get(&1), None);
}

#[test]
fn what_does_not_exist_and_what_failed_is_remembered_by_the_new_settings() {
    let (cache, clock) =
        cache(CacheConfig { ttl: Some(SECOND), stale_if_error: 100 * SECOND, ..CacheConfig::default() });
    let none = || cache.get_or_load_blocking(&1, || Ok::<_, &str>(None)).unwrap_err().is_not_found();
    assert!(none() && none());
    assert_eq!(cache.snapshot().loads, 2);
    change(&cache, |config| (config.negative_ttl, config.load_cost) = (Some(5 * SECOND), 2.5));
    assert!(none() && none());
    assert_eq!((cache.snapshot().loads, cache.snapshot().saved), (3, 2.5));
    change(&cache, |config| config.failure_throttle = 30 * SECOND);
    cache.insert(2, 2);
    clock.advance(SECOND);
    let down = || cache.get_or_load_blocking(&2, || Err::<u64, _>("down")).unwrap();
    assert_eq!((down(), cache.snapshot().loads), (2, 4));
    clock.advance(29 * SECOND);
    assert_eq!((down(), cache.snapshot().loads), (2, 4));
    clock.advance(SECOND);
    assert_eq!((down(), cache.snapshot().loads), (2, 5));
}

#[test]
fn bounds_hold_when_it_returns() {
    let (cache, _) = cache(CacheConfig { max_entries: 100, ..CacheConfig::default() });
    (0..100).for_each(|key| cache.insert(key, key));
    change(&cache, |config| config.max_entries = 10);
    assert_eq!(cache.len(), 10);
    change(&cache, |config| config.max_weight = Some(5));
    assert_eq!((cache.len(), cache.snapshot().max_weight), (5, Some(5)));
    cache.resize(50, None).unwrap();
    assert_eq!((cache.config().max_entries, cache.config().max_weight), (50, None));
}

#[test]
fn what_cannot_be_changed_is_named_and_nothing_else_changes() {
    let (cache, _) = cache(CacheConfig::default());
    let before = cache.config();
    let refused = |config: CacheConfig| {
        let error = cache.reconfigure(&config).unwrap_err();
        assert_eq!(cache.config(), before);
        cache.insert(1, 1);
        assert_eq!(expires_in(&cache, 1), None);
        error.to_string()
    };
    let other = CacheConfig { ttl: Some(SECOND), max_entries: 5, ..before.clone() };
    assert_eq!(
        refused(CacheConfig { eviction: Eviction::Lru, ..other.clone() }),
        "eviction is Lru: must stay Hybrid while the cache runs"
    );
    let idle = refused(CacheConfig { idle_ttl: Some(SECOND), ..other.clone() });
    assert!(idle.starts_with("idle_ttl is 1s: can't be added"), "{idle}");
    assert!(refused(CacheConfig { max_entries: 0, ..other.clone() }).starts_with("max_entries is 0: "));
    assert!(refused(CacheConfig { ttl_jitter: 2.0, ..other }).starts_with("ttl_jitter is 2: "));
}

/// By tokio's clock, paused.
#[cfg(all(feature = "tokio", feature = "test-util"))]
#[tokio::test(start_paused = true)]
async fn loads_end_and_are_abandoned_by_the_new_settings() {
    use stanchion_cache::{Abandoned, LoadError};
    use tokio::time::{Instant, sleep, timeout};

    let cache: Cache<u64, u64> = Cache::builder().build().unwrap();
    let load = |took: Duration| {
        let cache = cache.clone();
        async move {
            let load = || async move {
                sleep(took).await;
                Ok::<_, &str>(7)
            };
            cache.get_or_load(&1, load).await
        }
    };
    change(&cache, |config| config.load_timeout = SECOND);
    let began = Instant::now();
    assert!(matches!(load(5 * SECOND).await, Err(LoadError::TimedOut { after }) if after == SECOND));
    assert_eq!(began.elapsed(), SECOND);
    // It goes on without whoever asked, or not.
    assert!(timeout(SECOND / 4, load(SECOND / 2)).await.is_err());
    sleep(SECOND).await;
    assert!(cache.invalidate(&1));
    change(&cache, |config| config.abandoned = Abandoned::Abort);
    assert!(timeout(SECOND / 4, load(SECOND / 2)).await.is_err());
    sleep(SECOND).await;
    assert_eq!(cache.get(&1), None);
    change(&cache, |config| {
        (config.ttl, config.stale_if_error) = (Some(SECOND), 100 * SECOND);
        config.load_timeout_soft = Some(SECOND / 4);
    });
    cache.insert(1, 6);
    sleep(2 * SECOND).await;
    let began = Instant::now();
    assert_eq!(load(SECOND / 2).await.unwrap(), 6);
    assert_eq!(began.elapsed(), SECOND / 4);
}

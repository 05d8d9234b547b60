//! How fresh values are that have come through the store.

use super::*;
use stanchion_cache::LoadError;

#[tokio::test(start_paused = true)]
async fn a_value_is_as_old_as_its_load_in_whatever_tier() {
    let store = MemoryCacheStore::new();
    let ((one, _), (other, _)) = (instance(&store), instance(&store));
    let origin = Origin::default();
    one.get_or_load(&7, origin.load_in(secs(10))).await.unwrap();
    tokio::time::advance(secs(3580)).await;
    // Ten seconds are left of the hour.
    assert_eq!(other.get_or_load(&7, origin.load()).await.unwrap(), b"1");
    tokio::time::advance(millis(9_999)).await;
    assert_eq!(other.get(&7).await.unwrap(), b"1");
    tokio::time::advance(millis(1)).await;
    assert_eq!(other.get(&7).await, None);
}

#[tokio::test(start_paused = true)]
async fn while_one_revalidates_all_are_served_what_is_stale() {
    let store = MemoryCacheStore::new();
    let build = || settings().stale_while_revalidate(secs(60)).over(Flaky::new(&store), Raw).build().unwrap();
    let (one, other) = (build(), build());
    let origin = Origin::default();
    one.get_or_load(&7, origin.load()).await.unwrap();
    // Neither has it in memory any more.
    tokio::time::advance(secs(3610)).await;
    one.local().clear();
    let began = tokio::time::Instant::now();
    for cache in [&other, &one, &other] {
        assert_eq!(cache.get_or_load(&7, origin.load()).await.unwrap(), b"1");
    }
    assert!(began.elapsed() < millis(100), "nobody waits: {:?}", began.elapsed());
    // For the throttle's second nobody asks the store again; whoever does then gets the new one for all.
    tokio::time::sleep(secs(2)).await;
    for cache in [&other, &one] {
        assert_eq!(cache.get_or_load(&7, origin.load()).await.unwrap(), b"1");
    }
    tokio::time::sleep(millis(100)).await;
    for cache in [&other, &one] {
        assert_eq!(cache.get_or_load(&7, origin.load()).await.unwrap(), b"2");
    }
    assert_eq!(origin.loads(), 2);
    // Beyond the window, everybody waits.
    tokio::time::advance(secs(3660)).await;
    one.local().clear();
    assert_eq!(one.get_or_load(&7, origin.load()).await.unwrap(), b"3");
}

#[tokio::test(start_paused = true)]
async fn what_is_stale_in_the_store_stands_in_for_a_load_that_fails() {
    let store = MemoryCacheStore::new();
    let build = || settings().stale_if_error(secs(60)).over(Flaky::new(&store), Raw).build().unwrap();
    let (one, other) = (build(), build());
    let origin = Origin::default();
    one.get_or_load(&7, origin.load_in(Duration::ZERO)).await.unwrap();
    tokio::time::advance(secs(3600)).await;
    assert_eq!(other.get_or_load(&7, origin.fail()).await.unwrap(), b"1");
    // For the time of the throttle nobody tries again.
    assert_eq!(other.get_or_load(&7, origin.fail()).await.unwrap(), b"1");
    assert_eq!((origin.loads(), other.snapshot().stale_served), (2, 1));
    tokio::time::advance(secs(60)).await;
    assert_eq!(other.get_or_load(&7, origin.fail()).await.unwrap_err().error().unwrap(), "no");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_exist_is_known_to_all_for_its_own_time() {
    let store = MemoryCacheStore::new();
    let build = || settings().negative_ttl(secs(100)).over(Flaky::new(&store), Raw).build().unwrap();
    let (one, other) = (build(), build());
    let nothing = || async { Ok::<Option<Bytes>, String>(None) };
    let wrong = || async { Err::<Option<Bytes>, _>(String::from("not to be called")) };
    assert!(matches!(one.get_or_load(&7, nothing).await, Err(LoadError::NotFound)));
    tokio::time::advance(secs(90)).await;
    assert!(matches!(other.get_or_load(&7, wrong).await, Err(LoadError::NotFound)));
    // In memory it is no longer than it has left.
    tokio::time::advance(millis(9_999)).await;
    assert!(matches!(other.get_or_load(&7, wrong).await, Err(LoadError::NotFound)));
    tokio::time::advance(millis(1)).await;
    assert!(matches!(other.get_or_load(&7, wrong).await, Err(LoadError::Failed(_))));
}

#[tokio::test(start_paused = true)]
async fn a_refresh_ahead_counts_by_the_whole_age_and_one_of_all_makes_it() {
    let store = MemoryCacheStore::new();
    let build = || settings().refresh_ahead(0.8).over(Flaky::new(&store), Raw).build().unwrap();
    let (one, other) = (build(), build());
    let origin = Origin::default();
    // Half an hour of calls: what is in memory is fetched again from the store, and not loaded.
    for _ in 0..1_800 {
        for cache in [&one, &other] {
            assert_eq!(cache.get_or_load(&7, origin.load_in(Duration::ZERO)).await.unwrap(), b"1");
        }
        tokio::time::sleep(secs(1)).await;
    }
    assert_eq!(origin.loads(), 1);
    assert!(one.snapshot().remote_hits > 50, "{}", one.snapshot().remote_hits);
    // Another half, of which a fifth of an hour is past the share.
    for _ in 0..1_790 {
        for cache in [&one, &other] {
            cache.get_or_load(&7, origin.load_in(Duration::ZERO)).await.unwrap();
        }
        tokio::time::sleep(secs(1)).await;
    }
    assert_eq!(origin.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_fails_leaves_what_is_fresh_as_it_is() {
    let store = MemoryCacheStore::new();
    let settings = settings().refresh_ahead(0.5).stale_if_error(secs(60)).stale_while_revalidate(secs(60));
    let cache = settings.over(Flaky::new(&store), Raw).build().unwrap();
    let origin = Origin::default();
    cache.get_or_load(&7, origin.load_in(Duration::ZERO)).await.unwrap();
    tokio::time::advance(secs(3000)).await;
    cache.get_or_load(&7, origin.load()).await.unwrap();
    tokio::time::advance(secs(20)).await;
    for _ in 0..3 {
        assert_eq!(cache.get_or_load(&7, origin.fail()).await.unwrap(), b"1");
        tokio::time::sleep(millis(100)).await;
        assert_eq!(cache.get(&7).await.unwrap(), b"1");
    }
    assert_eq!((origin.loads(), cache.snapshot().stale_served), (2, 0), "one refresh, and then the throttle");
}

#[tokio::test(start_paused = true)]
async fn a_loader_says_how_long_in_both_tiers_and_zero_is_not_kept() {
    use stanchion_cache::Loaded;
    let store = MemoryCacheStore::new();
    let ((one, _), (other, _)) = (instance(&store), instance(&store));
    let brief = |ttl| move || async move { Ok::<_, String>(Loaded::new(b"x".to_vec()).ttl(ttl)) };
    one.get_or_load(&7, brief(secs(5))).await.unwrap();
    tokio::time::advance(millis(4_999)).await;
    assert!(one.get(&7).await.is_some() && other.get(&7).await.is_some());
    tokio::time::advance(millis(1)).await;
    assert!(one.get(&7).await.is_none() && other.get(&7).await.is_none());
    one.get_or_load(&8, brief(Duration::ZERO)).await.unwrap();
    assert!(one.get(&8).await.is_none() && other.get(&8).await.is_none());
    // For ever is for ever, by the store's measure.
    one.get_or_load(&9, brief(Duration::MAX)).await.unwrap();
    tokio::time::advance(secs(86_400)).await;
    assert!(other.get(&9).await.is_some());
}

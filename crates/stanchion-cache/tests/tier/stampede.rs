//! One load among all instances.

use super::*;
use stanchion_cache::Spread;
use stanchion_core::{CacheStore, Lease, LeaseStore};

#[tokio::test(start_paused = true)]
async fn of_ten_thousand_tasks_in_four_instances_one_loads_a_cold_key_and_one_an_expired_one() {
    let store = MemoryCacheStore::new();
    let instances: Vec<_> = (0..4).map(|_| instance(&store).0).collect();
    let origin = Origin::default();
    for round in 1..=2u64 {
        let tasks: Vec<_> = (0..10_000)
            .map(|task| {
                let (cache, load) = (instances[task % 4].clone(), origin.load());
                tokio::spawn(async move { cache.get_or_load(&7, load).await })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap().unwrap(), round.to_string().into_bytes());
        }
        assert_eq!(origin.loads(), round);
        tokio::time::advance(secs(3600)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_elsewhere_voids_a_load_under_way() {
    let store = MemoryCacheStore::new();
    let ((one, _), (other, _)) = (instance(&store), instance(&store));
    let origin = Origin::default();
    let loading = tokio::spawn({
        let (cache, load) = (one.clone(), origin.load());
        async move { cache.get_or_load(&7, load).await }
    });
    tokio::time::sleep(millis(500)).await;
    assert_eq!(other.invalidate(&7).await, Spread::Everywhere);
    // Nobody joins what was loaded before.
    assert_eq!(other.get_or_load(&7, origin.load()).await.unwrap(), b"2");
    assert_eq!(loading.await.unwrap().unwrap(), b"1", "who waited gets it");
    assert_eq!(one.snapshot().fenced, 1);
    assert_eq!(one.get(&7).await.unwrap(), b"2");
    assert_eq!(one.get_or_load(&7, origin.load()).await.unwrap(), b"2");
}

#[tokio::test(start_paused = true)]
async fn a_tag_and_a_clear_void_it_too_and_another_tag_does_not() {
    let store = MemoryCacheStore::new();
    let ((one, _), (other, _)) = (instance(&store), instance(&store));
    for (number, what) in ["tag", "clear", "other tag"].into_iter().enumerate() {
        let loading = tokio::spawn({
            let cache = one.clone();
            async move {
                let load = || async {
                    tokio::time::sleep(secs(1)).await;
                    Ok::<_, String>(stanchion_cache::Loaded::new(b"x".to_vec()).tag("tenant:7"))
                };
                cache.get_or_load(&7, load).await
            }
        });
        tokio::time::sleep(millis(500)).await;
        match what {
            "tag" => other.invalidate_tag("tenant:7").await,
            "clear" => other.clear().await,
            _ => other.invalidate_tag("tenant:8").await,
        };
        assert_eq!(loading.await.unwrap().unwrap(), b"x");
        assert_eq!(one.get(&7).await.is_some(), number == 2, "{what}");
        assert_eq!(other.get(&7).await.is_some(), number == 2, "{what}");
    }
    // And in memory, and in the store.
    assert_eq!(one.invalidate_tag("tenant:7").await, Spread::Everywhere);
    assert_eq!((one.get(&7).await, other.get(&7).await), (None, None));
}

#[tokio::test(start_paused = true)]
async fn after_a_dead_loader_the_next_one_loads_when_the_lease_is_over() {
    let store = MemoryCacheStore::new();
    let (cache, _) = instance(&store);
    let key = 7u64.to_be_bytes();
    // Somebody who dies in the middle of a load.
    let Ok(Lease::Held(dead)) = store.acquire(&key, secs(3)).await else { unreachable!("it is free") };
    let origin = Origin::default();
    let began = tokio::time::Instant::now();
    assert_eq!(cache.get_or_load(&7, origin.load()).await.unwrap(), b"1");
    let took = began.elapsed();
    assert!(took >= secs(4) && took < millis(4_300), "{took:?}");
    // And if it wasn't dead after all, it is fenced.
    let late = stanchion_core::NewValue { bytes: b"late", fresh_for: secs(9), keep_for: secs(9), tags: &[] };
    assert!(!store.put(&key, dead, late).await.unwrap());
    assert_eq!(cache.get(&7).await.unwrap(), b"1");
}

#[tokio::test(start_paused = true)]
async fn a_long_load_keeps_its_lease_and_others_wait_for_it() {
    let store = MemoryCacheStore::new();
    let (one, _) = instance(&store);
    let other = over(&store).0.lease_wait(secs(20)).build().unwrap();
    let origin = Origin::default();
    let loading = tokio::spawn({
        let (cache, load) = (one.clone(), origin.load_in(secs(10)));
        async move { cache.get_or_load(&7, load).await }
    });
    tokio::time::sleep(millis(1)).await;
    assert_eq!(other.get_or_load(&7, origin.load()).await.unwrap(), b"1");
    assert_eq!(loading.await.unwrap().unwrap(), b"1");
    assert_eq!((origin.loads(), other.snapshot().lease_waits, other.snapshot().lease_wait_timeouts), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever_for_a_load_elsewhere() {
    let store = MemoryCacheStore::new();
    let ((one, _), (other, _)) = (instance(&store), instance(&store));
    let origin = Origin::default();
    let loading = tokio::spawn({
        let (cache, load) = (one.clone(), origin.load_in(secs(25)));
        async move { cache.get_or_load(&7, load).await }
    });
    tokio::time::sleep(millis(1)).await;
    let began = tokio::time::Instant::now();
    assert_eq!(other.get_or_load(&7, origin.load()).await.unwrap(), b"2");
    assert!(began.elapsed() >= secs(6) && began.elapsed() < millis(6_300), "{:?}", began.elapsed());
    assert_eq!(other.snapshot().lease_wait_timeouts, 1);
    assert_eq!(loading.await.unwrap().unwrap(), b"1");
}

#[tokio::test(start_paused = true)]
async fn a_load_that_fails_or_panics_gives_its_lease_back() {
    let store = MemoryCacheStore::new();
    let ((one, _), (other, _)) = (instance(&store), instance(&store));
    let origin = Origin::default();
    assert_eq!(one.get_or_load(&7, origin.fail()).await.unwrap_err().error().unwrap(), "no");
    tokio::task::yield_now().await;
    let began = tokio::time::Instant::now();
    assert!(one.get_or_load(&8, || async { panic!("in the loader") as Result<Bytes, String> }).await.is_err());
    tokio::task::yield_now().await;
    assert_eq!(other.get_or_load(&7, origin.load()).await.unwrap(), b"2");
    assert_eq!(other.get_or_load(&8, origin.load()).await.unwrap(), b"3");
    assert_eq!(began.elapsed(), secs(2), "nobody waited for a lease");
}

#[tokio::test(start_paused = true)]
async fn who_inserts_wins_over_a_load_and_everybody_sees_it() {
    let store = MemoryCacheStore::new();
    let ((one, _), (other, _)) = (instance(&store), instance(&store));
    let origin = Origin::default();
    assert_eq!(one.get_or_load(&7, origin.load()).await.unwrap(), b"1");
    let loading = tokio::spawn({
        let (cache, load) = (one.clone(), origin.load());
        async move { cache.reload(&7, load).await }
    });
    tokio::time::sleep(millis(500)).await;
    assert_eq!(other.insert(7, b"new".to_vec()).await, Spread::Everywhere);
    assert_eq!(loading.await.unwrap().unwrap(), b"2");
    for cache in [&one, &other] {
        assert_eq!(cache.get_or_load(&7, origin.load()).await.unwrap(), b"new");
    }
    assert_eq!(origin.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_does_not_stop_the_load() {
    let store = MemoryCacheStore::new();
    let ((one, flaky), (other, _)) = (instance(&store), instance(&store));
    flaky.delay(millis(10));
    let origin = Origin::default();
    for leaves_after in [1, 6, 500, 1_006, 1_012] {
        one.clear().await;
        let before = origin.loads();
        let asked = tokio::time::timeout(millis(leaves_after), one.get_or_load(&7, origin.load())).await;
        assert!(asked.is_err(), "{leaves_after}");
        tokio::time::sleep(secs(2)).await;
        assert_eq!(origin.loads(), before + 1, "{leaves_after}");
        let value = (before + 1).to_string().into_bytes();
        assert_eq!(other.get(&7).await.unwrap(), value, "{leaves_after}");
        assert_eq!(one.local().get(&7).unwrap(), value, "{leaves_after}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_loaded_while_a_value_is_inserted_is_not_seen_after_it() {
    let store = MemoryCacheStore::new();
    let (cache, flaky) = instance(&store);
    flaky.delay(millis(100));
    let origin = Origin::default();
    let inserting = tokio::spawn({
        let cache = cache.clone();
        async move { cache.insert(7, b"new".to_vec()).await }
    });
    tokio::time::sleep(millis(10)).await;
    // It waits for the insertion to arrive, and finds it.
    assert_eq!(cache.get_or_load(&7, origin.load_in(millis(10))).await.unwrap(), b"new");
    assert_eq!((inserting.await.unwrap(), origin.loads()), (Spread::Everywhere, 0));
    assert_eq!(cache.get(&7).await.unwrap(), b"new");
}

#[tokio::test(start_paused = true)]
async fn who_hears_nothing_keeps_no_value_that_the_store_has_refused() {
    let store = MemoryCacheStore::new();
    let (builder, flaky) = over(&store);
    flaky.deafen();
    let (deaf, (other, _)) = (builder.build().unwrap(), instance(&store));
    let origin = Origin::default();
    let loading = tokio::spawn({
        let (cache, load) = (deaf.clone(), origin.load());
        async move { cache.get_or_load(&7, load).await }
    });
    tokio::time::sleep(millis(500)).await;
    other.invalidate(&7).await;
    assert_eq!(loading.await.unwrap().unwrap(), b"1");
    assert_eq!((deaf.snapshot().fenced, deaf.get(&7).await), (1, None));
}

//! The store is slow, gone, or back.

use super::flaky::Line;
use super::*;
use stanchion_breaker::State;
use stanchion_cache::Spread;

#[tokio::test(start_paused = true)]
async fn without_a_store_each_instance_loads_once_and_nobody_sees_an_error() {
    let store = MemoryCacheStore::new();
    let (cache, flaky) = instance(&store);
    let origin = Origin::default();
    for line in [Line::Cut, Line::Hangs, Line::LosesAnswers] {
        flaky.set(line);
        let before = origin.loads();
        for key in 0..20 {
            let tasks: Vec<_> = (0..10)
                .map(|_| {
                    let (cache, load) = (cache.clone(), origin.load_in(millis(10)));
                    tokio::spawn(async move { cache.get_or_load(&key, load).await })
                })
                .collect();
            for task in tasks {
                task.await.unwrap().unwrap();
            }
        }
        assert_eq!(origin.loads() - before, 20, "{line:?}");
        let snapshot = cache.snapshot();
        assert_eq!(snapshot.breaker.state, State::Open, "{line:?}");
        assert!(snapshot.remote_refused > 0);
        flaky.set(Line::Well);
        tokio::time::sleep(secs(10)).await;
        assert_eq!(cache.clear().await, Spread::Everywhere, "{line:?}");
        tokio::time::sleep(secs(60)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_costs_its_timeout_a_few_times_and_then_nothing() {
    let store = MemoryCacheStore::new();
    let (cache, flaky) = instance(&store);
    let origin = Origin::default();
    flaky.set(Line::Hangs);
    for key in 0..5 {
        let began = tokio::time::Instant::now();
        cache.get_or_load(&key, origin.load_in(millis(1))).await.unwrap();
        assert_eq!(began.elapsed(), millis(201), "{key}");
    }
    let began = tokio::time::Instant::now();
    for key in 5..100 {
        cache.get_or_load(&key, origin.load_in(millis(1))).await.unwrap();
    }
    assert_eq!(began.elapsed(), millis(95));
}

#[tokio::test(start_paused = true)]
async fn a_lost_invalidation_is_sent_again_and_until_then_nothing_is_taken_from_the_store() {
    let store = MemoryCacheStore::new();
    let ((one, flaky), (other, _)) = (instance(&store), instance(&store));
    let origin = Origin::default();
    one.get_or_load(&7, origin.load()).await.unwrap();
    other.get_or_load(&7, origin.load()).await.unwrap();
    flaky.set(Line::Cut);
    assert_eq!(one.invalidate(&7).await, Spread::Pending);
    assert_eq!((one.snapshot().pending, one.get(&7).await), (1, None));
    flaky.set(Line::Well);
    // The store is back, and has the old value still.
    assert_eq!(one.get(&7).await, None);
    assert_eq!(one.get_or_load(&7, origin.load_in(millis(1))).await.unwrap(), b"2");
    tokio::time::sleep(secs(3)).await;
    assert_eq!((one.snapshot().pending, one.snapshot().resent), (0, 1));
    assert_eq!(other.get(&7).await, None, "it was told");
    assert_eq!(other.get_or_load(&7, origin.load()).await.unwrap(), b"3");
}

#[tokio::test(start_paused = true)]
async fn tags_and_everything_are_sent_again_too_and_an_insert_as_an_invalidation() {
    let store = MemoryCacheStore::new();
    let ((one, flaky), (other, _)) = (instance(&store), instance(&store));
    for what in ["tag", "clear", "insert"] {
        let load = || async { Ok::<_, String>(stanchion_cache::Loaded::new(b"old".to_vec()).tag("t")) };
        one.get_or_load(&7, load).await.unwrap();
        other.get_or_load(&7, load).await.unwrap();
        flaky.set(if what == "insert" { Line::LosesAnswers } else { Line::Cut });
        let spread = match what {
            "tag" => one.invalidate_tag("t").await,
            "clear" => one.clear().await,
            _ => one.insert(7, b"new".to_vec()).await,
        };
        assert_eq!((spread, one.get(&7).await), (Spread::Pending, None), "{what}");
        flaky.set(Line::Well);
        assert_eq!(one.get(&7).await, None, "{what}: the store is back, and not asked");
        tokio::time::sleep(secs(3)).await;
        assert_eq!((one.snapshot().pending, other.get(&7).await), (0, None), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn too_many_lost_invalidations_become_one_of_everything() {
    let store = MemoryCacheStore::new();
    let (builder, flaky) = over(&store);
    let cache = builder.max_pending(3).build().unwrap();
    let origin = Origin::default();
    cache.get_or_load(&100, origin.load()).await.unwrap();
    flaky.set(Line::Cut);
    for key in 0..4 {
        assert_eq!(cache.invalidate(&key).await, Spread::Pending);
    }
    assert_eq!(cache.snapshot().pending, 1);
    flaky.set(Line::Well);
    tokio::time::sleep(secs(5)).await;
    cache.local().clear();
    assert_eq!((cache.snapshot().pending, cache.get(&100).await), (0, None));
}

#[tokio::test(start_paused = true)]
async fn a_change_dropped_at_any_await_is_made_all_the_same() {
    for what in ["insert", "invalidate", "tag", "clear"] {
        for leaves_after in 0..=12 {
            let store = MemoryCacheStore::new();
            let ((one, flaky), (other, _)) = (instance(&store), instance(&store));
            flaky.delay(millis(10));
            let load = || async { Ok::<_, String>(stanchion_cache::Loaded::new(b"old".to_vec()).tag("t")) };
            one.get_or_load(&7, load).await.unwrap();
            other.get_or_load(&7, load).await.unwrap();
            let change = async {
                match what {
                    "insert" => one.insert(7, b"new".to_vec()).await,
                    "invalidate" => one.invalidate(&7).await,
                    "tag" => one.invalidate_tag("t").await,
                    _ => one.clear().await,
                }
            };
            let left = tokio::time::timeout(millis(leaves_after), change).await.is_err();
            assert_eq!(left, leaves_after < 10, "{what} {leaves_after}");
            tokio::time::sleep(secs(1)).await;
            let now = if what == "insert" && !left { Some(b"new".to_vec()) } else { None };
            assert_eq!((one.get(&7).await, one.snapshot().pending), (now.clone(), 0), "{what} {leaves_after}");
            assert_eq!(other.get(&7).await, now, "{what} {leaves_after}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_hears_nothing_is_stale_for_its_local_age_at_most() {
    let store = MemoryCacheStore::new();
    let (builder, flaky) = over(&store);
    flaky.deafen();
    let deaf = builder.build().unwrap();
    let (other, _) = instance(&store);
    assert!(!deaf.snapshot().is_listening && other.snapshot().is_listening);
    let origin = Origin::default();
    deaf.get_or_load(&7, origin.load_in(Duration::ZERO)).await.unwrap();
    other.insert(7, b"new".to_vec()).await;
    tokio::time::advance(millis(29_999)).await;
    assert_eq!(deaf.get(&7).await.unwrap(), b"1");
    tokio::time::advance(millis(1)).await;
    assert_eq!(deaf.get_or_load(&7, origin.load()).await.unwrap(), b"new");
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_missed_is_forgotten() {
    let store = MemoryCacheStore::new();
    let (cache, _) = instance(&store);
    assert_eq!(cache.snapshot().flushes, 0);
    let origin = Origin::default();
    cache.get_or_load(&7, origin.load()).await.unwrap();
    assert_eq!(cache.local().len(), 1);
    // Somebody else's key that is none of ours.
    stanchion_core::CacheStore::invalidate(&store, b"not 8 bytes").ready().unwrap().unwrap();
    assert_eq!((cache.local().len(), cache.snapshot().flushes), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn what_a_lost_invalidation_has_overtaken_is_not_put_into_the_store() {
    let store = MemoryCacheStore::new();
    let ((one, flaky), (other, _)) = (instance(&store), instance(&store));
    for (what, tag) in [("key", "t"), ("tag", "t")] {
        let loading = tokio::spawn({
            let cache = one.clone();
            let load = move || async move {
                tokio::time::sleep(secs(1)).await;
                Ok::<_, String>(stanchion_cache::Loaded::new(b"old".to_vec()).tag(tag))
            };
            async move { cache.get_or_load(&7, load).await }
        });
        // Lost a moment before the value is there, so that nothing is sent again before it is.
        tokio::time::sleep(millis(999)).await;
        flaky.set(Line::Cut);
        let spread = if what == "key" { one.invalidate(&7).await } else { one.invalidate_tag("t").await };
        assert_eq!(spread, Spread::Pending);
        flaky.set(Line::Well);
        assert_eq!(loading.await.unwrap().unwrap(), b"old");
        assert_eq!((one.snapshot().pending, other.get(&7).await, one.get(&7).await), (1, None, None), "{what}");
        tokio::time::sleep(secs(1)).await;
    }
}

//! The awkward conditions in which moka, quick_cache and foyer were run and failed,
//! by name; see the research on caches, section 3.
#![cfg(feature = "tokio")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use stanchion_cache::{Cache, LoadError, Loaded};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::timeout;

type Numbers = Cache<u64, u64>;

fn cache() -> Numbers {
    Cache::builder().max_entries(1_000).build().unwrap()
}

/// A load that waits to be let go on.
struct Held {
    gate: Arc<Semaphore>,
    task: JoinHandle<Result<u64, LoadError<Infallible>>>,
}

impl Held {
    /// Starts to load `value` for the key, and returns when the loader runs.
    async fn start(cache: &Numbers, key: u64, loaded: impl Into<Loaded<u64>> + Send + 'static) -> Self {
        let (gate, begun) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let task = tokio::spawn({
            let (cache, gate, begun) = (cache.clone(), gate.clone(), begun.clone());
            async move {
                let load = || async move {
                    begun.add_permits(1);
                    let _ = gate.acquire().await;
                    Ok(loaded)
                };
                cache.get_or_load(&key, load).await
            }
        });
        let _ = begun.acquire().await.unwrap();
        Self { gate, task }
    }

    /// Lets it end, and returns what its caller got.
    async fn end(self) -> u64 {
        self.gate.add_permits(1);
        self.task.await.unwrap().unwrap()
    }
}

async fn load(cache: &Numbers, key: u64, value: u64) -> u64 {
    cache.get_or_load(&key, || async move { Ok::<_, Infallible>(value) }).await.unwrap()
}

#[tokio::test]
async fn invalidate_during_a_load_then_read() {
    let cache = cache();
    let held = Held::start(&cache, 1, 10_u64).await;
    assert!(!cache.invalidate(&1));
    assert_eq!(held.end().await, 10, "those who wait get the value");
    assert_eq!(cache.get(&1), None, "and the cache doesn't keep it");
    assert_eq!(cache.snapshot().loads_voided, 1);
}

#[tokio::test]
async fn clear_during_a_load() {
    let cache = cache();
    let held = Held::start(&cache, 1, 10_u64).await;
    cache.clear();
    assert_eq!(held.end().await, 10);
    assert_eq!(cache.get(&1), None);
}

#[tokio::test]
async fn predicate_invalidation_during_a_load() {
    let cache = cache();
    let held = Held::start(&cache, 1, 10_u64).await;
    cache.invalidate_if(|_, value| *value == 10);
    assert_eq!(held.end().await, 10);
    assert_eq!(cache.get(&1), None);
}

#[tokio::test]
async fn tag_invalidation_during_a_load() {
    let cache = cache();
    let (tagged, other) = (Loaded::new(10_u64).tag("a"), Loaded::new(20_u64).tag("b"));
    let (tagged, other) = (Held::start(&cache, 1, tagged).await, Held::start(&cache, 2, other).await);
    cache.invalidate_tag("a");
    assert_eq!((tagged.end().await, other.end().await), (10, 20));
    assert_eq!((cache.get(&1), cache.get(&2)), (None, Some(20)));
}

#[tokio::test]
async fn insert_during_a_load() {
    let cache = cache();
    let held = Held::start(&cache, 1, 10_u64).await;
    cache.insert(1, 11);
    assert_eq!(cache.get(&1), Some(11));
    assert_eq!(held.end().await, 10);
    assert_eq!(cache.get(&1), Some(11), "it doesn't revert to the old value");
}

#[tokio::test]
async fn a_new_caller_after_an_invalidation_does_not_join_the_old_load() {
    let cache = cache();
    let held = Held::start(&cache, 1, 10_u64).await;
    cache.invalidate(&1);
    assert_eq!(load(&cache, 1, 11).await, 11);
    assert_eq!(held.end().await, 10);
    assert_eq!(cache.get(&1), Some(11), "nor does the old load overwrite the new value");
}

/// Whether a load has the tag is known only when it has ended: who asked after the
/// invalidation waits for it, and then has it loaded anew.
#[tokio::test]
async fn a_new_caller_after_a_tag_invalidation_does_not_get_what_is_older() {
    let cache = cache();
    let held = Held::start(&cache, 1, Loaded::new(10_u64).tag("a")).await;
    cache.invalidate_tag("a");
    let second = tokio::spawn({
        let cache = cache.clone();
        async move { load(&cache, 1, 11).await }
    });
    while cache.snapshot().loads_joined == 0 {
        yield_now().await;
    }
    assert_eq!(held.end().await, 10);
    assert_eq!(second.await.unwrap(), 11);
    assert_eq!(cache.get(&1), Some(11));
}

#[tokio::test]
async fn the_leader_is_cancelled_while_another_waits() {
    let cache = cache();
    let Held { gate, task } = Held::start(&cache, 1, 10_u64).await;
    let waiter = tokio::spawn({
        let cache = cache.clone();
        async move { load(&cache, 1, 99).await }
    });
    while cache.snapshot().loads_joined == 0 {
        yield_now().await;
    }
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    gate.add_permits(1);
    assert_eq!(waiter.await.unwrap(), 10, "the same load goes on");
    assert_eq!(cache.snapshot().loads, 1);
}

#[tokio::test]
async fn a_lone_caller_times_out() {
    let cache = cache();
    let gate = Arc::new(Semaphore::new(0));
    let begun = gate.clone();
    let load = || async move {
        let _ = begun.acquire().await;
        Ok::<_, Infallible>(10_u64)
    };
    assert!(timeout(Duration::from_millis(1), cache.get_or_load(&1, load)).await.is_err());
    gate.add_permits(1);
    while cache.get(&1).is_none() {
        yield_now().await;
    }
    assert_eq!(cache.get(&1), Some(10), "the work isn't lost");
}

#[tokio::test]
async fn the_leader_is_not_polled() {
    let cache = cache();
    let mut leader = Box::pin(cache.get_or_load(&1, || async {
        yield_now().await;
        Ok::<_, Infallible>(10_u64)
    }));
    let first = std::future::poll_fn(|context| std::task::Poll::Ready(leader.as_mut().poll(context))).await;
    assert!(first.is_pending());
    // The leader stands still, as in a `select!` whose other arm runs.
    assert_eq!(load(&cache, 1, 99).await, 10);
    assert_eq!(leader.await.unwrap(), 10);
}

#[tokio::test]
async fn twenty_wait_and_the_loader_panics() {
    let (cache, runs) = (cache(), Arc::new(AtomicUsize::new(0)));
    let waiters: Vec<_> = (0..20)
        .map(|_| {
            let (cache, runs) = (cache.clone(), runs.clone());
            tokio::spawn(async move {
                let load = || async move {
                    runs.fetch_add(1, Ordering::Relaxed);
                    yield_now().await;
                    if runs.load(Ordering::Relaxed) > 0 {
                        panic!("no luck");
                    }
                    Ok::<u64, Infallible>(1)
                };
                cache.get_or_load(&1, load).await
            })
        })
        .collect();
    for waiter in waiters {
        match waiter.await.unwrap() {
            Err(LoadError::Panicked(message)) => assert_eq!(&*message, "no luck"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(runs.load(Ordering::Relaxed), 1);
    assert_eq!(load(&cache, 1, 5).await, 5, "the next one loads");
}

#[tokio::test]
async fn fifty_wait_and_the_loader_fails() {
    let (cache, runs) = (cache(), Arc::new(AtomicUsize::new(0)));
    let waiters: Vec<_> = (0..50)
        .map(|_| {
            let (cache, runs) = (cache.clone(), runs.clone());
            tokio::spawn(async move {
                let load = || async move {
                    runs.fetch_add(1, Ordering::Relaxed);
                    yield_now().await;
                    Err::<u64, _>(std::io::Error::other("down"))
                };
                cache.get_or_load(&1, load).await
            })
        })
        .collect();
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap().unwrap_err().error().unwrap().to_string(), "down");
    }
    assert_eq!(runs.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn recursion_on_the_same_key() {
    let cache = cache();
    let inner = cache.clone();
    let outer = cache
        .get_or_load(&1, || async move {
            // Through another key, too.
            let deeper = inner.clone();
            let through = inner
                .get_or_load(&2, || async move {
                    let again = deeper.get_or_load(&1, || async { Ok::<_, Infallible>(3_u64) }).await;
                    assert!(matches!(again, Err(LoadError::Recursive)), "{again:?}");
                    Ok::<_, Infallible>(2_u64)
                })
                .await;
            Ok::<_, Infallible>(through.unwrap() + 1)
        })
        .await;
    assert_eq!(outer.unwrap(), 3);
}

#[test]
fn recursion_on_the_same_key_in_a_thread() {
    let cache = cache();
    let outer = cache.get_or_load_blocking(&1, || {
        let again = cache.get_or_load_blocking(&1, || Ok::<_, Infallible>(3_u64));
        assert!(matches!(again, Err(LoadError::Recursive)));
        Ok::<_, Infallible>(7_u64)
    });
    assert_eq!(outer.unwrap(), 7);
}

fn weighed(max: u64) -> Numbers {
    Cache::builder().max_entries(200_000).max_weight(max).weigher(|_, weight| *weight).seed(1).build().unwrap()
}

#[test]
fn a_new_key_heavier_than_the_capacity() {
    let cache = weighed(1_000);
    for key in 0..1_000 {
        cache.insert(key, 1);
    }
    cache.insert(5_000, 1_001);
    assert_eq!(cache.get(&5_000), None);
    assert_eq!((cache.len(), cache.snapshot().weight), (1_000, 1_000), "nobody had to go for it");
    cache.insert(5_001, 1_000);
    assert_eq!(cache.get(&5_001), Some(1_000), "exactly as heavy is not too heavy");
    assert_eq!((cache.len(), cache.snapshot().weight), (1, 1_000));
}

#[test]
fn a_resident_key_updated_to_more_than_the_capacity() {
    let cache = weighed(1_000);
    for key in 0..1_000 {
        cache.insert(key, 1);
    }
    cache.insert(3, 5_000);
    assert_eq!(cache.get(&3), None, "neither the old value nor the new one");
    assert_eq!(cache.len(), 999, "and nobody else goes");
}

#[test]
fn a_hundred_thousand_entries_without_weight() {
    let cache: Numbers = Cache::builder().max_entries(10).max_weight(10).weigher(|_, _| 0).build().unwrap();
    for key in 0..100_000 {
        cache.insert(key, 1);
        assert!(cache.len() <= 10);
    }
    assert_eq!((cache.len(), cache.snapshot().weight), (10, 0));
}

/// What lay idle past its time is gone from memory if somebody sweeps, and never served.
#[tokio::test]
async fn nothing_expired_is_kept_by_a_cache_that_is_swept() {
    let clock = stanchion_cache::ManualClock::new();
    let builder = Cache::builder().max_entries(5_000).ttl(Duration::from_millis(50)).shards(8);
    let cache: Numbers = builder.clock(clock.clone()).build().unwrap();
    (0..5_000).for_each(|key| cache.insert(key, key));
    clock.advance(Duration::from_secs(2));
    assert_eq!(cache.get(&7), None);
    let mut swept = 0;
    // A hundred slots at a time, in each of eight shards of some 625 as often as surely suffices.
    for _ in 0..8 * 8 {
        swept += cache.sweep(100);
    }
    assert_eq!((swept, cache.len()), (5_000, 0));
}

/// A refill after `clear` holds as much as before.
#[test]
fn clear_gives_the_whole_budget_back() {
    let cache = weighed(1_000);
    for _ in 0..3 {
        (0..1_000).for_each(|key| cache.insert(key, 1));
        assert_eq!(cache.len(), 1_000);
        cache.clear();
        assert_eq!(cache.len(), 0);
    }
}

/// The budget is one: no shard's share refuses what fits or wastes what is free.
#[test]
fn a_thousand_unit_weights_fit_into_a_thousand() {
    let cache: Numbers =
        Cache::builder().max_entries(10_000).max_weight(1_000).weigher(|_, _| 1).shards(16).build().unwrap();
    (0..1_000).for_each(|key| cache.insert(key, key));
    assert_eq!((0..1_000).filter(|key| cache.get(key).is_some()).count(), 1_000);
    cache.insert(5_000, 1);
    assert_eq!(cache.len(), 1_000);
    // And one entry may take nearly all of it.
    cache.insert_loaded(6_000, Loaded::new(1).weight(970));
    assert_eq!(cache.get(&6_000), Some(1));
    assert!(cache.snapshot().weight <= 1_000);
}

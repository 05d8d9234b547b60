//! A hit allocates nothing, in whatever way it is asked for; nor does an insert into a full cache.

use std::convert::Infallible;
use std::time::Duration;

use allocation_counter::measure;
use stanchion_cache::{Cache, Eviction, Loaded};

fn cache(eviction: Eviction) -> Cache<u64, u64> {
    let builder = Cache::builder().max_entries(1_000).eviction(eviction).ttl(Duration::from_secs(3600));
    builder.refresh_ahead(0.9).idle_ttl(Duration::from_secs(3600)).build().unwrap()
}

#[test]
fn a_hit_and_a_miss_allocate_nothing() {
    for eviction in [Eviction::Hybrid, Eviction::S3Fifo, Eviction::Lru] {
        let cache = cache(eviction);
        cache.insert(1, 10);
        cache.insert_loaded(2, Loaded::new(20).tag("a").tag("b"));
        cache.invalidate_tag("c");
        // The thread's first count may.
        cache.get(&1);
        let counted = measure(|| {
            assert_eq!((cache.get(&1), cache.get(&2), cache.get(&3)), (Some(10), Some(20), None));
            assert!(cache.contains(&1));
            assert_eq!(cache.get_or_load_blocking(&1, || Ok::<u64, Infallible>(0)).unwrap(), 10);
        });
        assert_eq!(counted.count_total, 0);
    }
}

#[cfg(feature = "tokio")]
#[tokio::test]
async fn a_hit_of_get_or_load_allocates_nothing() {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    let cache = cache(Eviction::Hybrid);
    cache.insert(1, 10);
    cache.get(&1);
    let counted = measure(|| {
        let hit = pin!(cache.get_or_load(&1, || async { Ok::<u64, Infallible>(0) }));
        let Poll::Ready(value) = hit.poll(&mut Context::from_waker(Waker::noop())) else { panic!("it waits") };
        assert_eq!(value.unwrap(), 10);
    });
    assert_eq!(counted.count_total, 0);
}

#[test]
fn an_insert_into_a_full_cache_allocates_nothing() {
    let cache: Cache<u64, u64> = Cache::builder().max_entries(1_000).ttl(Duration::from_secs(60)).build().unwrap();
    (0..10_000).for_each(|key| cache.insert(key, key));
    let counted = measure(|| (10_000..10_100).for_each(|key| cache.insert(key, key)));
    assert_eq!(counted.count_total, 0);
}

/// With a time to live, and everything that a lookup needs.
#[test]
fn an_entry_of_two_numbers_takes_at_most_64_bytes() {
    let mut kept = None;
    let counted = measure(|| {
        let cache: Cache<u64, u64> =
            Cache::builder().max_entries(100_000).ttl(Duration::from_secs(60)).shards(1).build().unwrap();
        (0..200_000).for_each(|key| cache.insert(key, key));
        kept = Some(cache);
    });
    let entries = i64::try_from(kept.unwrap().len()).unwrap();
    assert_eq!(entries, 100_000);
    let each = counted.bytes_current / entries;
    assert!(each <= 64, "{each} bytes");
}

#[test]
fn the_counter_counts() {
    assert_eq!(measure(|| drop(std::hint::black_box(Box::new(1)))).count_total, 1);
}

//! A tiered cache on a real Redis that is asked for much at once, or for what is too much.

use std::time::{Duration, Instant};

use stanchion_breaker::State;
use stanchion_cache::{Cache, Raw, Spread, TieredCache};
use stanchion_conformance::RedisServer;
use stanchion_redis::RedisCacheStore;
use tokio::time::sleep;

type Values = TieredCache<u64, Vec<u8>>;

/// More time than Redis needs for a few calls, and less than for all at once.
const CALL: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_batch_does_not_look_like_an_outage() {
    let server = RedisServer::start();
    let store = RedisCacheStore::connect(&server.url(), "values").unwrap().deadline(CALL);
    let cache: Values = Cache::builder().max_entries(100_000).over(store, Raw).timeout(CALL).build().unwrap();
    let keys: Vec<u64> = (0..40_000).collect();
    let load =
        |keys: Vec<u64>| async move { Ok::<_, String>(keys.into_iter().map(|key| (key, vec![1])).collect::<Vec<_>>()) };
    let loaded = cache.get_or_load_many(&keys, load).await;
    assert!(loaded.iter().all(Result::is_ok));
    cache.local().clear();
    assert!(cache.get_many(&keys).await.iter().all(Option::is_some));
    let snapshot = cache.snapshot();
    let troubles = (snapshot.remote_failed, snapshot.remote_timed_out, snapshot.remote_refused);
    assert_eq!((troubles, snapshot.breaker.state), ((0, 0, 0), State::Closed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_only_the_store_finds_too_large_is_counted_as_such_and_the_older_one_goes() {
    let server = RedisServer::start();
    let store = RedisCacheStore::connect(&server.url(), "values").unwrap().deadline(Duration::from_secs(10));
    let cache: Values = Cache::builder().over(store, Raw).max_value_bytes(64 << 20).build().unwrap();
    assert_eq!(cache.insert(7, vec![1]).await, Spread::Everywhere);
    assert_eq!(cache.insert(7, vec![0; 9 << 20]).await, Spread::Pending);
    let began = Instant::now();
    while cache.snapshot().pending > 0 {
        assert!(began.elapsed() < PATIENCE, "the invalidation in its place arrives");
        sleep(Duration::from_millis(5)).await;
    }
    let snapshot = cache.snapshot();
    assert_eq!((cache.get(&7).await, snapshot.too_large, snapshot.remote_failed), (None, 1, 0));
}

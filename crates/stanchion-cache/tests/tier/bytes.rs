//! What lies in the store, and isn't what it should be.

use super::*;
use stanchion_cache::{Codec, CodecError, TierConfig};
use stanchion_core::{CacheStore, NewValue};

#[tokio::test(start_paused = true)]
async fn corrupted_bytes_and_those_of_another_schema_are_a_miss_and_are_replaced() {
    let store = MemoryCacheStore::new();
    let (cache, _) = instance(&store);
    let newer = over(&store).0.schema(2).build().unwrap();
    let origin = Origin::default();
    let key = 7u64.to_be_bytes();
    let garbage = NewValue { bytes: b"someone else's", fresh_for: secs(99), keep_for: secs(99), tags: &[] };
    store.insert(&key, garbage).await.unwrap();
    assert_eq!(cache.get(&7).await, None);
    assert_eq!(cache.get_or_load(&7, origin.load()).await.unwrap(), b"1");
    assert_eq!(cache.snapshot().garbled, 2);
    assert_eq!(newer.get_or_load(&7, origin.load()).await.unwrap(), b"2");
    assert_eq!(newer.get(&7).await.unwrap(), b"2");
}

/// Refuses some values, and panics on others.
struct Moody;

impl Codec<Bytes> for Moody {
    fn number(&self) -> u8 {
        200
    }

    fn encode(&self, value: &Bytes) -> Result<Bytes, CodecError> {
        match &value[..] {
            b"refuse" => Err("not this one".into()),
            b"panic" => panic!("nor this one"),
            _ => Ok(value.clone()),
        }
    }

    fn decode(&self, bytes: &[u8]) -> Result<Bytes, CodecError> {
        match bytes {
            b"later" => panic!("not any more"),
            _ => Ok(bytes.to_vec()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_encoded_is_served_and_stays_here() {
    let store = MemoryCacheStore::new();
    let build = || settings().over(Flaky::new(&store), Moody).build().unwrap();
    let (cache, other) = (build(), build());
    for value in ["refuse", "panic"] {
        let load = move || async move { Ok::<_, String>(value.as_bytes().to_vec()) };
        assert_eq!(cache.get_or_load(&7, load).await.unwrap(), value.as_bytes());
        assert_eq!(cache.get(&7).await.unwrap(), value.as_bytes(), "in memory");
        assert_eq!(other.get(&7).await, None);
        // An insert of it takes out what was there.
        cache.insert(7, b"fine".to_vec()).await;
        cache.insert(7, value.as_bytes().to_vec()).await;
        assert_eq!((cache.get(&7).await, other.get(&7).await), (None, None));
    }
    assert_eq!(cache.snapshot().not_encoded, 4);
    cache.insert(8, b"later".to_vec()).await;
    assert_eq!((cache.get(&8).await, cache.snapshot().garbled), (None, 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_stays_here() {
    let store = MemoryCacheStore::new();
    let build = || over(&store).0.max_value_bytes(1_000).build().unwrap();
    let (cache, other) = (build(), build());
    let large = || async { Ok::<_, String>(vec![7; 1_000]) };
    assert_eq!(cache.get_or_load(&7, large).await.unwrap().len(), 1_000);
    assert_eq!((cache.get(&7).await.unwrap().len(), other.get(&7).await), (1_000, None));
    assert_eq!(cache.snapshot().too_large, 1);
}

#[test]
fn settings_that_cannot_be_honoured_are_named() {
    let store = MemoryCacheStore::new();
    let said = |change: fn(&mut TierConfig)| {
        let mut config = TierConfig::default();
        change(&mut config);
        over(&store).0.config(config).build().unwrap_err().to_string()
    };
    assert_eq!(said(|config| config.max_local_age = Duration::ZERO), "max_local_age is 0ns: must be 1ms or more");
    assert_eq!(said(|config| config.timeout = Duration::MAX).split(':').next_back().unwrap(), " must be 1ms to 1min");
    assert_eq!(said(|config| config.lease = millis(29)), "lease is 29ms: must be 30ms to 1h");
    assert_eq!(said(|config| config.lease_wait = secs(30)), "lease_wait is 30s: must be below load_timeout");
    assert_eq!(said(|config| config.max_value_bytes = 63), "max_value_bytes is 63: must be 64 to 536870912");
    assert_eq!(said(|config| config.max_pending = 0), "max_pending is 0: must be at least 1");
    if !cfg!(feature = "lz4") {
        assert_eq!(said(|config| config.compress_above = Some(1)), "compress_above is 1: needs the feature `lz4`");
    }
}

#[cfg(all(feature = "json", feature = "postcard", feature = "serde"))]
#[tokio::test(start_paused = true)]
async fn values_of_serde_come_back_by_either_codec_and_never_by_the_other() {
    use stanchion_cache::{Json, Postcard, Shared};
    #[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
    struct User {
        name: String,
        age: u8,
    }
    let store = MemoryCacheStore::new();
    let settings = || Cache::<u64, Arc<User>>::builder();
    let json = settings().over(store.another(), Shared(Json)).build().unwrap();
    let postcard = settings().over(store.another(), Shared(Postcard)).build().unwrap();
    let alice = Arc::new(User { name: "Alice".into(), age: 42 });
    json.insert(7, alice.clone()).await;
    assert_eq!((json.get(&7).await, postcard.get(&7).await), (Some(alice.clone()), None));
    postcard.insert(7, alice.clone()).await;
    assert_eq!((json.get(&7).await, postcard.get(&7).await), (None, Some(alice)));
}

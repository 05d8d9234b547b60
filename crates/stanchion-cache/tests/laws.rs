//! The store in memory keeps the laws of a cache store.
#![cfg(feature = "tier")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use stanchion_cache::{ManualClock, MemoryCacheStore};
use stanchion_conformance::{cache, cache_laws};
use stanchion_core::CacheStore;

async fn subject() -> cache::Subject {
    let clock = ManualClock::new();
    let (by_name, of_stores) = (Mutex::<HashMap<String, MemoryCacheStore>>::default(), clock.clone());
    let open = move |name: &str| -> Arc<dyn CacheStore> {
        let mut by_name = by_name.lock().unwrap();
        let store = by_name.entry(name.to_owned()).or_insert_with(|| MemoryCacheStore::with_clock(of_stores.clone()));
        Arc::new(store.another())
    };
    cache::Subject { open: Arc::new(open), clock }
}

cache_laws!(subject);

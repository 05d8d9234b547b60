//! The remote tier over a store in memory that can be made to fail, in virtual time.
#![cfg(all(feature = "tier", feature = "test-util"))]

mod bytes;
mod flaky;
mod ladder;
mod many;
mod model;
mod outage;
mod stampede;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flaky::Flaky;
use stanchion_cache::{Cache, CacheBuilder, MemoryCacheStore, Raw, TieredBuilder, TieredCache};

type Bytes = Vec<u8>;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Of an hour's life, in memory for 30 s.
fn settings() -> CacheBuilder<u64, Bytes> {
    Cache::builder().name("pages").ttl(secs(3600)).seed(7)
}

fn over(store: &MemoryCacheStore) -> (TieredBuilder<u64, Bytes>, Flaky) {
    let flaky = Flaky::new(store);
    (settings().over(flaky.clone(), Raw), flaky)
}

/// An instance of the service, with the line to its store.
fn instance(store: &MemoryCacheStore) -> (TieredCache<u64, Bytes>, Flaky) {
    let (builder, flaky) = over(store);
    (builder.build().unwrap(), flaky)
}

/// What loads come to: each brings the number of the load, a second later.
#[derive(Clone, Default)]
struct Origin(Arc<AtomicU64>);

impl Origin {
    fn loads(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn load(&self) -> impl FnOnce() -> std::pin::Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send>> + use<> {
        self.load_in(secs(1))
    }

    fn load_in(
        &self,
        time: Duration,
    ) -> impl FnOnce() -> std::pin::Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send>> + use<> {
        let origin = self.clone();
        move || {
            let number = origin.0.fetch_add(1, Ordering::SeqCst) + 1;
            Box::pin(async move {
                tokio::time::sleep(time).await;
                Ok(number.to_string().into_bytes())
            })
        }
    }

    fn fail(&self) -> impl FnOnce() -> std::pin::Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send>> + use<> {
        let origin = self.clone();
        move || {
            origin.0.fetch_add(1, Ordering::SeqCst);
            Box::pin(async { Err(String::from("no")) })
        }
    }
}

//! Two instances of a tiered cache under load, while a real Redis is killed, frozen, flushed and
//! brought back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use stanchion_breaker::State;
use stanchion_cache::{Cache, Raw, Spread, TieredCache};
use stanchion_conformance::RedisServer;
use stanchion_core::Random;
use stanchion_redis::RedisCacheStore;

const KEYS: u64 = 20;
const LOCAL_AGE: Duration = Duration::from_millis(500);
/// Beyond what is promised, for a machine that is busy.
const GRACE: Duration = Duration::from_secs(8);
const PATIENCE: Duration = Duration::from_secs(60);

type Values = TieredCache<u64, Vec<u8>>;

/// Where values are loaded from: each key's version, and when it was announced that the one before
/// is over.
#[derive(Default)]
struct Truth {
    versions: Mutex<HashMap<u64, Vec<Instant>>>,
    well_since: Mutex<Option<Instant>>,
    reads: AtomicU64,
    pending: AtomicU64,
}

impl Truth {
    fn version(&self, key: u64) -> u64 {
        self.versions.lock().unwrap().get(&key).map_or(0, |announced| u64::try_from(announced.len()).unwrap())
    }

    /// How long it has been known that there is something newer, with Redis there to know it by.
    fn outdated(&self, key: u64, version: u64) -> Duration {
        let announced =
            self.versions.lock().unwrap().get(&key).and_then(|all| all.get(usize::try_from(version).unwrap()).copied());
        let (Some(announced), Some(well_since)) = (announced, *self.well_since.lock().unwrap()) else {
            return Duration::ZERO;
        };
        announced.max(well_since).elapsed()
    }
}

fn instance(server: &RedisServer) -> Values {
    let store = RedisCacheStore::connect(&server.url(), "values").unwrap();
    Cache::builder().ttl(Duration::from_secs(3_600)).over(store, Raw).max_local_age(LOCAL_AGE).build().unwrap()
}

async fn read(cache: &Values, truth: &Arc<Truth>, key: u64) -> u64 {
    let there = truth.clone();
    let load = move || async move {
        let version = there.version(key);
        tokio::time::sleep(Duration::from_millis(3)).await;
        Ok::<_, std::convert::Infallible>(version.to_string().into_bytes())
    };
    let value = cache.get_or_load(&key, load).await.expect("Redis is no caller's error");
    String::from_utf8(value).unwrap().parse().unwrap()
}

/// Reads for as long as it may, and writes now and then.
async fn traffic(cache: Values, truth: Arc<Truth>, random: Random, is_over: Arc<AtomicBool>) {
    let mut chance = random.run();
    while !is_over.load(SeqCst) {
        let key = chance.up_to(KEYS - 1);
        if chance.unit() < 0.02 {
            // It is written first, and then announced.
            let spread = {
                truth
                    .versions
                    .lock()
                    .unwrap()
                    .entry(key)
                    .or_default()
                    .push(Instant::now() + Duration::from_secs(3_600));
                let number = usize::try_from(truth.version(key)).unwrap() - 1;
                let spread = cache.invalidate(&key).await;
                truth.versions.lock().unwrap().get_mut(&key).unwrap()[number] = Instant::now();
                spread
            };
            truth.pending.fetch_add(u64::from(spread == Spread::Pending), SeqCst);
        } else {
            let version = read(&cache, &truth, key).await;
            let outdated = truth.outdated(key, version);
            assert!(outdated < LOCAL_AGE + GRACE, "version {version} of {key}, {outdated:?} after it was over");
            truth.reads.fetch_add(1, SeqCst);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what}, after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_comes_and_goes_and_no_caller_sees_an_error_or_what_is_long_over() {
    let mut server = RedisServer::start();
    let caches = [instance(&server), instance(&server)];
    let (truth, is_over) = (Arc::new(Truth::default()), Arc::new(AtomicBool::new(false)));
    let tasks: Vec<_> = (0..8)
        .map(|number: usize| {
            let random = Random::seeded(number as u64);
            tokio::spawn(traffic(caches[number % 2].clone(), truth.clone(), random, is_over.clone()))
        })
        .collect();
    for trouble in ["killed", "frozen", "flushed"] {
        *truth.well_since.lock().unwrap() = None;
        let seen = truth.pending.load(SeqCst);
        match trouble {
            "killed" => server.kill(),
            "frozen" => server.freeze(),
            _ => _ = server.command(&["FLUSHALL"]),
        }
        if trouble != "flushed" {
            until("the breaker opens", || {
                caches.iter().all(|cache| matches!(cache.snapshot().breaker.state, State::Open | State::HalfOpen))
            })
            .await;
            until("something is invalidated meanwhile", || truth.pending.load(SeqCst) > seen + 3).await;
            until("nothing is heard, and it is known", || caches.iter().all(|cache| !cache.snapshot().is_listening))
                .await;
        }
        match trouble {
            "killed" => server.restart(),
            "frozen" => server.thaw(),
            _ => {}
        }
        until("all that was lost has arrived, and calls pass", || {
            caches.iter().all(|cache| {
                let snapshot = cache.snapshot();
                snapshot.pending == 0 && snapshot.is_listening && snapshot.breaker.state == State::Closed
            })
        })
        .await;
        *truth.well_since.lock().unwrap() = Some(Instant::now());
        tokio::time::sleep(LOCAL_AGE * 2).await;
        assert!(tasks.iter().all(|task| !task.is_finished()), "{trouble}");
    }
    is_over.store(true, SeqCst);
    for task in tasks {
        task.await.unwrap();
    }
    // With nobody writing any more, everybody sees the latest.
    tokio::time::sleep(LOCAL_AGE).await;
    for key in 0..KEYS {
        for cache in &caches {
            assert_eq!(read(cache, &truth, key).await, truth.version(key), "{key}");
        }
    }
    let snapshots = caches.map(|cache| cache.snapshot());
    assert!(snapshots.iter().all(|snapshot| snapshot.resent > 0 && snapshot.remote_hits > 0), "{snapshots:?}");
    assert!(truth.reads.load(SeqCst) > 1_000, "{}", truth.reads.load(SeqCst));
}

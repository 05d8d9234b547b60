//! Awkward cases of the remote tier, each of which was a fault once.
#![cfg(all(feature = "tier", feature = "test-util"))]

use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use stanchion_cache::{Cache, CacheBuilder, Loaded, MemoryCacheStore, Raw, RemoteKey, Spread, TieredCache};
use stanchion_core::{
    Answer, CacheStore, ChangeListener, Fence, Found, Key, Lease, LeaseStore, NewValue, StoreError, StoreErrorKind,
    StoredValue, Subscription,
};
use tokio::time::{Instant, sleep};

type Bytes = Vec<u8>;
type Loading = Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send>>;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Op {
    Get,
    Look,
    Put,
    Insert,
    Key,
    Tag,
    Clear,
    Lease,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// Half of the time before it is carried out, half after.
    Takes(Duration),
    /// Carried out at once, answered after so long.
    Answers(Duration),
    Fails(StoreErrorKind),
    Hangs,
}

type Judge = Box<dyn Fn(Op, &[u8]) -> Fate + Send>;
type Rule = Arc<Mutex<Judge>>;

#[derive(Clone)]
struct Odd {
    store: Arc<MemoryCacheStore>,
    rule: Rule,
}

impl Odd {
    fn new(store: &MemoryCacheStore) -> Self {
        let rule: Judge = Box::new(|_, _| Fate::Takes(Duration::ZERO));
        Self { store: Arc::new(store.another()), rule: Arc::new(Mutex::new(rule)) }
    }

    fn rule(&self, rule: impl Fn(Op, &[u8]) -> Fate + Send + 'static) {
        *self.rule.lock().unwrap() = Box::new(rule);
    }

    fn well(&self) {
        self.rule(|_, _| Fate::Takes(Duration::ZERO));
    }

    fn through<T: Send + 'static>(
        &self,
        op: Op,
        key: &[u8],
        call: impl FnOnce(&MemoryCacheStore) -> Answer<'_, Result<T, StoreError>> + Send + 'static,
    ) -> Answer<'_, Result<T, StoreError>> {
        let fate = (self.rule.lock().unwrap())(op, key);
        let store = self.store.clone();
        Answer::later(async move {
            match fate {
                Fate::Takes(time) => {
                    if !time.is_zero() {
                        sleep(time / 2).await;
                    }
                    let answer = call(&store).ready().unwrap();
                    if !time.is_zero() {
                        sleep(time / 2).await;
                    }
                    answer
                }
                Fate::Answers(time) => {
                    let answer = call(&store).ready().unwrap();
                    sleep(time).await;
                    answer
                }
                Fate::Fails(kind) => Err(StoreError::new(kind, "no")),
                Fate::Hangs => std::future::pending().await,
            }
        })
    }
}

impl LeaseStore for Odd {
    fn acquire(&self, key: &[u8], duration: Duration) -> Answer<'_, Result<Lease, StoreError>> {
        let owned = key.to_vec();
        self.through(Op::Lease, key, move |store| store.acquire(&owned, duration))
    }

    fn renew(&self, key: &[u8], fence: Fence, duration: Duration) -> Answer<'_, Result<bool, StoreError>> {
        let owned = key.to_vec();
        self.through(Op::Lease, key, move |store| store.renew(&owned, fence, duration))
    }

    fn release(&self, key: &[u8], fence: Fence) -> Answer<'_, Result<bool, StoreError>> {
        let owned = key.to_vec();
        self.through(Op::Lease, key, move |store| store.release(&owned, fence))
    }
}

struct Owned {
    bytes: Vec<u8>,
    fresh_for: Duration,
    keep_for: Duration,
    tags: Vec<String>,
}

impl Owned {
    fn of(value: NewValue<'_>) -> Self {
        let tags = value.tags.iter().map(|&tag| tag.to_owned()).collect();
        Self { bytes: value.bytes.to_vec(), fresh_for: value.fresh_for, keep_for: value.keep_for, tags }
    }

    fn with<T>(&self, then: impl FnOnce(NewValue<'_>) -> T) -> T {
        let tags: Vec<&str> = self.tags.iter().map(String::as_str).collect();
        then(NewValue { bytes: &self.bytes, fresh_for: self.fresh_for, keep_for: self.keep_for, tags: &tags })
    }
}

impl CacheStore for Odd {
    fn get(&self, key: &[u8]) -> Answer<'_, Result<Option<StoredValue>, StoreError>> {
        let owned = key.to_vec();
        self.through(Op::Get, key, move |store| store.get(&owned))
    }

    fn get_or_lease(&self, key: &[u8], lease: Duration) -> Answer<'_, Result<Found, StoreError>> {
        let owned = key.to_vec();
        self.through(Op::Look, key, move |store| store.get_or_lease(&owned, lease))
    }

    fn put(&self, key: &[u8], fence: Fence, value: NewValue<'_>) -> Answer<'_, Result<bool, StoreError>> {
        let (owned, value) = (key.to_vec(), Owned::of(value));
        self.through(Op::Put, key, move |store| value.with(|value| store.put(&owned, fence, value)))
    }

    fn insert(&self, key: &[u8], value: NewValue<'_>) -> Answer<'_, Result<(), StoreError>> {
        let (owned, value) = (key.to_vec(), Owned::of(value));
        self.through(Op::Insert, key, move |store| value.with(|value| store.insert(&owned, value)))
    }

    fn invalidate(&self, key: &[u8]) -> Answer<'_, Result<(), StoreError>> {
        let owned = key.to_vec();
        self.through(Op::Key, key, move |store| store.invalidate(&owned))
    }

    fn invalidate_tag(&self, tag: &str) -> Answer<'_, Result<(), StoreError>> {
        let owned = tag.to_owned();
        self.through(Op::Tag, tag.as_bytes(), move |store| store.invalidate_tag(&owned))
    }

    fn clear(&self) -> Answer<'_, Result<(), StoreError>> {
        self.through(Op::Clear, b"", CacheStore::clear)
    }

    fn subscribe(&self, listener: ChangeListener) -> Subscription {
        self.store.subscribe(listener)
    }
}

fn settings() -> CacheBuilder<u64, Bytes> {
    Cache::builder().name("pages").ttl(secs(3600)).seed(7)
}

fn instance(store: &MemoryCacheStore) -> (TieredCache<u64, Bytes>, Odd) {
    let odd = Odd::new(store);
    (settings().over(odd.clone(), Raw).build().unwrap(), odd)
}

/// A loader that counts its calls, and takes its time.
#[derive(Clone, Default)]
struct Origin {
    loads: Arc<AtomicU64>,
    running: Arc<AtomicU64>,
    most: Arc<AtomicU64>,
}

impl Origin {
    fn loads(&self) -> u64 {
        self.loads.load(Ordering::SeqCst)
    }

    fn load(&self, time: Duration) -> impl FnOnce() -> Loading + Send + use<> {
        let origin = self.clone();
        move || {
            let number = origin.loads.fetch_add(1, Ordering::SeqCst) + 1;
            Box::pin(async move {
                let running = origin.running.fetch_add(1, Ordering::SeqCst) + 1;
                origin.most.fetch_max(running, Ordering::SeqCst);
                sleep(time).await;
                origin.running.fetch_sub(1, Ordering::SeqCst);
                Ok(number.to_string().into_bytes())
            })
        }
    }

    fn fail(&self, time: Duration) -> impl FnOnce() -> Loading + Send + use<> {
        let origin = self.clone();
        move || {
            origin.loads.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move {
                sleep(time).await;
                Err(String::from("no"))
            })
        }
    }
}

fn value(bytes: &'static [u8]) -> impl FnOnce() -> Loading + Send {
    move || Box::pin(async move { Ok(bytes.to_vec()) })
}

/// Many lost invalidations become one `clear`. If one is on its way already, sent before them, its
/// arrival makes them forgotten.
#[tokio::test(start_paused = true)]
async fn lost_invalidations_are_forgotten_when_an_earlier_clear_arrives() {
    let store = MemoryCacheStore::new();
    let (other, _) = instance(&store);
    let odd = Odd::new(&store);
    let one: TieredCache<u64, Bytes> = settings().over(odd.clone(), Raw).max_pending(1).build().unwrap();
    odd.rule(|op, _| match op {
        // Carried out at once; the answer takes 100 ms.
        Op::Clear => Fate::Takes(millis(100)),
        _ => Fate::Fails(StoreErrorKind::Unavailable),
    });
    let clearing = tokio::spawn({
        let one = one.clone();
        async move { one.clear().await }
    });
    sleep(millis(60)).await;
    // The clearing has been carried out; somebody loads what is true now.
    assert_eq!(other.get_or_load(&1, value(b"old")).await.unwrap(), b"old");
    // It changes.
    assert_eq!(one.invalidate(&1).await, Spread::Pending);
    assert_eq!(one.invalidate(&2).await, Spread::Pending);
    assert_eq!(one.snapshot().pending, 1, "one that covers all");
    assert_eq!(clearing.await.unwrap(), Spread::Everywhere);
    odd.well();
    assert_eq!(one.snapshot().pending, 1, "what was lost after the clear was sent must be sent again");
    sleep(secs(60)).await;
    assert_eq!(one.get_or_load(&1, value(b"new")).await.unwrap(), b"new");
    assert_eq!(other.get_or_load(&1, value(b"new")).await.unwrap(), b"new");
}

/// As in a cluster of which one node is gone: what goes to the others arrives never.
#[tokio::test(start_paused = true)]
async fn invalidations_that_cannot_arrive_starve_those_that_can() {
    let store = MemoryCacheStore::new();
    let (one, odd) = instance(&store);
    odd.rule(|_, _| Fate::Fails(StoreErrorKind::Unavailable));
    for key in 0..400 {
        assert_eq!(one.invalidate(&key).await, Spread::Pending);
    }
    odd.rule(|op, key| match op {
        // The node with the even keys is gone.
        Op::Key if key[7] % 2 == 0 => Fate::Fails(StoreErrorKind::Unavailable),
        _ => Fate::Takes(Duration::ZERO),
    });
    sleep(secs(600)).await;
    assert_eq!(one.snapshot().pending, 200, "ten minutes later all that can arrive has");
}

/// "stale, within stale_if_error: loads, and gets it if that fails."
#[tokio::test(start_paused = true)]
async fn a_loader_that_hangs_or_panics_is_no_error_where_the_store_has_a_stand_in() {
    let store = MemoryCacheStore::new();
    let build = || settings().ttl(secs(10)).stale_if_error(secs(3600)).over(Odd::new(&store), Raw).build().unwrap();
    let (one, other) = (build(), build());
    one.get_or_load(&7, value(b"old")).await.unwrap();
    sleep(secs(20)).await;
    // As it should be, with an error.
    let served = other.get_or_load(&7, || async { Err::<Bytes, _>("no") }).await;
    assert_eq!(served.unwrap(), b"old");
    other.local().clear();
    let served =
        other.get_or_load(&7, || async { if true { panic!("loader") } else { Ok::<Bytes, String>(vec![]) } }).await;
    let hung = other.get_or_load(&7, std::future::pending::<Result<Bytes, String>>).await;
    assert_eq!((served.ok(), hung.ok()), (Some(b"old".to_vec()), Some(b"old".to_vec())), "panic, hang");
}

/// The limit of time of a load is spent on waiting for the store.
#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_no_error_to_a_caller() {
    let store = MemoryCacheStore::new();
    let odd = Odd::new(&store);
    let built = settings().load_timeout(secs(6)).over(odd.clone(), Raw).timeout(secs(10)).build();
    // To refuse it would do.
    let Ok(cache) = built else { return };
    odd.rule(|_, _| Fate::Hangs);
    let origin = Origin::default();
    let loaded = cache.get_or_load(&7, origin.load(millis(1))).await;
    assert!(loaded.is_ok(), "the loader takes 1 ms and was called {} times: {loaded:?}", origin.loads());
}

/// The same with the default timeout: the load fits into its limit, and the store's hanging before it doesn't.
#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_takes_nothing_from_the_loaders_time() {
    let store = MemoryCacheStore::new();
    let odd = Odd::new(&store);
    let cache = settings().load_timeout(millis(300)).over(odd.clone(), Raw).lease_wait(millis(50)).build().unwrap();
    odd.rule(|_, _| Fate::Hangs);
    let loaded = cache.get_or_load(&7, Origin::default().load(millis(150))).await;
    assert!(loaded.is_ok(), "{loaded:?}");
}

/// Another instance's load is slow: whoever waits for it has no time left for its own.
#[tokio::test(start_paused = true)]
async fn whoever_gives_up_waiting_has_time_to_load() {
    let store = MemoryCacheStore::new();
    let build = || settings().load_timeout(secs(6)).over(Odd::new(&store), Raw).build().unwrap();
    let (one, other) = (build(), build());
    let slow = tokio::spawn(async move { one.get_or_load(&7, Origin::default().load(secs(100))).await });
    sleep(millis(1)).await;
    let loaded = other.get_or_load(&7, Origin::default().load(secs(2))).await;
    assert!(loaded.is_ok(), "a load of 2 s with a limit of 6 s: {loaded:?}");
    assert!(slow.await.unwrap().is_err());
}

/// `failure_throttle`, 1 s: "if there is a stale value, it is served, and for so long nobody tries again".
#[tokio::test(start_paused = true)]
async fn a_background_load_that_fails_is_throttled_and_counted() {
    let store = MemoryCacheStore::new();
    let build =
        || settings().ttl(secs(10)).stale_while_revalidate(secs(3600)).over(Odd::new(&store), Raw).build().unwrap();
    let (one, other) = (build(), build());
    one.get_or_load(&7, value(b"old")).await.unwrap();
    sleep(secs(20)).await;
    let origin = Origin::default();
    let began = Instant::now();
    while began.elapsed() < millis(900) {
        assert_eq!(other.get_or_load(&7, origin.fail(millis(1))).await.unwrap(), b"old");
        sleep(millis(3)).await;
    }
    assert!(origin.loads() <= 2, "{} loads that failed in 0.9 s", origin.loads());
    assert!(other.snapshot().local.load_failures > 0);
}

/// `Loaded::absent`: "remembered for the cache's `negative_ttl`, or for a `ttl` that is shorter".
#[tokio::test(start_paused = true)]
async fn a_shorter_time_to_live_of_what_is_absent_counts() {
    for tiered in [false, true] {
        let origin = Arc::new(AtomicU64::new(0));
        let load = || {
            let origin = origin.clone();
            move || async move {
                origin.fetch_add(1, Ordering::SeqCst);
                Ok::<_, String>(Loaded::<Bytes>::absent().ttl(secs(1)))
            }
        };
        let settings = || settings().negative_ttl(secs(20));
        if tiered {
            let cache = settings().over(MemoryCacheStore::new(), Raw).build().unwrap();
            assert!(cache.get_or_load(&7, load()).await.unwrap_err().is_not_found());
            sleep(secs(2)).await;
            assert!(cache.get_or_load(&7, load()).await.unwrap_err().is_not_found());
        } else {
            let cache = settings().build().unwrap();
            assert!(cache.get_or_load(&7, load()).await.unwrap_err().is_not_found());
            sleep(secs(2)).await;
            assert!(cache.get_or_load(&7, load()).await.unwrap_err().is_not_found());
        }
        assert_eq!(origin.load(Ordering::SeqCst), 2, "tiered: {tiered}");
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..1_000 {
        if let Poll::Ready(ready) = future.as_mut().poll(&mut context) {
            return ready;
        }
        std::thread::sleep(millis(1));
    }
    panic!("it takes too long");
}

fn until_nothing_is_pending<V: Clone + Send + Sync + 'static>(cache: &TieredCache<u64, V>) {
    for _ in 0..60_000 {
        if cache.snapshot().pending == 0 {
            return;
        }
        std::thread::sleep(millis(1));
    }
    panic!("it is not sent again");
}

/// `CacheBuilder::runtime` is there for callers outside of a runtime.
#[test]
fn a_caller_outside_of_a_runtime_doesnt_panic() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let odd = Odd::new(&MemoryCacheStore::new());
    let cache = settings().runtime(runtime.handle().clone()).over(odd.clone(), Raw).build().unwrap();
    let got = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| block_on(cache.get(&7))));
    let gone = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| block_on(cache.invalidate(&7))));
    assert!(got.is_ok() && gone.is_ok(), "get: {}, invalidate: {}", got.is_ok(), gone.is_ok());
}

/// A future that is dropped outside of a runtime: nobody sends again, and the key is never asked for again.
#[test]
fn an_invalidation_dropped_outside_of_a_runtime_is_sent_again() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let odd = Odd::new(&MemoryCacheStore::new());
    let cache = settings().runtime(runtime.handle().clone()).over(odd.clone(), Raw).build().unwrap();
    odd.rule(|_, _| Fate::Hangs);
    let mut future = Box::pin(cache.invalidate(&7));
    runtime.block_on(async {
        let _ = tokio::time::timeout(millis(10), &mut future).await;
    });
    drop(future);
    odd.well();
    until_nothing_is_pending(&cache);
}

/// The one who began to send again stands still: nobody else takes over.
#[test]
fn a_runtime_that_stands_still_doesnt_keep_the_others_from_sending_again() {
    let build = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let odd = Odd::new(&MemoryCacheStore::new());
    let cache = settings().runtime(runtime.handle().clone()).over(odd.clone(), Raw).build().unwrap();
    odd.rule(|_, _| Fate::Fails(StoreErrorKind::Unavailable));
    let idle = build();
    assert_eq!(idle.block_on(cache.invalidate(&7)), Spread::Pending);
    // From now on the service runs on the other one.
    assert_eq!(runtime.block_on(cache.invalidate(&8)), Spread::Pending);
    odd.well();
    until_nothing_is_pending(&cache);
    drop(idle);
}

/// "One load of a key at a time among all instances, as long as the store answers."
#[tokio::test(start_paused = true)]
async fn while_an_invalidation_is_on_its_way_there_is_one_load_still() {
    let store = MemoryCacheStore::new();
    let ((one, odd), (other, _)) = (instance(&store), instance(&store));
    let origin = Origin::default();
    one.get_or_load(&7, value(b"0")).await.unwrap();
    // The network takes 2 ms, there and back.
    odd.rule(|_, _| Fate::Takes(millis(2)));
    let invalidating = tokio::spawn({
        let one = one.clone();
        async move { one.invalidate(&7).await }
    });
    sleep(millis(1)).await;
    let ask = |cache: &TieredCache<u64, Bytes>| {
        let (cache, load) = (cache.clone(), origin.load(millis(50)));
        tokio::spawn(async move { cache.get_or_load(&7, load).await.unwrap() })
    };
    // Both are asked all the time, as a hot key is.
    let mut tasks = vec![ask(&one), ask(&other)];
    assert_eq!(invalidating.await.unwrap(), Spread::Everywhere);
    tasks.extend([ask(&one), ask(&other)]);
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!((origin.most.load(Ordering::SeqCst), origin.loads()), (1, 1), "at a time, and in all");
}

/// "sessions: `idle_ttl`".
#[tokio::test(start_paused = true)]
async fn what_nobody_reads_for_the_idle_time_is_gone_or_the_setting_is_refused() {
    let built = Cache::<u64, Bytes>::builder().idle_ttl(secs(1800)).over(MemoryCacheStore::new(), Raw).build();
    let Ok(sessions) = built else { return };
    sessions.get_or_load(&7, value(b"session")).await.unwrap();
    sleep(secs(86_400)).await;
    assert_eq!(sessions.get(&7).await, None, "a day later");
}

/// A key whose `from_bytes` panics.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Brittle(String);

impl Key for Brittle {
    fn with_bytes<T>(&self, use_bytes: impl FnOnce(&[u8]) -> T) -> T {
        use_bytes(self.0.as_bytes())
    }
}

impl RemoteKey for Brittle {
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        // An index out of range, say.
        assert!(bytes.len() < 3, "too long");
        Some(Self(String::from_utf8(bytes.to_vec()).ok()?))
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_panics_when_it_is_read_is_no_reason_to_serve_what_is_stale() {
    let store = MemoryCacheStore::new();
    let build = || Cache::<Brittle, Bytes>::builder().over(store.another(), Raw).build().unwrap();
    let (one, other) = (build(), build());
    let key = Brittle("long".into());
    other.get_or_load(&key, value(b"old")).await.unwrap();
    let told = tokio::spawn({
        let key = key.clone();
        async move { one.invalidate(&key).await }
    });
    let told = told.await;
    assert_eq!(other.get(&key).await, None, "stale");
    assert!(told.is_ok(), "another instance's panic");
}

/// A question for many keys is abandoned: the leases that were granted meanwhile are not given back.
#[tokio::test(start_paused = true)]
async fn a_batch_whose_time_is_over_gives_its_leases_back() {
    let store = MemoryCacheStore::new();
    let odd = Odd::new(&store);
    let one = settings().load_timeout(millis(100)).over(odd.clone(), Raw).lease_wait(millis(50)).build().unwrap();
    let (other, _) = instance(&store);
    odd.rule(|_, key| if key[7] == 9 { Fate::Hangs } else { Fate::Takes(Duration::ZERO) });
    let load = |keys: Vec<u64>| async move {
        Ok::<_, String>(keys.into_iter().map(|key| (key, vec![1])).collect::<HashMap<_, _>>())
    };
    let loaded = one.get_or_load_many(&[1, 2, 9], load).await;
    let began = Instant::now();
    other.get_or_load(&1, value(b"2")).await.unwrap();
    assert!(began.elapsed() < millis(500), "{:?}; it waits for a lease that nobody holds", began.elapsed());
    assert!(loaded[0].is_ok(), "{:?}", loaded[0]);
}

/// `remote_misses`: "questions to which the store had no fresh value".
#[tokio::test(start_paused = true)]
async fn a_fresh_value_that_is_due_is_no_miss() {
    let store = MemoryCacheStore::new();
    let build = || {
        settings()
            .ttl(secs(100))
            .refresh_ahead(0.5)
            .over(Odd::new(&store), Raw)
            .max_local_age(secs(90))
            .build()
            .unwrap()
    };
    let cache = build();
    cache.get_or_load(&7, value(b"1")).await.unwrap();
    assert_eq!(cache.snapshot().remote_misses, 1);
    sleep(secs(60)).await;
    cache.get_or_load(&7, value(b"2")).await.unwrap();
    sleep(secs(1)).await;
    assert_eq!(cache.snapshot().remote_misses, 1, "the store had a fresh one");
}

/// It is emptied because changes may have been missed: none was.
#[tokio::test(start_paused = true)]
async fn nothing_is_flushed_at_the_start() {
    let (cache, _) = instance(&MemoryCacheStore::new());
    assert_eq!(cache.snapshot().flushes, 0);
}

/// All values are kept for ever: there is none with "the shortest time left".
#[tokio::test]
async fn a_full_store_in_memory_keeps_what_it_can() {
    let store = MemoryCacheStore::new();
    for key in 0..100_001_u32 {
        let value = NewValue { bytes: b"x", fresh_for: Duration::MAX, keep_for: Duration::MAX, tags: &[] };
        store.insert(&key.to_be_bytes(), value).await.unwrap();
    }
    let mut left = 0;
    for key in 0..100_001_u32 {
        left += u32::from(store.get(&key.to_be_bytes()).await.unwrap().is_some());
    }
    assert!(left > 50_000, "{left} of 100,001 are left");
}

/// A stale value of the store is served at once by a batch, as by a single question.
#[tokio::test(start_paused = true)]
async fn a_batch_serves_what_is_stale_while_it_is_loaded() {
    let store = MemoryCacheStore::new();
    let build =
        || settings().ttl(secs(10)).stale_while_revalidate(secs(3600)).over(Odd::new(&store), Raw).build().unwrap();
    let (one, other) = (build(), build());
    one.get_or_load(&7, value(b"old")).await.unwrap();
    sleep(secs(20)).await;
    let began = Instant::now();
    let slow = |keys: Vec<u64>| async move {
        sleep(secs(5)).await;
        Ok::<_, String>(keys.into_iter().map(|key| (key, vec![1])).collect::<HashMap<_, _>>())
    };
    let _ = other.get_or_load_many(&[7], slow).await;
    assert!(began.elapsed() < secs(1), "{:?}", began.elapsed());
}

/// "Until then this instance doesn't ask the store for it." What it asked before the tag's invalidation arrived, and was
/// answered after that, is kept: `send_again` forgets nothing, unlike `spread`.
#[tokio::test(start_paused = true)]
async fn a_tag_sent_again_overtakes_an_answer() {
    let store = MemoryCacheStore::new();
    let ((one, odd), (other, _)) = (instance(&store), instance(&store));
    let old = || async { Ok::<_, String>(Loaded::new(b"old".to_vec()).tag("t")) };
    other.get_or_load(&7, old).await.unwrap();
    odd.rule(|op, _| match op {
        Op::Tag => Fate::Fails(StoreErrorKind::Unavailable),
        _ => Fate::Answers(millis(150)),
    });
    assert_eq!(one.invalidate_tag("t").await, Spread::Pending);
    odd.rule(|op, _| match op {
        Op::Tag => Fate::Takes(Duration::ZERO),
        _ => Fate::Answers(millis(150)),
    });
    // Asked after the invalidation.
    let got = one.get_or_load(&7, value(b"new")).await.unwrap();
    assert_eq!(one.snapshot().pending, 0, "it has arrived meanwhile");
    sleep(secs(20)).await;
    let later = one.get_or_load(&7, value(b"new")).await.unwrap();
    let text = |bytes: &Bytes| String::from_utf8(bytes.clone()).unwrap();
    assert_eq!((text(&got), text(&later)), ("new".into(), "new".into()), "at once, and 20 s later");
}

/// A probe whose caller leaves doesn't keep the breaker half open for ever.
#[tokio::test(start_paused = true)]
async fn a_dropped_probe_frees_its_place() {
    let store = MemoryCacheStore::new();
    let (one, odd) = instance(&store);
    odd.rule(|_, _| Fate::Fails(StoreErrorKind::Unavailable));
    for key in 0..10 {
        one.get(&key).await;
    }
    sleep(secs(10)).await;
    odd.rule(|_, _| Fate::Hangs);
    let _ = tokio::time::timeout(millis(10), one.get(&1)).await;
    odd.well();
    assert_eq!(one.get(&1).await, None);
    assert_eq!(one.snapshot().breaker.state, stanchion_breaker::State::Closed);
}

/// Nothing overflows.
#[tokio::test(start_paused = true)]
async fn the_longest_durations() {
    let store = MemoryCacheStore::new();
    let build = || {
        settings()
            .ttl(Duration::MAX)
            .negative_ttl(Duration::MAX)
            .stale_if_error(Duration::MAX)
            .stale_while_revalidate(Duration::MAX)
            .refresh_ahead(0.5)
            .early_refresh(1e6)
            .ttl_jitter(1.0)
            .failure_throttle(Duration::MAX)
            .load_timeout(secs(86_400))
            .over(store.another(), Raw)
            .max_local_age(Duration::MAX)
            .lease(secs(3_600))
            .lease_wait(secs(86_399))
            .timeout(secs(60))
            .build()
            .unwrap()
    };
    let (one, other) = (build(), build());
    for key in 0..50 {
        one.get_or_load(&key, value(b"1")).await.unwrap();
        assert_eq!(other.get_or_load(&key, value(b"2")).await.unwrap(), b"1");
        let _ = one.insert(key, b"3".to_vec()).await;
        sleep(secs(86_400)).await;
        other.get_or_load(&key, value(b"4")).await.unwrap();
    }
}

/// What is being sent again when its runtime ends is never taken off the list: the key is never asked for again.
#[test]
fn sending_again_that_is_cut_short_is_made_up_for() {
    let build = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (first, second) = (build(), build());
    let odd = Odd::new(&MemoryCacheStore::new());
    let cache = settings().runtime(second.handle().clone()).over(odd.clone(), Raw).build().unwrap();
    let sent_again = Arc::new(AtomicU64::new(0));
    odd.rule({
        let sent_again = sent_again.clone();
        move |op, _| match op {
            Op::Key if sent_again.fetch_add(1, Ordering::SeqCst) > 0 => Fate::Hangs,
            _ => Fate::Fails(StoreErrorKind::Unavailable),
        }
    });
    assert_eq!(first.block_on(cache.invalidate(&7)), Spread::Pending);
    while sent_again.load(Ordering::SeqCst) < 2 {
        std::thread::sleep(millis(1));
    }
    drop(first);
    odd.rule(|_, _| Fate::Fails(StoreErrorKind::Unavailable));
    // It is lost once more, so that somebody sends it again.
    assert_eq!(second.block_on(cache.invalidate(&7)), Spread::Pending);
    odd.well();
    until_nothing_is_pending(&cache);
    assert!(cache.snapshot().resent > 0);
}

/// "Settings of refreshes count by the value's whole age, in whatever tier": XFetch by the load's time, too.
#[tokio::test(start_paused = true)]
async fn a_value_from_the_store_is_refreshed_early_by_chance() {
    let store = MemoryCacheStore::new();
    let build = || settings().ttl(secs(100)).early_refresh(1.0).over(Odd::new(&store), Raw).build().unwrap();
    let (one, other) = (build(), build());
    let origin = Origin::default();
    one.get_or_load(&7, origin.load(secs(5))).await.unwrap();
    let began = Instant::now();
    let mut longest = Duration::ZERO;
    while began.elapsed() < secs(150) {
        let asked = Instant::now();
        other.get_or_load(&7, origin.load(secs(5))).await.unwrap();
        longest = longest.max(asked.elapsed());
        sleep(millis(50)).await;
    }
    assert!(
        longest < secs(1),
        "somebody waits for {longest:?}, though XFetch has some 100 chances in the load's last 5 s"
    );
}

/// `load_timeout_soft`: "a caller that waits for so long gets the stale value".
#[tokio::test(start_paused = true)]
async fn the_soft_timeout_counts_for_a_stale_value_of_the_store() {
    let store = MemoryCacheStore::new();
    let build = || {
        let settings = settings().ttl(secs(10)).stale_if_error(secs(3600)).load_timeout_soft(millis(200));
        settings.over(Odd::new(&store), Raw).build().unwrap()
    };
    let (one, other) = (build(), build());
    one.get_or_load(&7, value(b"old")).await.unwrap();
    sleep(secs(20)).await;
    let began = Instant::now();
    let served = other.get_or_load(&7, Origin::default().load(secs(10))).await;
    assert!(began.elapsed() < secs(1), "{:?} for {served:?}", began.elapsed());
}

/// A lease that is over before the answer that grants it may come.
#[tokio::test(start_paused = true)]
async fn a_lease_shorter_than_the_timeout_works_or_is_refused() {
    let store = MemoryCacheStore::new();
    let build = || {
        let odd = Odd::new(&store);
        odd.rule(|_, _| Fate::Takes(millis(80)));
        settings().over(odd, Raw).lease(millis(30)).build()
    };
    let (Ok(one), Ok(other)) = (build(), build()) else { return };
    let origin = Origin::default();
    let ask = |cache: &TieredCache<u64, Bytes>| {
        let (cache, load) = (cache.clone(), origin.load(millis(500)));
        tokio::spawn(async move { cache.get_or_load(&7, load).await.unwrap() })
    };
    for task in [ask(&one), ask(&other)] {
        task.await.unwrap();
    }
    let snapshot = one.snapshot();
    assert_eq!((origin.loads(), snapshot.fenced), (1, 0), "the store answers, within its timeout");
}

async fn aborted(rule: impl Fn(Op, &[u8]) -> Fate + Send + 'static, after: Duration) -> Duration {
    let store = MemoryCacheStore::new();
    let odd = Odd::new(&store);
    odd.rule(rule);
    let settings = settings().abandoned(stanchion_cache::Abandoned::Abort);
    let one = settings.over(odd.clone(), Raw).build().unwrap();
    let (other, _) = instance(&store);
    let _ = tokio::time::timeout(after, one.get_or_load(&7, Origin::default().load(secs(10)))).await;
    odd.well();
    sleep(millis(100)).await;
    let began = Instant::now();
    other.get_or_load(&7, value(b"1")).await.unwrap();
    began.elapsed()
}

/// `Abandoned::Abort` while the loader runs.
#[tokio::test(start_paused = true)]
async fn an_aborted_load_gives_its_lease_back() {
    let waited = aborted(|_, _| Fate::Takes(Duration::ZERO), millis(50)).await;
    assert!(waited < millis(500), "{waited:?}");
}

/// The same while the store is asked: what it grants then is given back by nobody.
#[tokio::test(start_paused = true)]
async fn an_aborted_question_leaves_no_lease() {
    let waited = aborted(|_, _| Fate::Answers(millis(20)), millis(10)).await;
    assert!(waited < millis(500), "{waited:?}");
}

/// An invalidation that was given up by the caller while it was on its way, under a breaker that is well.
#[tokio::test(start_paused = true)]
async fn a_dropped_invalidation_is_sent_again() {
    let store = MemoryCacheStore::new();
    let ((one, odd), (other, _)) = (instance(&store), instance(&store));
    other.get_or_load(&7, value(b"old")).await.unwrap();
    odd.rule(|_, _| Fate::Takes(millis(100)));
    let _ = tokio::time::timeout(millis(10), one.invalidate(&7)).await;
    odd.well();
    sleep(secs(3)).await;
    assert_eq!((one.snapshot().pending, other.get(&7).await), (0, None));
}

/// The time of an outage of one instance only: its changes reach the others, whatever it thinks of the store.
#[tokio::test(start_paused = true)]
async fn changes_are_told_at_once_when_the_store_is_back() {
    let store = MemoryCacheStore::new();
    let ((one, odd), (other, _)) = (instance(&store), instance(&store));
    odd.rule(|_, _| Fate::Hangs);
    for key in 100..130 {
        one.get(&key).await;
    }
    sleep(secs(60)).await;
    one.get(&1).await;
    odd.well();
    other.get_or_load(&7, value(b"old")).await.unwrap();
    // The store is well again; the breaker doesn't know it for up to 5 s.
    assert_eq!(one.invalidate(&7).await, Spread::Pending);
    sleep(millis(1_100)).await;
    assert_eq!(one.snapshot().pending, 0);
    let spread = one.invalidate(&7).await;
    assert_eq!(spread, Spread::Everywhere, "what was sent again has arrived: the store is there");
}

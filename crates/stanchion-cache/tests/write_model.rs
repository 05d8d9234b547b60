//! Write-behind against a naive model, in random histories; and what a process that dies loses.
#![cfg(feature = "write-behind")]

mod table;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stanchion_cache::{Cache, FlushError, Random, Retry, Write, WriteBehind, WriteBehindSnapshot, WriteError};
use table::{Fault, Table, Trouble};
use tokio::time::{Instant, sleep};

const KEYS: u64 = 4;
const DELAY: Duration = Duration::from_millis(20);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What each key's owner has said of it, and of which keys that was given up.
#[derive(Default)]
struct Model {
    newest: HashMap<u64, Option<u64>>,
    unknown: HashSet<u64>,
    /// Accepted writes that were given up.
    given_up: u64,
}

type Shared = Arc<Mutex<Model>>;

/// A queue that writes to a table, and the model of what it should tell.
fn queue(table: &Table, seed: u64) -> (WriteBehind<Table>, Shared) {
    let model = Shared::default();
    let told = model.clone();
    // So small that it evicts all the time.
    let cache = Cache::builder().max_entries(3).shards(1).negative_ttl(ms(50)).seed(seed).build().unwrap();
    let users = WriteBehind::builder(cache, table.clone())
        .max_queued(4)
        .max_batch(3)
        .max_delay(DELAY)
        .max_wait(ms(100))
        .write_timeout(ms(60))
        .retry(Retry::constant(ms(30)).max_attempts(2).random(Random::seeded(seed)))
        .on_given_up(move |write, _| {
            let mut model = told.lock().unwrap();
            model.given_up += 1;
            // It may be an older one, which nobody asks for any more.
            if model.newest.get(write.key()).copied().flatten() == write.value().copied() {
                model.unknown.insert(*write.key());
            }
        });
    (users.build().unwrap(), model)
}

/// A reader as any: it takes its time before and after it has read.
async fn load(users: &WriteBehind<Table>, key: u64, before: u64, after: u64) -> Result<Option<u64>, ()> {
    let table = users.sink().clone();
    let load = || async move { Ok::<_, Fault>(table.load(key, ms(before), ms(after)).await) };
    match users.get_or_load(&key, load).await {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(_) => Err(()),
    }
}

/// The owner of a key, who writes it and asks for it: nobody else writes it, so what it is told must be what it has said.
async fn own(users: WriteBehind<Table>, model: Shared, key: u64, seed: u64) {
    let mut random = Random::seeded(seed).run();
    for step in 0..40 {
        sleep(ms(random.up_to(12))).await;
        let expected = || {
            let model = model.lock().unwrap();
            (!model.unknown.contains(&key)).then(|| model.newest.get(&key).copied().flatten())
        };
        match random.up_to(9) {
            0..=4 => {
                let value = (random.up_to(4) > 0).then_some(key * 1_000 + step);
                let before = {
                    let mut model = model.lock().unwrap();
                    (model.newest.insert(key, value), model.unknown.remove(&key))
                };
                let accepted = match value {
                    Some(value) => users.insert(key, value).await,
                    None => users.remove(&key).await,
                };
                if accepted.is_err() {
                    let mut model = model.lock().unwrap();
                    model.newest.insert(key, before.0.flatten());
                    // What was there may have been given up while this waited.
                    model.unknown.insert(key);
                }
            }
            5 | 6 => {
                let found = users.get(&key);
                if let (Some(found), Some(expected)) = (found, expected()) {
                    assert_eq!(Some(found), expected, "seed {seed}, step {step} of key {key}");
                }
            }
            _ => {
                let (before, after) = (random.up_to(10), random.up_to(30));
                let (known, found) = (expected(), load(&users, key, before, after).await);
                // What was given up meanwhile is anybody's guess.
                if let (Ok(found), Some(expected), true) = (found, known, expected().is_some()) {
                    assert_eq!(found, expected, "seed {seed}, step {step} of key {key}");
                }
            }
        }
    }
}

/// Everybody else: evicts, invalidates, loads, flushes.
async fn disturb(users: WriteBehind<Table>, seed: u64) {
    let mut random = Random::seeded(seed).run();
    for _ in 0..60 {
        sleep(ms(random.up_to(8))).await;
        let key = random.up_to(KEYS - 1);
        match random.up_to(9) {
            0 => users.cache().clear(),
            1 | 2 => drop(users.cache().invalidate(&key)),
            3 => drop(users.flush().await),
            4 => drop(users.get(&(100 + key))),
            // Somebody who asks the cache itself.
            5 => {
                let table = users.sink().clone();
                let (before, after) = (ms(random.up_to(10)), ms(random.up_to(40)));
                let load = || async move { Ok::<_, Fault>(table.load(key, before, after).await) };
                drop(users.cache().get_or_load(&key, load).await);
            }
            _ => drop(load(&users, key, random.up_to(10), random.up_to(40)).await),
        }
    }
}

fn is_balanced(counts: &WriteBehindSnapshot) -> bool {
    counts.accepted == counts.written + counts.coalesced + counts.given_up + counts.queued + counts.in_flight
}

#[tokio::test(start_paused = true)]
async fn in_random_histories_everybody_is_told_what_was_accepted_and_the_store_gets_it() {
    let mut total = [0; 4];
    for seed in 0..300 {
        let table = Table::new(seed);
        let trouble = match seed % 3 {
            0 => Trouble { slowness: 15, ..Trouble::default() },
            1 => Trouble { before: 15, after: 15, hangs: 5, panics: 3, slowness: 15 },
            _ => Trouble { before: 45, after: 10, hangs: 10, panics: 0, slowness: 15 },
        };
        table.trouble(trouble);
        let (users, model) = queue(&table, seed);
        let owners = (0..KEYS).map(|key| tokio::spawn(own(users.clone(), model.clone(), key, seed * 10 + key)));
        let others = (0..2).map(|other| tokio::spawn(disturb(users.clone(), seed * 10 + 8 + other)));
        for task in owners.chain(others).collect::<Vec<_>>() {
            task.await.unwrap();
            assert!(is_balanced(&users.snapshot()), "{:?}", users.snapshot());
        }
        table.trouble(Trouble::default());
        // One that is under way may be given up yet.
        let _ = users.flush().await;
        users.flush().await.unwrap();
        let counts = users.snapshot();
        assert_eq!((counts.queued, counts.in_flight), (0, 0));
        assert!(is_balanced(&counts), "{counts:?}");
        let model = model.lock().unwrap();
        assert_eq!(counts.given_up, model.given_up);
        for key in 0..KEYS {
            let newest = model.newest.get(&key).copied().flatten();
            if !model.unknown.contains(&key) {
                assert_eq!(table.value(key), newest, "seed {seed}, key {key}");
            }
            // Whatever was given up, the cache is right about the store.
            if let Some(kept) = users.cache().get(&key) {
                assert_eq!(Some(kept), table.value(key), "seed {seed}, key {key}");
            }
        }
        assert_eq!(table.0.most_at_once.load(Ordering::Relaxed), 1);
        for (sum, count) in total.iter_mut().zip([counts.coalesced, counts.retried, counts.given_up, counts.refused]) {
            *sum += count;
        }
    }
    assert!(total.iter().all(|count| *count > 50), "all of it happened: {total:?}");
}

/// The runtime ends as it would with the process. The store is well: what it lacks was accepted a moment ago.
#[test]
fn a_process_that_dies_loses_at_most_what_was_queued_and_of_that_what_was_accepted_last() {
    let mut lost = 0;
    for seed in 0..200 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (table, mut random) = (Table::new(seed), Random::seeded(seed).run());
        let (users, model) = queue(&table, seed);
        let (died, accepted) = runtime.block_on(async {
            let mut accepted = HashMap::new();
            for step in 0..random.up_to(60) {
                let key = random.up_to(20);
                sleep(ms(random.up_to(6))).await;
                users.insert(key, step).await.unwrap();
                accepted.insert(key, (step, Instant::now()));
            }
            sleep(ms(random.up_to(10))).await;
            (Instant::now(), accepted)
        });
        drop(runtime);
        let missing: Vec<_> = accepted.iter().filter(|(key, (value, _))| table.value(**key) != Some(*value)).collect();
        assert!(missing.len() <= 4, "{missing:?}");
        for (key, (_, at)) in &missing {
            assert!(died - *at <= DELAY, "seed {seed}: {key} was accepted {:?} before", died - *at);
        }
        lost += missing.len();
        // Here somebody is left who is told of it.
        drop(users);
        assert_eq!(model.lock().unwrap().given_up, missing.len() as u64);
    }
    assert!(lost > 100, "{lost}");
}

/// As many as wait and as are under way, and no more, while the store fails.
#[tokio::test(start_paused = true)]
async fn never_more_than_the_queue_holds_is_accepted_and_not_written() {
    let table = Table::new(1);
    table.trouble(Trouble { hangs: 100, ..Trouble::default() });
    let (users, _) = queue(&table, 1);
    let tasks: Vec<_> = (0..50)
        .map(|key| {
            let users = users.clone();
            tokio::spawn(async move { users.insert(key, key).await })
        })
        .collect();
    for _ in 0..100 {
        sleep(ms(1)).await;
        let counts = users.snapshot();
        assert!(counts.queued + counts.in_flight <= 4, "{counts:?}");
    }
    let mut accepted = 0;
    for task in tasks {
        accepted += u64::from(task.await.unwrap().is_ok());
    }
    let counts = users.snapshot();
    assert_eq!((counts.accepted, counts.refused), (accepted, 50 - accepted));
    assert!(accepted >= 4);
}

/// A runtime that ends takes its task with it, and not the writes.
#[test]
fn what_a_runtime_leaves_behind_the_next_one_writes() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let table = Table::new(1);
    let (users, model) = queue(&table, 1);
    let first = runtime();
    table.trouble(Trouble { slowness: 1_000, ..Trouble::default() });
    first.block_on(async {
        users.insert(1, 10).await.unwrap();
        users.insert(2, 20).await.unwrap();
        sleep(DELAY + ms(1)).await;
        // Under way, and a newer one is to follow.
        assert_eq!(users.snapshot().in_flight, 2);
        users.insert(1, 11).await.unwrap();
    });
    drop(first);
    assert_eq!((users.get(&1), users.get(&2)), (Some(11), Some(20)));
    assert!(is_balanced(&users.snapshot()), "{:?}", users.snapshot());
    assert_eq!((users.snapshot().in_flight, users.snapshot().queued), (0, 2));
    table.trouble(Trouble::default());
    runtime().block_on(async { users.flush().await.unwrap() });
    assert_eq!((table.value(1), table.value(2)), (Some(11), Some(20)));
    assert!(is_balanced(&users.snapshot()));
    assert_eq!(model.lock().unwrap().given_up, 0);
    // All of the room is there again, though the store gives none back.
    table.trouble(Trouble { hangs: 100, ..Trouble::default() });
    own_time(runtime(), async {
        for key in 0..4 {
            users.insert(key, key).await.unwrap();
        }
    });
}

/// Runs something that must take no time.
fn own_time(runtime: tokio::runtime::Runtime, run: impl Future<Output = ()>) {
    runtime.block_on(async {
        let began = Instant::now();
        run.await;
        assert_eq!(began.elapsed(), Duration::ZERO);
    });
}

#[test]
fn whoever_flushes_goes_on_where_another_runtime_ended() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let (table, first) = (Table::new(1), runtime());
    let (users, _) = queue(&table, 1);
    table.trouble(Trouble { hangs: 100, ..Trouble::default() });
    first.block_on(async {
        users.insert(1, 10).await.unwrap();
        sleep(DELAY + ms(1)).await;
    });
    runtime().block_on(async {
        let flushing = tokio::spawn({
            let users = users.clone();
            async move { users.flush().await }
        });
        sleep(ms(1)).await;
        assert!(!flushing.is_finished());
        table.trouble(Trouble::default());
        first.shutdown_background();
        tokio::time::timeout(ms(100), flushing).await.unwrap().unwrap().unwrap();
    });
    assert_eq!(table.value(1), Some(10));
}

#[test]
fn without_a_runtime_nothing_is_accepted_and_nothing_waits_for_ever() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let table = Table::new(1);
    let told = Arc::new(Mutex::new(Vec::new()));
    let losses = told.clone();
    let cache = Cache::builder().runtime(runtime.handle().clone()).build().unwrap();
    let users = WriteBehind::builder(cache, table.clone()).max_delay(Duration::from_secs(3600));
    let users = users.on_given_up(move |write, error| losses.lock().unwrap().push((write.clone(), error.clone())));
    let users = users.build().unwrap();
    let own = tokio::runtime::Builder::new_current_thread().build().unwrap();
    own.block_on(async { users.insert(1, 10).await.unwrap() });
    // The cache's runtime, which has no time to write any more.
    drop(runtime);
    own.block_on(async {
        users.insert(2, 20).await.unwrap();
        assert!(matches!(users.flush().await, Err(FlushError::NoRuntime)));
        assert_eq!((users.get(&1), users.get(&2)), (Some(10), Some(20)));
    });
    drop(users);
    let put = |key, value| (Write::Put { key, value }, WriteError::Aborted);
    assert_eq!(*told.lock().unwrap(), [put(1, 10), put(2, 20)]);
    let (users, _) = queue(&table, 1);
    let mut insert = std::pin::pin!(users.insert(1, 1));
    let polled = insert.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
    assert_eq!(polled, std::task::Poll::Ready(Err(stanchion_cache::QueueError::NoRuntime)));
    assert_eq!(users.get(&1), None);
}

/// With threads: each key's owner is told what it has said, and all of it is in the store in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_several_threads_nobody_is_told_what_was_before() {
    let table = Table::new(1);
    let cache = Cache::builder().max_entries(5).build().unwrap();
    let users = WriteBehind::builder(cache, table.clone()).max_batch(4).max_delay(Duration::from_micros(200));
    let users = users.max_wait(Duration::from_secs(60)).max_queued(8).build().unwrap();
    let owners: Vec<_> = (0..12)
        .map(|key| {
            let users = users.clone();
            tokio::spawn(async move {
                for value in 0..500 {
                    users.insert(key, value).await.unwrap();
                    if value % 3 == 0 {
                        users.cache().invalidate(&key);
                    }
                    if value % 2 == 0 {
                        tokio::task::yield_now().await;
                    }
                    let table = users.sink().clone();
                    let found = users.get_or_load(&key, || async move { Ok::<_, Fault>(table.value(key)) }).await;
                    assert_eq!(found.unwrap(), value, "key {key}");
                }
            })
        })
        .collect();
    for owner in owners {
        owner.await.unwrap();
    }
    assert_eq!(users.shutdown(Duration::from_secs(60)).await, []);
    assert!((0..12).all(|key| table.value(key) == Some(499)));
    let counts = users.snapshot();
    assert_eq!((counts.accepted, counts.given_up), (6_000, 0));
    assert!(is_balanced(&counts), "{counts:?}");
    assert_eq!(table.0.most_at_once.load(Ordering::Relaxed), 1);
}

//! Write-through: after a write nobody is told what was before, whatever became of it, and whoever else wrote.
#![cfg(feature = "tokio")]

mod table;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use stanchion_cache::{Cache, Loaded, Random, WriteError, WriteThrough};
use table::{Fault, Table, Trouble};
use tokio::task::yield_now;
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn through(table: &Table) -> WriteThrough<Table> {
    WriteThrough::new(Cache::builder().max_entries(1_000).build().unwrap(), table.clone()).write_timeout(SECOND)
}

/// A load that reads the store at once and tells of it half a second later.
async fn load_slowly(through: &WriteThrough<Table>, key: u64) -> tokio::task::JoinHandle<Option<u64>> {
    let (cache, table) = (through.cache().clone(), through.sink().clone());
    let task = tokio::spawn(async move {
        cache
            .get_or_load(&key, || async move { Ok::<_, Fault>(table.load(key, Duration::ZERO, ms(500)).await) })
            .await
            .ok()
    });
    while through.cache().snapshot().loading == 0 {
        yield_now().await;
    }
    sleep(ms(1)).await;
    task
}

#[tokio::test(start_paused = true)]
async fn what_is_written_is_in_the_store_and_in_the_cache() {
    let table = Table::new(1);
    let users = through(&table);
    users.insert(1, 10).await.unwrap();
    assert_eq!((table.value(1), users.cache().get(&1)), (Some(10), Some(10)));
    users.insert_loaded(1, Loaded::new(11).tag("a")).await.unwrap();
    assert_eq!((table.value(1), users.cache().get(&1)), (Some(11), Some(11)));
    users.cache().invalidate_tag("a");
    assert_eq!(users.cache().get(&1), None);
    users.remove(&1).await.unwrap();
    assert_eq!((table.value(1), table.changes(1)), (None, 3));
}

#[tokio::test(start_paused = true)]
async fn a_load_under_way_does_not_bring_back_what_was_before() {
    for write_fails in [false, true] {
        let table = Table::new(1);
        let users = through(&table);
        users.insert(1, 10).await.unwrap();
        users.cache().invalidate(&1);
        let loading = load_slowly(&users, 1).await;
        if write_fails {
            table.trouble(Trouble { after: 100, ..Trouble::default() });
            assert_eq!(users.insert(1, 11).await, Err(WriteError::Failed(Fault::Away)));
            table.trouble(Trouble::default());
            assert_eq!(users.cache().get(&1), None);
        } else {
            users.insert(1, 11).await.unwrap();
            assert_eq!(users.cache().get(&1), Some(11));
        }
        assert_eq!(loading.await.unwrap(), Some(10), "it had begun before");
        assert_ne!(users.cache().get(&1), Some(10));
        let (cache, table) = (users.cache(), &table);
        let load = || {
            let table = table.clone();
            async move { Ok::<_, Fault>(table.value(1)) }
        };
        assert_eq!(cache.get_or_load(&1, load).await.unwrap(), 11);
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_fate_is_unknown_leaves_nothing_behind() {
    let cases = [
        (Trouble { before: 100, ..Trouble::default() }, WriteError::Failed(Fault::Away)),
        (Trouble { hangs: 100, ..Trouble::default() }, WriteError::TimedOut { after: SECOND }),
        (Trouble { panics: 100, ..Trouble::default() }, WriteError::Panicked("the table broke".into())),
    ];
    for (trouble, error) in cases {
        let table = Table::new(1);
        let users = through(&table);
        users.insert(1, 10).await.unwrap();
        table.trouble(trouble);
        assert_eq!(users.insert(1, 11).await, Err(error.clone()));
        assert_eq!(users.cache().get(&1), None, "after {error:?}");
        users.cache().insert(1, 10);
        assert_eq!(users.remove(&1).await, Err(error));
        assert_eq!(users.cache().get(&1), None);
    }
}

/// The weigher runs when the store has the value.
#[tokio::test(start_paused = true)]
async fn a_weigher_that_panics_leaves_nothing_behind() {
    let cache = Cache::builder().weigher(|_, value| if *value == 11 { panic!("too heavy") } else { 1 });
    let users = WriteThrough::new(cache.build().unwrap(), Table::new(1));
    users.insert(1, 10).await.unwrap();
    assert_eq!(users.insert(1, 11).await, Err(WriteError::Panicked("too heavy".into())));
    assert_eq!((users.cache().get(&1), users.sink().value(1)), (None, Some(11)));
}

/// What was loaded with a version would be kept in place of a value without one.
#[tokio::test(start_paused = true)]
async fn a_value_without_a_version_does_not_lose_to_an_older_one_that_has_one() {
    let users = through(&Table::new(1));
    users.cache().insert_loaded(1, Loaded::new(10).version(5));
    users.insert(1, 11).await.unwrap();
    assert_ne!(users.cache().get(&1), Some(10));
}

#[tokio::test(start_paused = true)]
async fn of_two_who_write_one_key_the_cache_has_the_one_that_the_store_has() {
    let table = Table::new(1);
    let users = through(&table);
    table.trouble(Trouble { slowness: 100, ..Trouble::default() });
    for round in 0..50 {
        let (one, other) = tokio::join!(users.insert(1, 2 * round), users.insert(1, 2 * round + 1));
        assert_eq!((one, other), (Ok(()), Ok(())));
        assert_eq!(users.cache().get(&1), table.value(1));
        assert_eq!(table.value(1), Some(2 * round + 1), "in order of arrival");
    }
    assert_eq!(table.0.most_at_once.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn other_keys_do_not_wait() {
    let table = Table::new(1);
    let users = through(&table);
    table.trouble(Trouble { hangs: 100, ..Trouble::default() });
    let slow = tokio::spawn({
        let users = users.clone();
        async move { users.insert(1, 1).await }
    });
    sleep(ms(1)).await;
    table.trouble(Trouble::default());
    for key in 2..100 {
        users.insert(key, key).await.unwrap();
    }
    assert!(!slow.is_finished());
    // The same key waits, and is told so in time.
    let began = tokio::time::Instant::now();
    assert_eq!(slow.await.unwrap(), Err(WriteError::TimedOut { after: SECOND }));
    assert_eq!(began.elapsed(), SECOND - ms(1));
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_too_long_for_its_turn_writes_nothing() {
    let table = Table::new(1);
    let users = through(&table);
    table.trouble(Trouble { hangs: 100, ..Trouble::default() });
    let writers: Vec<_> = (0..3)
        .map(|value| {
            let users = users.clone();
            tokio::spawn(async move { users.insert(1, value).await })
        })
        .collect();
    let mut results = Vec::new();
    for writer in writers {
        results.push(writer.await.unwrap());
    }
    let (late, busy) = (Err(WriteError::TimedOut { after: SECOND }), Err(WriteError::Busy { after: SECOND }));
    // All three limits end at once, so the second may have its turn or not.
    assert_eq!((&results[0], &results[2]), (&late, &busy), "{results:?}");
    assert!(table.changes(1) <= 2);
}

/// Dropped after so many polls.
#[tokio::test(start_paused = true)]
async fn a_write_dropped_at_any_await_point_leaves_cache_and_store_of_one_mind() {
    for polls in 0..20 {
        let table = Table::new(polls);
        let users = through(&table);
        users.insert(1, 10).await.unwrap();
        table.trouble(Trouble { slowness: 20, ..Trouble::default() });
        // Somebody is before it, so it waits for its turn, too.
        let before = tokio::spawn({
            let users = users.clone();
            async move { users.insert(1, 11).await }
        });
        yield_now().await;
        {
            let mut write = pin!(users.insert(1, 12));
            for _ in 0..polls {
                if let Poll::Ready(result) = write.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    result.unwrap();
                    break;
                }
                sleep(ms(5)).await;
            }
        }
        before.await.unwrap().unwrap();
        // Whatever is under way ends.
        sleep(SECOND).await;
        assert_eq!(users.cache().get(&1), table.value(1), "dropped after {polls} polls");
        assert!(matches!(table.value(1), Some(11 | 12)));
        users.insert(1, 13).await.unwrap();
        assert_eq!(users.cache().get(&1), Some(13));
    }
}

/// Who writes, reads, evicts and gives up at random. A value is the number of a write; the store says which change of its
/// key a write was. Nobody who asks after a write has returned is told of an earlier change.
#[tokio::test(start_paused = true)]
async fn in_random_histories_nobody_is_told_what_was_before_a_write_that_has_returned() {
    const KEYS: u64 = 4;
    for seed in 0..150 {
        let table = Table::new(seed);
        let users = WriteThrough::new(Cache::builder().max_entries(3).shards(1).build().unwrap(), table.clone());
        let users = users.write_timeout(ms(60));
        let trouble = Trouble { before: 10, after: 10, hangs: 5, panics: 0, slowness: 10 };
        table.trouble(trouble);
        // Of each key, the latest change whose call has returned.
        let floors = Arc::new(Mutex::new(HashMap::<u64, u64>::new()));
        let tasks: Vec<_> = (0..6)
            .map(|task| {
                let (users, table, floors) = (users.clone(), table.clone(), floors.clone());
                tokio::spawn(async move {
                    let mut random = Random::seeded(seed * 100 + task).run();
                    for step in 0..30 {
                        let key = random.up_to(KEYS - 1);
                        let value = task * 1_000 + step;
                        sleep(ms(random.up_to(5))).await;
                        match random.up_to(9) {
                            0..=3 => {
                                let patience = if random.up_to(3) == 0 { ms(random.up_to(20)) } else { SECOND };
                                if tokio::time::timeout(patience, users.insert(key, value)).await.is_ok() {
                                    raise(&floors, key, &table, value);
                                }
                            }
                            4 => {
                                users.cache().invalidate(&key);
                            }
                            _ => {
                                let floor = floors.lock().unwrap().get(&key).copied().unwrap_or(0);
                                let (before, after) = (ms(random.up_to(10)), ms(random.up_to(20)));
                                let load = || {
                                    let table = table.clone();
                                    async move { Ok::<_, Fault>(table.load(key, before, after).await) }
                                };
                                if let Ok(found) = users.cache().get_or_load(&key, load).await {
                                    let change = table.change_of(key, found).expect("it was written");
                                    assert!(change >= floor, "seed {seed}: change {change} after {floor} of {key}");
                                }
                            }
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        sleep(SECOND).await;
        for key in 0..KEYS {
            if let Some(found) = users.cache().get(&key) {
                assert_eq!(Some(found), table.value(key), "seed {seed}");
            }
        }
        assert_eq!(table.0.most_at_once.load(Ordering::Relaxed), 1);
    }
}

/// A call that wrote this value has returned.
fn raise(floors: &Mutex<HashMap<u64, u64>>, key: u64, table: &Table, value: u64) {
    if let Some(change) = table.change_of(key, value) {
        let mut floors = floors.lock().unwrap();
        let floor = floors.entry(key).or_default();
        *floor = (*floor).max(change);
    }
}

#[test]
fn without_a_runtime_nothing_is_written() {
    let users = through(&Table::new(1));
    let write = pin!(users.insert(1, 1));
    let Poll::Ready(result) = write.poll(&mut Context::from_waker(Waker::noop())) else { panic!("it waits") };
    assert_eq!(result, Err(WriteError::NoRuntime));
    assert_eq!(users.sink().changes(1), 0);
}

/// The cache's runtime is not that of whoever writes.
#[test]
fn a_write_whose_runtime_ends_is_told_so_and_leaves_nothing_behind() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let table = Table::new(1);
    table.trouble(Trouble { hangs: 100, ..Trouble::default() });
    let users = WriteThrough::new(Cache::builder().runtime(runtime.handle().clone()).build().unwrap(), table.clone());
    users.cache().insert(1, 10);
    let mut context = Context::from_waker(Waker::noop());
    let mut write = pin!(users.insert(1, 11));
    while table.changes(1) == 0 {
        assert!(write.as_mut().poll(&mut context).is_pending());
        std::thread::yield_now();
    }
    drop(runtime);
    let Poll::Ready(result) = write.poll(&mut context) else { panic!("it waits for nothing") };
    assert_eq!(result, Err(WriteError::Aborted));
    assert_eq!(users.cache().get(&1), None);
}

//! Write-behind: what was accepted is told at once, is written in order, and is written or reported.
#![cfg(feature = "write-behind")]

mod table;

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use stanchion_cache::{
    Cache, FlushError, Loaded, QueueError, Retry, Write, WriteBehind, WriteBehindBuilder, WriteBehindConfig, WriteError,
};
use table::{Fault, Table, Trouble};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);
const DELAY: Duration = Duration::from_millis(200);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What was given up, and why.
type Losses = Arc<Mutex<Vec<(Write<u64, u64>, WriteError<Fault>)>>>;

fn builder(table: &Table) -> (WriteBehindBuilder<Table>, Losses) {
    let losses = Losses::default();
    let cache = Cache::builder().name("users").max_entries(1_000).build().unwrap();
    let told = losses.clone();
    let builder = WriteBehind::builder(cache, table.clone())
        .max_delay(DELAY)
        .max_batch(5)
        .retry(Retry::constant(SECOND).jitter(stanchion_retry::Jitter::None).max_attempts(3))
        .write_timeout(SECOND)
        .on_given_up(move |write, error| told.lock().unwrap().push((write.clone(), error.clone())));
    (builder, losses)
}

fn behind(table: &Table) -> WriteBehind<Table> {
    builder(table).0.build().unwrap()
}

fn put(key: u64, value: u64) -> Write<u64, u64> {
    Write::Put { key, value }
}

async fn load(users: &WriteBehind<Table>, key: u64) -> Option<u64> {
    let table = users.sink().clone();
    let load = || async move { Ok::<_, Fault>(table.load(key, ms(1), ms(1)).await) };
    users.get_or_load(&key, load).await.ok()
}

fn is_balanced(users: &WriteBehind<Table>) -> bool {
    let counts = users.snapshot();
    counts.accepted == counts.written + counts.coalesced + counts.given_up + counts.queued + counts.in_flight
}

#[tokio::test(start_paused = true)]
async fn a_write_is_told_at_once_and_written_exactly_after_the_delay() {
    let table = Table::new(1);
    let users = behind(&table);
    users.insert(1, 10).await.unwrap();
    assert_eq!((users.get(&1), users.cache().get(&1), table.value(1)), (Some(10), None, None));
    sleep(DELAY - ms(1)).await;
    assert_eq!((table.changes(1), users.snapshot().queued), (0, 1));
    sleep(ms(2)).await;
    assert_eq!((users.get(&1), users.cache().get(&1), table.value(1)), (Some(10), Some(10), Some(10)));
    users.remove(&1).await.unwrap();
    assert_eq!((users.get(&1), users.cache().get(&1)), (None, Some(10)));
    assert_eq!(load(&users, 1).await, None);
    sleep(DELAY + ms(1)).await;
    assert_eq!((users.get(&1), users.cache().get(&1), table.value(1), table.changes(1)), (None, None, None, 2));
    let counts = users.snapshot();
    assert_eq!((counts.accepted, counts.written, counts.batches, counts.served), (2, 2, 2, 3));
    assert_eq!((counts.queued, counts.in_flight, counts.oldest), (0, 0, Duration::ZERO));
    assert!(is_balanced(&users));
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_does_not_wait_and_one_is_under_way_at_a_time() {
    let table = Table::new(1);
    table.trouble(Trouble { slowness: 20, ..Trouble::default() });
    let users = behind(&table);
    for key in 0..12 {
        users.insert(key, key).await.unwrap();
    }
    sleep(DELAY - ms(1)).await;
    assert_eq!(table.keys(), [vec![0, 1, 2, 3, 4], vec![5, 6, 7, 8, 9]]);
    assert_eq!(users.snapshot().oldest, DELAY - ms(1));
    sleep(DELAY).await;
    assert_eq!(table.keys()[2..], [[10, 11]]);
    assert!(is_balanced(&users));
    // Those that come while the first of them waits.
    table.trouble(Trouble::default());
    for key in 0..5 {
        users.insert(key, key).await.unwrap();
        sleep(ms(1)).await;
    }
    assert_eq!(table.keys().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn the_newest_value_of_a_key_is_written_once_and_in_the_place_of_the_first() {
    let table = Table::new(1);
    let users = behind(&table);
    for value in 0..100 {
        users.insert(1, value).await.unwrap();
        users.insert(2, value).await.unwrap();
    }
    users.remove(&2).await.unwrap();
    sleep(DELAY + ms(1)).await;
    assert_eq!(*table.0.batches.lock().unwrap(), [[put(1, 99), Write::Remove { key: 2 }]]);
    let counts = users.snapshot();
    assert_eq!((counts.accepted, counts.coalesced, counts.written), (201, 199, 2));
}

/// While a batch is under way, a newer value of its key waits for the next one.
#[tokio::test(start_paused = true)]
async fn of_a_key_there_is_one_write_at_a_time_and_the_newest_is_told() {
    let table = Table::new(1);
    table.trouble(Trouble { slowness: 500, ..Trouble::default() });
    let users = behind(&table);
    for value in 0..200 {
        users.insert(value % 3, value).await.unwrap();
        assert_eq!(users.get(&(value % 3)), Some(value));
        sleep(ms(17)).await;
        assert_eq!(users.get(&(value % 3)), Some(value));
    }
    users.flush().await.unwrap();
    assert_eq!((table.value(0), table.value(1), table.value(2)), (Some(198), Some(199), Some(197)));
    assert_eq!(table.0.most_at_once.load(Ordering::Relaxed), 1);
    assert!(table.changes(0) > 2, "it was written while it changed");
    assert!(is_balanced(&users));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_waits_does_not_come_back_old_whatever_becomes_of_it_in_the_cache() {
    let table = Table::new(1);
    let users = behind(&table);
    users.insert(1, 10).await.unwrap();
    users.flush().await.unwrap();
    users.insert(1, 11).await.unwrap();
    users.cache().invalidate(&1);
    assert_eq!(load(&users, 1).await, Some(11));
    users.cache().clear();
    assert_eq!((load(&users, 1).await, users.get(&1)), (Some(11), Some(11)));
    assert_eq!(users.cache().snapshot().loads, 0, "the store wasn't asked");
    // Somebody who asks the cache itself has the store's value put in.
    let stale = users.cache().get_or_load(&1, || {
        let table = table.clone();
        async move { Ok::<_, Fault>(table.value(1)) }
    });
    assert_eq!(stale.await.unwrap(), 10);
    assert_eq!(load(&users, 1).await, Some(11));
    users.flush().await.unwrap();
    assert_eq!((users.cache().get(&1), table.value(1)), (Some(11), Some(11)));
}

#[tokio::test(start_paused = true)]
async fn a_load_that_began_before_the_write_does_not_bring_back_what_was_before() {
    let table = Table::new(1);
    let users = behind(&table);
    users.insert(1, 10).await.unwrap();
    users.flush().await.unwrap();
    users.cache().clear();
    let slow = tokio::spawn({
        let (users, table) = (users.clone(), table.clone());
        async move {
            let load = || async move { Ok::<_, Fault>(table.load(1, Duration::ZERO, SECOND).await) };
            users.get_or_load(&1, load).await.unwrap()
        }
    });
    sleep(ms(10)).await;
    users.insert(1, 11).await.unwrap();
    users.flush().await.unwrap();
    assert_eq!(users.get(&1), Some(11));
    assert_eq!(slow.await.unwrap(), 10, "it asked before");
    assert_eq!((users.get(&1), load(&users, 1).await), (Some(11), Some(11)));
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_makes_room_in_order_or_refuses_in_time() {
    let table = Table::new(1);
    let users = builder(&table).0.max_queued(2).max_wait(ms(500)).build().unwrap();
    table.trouble(Trouble { hangs: 100, ..Trouble::default() });
    users.insert(1, 10).await.unwrap();
    users.insert(2, 20).await.unwrap();
    let began = Instant::now();
    assert_eq!(users.insert(3, 30).await, Err(QueueError::Full { waited: ms(500) }));
    assert_eq!((began.elapsed(), users.get(&3), users.snapshot().refused), (ms(500), None, 1));
    // Both are under way by now, so that a newer value is one more.
    assert_eq!(users.snapshot().in_flight, 2);
    assert!(users.insert(1, 11).await.is_err());
    // The second attempt comes 100 ms later, and the third key's batch 200 ms after that.
    sleep(ms(1_100)).await;
    table.trouble(Trouble::default());
    let waiting: Vec<_> = (3..6)
        .map(|key| {
            let users = users.clone();
            async move { (users.insert(key, key).await, key) }
        })
        .map(tokio::spawn)
        .collect();
    for task in waiting {
        let (accepted, key) = task.await.unwrap();
        assert_eq!(accepted, Ok(()));
        assert!(users.get(&key).is_some());
    }
    // A key that waits needs no room.
    users.flush().await.unwrap();
    users.insert(6, 60).await.unwrap();
    users.insert(7, 70).await.unwrap();
    let began = Instant::now();
    users.insert(6, 61).await.unwrap();
    assert_eq!((began.elapsed(), users.get(&6)), (Duration::ZERO, Some(61)));
    users.flush().await.unwrap();
    assert_eq!(table.keys()[2..], [vec![3, 4], vec![5], vec![6, 7]]);
    assert!(is_balanced(&users) && users.snapshot().given_up == 0);
}

#[tokio::test(start_paused = true)]
async fn without_a_wait_a_full_queue_refuses_at_once() {
    let users = builder(&Table::new(1)).0.max_queued(1).max_wait(Duration::ZERO).build().unwrap();
    users.insert(1, 10).await.unwrap();
    let refused = pin!(users.insert(2, 20)).poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(refused, Poll::Ready(Err(QueueError::Full { waited: Duration::ZERO })));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_fails_is_tried_again_and_nothing_is_lost() {
    let table = Table::new(1);
    let (builder, losses) = builder(&table);
    let users = builder.build().unwrap();
    table.trouble(Trouble { before: 100, ..Trouble::default() });
    users.insert(1, 10).await.unwrap();
    sleep(DELAY + ms(1500)).await;
    assert_eq!((users.snapshot().retried, users.get(&1), users.snapshot().in_flight), (1, Some(10), 1));
    table.trouble(Trouble::default());
    users.flush().await.unwrap();
    assert_eq!((table.value(1), table.keys().len(), users.snapshot().retried), (Some(10), 3, 2));
    assert!(losses.lock().unwrap().is_empty() && is_balanced(&users));
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_is_reported_counted_and_invalidated() {
    let cases = [
        (Trouble { before: 100, ..Trouble::default() }, WriteError::Failed(Fault::Away)),
        (Trouble { hangs: 100, ..Trouble::default() }, WriteError::TimedOut { after: SECOND }),
        (Trouble { panics: 100, ..Trouble::default() }, WriteError::Panicked("the table broke".into())),
    ];
    for (trouble, error) in cases {
        let table = Table::new(1);
        let (builder, losses) = builder(&table);
        let users = builder.build().unwrap();
        users.insert(1, 10).await.unwrap();
        users.flush().await.unwrap();
        table.trouble(trouble);
        users.insert(1, 11).await.unwrap();
        users.remove(&2).await.unwrap();
        let Err(FlushError::GivenUp { writes: 2, error: told }) = users.flush().await else { panic!("{error:?}") };
        assert_eq!(*told, error);
        let expected = [(put(1, 11), error.clone()), (Write::Remove { key: 2 }, error)];
        assert_eq!(*losses.lock().unwrap(), expected);
        // Three attempts of both together; after a panic, one of each.
        assert_eq!(table.keys().len(), 1 + 3);
        assert_eq!((users.snapshot().given_up, users.cache().get(&1), users.get(&1)), (2, None, None));
        assert!(is_balanced(&users));
        // It goes on.
        table.trouble(Trouble::default());
        users.insert(3, 30).await.unwrap();
        users.flush().await.unwrap();
        assert_eq!(table.value(3), Some(30));
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_the_store_refuses_does_not_take_its_batch_with_it() {
    for bad in 0..5 {
        let table = Table::new(1);
        let (builder, losses) = builder(&table);
        let users = builder.build().unwrap();
        table.0.refused.lock().unwrap().push(bad);
        for key in 0..5 {
            users.insert(key, key + 10).await.unwrap();
        }
        let Err(FlushError::GivenUp { writes: 1, .. }) = users.flush().await else { panic!("it was refused") };
        assert_eq!(*losses.lock().unwrap(), [(put(bad, bad + 10), WriteError::Failed(Fault::Refused))]);
        for key in (0..5).filter(|key| *key != bad) {
            assert_eq!((table.value(key), users.cache().get(&key)), (Some(key + 10), Some(key + 10)));
        }
        assert_eq!((table.value(bad), users.snapshot().retried), (None, 0));
        assert!(table.keys().len() <= 7, "{:?}", table.keys());
        assert!(is_balanced(&users));
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_a_newer_one_follows_is_not_given_up() {
    let table = Table::new(1);
    let (builder, losses) = builder(&table);
    let users = builder.build().unwrap();
    table.trouble(Trouble { before: 100, ..Trouble::default() });
    users.insert(1, 10).await.unwrap();
    users.insert(2, 20).await.unwrap();
    sleep(SECOND).await;
    users.insert(1, 11).await.unwrap();
    sleep(DELAY + SECOND + ms(1)).await;
    assert_eq!(*losses.lock().unwrap(), [(put(2, 20), WriteError::Failed(Fault::Away))]);
    assert_eq!(users.get(&1), Some(11));
    table.trouble(Trouble::default());
    users.flush().await.unwrap();
    assert_eq!((table.value(1), users.snapshot().given_up, users.snapshot().coalesced), (Some(11), 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_flush_is_about_what_was_accepted_before_it() {
    let table = Table::new(1);
    let users = behind(&table);
    users.insert(1, 10).await.unwrap();
    let began = Instant::now();
    users.flush().await.unwrap();
    assert_eq!((began.elapsed(), table.value(1)), (Duration::ZERO, Some(10)));
    users.flush().await.unwrap();
    // What comes later may fail, and isn't waited for.
    table.trouble(Trouble { slowness: 100, ..Trouble::default() });
    users.insert(1, 11).await.unwrap();
    let flushing = tokio::spawn({
        let users = users.clone();
        async move { users.flush().await }
    });
    yield_now().await;
    table.0.refused.lock().unwrap().push(2);
    users.insert(2, 20).await.unwrap();
    flushing.await.unwrap().unwrap();
    assert_eq!(table.value(1), Some(11));
    assert_eq!(users.snapshot().queued, 1, "it waits for company");
    let error = users.flush().await.unwrap_err();
    assert!(matches!(error, FlushError::GivenUp { writes: 1, .. }), "{error:?}");
    // Not even if it is given up in the same batch.
    table.trouble(Trouble::default());
    users.insert(1, 12).await.unwrap();
    let mut flushing = pin!(users.flush());
    assert!(flushing.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    users.insert(2, 21).await.unwrap();
    flushing.await.unwrap();
    assert_eq!((table.keys().last(), users.snapshot().given_up), (Some(&vec![2]), 2));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_writes_all_and_accepts_nothing_more() {
    let table = Table::new(1);
    table.trouble(Trouble { slowness: 10, ..Trouble::default() });
    let users = builder(&table).0.max_queued(12).max_wait(SECOND * 10).build().unwrap();
    for key in 0..12 {
        users.insert(key, key).await.unwrap();
    }
    let waiting = tokio::spawn({
        let users = users.clone();
        async move { users.insert(12, 12).await }
    });
    yield_now().await;
    let began = Instant::now();
    assert_eq!(users.shutdown(SECOND).await, []);
    assert!(began.elapsed() < DELAY);
    assert!((0..12).all(|key| table.value(key) == Some(key) && users.cache().get(&key) == Some(key)));
    assert_eq!(waiting.await.unwrap(), Err(QueueError::Closed));
    assert_eq!(users.insert(0, 1).await, Err(QueueError::Closed));
    assert_eq!(users.shutdown(SECOND).await, []);
    // Nor in the place of one that waits.
    let users = builder(&table).0.build().unwrap();
    for key in 0..7 {
        users.insert(key, key).await.unwrap();
    }
    let (unwritten, late) = tokio::join!(users.shutdown(SECOND), users.insert(6, 7));
    assert_eq!((unwritten, late, table.value(6)), (vec![], Err(QueueError::Closed), Some(6)));
    assert!(users.snapshot().is_closed && is_balanced(&users));
}

/// It has got room, and doesn't know yet.
#[tokio::test(start_paused = true)]
async fn whoever_waits_for_room_when_the_queue_is_closed_is_told_so() {
    let users = builder(&Table::new(1)).0.max_queued(1).build().unwrap();
    users.insert(1, 10).await.unwrap();
    let mut context = Context::from_waker(Waker::noop());
    let mut insert = pin!(users.insert(2, 20));
    assert!(insert.as_mut().poll(&mut context).is_pending());
    users.flush().await.unwrap();
    assert_eq!(users.shutdown(SECOND).await, []);
    assert_eq!(insert.poll(&mut context), Poll::Ready(Err(QueueError::Closed)));
    assert_eq!((users.get(&2), users.snapshot().accepted), (None, 1));
}

#[tokio::test(start_paused = true)]
async fn two_who_wait_for_room_for_one_key_take_one_place() {
    let table = Table::new(1);
    let users = builder(&table).0.max_queued(2).build().unwrap();
    users.insert(1, 10).await.unwrap();
    users.insert(2, 20).await.unwrap();
    let (one, other, flushed) = tokio::join!(users.insert(3, 30), users.insert(3, 31), users.flush());
    assert_eq!((one, other, flushed.is_ok()), (Ok(()), Ok(()), true));
    assert!(matches!(users.get(&3), Some(30 | 31)), "whoever was the later one");
    assert_eq!((users.snapshot().queued, users.snapshot().coalesced), (1, 1));
    // And the other place is free.
    users.insert(4, 40).await.unwrap();
    users.flush().await.unwrap();
    assert_eq!(table.keys()[1..], [[3, 4]]);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_returns_in_time_what_could_not_be_written() {
    let table = Table::new(1);
    let (builder, losses) = builder(&table);
    let users = builder.build().unwrap();
    users.insert(1, 9).await.unwrap();
    users.flush().await.unwrap();
    table.trouble(Trouble { hangs: 100, ..Trouble::default() });
    for key in 1..=7 {
        users.insert(key, key * 10).await.unwrap();
    }
    sleep(ms(1)).await;
    // A newer one of a key that is under way.
    users.insert(1, 11).await.unwrap();
    let flushing = tokio::spawn({
        let users = users.clone();
        async move { users.flush().await }
    });
    let began = Instant::now();
    let unwritten = users.shutdown(ms(500)).await;
    assert_eq!(began.elapsed(), ms(500));
    assert_eq!(unwritten, [put(1, 11), put(2, 20), put(3, 30), put(4, 40), put(5, 50), put(6, 60), put(7, 70)]);
    let told: Vec<_> = losses.lock().unwrap().iter().map(|(write, error)| (write.clone(), error.clone())).collect();
    assert_eq!(told, unwritten.into_iter().map(|write| (write, WriteError::Aborted)).collect::<Vec<_>>());
    assert!(matches!(flushing.await.unwrap(), Err(FlushError::GivenUp { writes: 7, .. })));
    assert_eq!((users.cache().get(&1), users.get(&1), users.snapshot().given_up), (None, None, 7));
    assert!(is_balanced(&users));
    sleep(SECOND * 10).await;
    assert_eq!(table.keys().len(), 2, "nothing is written any more");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_returns_what_is_given_up_in_its_time() {
    let table = Table::new(1);
    let users = behind(&table);
    table.0.refused.lock().unwrap().push(2);
    for key in 1..=3 {
        users.insert(key, key).await.unwrap();
    }
    assert_eq!(users.shutdown(SECOND).await, [put(2, 2)]);
    assert_eq!((table.value(1), table.value(3)), (Some(1), Some(3)));
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_room_does_not_wait_for_a_shutdown() {
    let table = Table::new(1);
    table.trouble(Trouble { hangs: 100, ..Trouble::default() });
    let users = builder(&table).0.max_queued(1).max_wait(SECOND * 10).build().unwrap();
    users.insert(1, 10).await.unwrap();
    let insert = async {
        let began = Instant::now();
        (users.insert(2, 20).await, began.elapsed())
    };
    let (late, unwritten) = tokio::join!(insert, users.shutdown(SECOND));
    assert_eq!((late, unwritten), ((Err(QueueError::Closed), Duration::ZERO), vec![put(1, 10)]));
}

/// Dropped after so many polls, each of them.
#[tokio::test(start_paused = true)]
async fn a_flush_or_shutdown_dropped_at_any_await_point_loses_nothing() {
    for polls in 0..6 {
        let table = Table::new(1);
        table.trouble(Trouble { slowness: 20, ..Trouble::default() });
        let users = behind(&table);
        for key in 0..7 {
            users.insert(key, key).await.unwrap();
        }
        for is_shutdown in [false, true] {
            let mut call: std::pin::Pin<Box<dyn Future<Output = ()>>> = match is_shutdown {
                false => Box::pin(async { drop(users.flush().await) }),
                true => Box::pin(async { assert_eq!(users.shutdown(SECOND).await, []) }),
            };
            for _ in 0..polls {
                if call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                    break;
                }
                sleep(ms(5)).await;
            }
        }
        sleep(DELAY * 2).await;
        assert!((0..7).all(|key| table.value(key) == Some(key)), "after {polls} polls");
        assert_eq!(users.insert(1, 2).await.is_err(), polls > 0, "whether it was closed");
        assert!(is_balanced(&users) && users.snapshot().given_up == 0);
    }
}

#[tokio::test(start_paused = true)]
async fn settings_can_be_changed_while_it_runs() {
    let table = Table::new(1);
    let users = builder(&table).0.max_queued(4).max_wait(Duration::ZERO).build().unwrap();
    let change = |change: fn(&mut WriteBehindConfig)| {
        let mut config = users.config();
        change(&mut config);
        let result = users.reconfigure(&config).map_err(|error| error.field().to_owned());
        assert_eq!(users.config() == config, result.is_ok());
        result
    };
    let fill = || {
        let users = users.clone();
        async move {
            let first = users.snapshot().accepted;
            while users.insert(first + users.snapshot().accepted, 1).await.is_ok() {}
            users.snapshot().queued + users.snapshot().in_flight
        }
    };
    assert_eq!(fill().await, 4);
    // Smaller than what is in it, and larger again.
    change(|config| config.max_queued = 2).unwrap();
    assert_eq!((fill().await, users.snapshot().max_queued), (4, 2));
    users.flush().await.unwrap();
    assert_eq!(fill().await, 2);
    change(|config| config.max_queued = 1).unwrap();
    change(|config| config.max_queued = 5).unwrap();
    assert_eq!(fill().await, 5);
    users.flush().await.unwrap();
    assert_eq!(fill().await, 5);
    // Whoever waits for company hears of it.
    change(|config| (config.max_delay, config.max_batch) = (Duration::ZERO, 2)).unwrap();
    sleep(ms(1)).await;
    assert_eq!((users.snapshot().queued, table.keys().last().map(Vec::len)), (0, Some(1)));
    // The builder's policy has three attempts a second apart.
    table.trouble(Trouble { before: 100, ..Trouble::default() });
    change(|config| config.retry.max_attempts = 1).unwrap();
    let calls = table.keys().len();
    users.insert(1, 1).await.unwrap();
    assert!(users.flush().await.is_err());
    assert_eq!(table.keys().len(), calls + 1);
    table.trouble(Trouble { hangs: 100, ..Trouble::default() });
    change(|config| config.write_timeout = ms(5)).unwrap();
    users.insert(1, 1).await.unwrap();
    let began = Instant::now();
    assert!(users.flush().await.is_err());
    assert_eq!(began.elapsed(), ms(5));
    assert_eq!(change(|config| config.max_batch = 0), Err("max_batch".into()));
    assert_eq!(change(|config| config.retry.max_attempts = 0), Err("retry.max_attempts".into()));
    assert!(is_balanced(&users));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_that_is_dropped_can_be_begun_again() {
    let table = Table::new(1);
    let users = behind(&table);
    table.trouble(Trouble { slowness: 50, ..Trouble::default() });
    table.0.refused.lock().unwrap().push(2);
    users.insert(1, 1).await.unwrap();
    users.insert(2, 2).await.unwrap();
    assert!(tokio::time::timeout(ms(1), users.shutdown(SECOND)).await.is_err());
    assert_eq!(users.insert(3, 3).await, Err(QueueError::Closed));
    sleep(SECOND).await;
    assert_eq!((table.value(1), users.snapshot().queued, users.snapshot().in_flight), (Some(1), 0, 0));
    assert_eq!(users.shutdown(SECOND).await, [put(2, 2)]);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_writes_what_there_is() {
    let table = Table::new(1);
    let (builder, losses) = builder(&table);
    let users = builder.build().unwrap();
    let other = users.clone();
    users.insert(1, 10).await.unwrap();
    drop(users);
    sleep(ms(10)).await;
    assert_eq!(table.changes(1), 0, "there is another handle");
    drop(other);
    sleep(ms(1)).await;
    assert_eq!((table.value(1), losses.lock().unwrap().len()), (Some(10), 0));
    assert_eq!(Arc::strong_count(&table.0), 1, "all has ended");
}

#[tokio::test(start_paused = true)]
async fn after_the_last_handle_was_dropped_writing_ends_in_time() {
    let table = Table::new(1);
    let (builder, losses) = builder(&table);
    let users = builder.drain_timeout(ms(700)).build().unwrap();
    table.trouble(Trouble { hangs: 100, ..Trouble::default() });
    users.insert(1, 10).await.unwrap();
    drop(users);
    sleep(ms(699)).await;
    assert!(losses.lock().unwrap().is_empty());
    sleep(ms(2)).await;
    assert_eq!(*losses.lock().unwrap(), [(put(1, 10), WriteError::Aborted)]);
    assert_eq!(Arc::strong_count(&table.0), 1, "all has ended");
}

/// Dropped after so many polls, with a full queue.
#[tokio::test(start_paused = true)]
async fn an_insert_dropped_at_any_await_point_is_accepted_or_not() {
    let mut accepted = 0;
    for polls in 0..8 {
        let table = Table::new(1);
        let users = builder(&table).0.max_queued(1).max_wait(SECOND).build().unwrap();
        users.insert(1, 10).await.unwrap();
        let mut is_accepted = false;
        {
            let mut insert = pin!(users.insert(2, 20));
            for _ in 0..polls {
                if let Poll::Ready(result) = insert.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    is_accepted = result.is_ok();
                    break;
                }
                sleep(ms(70)).await;
            }
        }
        accepted += usize::from(is_accepted);
        assert_eq!(users.get(&2), is_accepted.then_some(20), "after {polls} polls");
        let flush = users.flush();
        // One that is dropped changes nothing.
        let _ = pin!(flush).poll(&mut Context::from_waker(Waker::noop()));
        sleep(ms(1)).await;
        assert_eq!((table.value(1), table.value(2)), (Some(10), is_accepted.then_some(20)));
        // Its place is free again.
        users.insert(3, 30).await.unwrap();
        assert!(is_balanced(&users));
    }
    assert!((2..=5).contains(&accepted), "{accepted}");
}

#[tokio::test(start_paused = true)]
async fn a_weigher_or_a_listener_that_panics_stops_nothing() {
    let table = Table::new(1);
    let cache = Cache::builder().weigher(|_, value| if *value == 10 { panic!("too heavy") } else { 1 });
    let told = Arc::new(AtomicUsize::new(0));
    let heard = told.clone();
    let users = WriteBehind::builder(cache.build().unwrap(), table.clone())
        .on_given_up(move |_, _| {
            heard.fetch_add(1, Ordering::Relaxed);
            panic!("I don't want to know");
        })
        .build()
        .unwrap();
    users.cache().insert(1, 9);
    users.insert(1, 10).await.unwrap();
    users.flush().await.unwrap();
    assert_eq!((table.value(1), users.get(&1)), (Some(10), None));
    table.trouble(Trouble { panics: 100, ..Trouble::default() });
    users.insert(2, 20).await.unwrap();
    users.insert(4, 40).await.unwrap();
    users.shutdown(Duration::ZERO).await;
    assert_eq!(told.load(Ordering::Relaxed), 2);
    table.trouble(Trouble::default());
    let users = behind(&table);
    users.insert(3, 30).await.unwrap();
    users.flush().await.unwrap();
    assert_eq!(table.value(3), Some(30));
}

#[tokio::test(start_paused = true)]
async fn what_a_value_says_of_itself_is_kept_for_the_cache() {
    let users = behind(&Table::new(1));
    users.insert_loaded(1, Loaded::new(10).tag("a")).await.unwrap();
    users.insert_loaded(2, Loaded::new(20).uncached()).await.unwrap();
    users.cache().insert_loaded(3, Loaded::new(29).version(7));
    users.insert(3, 30).await.unwrap();
    users.flush().await.unwrap();
    assert_eq!((users.get(&1), users.get(&2)), (Some(10), None));
    assert_ne!(users.get(&3), Some(29), "a version that the new value doesn't have");
    users.cache().invalidate_tag("a");
    assert_eq!(users.get(&1), None);
}

#[tokio::test(start_paused = true)]
async fn reading_what_waits_allocates_nothing() {
    let users = behind(&Table::new(1));
    users.insert(1, 10).await.unwrap();
    users.get(&1);
    let counted = allocation_counter::measure(|| assert_eq!((users.get(&1), users.get(&2)), (Some(10), None)));
    assert_eq!(counted.count_total, 0);
}

#[test]
fn settings_that_cannot_be_honoured_are_named() {
    let table = Table::new(1);
    let build = |change: fn(WriteBehindBuilder<Table>) -> WriteBehindBuilder<Table>| {
        change(builder(&table).0).build().map(drop).map_err(|error| error.field().to_owned())
    };
    assert_eq!(build(|builder| builder.max_queued(1).max_batch(1).write_timeout(ms(1))), Ok(()));
    assert_eq!(build(|builder| builder.max_queued(0)), Err("max_queued".into()));
    assert_eq!(build(|builder| builder.max_batch(0)), Err("max_batch".into()));
    assert_eq!(build(|builder| builder.max_delay(Duration::MAX)), Err("max_delay".into()));
    assert_eq!(build(|builder| builder.max_wait(Duration::MAX)), Err("max_wait".into()));
    assert_eq!(build(|builder| builder.drain_timeout(Duration::MAX)), Err("drain_timeout".into()));
    assert_eq!(build(|builder| builder.write_timeout(Duration::ZERO)), Err("write_timeout".into()));
    assert_eq!(build(|builder| builder.retry(Retry::never().max_attempts(0))), Err("retry.max_attempts".into()));
}

#[cfg(feature = "serde")]
#[test]
fn configuration_and_snapshot_are_data() {
    let config: WriteBehindConfig =
        serde_json::from_str(r#"{ "max_queued": 7, "max_delay": "1s", "retry": { "max_attempts": 0 } }"#).unwrap();
    assert_eq!((config.max_queued, config.max_delay, config.max_batch), (7, SECOND, 100));
    assert_eq!(config.validate().unwrap_err().field(), "retry.max_attempts");
    assert_eq!(WriteBehindConfig::default().validate(), Ok(()));
    assert_eq!(WriteBehindConfig::default().retry.max_attempts, 10);
    assert!(serde_json::from_str::<WriteBehindConfig>(r#"{ "max_queud": 7 }"#).is_err());
    let written = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<WriteBehindConfig>(&written).unwrap(), config);
    let users = builder(&Table::new(1)).0.config(WriteBehindConfig { max_queued: 7, ..Default::default() });
    let snapshot = serde_json::to_value(users.build().unwrap().snapshot()).unwrap();
    assert_eq!((snapshot["name"].as_str(), snapshot["max_queued"].as_u64()), (Some("users"), Some(7)));
    assert_eq!(snapshot["oldest"].as_str(), Some("0s"));
}

//! However many ask at once, one loads; and whoever gives up, wherever, harms nobody.
#![cfg(feature = "tokio")]

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use stanchion_cache::{Abandoned, Cache, LoadError, ManualClock};
use tokio::sync::Semaphore;
use tokio::task::yield_now;

type Numbers = Cache<u64, usize>;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_tasks_on_one_expired_key_load_once() {
    let clock = ManualClock::new();
    let cache: Numbers =
        Cache::builder().max_entries(100).ttl(Duration::from_secs(1)).clock(clock.clone()).build().unwrap();
    cache.insert(1, 0);
    for round in 1..=3 {
        clock.advance(Duration::from_secs(1));
        let loads = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..10_000)
            .map(|_| {
                let (cache, loads) = (cache.clone(), loads.clone());
                tokio::spawn(async move {
                    let load = || async move {
                        loads.fetch_add(1, Ordering::Relaxed);
                        yield_now().await;
                        Ok::<_, Infallible>(round)
                    };
                    cache.get_or_load(&1, load).await.unwrap()
                })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), round);
        }
        assert_eq!(loads.load(Ordering::Relaxed), 1);
    }
}

/// Tasks and threads share one load.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_and_threads_share_one_load() {
    let cache: Numbers = Cache::builder().max_entries(100).build().unwrap();
    let gate = Arc::new(Semaphore::new(0));
    let task = tokio::spawn({
        let (cache, gate) = (cache.clone(), gate.clone());
        async move {
            let load = || async move {
                let _ = gate.acquire().await;
                Ok::<_, Infallible>(7)
            };
            cache.get_or_load(&1, load).await.unwrap()
        }
    });
    while cache.snapshot().loading == 0 {
        yield_now().await;
    }
    let thread = tokio::task::spawn_blocking({
        let cache = cache.clone();
        // Another type of error, and still the same load.
        move || cache.get_or_load_blocking(&1, || Err::<usize, &str>("not mine to load")).unwrap()
    });
    while cache.snapshot().loads_joined == 0 {
        yield_now().await;
    }
    gate.add_permits(1);
    assert_eq!((task.await.unwrap(), thread.await.unwrap()), (7, 7));
    assert_eq!(cache.snapshot().loads, 1);
}

#[tokio::test]
async fn an_error_of_another_type_is_told_as_such() {
    let cache: Numbers = Cache::builder().build().unwrap();
    let (one, other) = tokio::join!(
        cache.get_or_load(&1, || async {
            yield_now().await;
            Err::<usize, _>(std::io::Error::other("down"))
        }),
        cache.get_or_load(&1, || async { Ok::<_, std::fmt::Error>(1) }),
    );
    assert_eq!(one.unwrap_err().error().unwrap().to_string(), "down");
    let Err(LoadError::FailedOtherwise(other)) = other else { panic!("{other:?}") };
    assert_eq!(other.type_name(), "std::io::error::Error");
    assert_eq!(other.downcast_ref::<std::io::Error>().unwrap().to_string(), "down");
}

/// Polls a call so many times, lets the load run in between, and drops it.
async fn give_up_after(polls: usize, policy: Abandoned) -> (Numbers, usize) {
    let cache: Numbers = Cache::builder().max_entries(100).abandoned(policy).build().unwrap();
    let mut used = polls;
    {
        let mut call = pin!(cache.get_or_load(&1, || async {
            for _ in 0..3 {
                yield_now().await;
            }
            Ok::<_, Infallible>(7)
        }));
        for poll in 0..polls {
            if let Poll::Ready(value) = call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                assert_eq!(value.unwrap(), 7);
                used = poll + 1;
                break;
            }
            yield_now().await;
        }
    }
    (cache, used)
}

#[tokio::test]
async fn a_caller_dropped_at_any_await_point_leaves_a_load_that_ends() {
    let mut polls = 0;
    loop {
        let (cache, used) = give_up_after(polls, Abandoned::Continue).await;
        for _ in 0..10 {
            yield_now().await;
        }
        // A call that was never polled has asked for nothing.
        assert_eq!(cache.get(&1), (polls > 0).then_some(7), "dropped after {polls} polls");
        assert_eq!(cache.snapshot().loading, 0);
        if used < polls {
            break;
        }
        polls += 1;
        assert!(polls < 50);
    }
    assert!(polls > 3);
}

#[tokio::test]
async fn a_load_that_nobody_wants_any_more_is_dropped_if_so_set() {
    let (cache, _) = give_up_after(2, Abandoned::Abort).await;
    for _ in 0..10 {
        yield_now().await;
    }
    assert_eq!((cache.get(&1), cache.snapshot().loading), (None, 0));
    // As long as one of two waits it goes on.
    let cache: Numbers = Cache::builder().abandoned(Abandoned::Abort).build().unwrap();
    let load = || async {
        yield_now().await;
        yield_now().await;
        Ok::<_, Infallible>(7)
    };
    let mut leader = Box::pin(cache.get_or_load(&1, load));
    let mut other = Box::pin(cache.get_or_load(&1, load));
    for call in [&mut leader, &mut other] {
        assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    drop(leader);
    assert_eq!(other.await.unwrap(), 7);
    assert_eq!(cache.snapshot().loads, 1);
}

/// A waiter whose load was aborted by its runtime's end asks anew.
#[test]
fn a_load_whose_runtime_ends_is_aborted_and_loaded_anew() {
    let build = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (first, second) = (build(), build());
    let cache: Numbers = Cache::builder().max_entries(100).build().unwrap();
    let hang = || std::future::pending::<Result<usize, Infallible>>();
    let mut lost = Box::pin(cache.get_or_load(&1, hang));
    first.block_on(async {
        assert!(lost.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        yield_now().await;
    });
    let waiter = std::thread::spawn({
        let cache = cache.clone();
        move || second.block_on(cache.get_or_load(&1, || async { Ok::<_, Infallible>(8) }))
    });
    while cache.snapshot().loads_joined == 0 {
        std::thread::yield_now();
    }
    drop(first);
    assert_eq!(waiter.join().unwrap().unwrap(), 8);
    let lost = build().block_on(lost);
    assert!(matches!(lost, Err(LoadError::Aborted)), "{lost:?}");
}

#[test]
fn without_a_runtime_there_is_an_error_and_with_the_builders_there_is_none() {
    let cache: Numbers = Cache::builder().build().unwrap();
    let load = || async { Ok::<_, Infallible>(1) };
    let result = pin!(cache.get_or_load(&1, load)).poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(result, Poll::Ready(Err(LoadError::NoRuntime))), "{result:?}");
    assert_eq!(cache.snapshot().loading, 0);
}

#[tokio::test]
async fn a_batch_loads_what_is_missing_in_one_call_and_each_key_once() {
    let cache: Numbers = Cache::builder().max_entries(100).negative_ttl(Duration::from_secs(60)).build().unwrap();
    cache.insert(1, 10);
    let calls = AtomicUsize::new(0);
    let batch = |keys: &'static [u64]| {
        let calls = &calls;
        cache.get_or_load_many(keys, move |missing| {
            calls.fetch_add(1, Ordering::Relaxed);
            async move {
                yield_now().await;
                // There is no 4.
                let found = missing.into_iter().filter(|key| *key != 4);
                Ok::<_, std::io::Error>(found.map(|key| (key, usize::try_from(key).unwrap() * 10)).collect::<Vec<_>>())
            }
        })
    };
    let single = cache.get_or_load(&3, || async {
        yield_now().await;
        Ok::<_, Infallible>(33)
    });
    let (single, first, second) = tokio::join!(single, batch(&[1, 2, 3, 4, 2]), batch(&[2, 5]));
    assert_eq!(single.unwrap(), 33);
    let numbers = |results: Vec<Result<usize, LoadError<std::io::Error>>>| -> Vec<Option<usize>> {
        results
            .into_iter()
            .map(|result| result.map(Some).or_else(|error| error.is_not_found().then_some(None).ok_or(error)).unwrap())
            .collect()
    };
    // Another's load of 3 was joined; 2 was asked for twice.
    assert_eq!(numbers(first), [Some(10), Some(20), Some(33), None, Some(20)]);
    assert_eq!(numbers(second), [Some(20), Some(50)]);
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    assert_eq!(cache.snapshot().loads, 4, "2, 3, 4 and 5 once each");
    assert_eq!(cache.get_many([1, 2, 4].iter()), [Some(10), Some(20), None]);
    assert_eq!(numbers(batch(&[4]).await), [None]);
    assert_eq!(calls.load(Ordering::Relaxed), 2, "that there is no 4 is remembered");
}

#[tokio::test]
async fn a_batch_that_fails_fails_for_each_key_once() {
    let cache: Numbers = Cache::builder().build().unwrap();
    let failed =
        cache.get_or_load_many(&[1, 2], |_| async { Err::<Vec<(u64, usize)>, _>(std::io::Error::other("down")) }).await;
    assert!(failed.iter().all(|result| result.as_ref().unwrap_err().error().unwrap().to_string() == "down"));
    let panicked = cache
        .get_or_load_many(&[1, 2], |missing: Vec<u64>| async move {
            if missing.len() == 2 {
                panic!("no luck");
            }
            Ok::<_, Infallible>(vec![(1_u64, 1_usize)])
        })
        .await;
    assert!(panicked.iter().all(|result| matches!(result, Err(LoadError::Panicked(_)))));
    assert_eq!(cache.snapshot().loading, 0);
}

thread_local! {
    /// Runs when a key is cloned: after a call has looked, and before it boards a load.
    static BETWEEN: Cell<Option<Box<dyn FnOnce()>>> = const { Cell::new(None) };
}

#[derive(PartialEq, Eq, Hash)]
struct Hooked(u64);

impl Clone for Hooked {
    fn clone(&self) -> Self {
        if let Some(hook) = BETWEEN.take() {
            hook();
        }
        Self(self.0)
    }
}

fn between(hook: impl FnOnce() + 'static) {
    BETWEEN.set(Some(Box::new(hook)));
}

#[test]
fn who_missed_what_was_put_in_a_moment_later_does_not_load_it() {
    let cache: Cache<Hooked, u64> = Cache::builder().build().unwrap();
    let other = cache.clone();
    between(move || other.insert(Hooked(1), 7));
    let value = cache.get_or_load_blocking(&Hooked(1), || Err::<u64, _>("it is there by now"));
    assert_eq!(value.unwrap(), 7);
    assert_eq!(cache.snapshot().loads, 0);
}

#[test]
fn who_would_refresh_what_was_refreshed_a_moment_later_does_not() {
    let (clock, second) = (ManualClock::new(), Duration::from_secs(1));
    let cache: Cache<Hooked, u64> =
        Cache::builder().ttl(second).stale_while_revalidate(second).clock(clock.clone()).build().unwrap();
    cache.insert(Hooked(1), 6);
    clock.advance(second);
    let other = cache.clone();
    between(move || other.insert(Hooked(1), 7));
    let value = cache.get_or_load_blocking(&Hooked(1), || Err::<u64, _>("it is fresh by now"));
    assert_eq!(value.unwrap(), 7);
    assert_eq!(cache.snapshot().loads, 0);
}

/// As when its runtime stands still: a load without end holds nobody up for longer than the
/// load timeout.
#[tokio::test]
async fn a_load_that_is_overdue_is_begun_anew() {
    let (clock, limit) = (ManualClock::new(), Duration::from_secs(5));
    let cache: Numbers = Cache::builder().load_timeout(limit).clock(clock.clone()).build().unwrap();
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    let slow = || async move {
        let _ = held.acquire().await;
        Ok::<_, Infallible>(1)
    };
    let mut first = Box::pin(cache.get_or_load(&1, slow));
    assert!(first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    clock.advance(limit);
    assert_eq!(cache.get_or_load(&1, || async { Ok::<_, Infallible>(2) }).await.unwrap(), 2);
    gate.add_permits(1);
    assert_eq!(first.await.unwrap(), 1, "who waited gets what it waited for");
    assert_eq!(cache.get(&1), Some(2), "and it isn't kept");
}

#[tokio::test]
async fn a_value_inserted_during_a_load_that_fails_is_what_those_who_wait_get() {
    let cache: Numbers = Cache::builder().build().unwrap();
    let other = cache.clone();
    let load = || async move {
        other.insert(1, 7);
        Err::<usize, _>(std::io::Error::other("down"))
    };
    assert_eq!(cache.get_or_load(&1, load).await.unwrap(), 7);
}

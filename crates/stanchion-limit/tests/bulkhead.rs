//! What a bulkhead promises: how many, who is next, how long.
#![cfg(feature = "tokio")]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use stanchion_core::{Admission, IntoGate, Outcome};
use stanchion_limit::{
    Bulkhead, BulkheadBuilder, BulkheadConfig, Call, Clock, Gate, Moment, Permit, Rejection, RejectionKind,
};
use tokio::time::Instant;

const MILLI: Duration = Duration::from_millis(1);

/// tokio's time, with or without the feature `test-util`.
fn tokio_clock() -> Clock {
    let start = Instant::now();
    Clock::custom(move || Moment::from_nanos(1) + start.elapsed())
}

fn line(permits: u32, queue: u32) -> Bulkhead {
    Bulkhead::new(permits).queue(queue).max_wait(100 * MILLI).build().unwrap()
}

fn kind<T>(result: Result<T, Rejection>) -> Option<RejectionKind> {
    result.err().map(|refused| refused.kind())
}

/// Polls once.
fn poll<F: Future + ?Sized>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn without_a_queue_the_last_permit_is_the_last_and_no_runtime_is_needed() {
    let bulkhead = Bulkhead::new(2).build().unwrap();
    let one = bulkhead.try_acquire().unwrap();
    let two = bulkhead.try_acquire().unwrap();
    assert_eq!(kind(bulkhead.try_acquire()), Some(RejectionKind::Saturated));
    assert!(matches!(poll(pin!(bulkhead.acquire())), Poll::Ready(Err(_))));
    assert!(matches!(bulkhead.try_admit(&Call::new()), Admission::Rejected(_)));
    drop(one);
    two.settle(Outcome::Success);
    let snapshot = bulkhead.snapshot();
    assert_eq!((snapshot.permits, snapshot.in_use, snapshot.waiting, snapshot.refused), (2, 0, 0, 3));
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    let error = |builder: BulkheadBuilder| builder.build().unwrap_err().to_string();
    assert_eq!(error(Bulkhead::new(0)), "permits is 0: must be 1 to 268435455");
    assert_eq!(error(Bulkhead::new(u32::MAX)), "permits is 4294967295: must be 1 to 268435455");
    assert_eq!(error(Bulkhead::new(1).max_wait(MILLI)), "queue is 0: must be at least 1 where `max_wait` is set");
    assert!(error(Bulkhead::new(1).queue(1).max_wait(Duration::ZERO)).starts_with("max_wait is 0ns: "));
    assert!(error(Bulkhead::new(1).queue(1).max_wait(Duration::MAX)).starts_with("max_wait is "));
    assert_eq!(Bulkhead::new(0).into_gate().err().unwrap().field(), "permits");
    assert!(Bulkhead::new((1 << 28) - 1).queue(u32::MAX).max_wait(Duration::from_secs(86_400)).build().is_ok());
}

#[cfg(feature = "serde")]
#[test]
fn a_configuration_is_checked_like_a_builder() {
    let read = |text: &str| serde_json::from_str::<BulkheadConfig>(text);
    let full = read(r#"{"permits": 64, "queue": 128, "max_wait": "250ms"}"#).unwrap();
    assert_eq!(read(&serde_json::to_string(&full).unwrap()).unwrap(), full);
    assert!(BulkheadBuilder::from(full).build().is_ok());
    assert_eq!(read(r#"{"permits": 64}"#).unwrap(), BulkheadConfig::new(64));
    let zero = read(r#"{"permits": 0}"#).unwrap();
    assert_eq!(BulkheadBuilder::from(zero).build().unwrap_err().field(), "permits");
    assert!(read(r#"{"permits": 1, "qeue": 1}"#).unwrap_err().to_string().contains("unknown field `qeue`"));
    assert!(read(r#"{"permits": -1}"#).is_err());
    let snapshot = serde_json::to_value(BulkheadBuilder::from(full).build().unwrap().snapshot()).unwrap();
    assert_eq!(snapshot["permits"], 64);
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_is_refused_exactly_then() {
    let bulkhead = line(1, 5);
    let _held = bulkhead.acquire().await.unwrap();
    let began = Instant::now();
    assert_eq!(kind(bulkhead.acquire().await), Some(RejectionKind::Saturated));
    assert_eq!(began.elapsed(), 100 * MILLI);
    assert_eq!(bulkhead.snapshot().waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_at_the_deadline_where_that_is_sooner() {
    let clock = tokio_clock();
    let bulkhead = Bulkhead::new(1).queue(5).max_wait(100 * MILLI).clock(clock.clone()).build().unwrap();
    let held = bulkhead.acquire().await.unwrap();
    let wait = async |left: Duration| {
        let began = Instant::now();
        let refused = bulkhead.acquire_for(&Call::new().deadline(clock.now() + left)).await.unwrap_err();
        (refused.kind(), began.elapsed())
    };
    assert_eq!(wait(40 * MILLI).await, (RejectionKind::DeadlineTooShort, 40 * MILLI));
    assert_eq!(wait(99 * MILLI).await, (RejectionKind::DeadlineTooShort, 99 * MILLI));
    assert_eq!(wait(100 * MILLI).await, (RejectionKind::Saturated, 100 * MILLI));
    assert_eq!(wait(Duration::MAX).await, (RejectionKind::Saturated, 100 * MILLI));
    // It is over already: no wait at all, not even if a permit comes back.
    assert_eq!(wait(Duration::ZERO).await, (RejectionKind::DeadlineTooShort, Duration::ZERO));
    drop(held);
    // And where there is room nobody asks.
    assert!(bulkhead.acquire_for(&Call::new().deadline(Moment::default())).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_comes_back_in_time_is_taken() {
    let bulkhead = line(1, 1);
    let held = bulkhead.acquire().await.unwrap();
    let (waited, ()) = tokio::join!(bulkhead.acquire(), async {
        tokio::time::sleep(99 * MILLI).await;
        drop(held);
    });
    assert!(waited.is_ok());
    assert_eq!(bulkhead.snapshot().in_use, 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_line_refuses_at_once() {
    let bulkhead = line(1, 1);
    let held = bulkhead.acquire().await.unwrap();
    let mut first = Box::pin(bulkhead.acquire());
    assert!(poll(first.as_mut()).is_pending());
    let began = Instant::now();
    assert_eq!(kind(bulkhead.acquire().await), Some(RejectionKind::Saturated));
    assert!(matches!(bulkhead.try_admit(&Call::new()), Admission::Rejected(_)));
    assert_eq!(began.elapsed(), Duration::ZERO);
    drop(held);
    assert!(matches!(poll(first.as_mut()), Poll::Ready(Ok(_))));
}

/// Both saw a line with room; only one place is there when they take it.
#[tokio::test(start_paused = true)]
async fn the_line_is_bounded_where_two_were_told_to_wait() {
    let bulkhead = line(1, 1);
    let _held = bulkhead.try_acquire().unwrap();
    let call = Call::new();
    assert!(matches!(bulkhead.try_admit(&call), Admission::Wait));
    assert!(matches!(bulkhead.try_admit(&call), Admission::Wait));
    let (mut one, mut two) = (bulkhead.admit(&call), bulkhead.admit(&call));
    assert!(poll(one.as_mut()).is_pending());
    assert!(matches!(poll(two.as_mut()), Poll::Ready(Err(refused)) if refused.kind() == RejectionKind::Saturated));
    assert_eq!(bulkhead.snapshot().waiting, 1);
}

#[tokio::test(start_paused = true)]
async fn nobody_overtakes_a_heavy_call() {
    let bulkhead = line(3, 10);
    let one = bulkhead.acquire().await.unwrap();
    let two = bulkhead.acquire().await.unwrap();
    let heavy_call = Call::new().cost(3);
    let mut heavy = Box::pin(bulkhead.acquire_for(&heavy_call));
    assert!(poll(heavy.as_mut()).is_pending());
    // A permit is free, but it is set aside: for a light call there is none.
    assert_eq!(kind(bulkhead.try_acquire()), Some(RejectionKind::Saturated));
    let mut light = Box::pin(bulkhead.acquire());
    assert!(poll(light.as_mut()).is_pending());
    drop(one);
    assert!(poll(light.as_mut()).is_pending() && poll(heavy.as_mut()).is_pending());
    assert_eq!(bulkhead.snapshot().in_use, 3);
    drop(two);
    let Poll::Ready(Ok(heavy)) = poll(heavy.as_mut()) else { panic!("all three are there") };
    assert!(poll(light.as_mut()).is_pending());
    drop(heavy);
    assert!(matches!(poll(light.as_mut()), Poll::Ready(Ok(_))));
}

#[tokio::test(start_paused = true)]
async fn what_never_fits_is_told_at_once_and_what_costs_nothing_holds_nothing() {
    let bulkhead = line(3, 10);
    for units in [4, u64::from(u32::MAX) + 1, u64::MAX] {
        assert_eq!(kind(bulkhead.try_acquire_for(&Call::new().cost(units))), Some(RejectionKind::NeverFits));
        assert_eq!(kind(bulkhead.acquire_for(&Call::new().cost(units)).await), Some(RejectionKind::NeverFits));
        // Also where somebody asks `admit` who wasn't told to.
        assert_eq!(kind(bulkhead.admit(&Call::new().cost(units)).await), Some(RejectionKind::NeverFits));
    }
    let _all = bulkhead.acquire_for(&Call::new().cost(3)).await.unwrap();
    let free = bulkhead.try_acquire_for(&Call::new().cost(0)).unwrap();
    assert_eq!(bulkhead.snapshot().in_use, 3);
    drop(free);
    assert_eq!(bulkhead.snapshot().in_use, 3);
}

/// A waiter is dropped before its first poll, in line, with part of its units in
/// hand, and with all of them.
#[tokio::test(start_paused = true)]
async fn a_waiter_dropped_anywhere_loses_nothing() {
    for stage in 0..4 {
        let bulkhead = line(2, 10);
        let (one, two) = (bulkhead.acquire().await.unwrap(), bulkhead.acquire().await.unwrap());
        let call = Call::new().cost(2);
        let mut waiter = bulkhead.admit(&call);
        let mut next = bulkhead.admit(&call);
        if stage > 0 {
            assert!(poll(waiter.as_mut()).is_pending());
        }
        assert!(poll(next.as_mut()).is_pending());
        if stage > 1 {
            drop(one);
            assert!(poll(next.as_mut()).is_pending());
            if stage > 2 {
                drop(two);
                drop(waiter);
            } else {
                drop(waiter);
                drop(two);
            }
        } else {
            drop(waiter);
            drop(one);
            drop(two);
        }
        let Poll::Ready(Ok(ticket)) = poll(next.as_mut()) else { panic!("stage {stage}: the next is let in") };
        drop(next);
        assert_eq!((bulkhead.snapshot().in_use, bulkhead.snapshot().waiting), (2, 0), "stage {stage}");
        bulkhead.settle(ticket, Outcome::Success, Duration::ZERO);
        assert_eq!(bulkhead.snapshot().in_use, 0, "stage {stage}");
    }
}

/// A permit that comes back wakes the first in line, and nobody else.
#[tokio::test(start_paused = true)]
async fn exactly_who_must_be_woken_is_woken() {
    struct Count(AtomicU32);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let bulkhead = line(2, 10);
    let (one, two) = (bulkhead.acquire().await.unwrap(), bulkhead.acquire().await.unwrap());
    let wakes: Vec<Arc<Count>> = (0..3).map(|_| Arc::new(Count(AtomicU32::new(0)))).collect();
    let call = Call::new();
    let mut waiters: Vec<_> = wakes
        .iter()
        .map(|wake| {
            let mut waiter = bulkhead.admit(&call);
            let waker = Waker::from(wake.clone());
            assert!(waiter.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            waiter
        })
        .collect();
    let woken = || wakes.iter().map(|wake| wake.0.load(SeqCst)).collect::<Vec<_>>();
    drop(one);
    assert_eq!(woken(), [1, 0, 0]);
    // The one that was woken never comes to it: its permit goes to the next.
    drop(waiters.remove(0));
    assert_eq!(woken(), [1, 1, 0]);
    drop(two);
    assert_eq!(woken(), [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn it_is_a_gate_like_any() {
    let gate: Arc<dyn Gate> = Bulkhead::new(1).queue(1).name("db").into_gate().unwrap();
    let held = Permit::try_new(&gate, &Call::new()).unwrap();
    let call = Call::new();
    // The default wait limit, a second.
    let began = Instant::now();
    let refused = Permit::new(&gate, &call).await.unwrap_err();
    assert_eq!((refused.by(), refused.kind()), ("db", RejectionKind::Saturated));
    assert_eq!(began.elapsed(), Duration::from_secs(1));
    drop(held);
    Permit::new(&gate, &call).await.unwrap().settle(Outcome::TimedOut);
    assert!(Permit::try_new(&gate, &call).is_ok());
}

#[tokio::test(start_paused = true)]
async fn it_can_be_changed_while_running() {
    let bulkhead = line(4, 1);
    let mut held: Vec<Permit<'_>> = (0..4).map(|_| bulkhead.try_acquire().unwrap()).collect();
    // Fewer: nothing is cut off, and nobody is let in until there are as few.
    bulkhead.reconfigure(BulkheadConfig::new(2)).unwrap();
    assert_eq!((bulkhead.snapshot().permits, bulkhead.snapshot().in_use), (2, 4));
    held.truncate(2);
    assert_eq!(kind(bulkhead.try_acquire()), Some(RejectionKind::Saturated));
    assert_eq!(kind(bulkhead.try_acquire_for(&Call::new().cost(3))), Some(RejectionKind::NeverFits));
    held.truncate(1);
    assert!(bulkhead.try_acquire().is_ok());
    // More, and a line, of which those in it learn at once.
    bulkhead.reconfigure(BulkheadConfig::new(1).queue(1, 30 * MILLI)).unwrap();
    let began = Instant::now();
    assert_eq!(kind(bulkhead.acquire().await), Some(RejectionKind::Saturated));
    assert_eq!(began.elapsed(), 30 * MILLI);
    let mut waiting = Box::pin(bulkhead.acquire());
    assert!(poll(waiting.as_mut()).is_pending());
    bulkhead.reconfigure(BulkheadConfig::new(2)).unwrap();
    assert!(matches!(poll(waiting.as_mut()), Poll::Ready(Ok(_))));
    drop(held);
    // What can't be honoured changes nothing.
    assert_eq!(bulkhead.reconfigure(BulkheadConfig::new(0)).unwrap_err().field(), "permits");
    assert_eq!((bulkhead.snapshot().permits, bulkhead.snapshot().in_use), (2, 0));
}

#[test]
fn two_who_change_it_at_once_leave_as_many_permits_as_one_of_them_said() {
    let bulkhead = Bulkhead::new(1).build().unwrap();
    let start = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        for sizes in [[3, 5], [7, 4]] {
            let (bulkhead, start) = (&bulkhead, &start);
            scope.spawn(move || {
                start.wait();
                for permits in sizes.into_iter().cycle().take(500_000) {
                    bulkhead.reconfigure(BulkheadConfig::new(permits)).unwrap();
                }
            });
        }
    });
    let snapshot = bulkhead.snapshot();
    assert!([5, 4].contains(&snapshot.permits));
    assert_eq!(snapshot.in_use, 0);
    let _all = bulkhead.try_acquire_for(&Call::new().cost(u64::from(snapshot.permits))).unwrap();
    assert!(bulkhead.try_acquire().is_err());
}

/// Its permits change under four threads: all are accounted for at the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_under_load_lose_no_permit() {
    let bulkhead = Arc::new(Bulkhead::new(5).queue(1_000).max_wait(Duration::from_secs(600)).build().unwrap());
    let tasks: Vec<_> = (0..100_u64)
        .map(|index| {
            let bulkhead = bulkhead.clone();
            tokio::spawn(async move {
                for _ in 0..100 {
                    let permit = bulkhead.acquire_for(&Call::new().cost(1 + index % 3)).await.unwrap();
                    tokio::task::yield_now().await;
                    drop(permit);
                }
            })
        })
        .collect();
    for permits in (3..10).cycle().take(10_000) {
        let config = BulkheadConfig::new(permits).queue(1_000, Duration::from_secs(600));
        bulkhead.reconfigure(config).unwrap();
        tokio::task::yield_now().await;
    }
    for task in tasks {
        task.await.unwrap();
    }
    let snapshot = bulkhead.snapshot();
    assert_eq!((snapshot.in_use, snapshot.waiting, snapshot.refused), (0, 0, 0));
    let _all = bulkhead.try_acquire_for(&Call::new().cost(u64::from(snapshot.permits))).unwrap();
    assert!(bulkhead.try_acquire().is_err());
}

/// Four threads, each call counted by itself while it runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn never_more_than_the_permits_are_under_way() {
    let bulkhead = Arc::new(Bulkhead::new(5).queue(1_000).max_wait(Duration::from_secs(600)).build().unwrap());
    let running = Arc::new(AtomicU32::new(0));
    let tasks: Vec<_> = (0..400_u32)
        .map(|index| {
            let (bulkhead, running) = (bulkhead.clone(), running.clone());
            tokio::spawn(async move {
                let units = 1 + index % 3;
                for round in 0..50 {
                    let permit = bulkhead.acquire_for(&Call::new().cost(u64::from(units))).await.unwrap();
                    assert!(running.fetch_add(units, SeqCst) + units <= 5);
                    if (index + round) % 4 == 0 {
                        tokio::task::yield_now().await;
                    }
                    running.fetch_sub(units, SeqCst);
                    drop(permit);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let snapshot = bulkhead.snapshot();
    assert_eq!((snapshot.in_use, snapshot.waiting, snapshot.refused), (0, 0, 0));
}

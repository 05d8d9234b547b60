//! Many items through one pipeline.
#![cfg(feature = "batch")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use stanchion_pipeline::{Batch, Budget, CallError, Pipeline, Retry};
use stanchion_retry::RatioBudget;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Busy;

impl stanchion_pipeline::Classify for Busy {
    fn outcome(&self) -> stanchion_pipeline::Outcome {
        stanchion_pipeline::Outcome::Transient
    }
}

fn pipeline() -> Pipeline {
    let retry = Retry::constant(Duration::from_millis(1)).max_attempts(2);
    // Room for a retry of each item: who has few failures needn't.
    let budget = Budget::new(RatioBudget::finagle()).unwrap();
    Pipeline::named("batch").retry(retry).budget(budget).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn never_more_than_the_concurrency_are_under_way_and_no_item_is_lost() {
    let (under_way, most) = (AtomicU32::new(0), AtomicU32::new(0));
    let progress = Mutex::new(Vec::new());
    let pipeline = pipeline();
    let report = Batch::new(&pipeline, 7)
        .on_progress(|each| progress.lock().unwrap().push(each))
        .run(0..100_u32, |item, _| {
            let (under_way, most) = (&under_way, &most);
            async move {
                most.fetch_max(under_way.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(u64::from(item % 10))).await;
                under_way.fetch_sub(1, Ordering::Relaxed);
                if item % 10 == 3 { Err(Busy) } else { Ok(item) }
            }
        })
        .await;
    assert_eq!(most.into_inner(), 7);
    let mut all: Vec<u32> =
        report.succeeded.iter().copied().chain(report.failed.iter().map(|failed| failed.item)).collect();
    all.sort_unstable();
    assert_eq!(all, (0..100).collect::<Vec<_>>());
    assert_eq!(report.failed.len(), 10);
    assert!(report.failed.iter().all(|failed| matches!(failed.error, CallError::Inner { error: Busy, attempts: 2 })));
    let progress = progress.into_inner().unwrap();
    assert_eq!(progress.iter().map(|each| each.done()).collect::<Vec<_>>(), (1..=100).collect::<Vec<_>>());
    let last = progress[99];
    assert_eq!((last.succeeded, last.failed, last.total), (90, 10, Some(100)));
}

#[tokio::test(start_paused = true)]
async fn results_come_as_they_are_ready_or_in_order() {
    let pipeline = pipeline();
    let slow_first = |item: u64, _| async move {
        tokio::time::sleep(Duration::from_secs(10 - item)).await;
        Ok::<_, Busy>(item)
    };
    let as_ready = Batch::new(&pipeline, 3).run(0..3, slow_first).await;
    assert_eq!(as_ready.succeeded, [2, 1, 0]);
    let in_order = Batch::new(&pipeline, 3).in_order().run(0..3, slow_first).await;
    assert_eq!(in_order.succeeded, [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn an_endless_source_is_asked_only_for_what_there_is_room_for() {
    let asked = AtomicU32::new(0);
    let pipeline = pipeline();
    let endless = futures_util::stream::repeat_with(|| asked.fetch_add(1, Ordering::Relaxed));
    let results = Batch::new(&pipeline, 4).stream(endless, |item, _| async move { Ok::<_, Busy>(item) });
    let taken: Vec<_> = results.take(10).map(Result::unwrap).collect().await;
    assert_eq!(taken, (0..10).collect::<Vec<_>>());
    assert!(asked.load(Ordering::Relaxed) <= 14);
    // Dropping the stream has dropped those that were under way.
    assert_eq!(pipeline.snapshot().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_batch_may_be_spawned() {
    let pipeline = pipeline();
    let task = tokio::spawn(async move {
        Batch::new(&pipeline, 0).run(vec![String::from("a")], |item, _| async move { Ok::<_, Busy>(item) }).await
    });
    assert_eq!(task.await.unwrap().succeeded, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_job_waits_out_the_refusals_of_its_rate_limit() {
    let limit = stanchion_limit::Limiter::per_second(10);
    let pipeline = Pipeline::batch_job("x").rate_limit(limit).build().unwrap();
    let report = Batch::new(&pipeline, 8).run(0..200_u32, |item, _| async move { Ok::<_, Busy>(item) }).await;
    assert_eq!((report.succeeded.len(), report.failed), (200, vec![]));
}

/// An error that isn't `Classify`, as others' are.
#[tokio::test(start_paused = true)]
async fn a_batch_may_have_a_condition() {
    let pipeline = pipeline();
    let report = Batch::new(&pipeline, 8)
        .when(|error: &&str| *error == "busy")
        .run(0..2_u32, |item, attempt| async move { if attempt.number() == 1 { Err("busy") } else { Ok(item) } })
        .await;
    assert_eq!(report.succeeded.len(), 2);
}

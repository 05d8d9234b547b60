//! A function whose answers are kept: it runs once for all who ask at once, and a hit costs what a hit costs.
#![cfg(feature = "tokio")]

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use allocation_counter::measure;
use stanchion_cache::{Cache, Cached, LoadError};
use tokio::task::yield_now;

/// Its answers are how often it has run.
fn counted() -> Cached<String, usize, &'static str> {
    let runs = AtomicUsize::new(0);
    Cached::new(Cache::builder().build().unwrap(), move |key: String| {
        let run = runs.fetch_add(1, Ordering::Relaxed) + 1;
        async move {
            yield_now().await;
            match key.as_str() {
                "bad" => Err("refused"),
                "none" => Ok(None),
                _ => Ok(Some(run)),
            }
        }
    })
}

#[tokio::test]
async fn those_who_ask_at_once_share_one_run() {
    let function = counted();
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let function = function.clone();
            tokio::spawn(async move { function.call("one").await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap(), 1);
    }
    assert_eq!(function.call("two").await.unwrap(), 2, "another argument is another answer");
}

#[tokio::test]
async fn an_error_is_shared_and_not_kept() {
    let function = counted();
    let (one, other) = tokio::join!(function.call("bad"), function.call("bad"));
    let (LoadError::Failed(one), LoadError::Failed(other)) = (one.unwrap_err(), other.unwrap_err()) else { panic!() };
    assert!(Arc::ptr_eq(&one, &other));
    assert_eq!(*one, "refused");
    function.call("bad").await.unwrap_err();
    assert!(function.call("none").await.unwrap_err().is_not_found());
    assert_eq!(function.call("three").await.unwrap(), 4, "it ran once for two, then once more, and for `none`");
}

#[tokio::test]
async fn what_was_invalidated_or_is_wanted_anew_is_computed_anew() {
    let function = counted();
    assert_eq!(function.call("one").await.unwrap(), 1);
    assert!(function.cache().invalidate("one"));
    assert_eq!(function.call("one").await.unwrap(), 2);
    assert_eq!(function.reload("one").await.unwrap(), 3);
    assert_eq!(function.call("one").await.unwrap(), 3);
}

#[tokio::test]
async fn a_hit_by_a_borrowed_argument_allocates_nothing() {
    let function = counted();
    function.call("one").await.unwrap();
    function.call("one").await.unwrap();
    let counted = measure(|| {
        let hit = pin!(function.call("one"));
        let Poll::Ready(value) = hit.poll(&mut Context::from_waker(Waker::noop())) else { panic!("it waits") };
        assert_eq!(value.unwrap(), 1);
    });
    assert_eq!(counted.count_total, 0);
}

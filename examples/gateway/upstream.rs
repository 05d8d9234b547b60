//! The service behind the gateway, with the faults that real services have.
//!
//! A few workers, and a queue of bounded length in front of them: under too
//! much load its answers become slow first, and then it refuses. Some answers
//! are very slow or fail in any case.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::get;
use tokio::sync::Semaphore;

use crate::seeded::Seeded;

/// Requests that are worked on at a time.
pub(crate) const WORKERS: usize = 10;
/// Requests that wait for a worker; beyond it the answer is 503.
const QUEUE: usize = 120;
/// How long a worker takes: so long at least, and up to so much longer, by chance.
const WORK: Duration = Duration::from_millis(20);
const JITTER: Duration = Duration::from_millis(20);
/// The mean of that, which makes 333 requests a second of ten workers.
pub(crate) const MEAN_WORK: Duration = Duration::from_millis(30);
/// One in 500 answers takes long: far fewer than one in a hundred, so that it is
/// not the chance of the draw that makes the 99th percentile.
const SLOW: Duration = Duration::from_millis(700);
const SLOW_SHARE: f64 = 1.0 / 500.0;
/// One in 200 answers is an error.
const FAILING_SHARE: f64 = 1.0 / 200.0;

/// An upstream service. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Upstream(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// One for each request inside, be it worked on or waiting.
    places: Arc<Semaphore>,
    workers: Arc<Semaphore>,
    chance: Mutex<Seeded>,
    calls: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

/// What an upstream has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) calls: u64,
    /// Answered 503, for want of a place in the queue.
    pub(crate) refused: u64,
    /// Answered 500, by injected fault.
    pub(crate) failed: u64,
}

impl Upstream {
    /// An idle service, whose faults the seed determines.
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Inner {
            places: Arc::new(Semaphore::new(WORKERS + QUEUE)),
            workers: Arc::new(Semaphore::new(WORKERS)),
            chance: Mutex::new(Seeded::new(seed, 3)),
            calls: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }))
    }

    /// The service over HTTP.
    pub(crate) fn router(&self) -> Router {
        Router::new().fallback(get(answer)).with_state(self.clone())
    }

    /// What it has counted so far.
    pub(crate) fn counts(&self) -> Counts {
        // Relaxed, here and below: each number stands for itself.
        Counts {
            calls: self.0.calls.load(Ordering::Relaxed),
            refused: self.0.refused.load(Ordering::Relaxed),
            failed: self.0.failed.load(Ordering::Relaxed),
        }
    }

    fn fate(&self) -> Fate {
        Fate::drawn(&mut self.0.chance.lock().expect("nothing panics while it draws"))
    }
}

async fn answer(State(upstream): State<Upstream>, uri: Uri, headers: HeaderMap) -> (StatusCode, String) {
    let inner = &upstream.0;
    inner.calls.fetch_add(1, Ordering::Relaxed);
    let Ok(place) = inner.places.clone().try_acquire_owned() else {
        inner.refused.fetch_add(1, Ordering::Relaxed);
        return (StatusCode::SERVICE_UNAVAILABLE, "overloaded\n".to_owned());
    };
    let fate = upstream.fate();
    let workers = inner.workers.clone();
    // A task of its own: the work is done even if the caller gives up, as it
    // mostly is in real services, who don't hear of it.
    let work = tokio::spawn(async move {
        let worker = workers.acquire_owned().await;
        tokio::time::sleep(fate.work).await;
        drop((worker, place));
    });
    if work.await.is_err() || fate.fails {
        inner.failed.fetch_add(1, Ordering::Relaxed);
        return (StatusCode::INTERNAL_SERVER_ERROR, "failed\n".to_owned());
    }
    let tenant = headers.get("x-tenant").and_then(|value| value.to_str().ok());
    (StatusCode::OK, format!("{uri} for {}\n", tenant.unwrap_or("nobody")))
}

/// What becomes of a request that has found a place.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Fate {
    work: Duration,
    fails: bool,
}

impl Fate {
    fn drawn(chance: &mut Seeded) -> Self {
        let work = WORK + JITTER.mul_f64(chance.unit());
        let slow = chance.unit() < SLOW_SHARE;
        Self { work: if slow { SLOW } else { work }, fails: chance.unit() < FAILING_SHARE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_determines_the_faults_and_few_requests_have_one() {
        let fates = |seed| {
            let upstream = Upstream::new(seed);
            (0..30_000).map(|_| upstream.fate()).collect::<Vec<_>>()
        };
        assert_eq!(fates(1), fates(1));
        assert_ne!(fates(1), fates(2));
        // 60 and 150 on average; five standard deviations are 39 and 61.
        let slow = fates(1).iter().filter(|fate| fate.work == SLOW).count();
        let failing = fates(1).iter().filter(|fate| fate.fails).count();
        assert!((21..=99).contains(&slow) && (89..=211).contains(&failing), "{slow}, {failing}");
    }

    #[test]
    fn the_mean_is_that_of_the_work() {
        assert_eq!(MEAN_WORK, WORK + JITTER / 2);
    }
}

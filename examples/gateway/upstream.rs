//! The service behind the gateway, with the faults that real services have.
//!
//! A few workers, and a queue of bounded length in front of them: under too
//! much load its answers become slow first, and then it refuses. Some answers
//! are late or fail in any case. There is an outage: a time in which the work
//! takes several times as long, and many answers are errors. And for another
//! time it is dead: nobody is there any more but what stands in front of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::get;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use crate::demand::{Demand, Demanded};
use crate::exchange::CALL;
use crate::seeded::Seeded;
use crate::traffic::PRODUCT;
use crate::trouble::Trouble;

/// Requests that are worked on at a time.
pub(crate) const WORKERS: usize = 10;
/// Requests that wait for a worker; beyond it the answer is 503.
const QUEUE: usize = 120;
/// How long a worker takes: so long at least, and up to so much longer, by chance.
const WORK: Duration = Duration::from_millis(20);
const JITTER: Duration = Duration::from_millis(20);
/// The mean of that, which makes 333 requests a second of ten workers.
pub(crate) const MEAN_WORK: Duration = Duration::from_millis(30);
/// Three in a hundred answers are late: more than one in a hundred by enough
/// that they make the 99th percentile, whatever the chance of the draw. Their
/// workers are free by then: a packet was lost, or a buffer was full.
const LATE: Duration = Duration::from_millis(500);
const LATE_SHARE: f64 = 3.0 / 100.0;
/// One in 200 answers is an error.
const FAILING_SHARE: f64 = 1.0 / 200.0;
/// In the outage the work takes so many times as long, and so many answers are errors.
pub(crate) const SLOWDOWN: u32 = 2;
pub(crate) const FAILING_IN_OUTAGE: f64 = 2.0 / 5.0;
/// While it is dead, a proxy in front of it tries for so long to reach it, and answers 503.
const GIVES_UP: Duration = Duration::from_millis(50);

/// An upstream service. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Upstream(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// One for each request inside, be it worked on or waiting.
    places: Arc<Semaphore>,
    workers: Arc<Semaphore>,
    chance: Mutex<Seeded>,
    began: Instant,
    /// Counted from then.
    trouble: Trouble,
    products: Demand,
    calls: AtomicU64,
    own: AtomicU64,
    own_in_outage: AtomicU64,
    calls_while_dead: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

/// What an upstream has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) calls: u64,
    /// Those of them that weren't for products.
    pub(crate) own: u64,
    /// And came in the outage.
    pub(crate) own_in_outage: u64,
    /// Calls that came while it was dead, each of which was answered 503.
    pub(crate) calls_while_dead: u64,
    /// Answered 503, for want of a place in the queue.
    pub(crate) refused: u64,
    /// Answered 500, by injected fault, or because it died meanwhile.
    pub(crate) failed: u64,
    pub(crate) products: Demanded,
}

impl Upstream {
    /// An idle service, whose faults the seed determines, and its trouble, which
    /// is counted from `began`.
    pub(crate) fn new(seed: u64, began: Instant, trouble: Trouble) -> Self {
        Self(Arc::new(Inner {
            places: Arc::new(Semaphore::new(WORKERS + QUEUE)),
            workers: Arc::new(Semaphore::new(WORKERS)),
            chance: Mutex::new(Seeded::new(seed, 3)),
            began,
            trouble,
            products: Demand::default(),
            calls: AtomicU64::new(0),
            own: AtomicU64::new(0),
            own_in_outage: AtomicU64::new(0),
            calls_while_dead: AtomicU64::new(0),
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
            own: self.0.own.load(Ordering::Relaxed),
            own_in_outage: self.0.own_in_outage.load(Ordering::Relaxed),
            calls_while_dead: self.0.calls_while_dead.load(Ordering::Relaxed),
            refused: self.0.refused.load(Ordering::Relaxed),
            failed: self.0.failed.load(Ordering::Relaxed),
            products: self.0.products.so_far(),
        }
    }

    fn fate(&self) -> Fate {
        Fate::drawn(&mut self.0.chance.lock().expect("nothing panics while it draws"))
    }
}

impl Inner {
    fn in_outage(&self) -> bool {
        self.trouble.outage.contains(&self.began.elapsed())
    }

    fn is_dead(&self) -> bool {
        self.trouble.dead.contains(&self.began.elapsed())
    }
}

async fn answer(State(upstream): State<Upstream>, uri: Uri, headers: HeaderMap) -> (StatusCode, String) {
    let inner = &upstream.0;
    let number = inner.calls.fetch_add(1, Ordering::Relaxed);
    let _under_way = if uri.path().starts_with(PRODUCT) {
        let call = headers.get(CALL).and_then(|call| call.to_str().ok());
        // Whoever doesn't say which of its calls it is has one more.
        Some(inner.products.begin(uri.path(), call.unwrap_or(&format!("without {number}"))))
    } else {
        inner.own.fetch_add(1, Ordering::Relaxed);
        if inner.in_outage() {
            inner.own_in_outage.fetch_add(1, Ordering::Relaxed);
        }
        None
    };
    if inner.is_dead() {
        inner.calls_while_dead.fetch_add(1, Ordering::Relaxed);
        sleep(GIVES_UP).await;
        return (StatusCode::SERVICE_UNAVAILABLE, "nobody is there\n".to_owned());
    }
    let Ok(place) = inner.places.clone().try_acquire_owned() else {
        inner.refused.fetch_add(1, Ordering::Relaxed);
        return (StatusCode::SERVICE_UNAVAILABLE, "overloaded\n".to_owned());
    };
    let fate = upstream.fate();
    // A task of its own: the work is done even if the caller gives up, as it
    // mostly is in real services, who don't hear of it.
    let work = tokio::spawn({
        let inner = inner.clone();
        async move {
            let worker = inner.workers.acquire().await;
            // It is the time of the work that counts, not that of the request.
            let in_outage = inner.in_outage();
            sleep(fate.work(in_outage)).await;
            drop((worker, place));
            sleep(fate.late()).await;
            // Whatever it was at is lost when it dies.
            fate.fails(in_outage) || inner.is_dead()
        }
    });
    if work.await.unwrap_or(true) {
        inner.failed.fetch_add(1, Ordering::Relaxed);
        return (StatusCode::INTERNAL_SERVER_ERROR, "failed\n".to_owned());
    }
    let tenant = headers.get("x-tenant").and_then(|value| value.to_str().ok());
    (StatusCode::OK, format!("{uri} for {}\n", tenant.unwrap_or("nobody")))
}

/// What becomes of a request that has found a place: three draws, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Fate {
    work: f64,
    late: f64,
    fails: f64,
}

impl Fate {
    fn drawn(chance: &mut Seeded) -> Self {
        Self { work: chance.unit(), late: chance.unit(), fails: chance.unit() }
    }

    /// How long a worker is busy with it.
    fn work(&self, in_outage: bool) -> Duration {
        let work = WORK + JITTER.mul_f64(self.work);
        if in_outage { work * SLOWDOWN } else { work }
    }

    /// How long the answer takes besides.
    fn late(&self) -> Duration {
        if self.late < LATE_SHARE { LATE } else { Duration::ZERO }
    }

    fn fails(&self, in_outage: bool) -> bool {
        self.fails < if in_outage { FAILING_IN_OUTAGE } else { FAILING_SHARE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_seed_determines_the_faults_and_few_requests_have_one_but_in_the_outage() {
        let fates = |seed| {
            let upstream = Upstream::new(seed, Instant::now(), Trouble::default());
            (0..30_000).map(|_| upstream.fate()).collect::<Vec<_>>()
        };
        assert_eq!(fates(1), fates(1));
        assert_ne!(fates(1), fates(2));
        let count = |holds: fn(&Fate) -> bool| fates(1).iter().filter(|fate| holds(fate)).count();
        let late = count(|fate| fate.late() == LATE);
        let failing = [count(|fate| fate.fails(false)), count(|fate| fate.fails(true))];
        // 900, 150 and 12,000 on average; five standard deviations are 148, 61 and 424.
        assert!(late.abs_diff(900) <= 148, "{late}");
        assert!(failing[0].abs_diff(150) <= 61 && failing[1].abs_diff(12_000) <= 424, "{failing:?}");
        assert!(fates(1).iter().all(|fate| fate.work(true) == fate.work(false) * SLOWDOWN));
    }

    #[tokio::test(start_paused = true)]
    async fn each_trouble_begins_and_ends_when_it_should() {
        let second = Duration::from_secs(1);
        let trouble = Trouble { outage: second..second * 2, dead: second * 3..second * 4 };
        let upstream = Upstream::new(1, Instant::now(), trouble);
        let mut seen = Vec::new();
        for wait in [0, 999, 1, 999, 1, 999, 1, 999, 1] {
            tokio::time::advance(Duration::from_millis(wait)).await;
            seen.push((upstream.0.in_outage(), upstream.0.is_dead()));
        }
        let (well, outage, dead) = ((false, false), (true, false), (false, true));
        assert_eq!(seen, [well, well, outage, outage, well, well, dead, dead, well]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_to_a_dead_upstream_or_is_inside_when_it_dies_is_not_served() {
        let millis = Duration::from_millis;
        let trouble = Trouble { dead: millis(10)..millis(100), ..Trouble::default() };
        let upstream = Upstream::new(1, Instant::now(), trouble);
        let ask = || answer(State(upstream.clone()), Uri::from_static("/"), HeaderMap::new());
        assert_eq!(ask().await.0, StatusCode::INTERNAL_SERVER_ERROR);
        let asked = Instant::now();
        assert_eq!(ask().await.0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(asked.elapsed(), GIVES_UP);
        tokio::time::advance(millis(100)).await;
        assert_eq!(ask().await.0, StatusCode::OK);
        let expected = Counts { calls: 3, own: 3, calls_while_dead: 1, failed: 1, ..Counts::default() };
        assert_eq!(upstream.counts(), expected);
    }

    #[test]
    fn the_mean_is_that_of_the_work() {
        assert_eq!(MEAN_WORK, WORK + JITTER / 2);
    }
}

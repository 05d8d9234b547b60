//! A retry storm in virtual time: a thousand clients, and an upstream that loses
//! four fifths of its capacity for a minute and gets it back.
//!
//! The upstream is a queue that is worked off at its capacity. A request that
//! finds the queue full is refused at once; one whose client has gone away is
//! worked on all the same. Each client makes ten calls a second, whatever comes of
//! them; together they are six tenths of the capacity.
//!
//! With `STANCHION_STORM=FILE` the figures of each second are written there, of
//! which `cargo xtask storm` makes the picture in the docs.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use stanchion_core::Random;
use stanchion_pipeline::{Budget, Classify, Clock, Moment, Outcome, Pipeline, Retry};
use stanchion_retry::RatioBudget;
use tokio::task::{JoinSet, LocalSet};

const CLIENTS: usize = 1_000;
/// Requests a second, without retries.
const LOAD: f64 = 10_000.0;
/// Requests a second that the upstream can answer when it is well.
const CAPACITY: f64 = LOAD / 0.6;
/// Requests that may wait.
const QUEUE: f64 = 2_000.0;
/// When it is short of breath, and until when.
const OUTAGE: std::ops::Range<u64> = 20..80;
const SECONDS: u64 = 110;

#[derive(Debug)]
struct Refused;

impl Classify for Refused {
    fn outcome(&self) -> Outcome {
        Outcome::Transient
    }
}

/// What is waiting, and what has come by second.
struct Upstream {
    began: Moment,
    waiting: f64,
    seen: Moment,
    seconds: Vec<Second>,
}

/// What happened in a second.
#[derive(Debug, Clone, Copy, Default)]
struct Second {
    requests: u32,
    calls: u32,
    succeeded: u32,
}

impl Upstream {
    fn second(&mut self, at: Moment) -> &mut Second {
        let number = usize::try_from((at - self.began).as_secs()).unwrap();
        let last = self.seconds.len() - 1;
        &mut self.seconds[number.min(last)]
    }

    /// A request comes: how long its answer takes, unless it is refused.
    fn ask(&mut self, now: Moment) -> Result<Duration, Refused> {
        self.second(now).requests += 1;
        let ill = OUTAGE.contains(&(now - self.began).as_secs());
        let capacity = if ill { CAPACITY / 5.0 } else { CAPACITY };
        self.waiting = (self.waiting - (now - self.seen).as_secs_f64() * capacity).max(0.0);
        self.seen = now;
        if self.waiting >= QUEUE {
            return Err(Refused);
        }
        self.waiting += 1.0;
        Ok(Duration::from_millis(10) + Duration::from_secs_f64(self.waiting / capacity))
    }
}

fn now() -> Moment {
    Clock::system().now()
}

/// Everything that happened, by second, with clients that have such a pipeline each.
async fn storm(pipeline: impl Fn() -> Pipeline) -> Vec<Second> {
    let upstream = Rc::new(RefCell::new(Upstream {
        began: now(),
        waiting: 0.0,
        seen: now(),
        seconds: vec![Second::default(); usize::try_from(SECONDS).unwrap()],
    }));
    let random = Random::seeded(5);
    let local = LocalSet::new();
    for _ in 0..CLIENTS {
        let (pipeline, upstream, mut random) = (pipeline(), Rc::clone(&upstream), random.run());
        local.spawn_local(async move {
            let mut calls = JoinSet::new();
            let end = upstream.borrow().began + Duration::from_secs(SECONDS);
            let pause = CLIENTS as f64 / LOAD;
            while now() < end {
                tokio::time::sleep(Duration::from_secs_f64(random.unit() * 2.0 * pause)).await;
                let (pipeline, upstream) = (pipeline.clone(), Rc::clone(&upstream));
                calls.spawn_local(async move {
                    let began = now();
                    let called = pipeline
                        .run(|_| {
                            let answer = upstream.borrow_mut().ask(now());
                            async {
                                tokio::time::sleep(answer?).await;
                                Ok::<_, Refused>(())
                            }
                        })
                        .await;
                    let mut upstream = upstream.borrow_mut();
                    let second = upstream.second(began);
                    second.calls += 1;
                    second.succeeded += u32::from(called.is_ok());
                });
                while calls.try_join_next().is_some() {}
            }
            while calls.join_next().await.is_some() {}
        });
    }
    local.await;
    Rc::into_inner(upstream).expect("all clients are done").into_inner().seconds
}

/// Requests in such seconds, in normal loads.
fn load(seconds: &[Second]) -> f64 {
    seconds.iter().map(|second| f64::from(second.requests)).sum::<f64>() / seconds.len() as f64 / LOAD
}

/// Seconds after the outage until 95 % of the calls succeed, and stay so.
fn recovery(seconds: &[Second]) -> usize {
    let well = |second: &Second| f64::from(second.succeeded) >= 0.95 * f64::from(second.calls);
    let after = &seconds[usize::try_from(OUTAGE.end).unwrap()..];
    after.iter().rposition(|second| !well(second)).map_or(0, |last| last + 1)
}

fn outage(seconds: &[Second]) -> &[Second] {
    &seconds[usize::try_from(OUTAGE.start).unwrap()..usize::try_from(OUTAGE.end).unwrap()]
}

/// Four attempts from 100 ms on: what a retry loop around a call does.
fn retry() -> Retry {
    Retry::exponential().max_attempts(4)
}

fn defaults() -> Pipeline {
    Pipeline::named("defaults").attempt_timeout(Duration::from_secs(1)).retry(retry()).build().unwrap()
}

/// The same with a budget that never ends.
fn naive() -> Pipeline {
    let endless = Budget::new(RatioBudget::default().percent(1_000.0).min_per_second(u32::MAX)).unwrap();
    Pipeline::named("naive").attempt_timeout(Duration::from_secs(1)).retry(retry().budget(endless)).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_default_pipeline_does_not_amplify_an_outage_and_recovers_with_it() {
    let ours = storm(defaults).await;
    let theirs = storm(naive).await;
    if let Ok(file) = std::env::var("STANCHION_STORM") {
        let series = |name: &str, seconds: &[Second]| {
            let rows =
                seconds.iter().map(|second| format!("[{}, {}, {}]", second.requests, second.calls, second.succeeded));
            format!("\"{name}\": [{}]", rows.collect::<Vec<_>>().join(", "))
        };
        std::fs::write(file, format!("{{{}, {}}}", series("default", &ours), series("naive", &theirs))).unwrap();
    }
    let normal = load(&ours[5..usize::try_from(OUTAGE.start).unwrap()]);
    let worst = outage(&ours).iter().map(|second| load(&[*second])).fold(0.0, f64::max);
    println!(
        "load in the outage: default {:.2} (worst second {worst:.2}), naive {:.2}; recovered after {} s and {} s",
        load(outage(&ours)),
        load(outage(&theirs)),
        recovery(&ours),
        recovery(&theirs),
    );
    assert!((normal - 1.0).abs() < 0.02, "{normal}");
    assert!(load(outage(&ours)) <= 1.2, "{}", load(outage(&ours)));
    assert!(recovery(&ours) <= 10, "{}", recovery(&ours));
    // The simulation can tell: without a budget the same clients do amplify.
    assert!(load(outage(&theirs)) > 2.5, "{}", load(outage(&theirs)));
}

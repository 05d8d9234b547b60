//! Five processes share their trips on one real Redis.
//!
//! Each process is this test binary once more, told so by its environment. It calls
//! an upstream fifty times a second, which is well or sick as this process says, and
//! prints each transition of its breaker.

mod process;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use process::{PATIENCE, Process};
use stanchion_breaker::{Breaker, Outcome, Sharing, Window};
use stanchion_conformance::RedisServer;
use stanchion_redis::RedisTripStore;

const SERVER: &str = "STANCHION_FLEET_SERVER";
/// What trips one instance by itself: half of its window, which is full of successes.
const THRESHOLD: u32 = 50;

/// What an instance does. As a test of its own it does nothing.
#[test]
fn an_instance() {
    let Ok(url) = std::env::var(SERVER) else { return };
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
        .block_on(instance(&url));
}

async fn instance(url: &str) {
    let breaker = Breaker::builder("upstream")
        .window(Window::count(2 * THRESHOLD))
        .failure_rate(0.5)
        .open_for(Duration::from_secs(1), Duration::from_secs(2))
        .on_change(|change| println!("\nstate {} {}", change.to.as_str(), change.cause.as_str()))
        .build()
        .unwrap();
    let breaker = Arc::new(breaker);
    for _ in 0..2 * THRESHOLD {
        breaker.record(Outcome::Success);
    }
    let store = RedisTripStore::connect(url).unwrap();
    let sharing =
        Sharing { interval: Duration::from_millis(50), recent: Duration::from_millis(200), ..Sharing::default() };
    tokio::spawn(breaker.clone().share(store, sharing).unwrap());
    let (sick, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let orders = (sick.clone(), failed.clone());
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            match line.unwrap().as_str() {
                "sick" => orders.0.store(true, SeqCst),
                "well" => orders.0.store(false, SeqCst),
                _ => println!("\nfailed {}", orders.1.load(SeqCst)),
            }
        }
        std::process::exit(0);
    });
    println!("\nready");
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tick.tick().await;
        let Ok(permit) = breaker.try_acquire() else { continue };
        if sick.load(SeqCst) {
            failed.fetch_add(1, SeqCst);
            permit.settle(Outcome::Transient);
        } else {
            permit.settle(Outcome::Success);
        }
    }
}

struct Instance(Process);

impl Instance {
    fn start(server: &RedisServer) -> Self {
        Self(Process::start(SERVER, server, &["state ", "failed "]))
    }

    fn say(&mut self, order: &str) {
        self.0.say(order);
    }

    fn next(&self, wanted: &str) -> String {
        self.0.next(wanted)
    }

    /// All it has said of its state.
    fn states(&self) -> Vec<String> {
        self.0.unread().into_iter().filter(|line| line.starts_with("state")).collect()
    }

    fn failed(&mut self) -> u32 {
        self.say("count");
        self.next("failed").trim_start_matches("failed ").parse().unwrap()
    }
}

fn five(server: &RedisServer) -> Vec<Instance> {
    let instances: Vec<Instance> = (0..5).map(|_| Instance::start(server)).collect();
    // Until each has reported: a hash with five instances, `generation` and `open`.
    let began = Instant::now();
    while server.command(&["HLEN", "stanchion:trip:{upstream}:fleet"]).trim() != ":7" {
        assert!(began.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(10));
    }
    instances
}

#[test]
fn one_sick_instance_opens_by_itself_and_the_fleet_stays_closed() {
    let server = RedisServer::start();
    let mut fleet = five(&server);
    fleet[0].say("sick");
    // It opens, probes and opens again: flapping makes no quorum either.
    for _ in 0..3 {
        fleet[0].next("state open");
    }
    let failed = fleet[0].failed();
    assert!(failed >= THRESHOLD, "{failed}");
    for other in &fleet[1..] {
        assert_eq!(other.states(), Vec::<String>::new());
    }
}

#[test]
fn a_dead_upstream_opens_the_fleet_within_a_second_and_few_calls() {
    let server = RedisServer::start();
    let mut fleet = five(&server);
    let began = Instant::now();
    fleet.iter_mut().for_each(|instance| instance.say("sick"));
    let first: Vec<String> = fleet.iter().map(|instance| instance.next("state")).collect();
    let elapsed = began.elapsed();
    let failed: u32 = fleet.iter_mut().map(Instance::failed).sum();
    println!("opened in {elapsed:?} with {failed} failed calls: {first:?}");
    // None came to its own threshold: all are open by the fleet's word.
    assert_eq!(first, ["state open fleet"; 5]);
    assert!(elapsed < Duration::from_secs(1), "{elapsed:?}");
    assert!(2 * failed < 3 * THRESHOLD, "{failed}");
    // And it recovers: each by its own probes.
    fleet.iter_mut().for_each(|instance| instance.say("well"));
    for instance in &fleet {
        instance.next("state closed probes_succeeded");
    }
}

#[test]
fn without_redis_each_is_a_breaker_of_its_own_and_with_it_a_fleet_again() {
    let mut server = RedisServer::start();
    let mut fleet = five(&server);
    server.kill();
    fleet[0].say("sick");
    assert_eq!(fleet[0].next("state"), "state open failure_rate");
    fleet[1].say("sick");
    assert_eq!(fleet[1].next("state"), "state open failure_rate");
    for other in &fleet[2..] {
        assert_eq!(other.states(), Vec::<String>::new());
    }
    fleet[..2].iter_mut().for_each(|instance| instance.say("well"));
    for instance in &fleet[..2] {
        instance.next("state closed");
    }
    server.restart();
    let began = Instant::now();
    while server.command(&["HLEN", "stanchion:trip:{upstream}:fleet"]).trim() != ":7" {
        assert!(began.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(10));
    }
    fleet.iter_mut().for_each(|instance| instance.say("sick"));
    // Those whose window is full of successes are open by the fleet's word.
    for instance in &fleet[2..] {
        assert_eq!(instance.next("state"), "state open fleet");
    }
}

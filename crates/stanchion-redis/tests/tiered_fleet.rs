//! Four processes with a tiered cache on one real Redis.
//!
//! Each process is this test binary once more, told so by its environment. It does what it is told to
//! on its standard input, and prints each load and each answer.

mod process;

use std::time::{Duration, Instant};

use process::Process;
use stanchion_cache::{Cache, Raw, TieredCache};
use stanchion_conformance::RedisServer;
use stanchion_redis::RedisCacheStore;

const SERVER: &str = "STANCHION_TIERED_SERVER";
/// How long a load takes, and a value is fresh.
const LOAD: Duration = Duration::from_millis(300);
const TTL: Duration = Duration::from_secs(3);
const LEASE: Duration = Duration::from_secs(3);

type Values = TieredCache<u64, Vec<u8>>;

/// What an instance does. As a test of its own it does nothing.
#[test]
fn an_instance() {
    let Ok(url) = std::env::var(SERVER) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = RedisCacheStore::connect(&url, "values").unwrap().deadline(Duration::from_secs(1));
        let cache: Values = Cache::builder()
            .ttl(TTL)
            .over(store, Raw)
            // A busy machine is not what is tested.
            .timeout(Duration::from_secs(1))
            .lease(LEASE)
            .lease_wait(Duration::from_secs(20))
            .build()
            .unwrap();
        while !cache.snapshot().is_listening {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        println!("\nready");
        let orders = std::io::stdin().lines().map_while(Result::ok);
        // Each order on its own, so that a load that hangs holds up nothing.
        for order in orders {
            let cache = cache.clone();
            tokio::spawn(async move { println!("\n{}", obey(&cache, &order).await) });
            tokio::task::yield_now().await;
        }
        std::process::exit(0);
    });
}

async fn load(time: Duration) -> Result<Vec<u8>, std::io::Error> {
    println!("\nloading");
    tokio::time::sleep(time).await;
    Ok(format!("by {}", std::process::id()).into_bytes())
}

async fn obey(cache: &Values, order: &str) -> String {
    let words: Vec<&str> = order.split(' ').collect();
    let number = |at: usize| words[at].parse::<u64>().unwrap();
    match words[0] {
        // `ask KEY TASKS`: the answer of all, which must be one.
        "ask" => {
            let key = number(1);
            let tasks: Vec<_> = (0..number(2))
                .map(|_| {
                    let cache = cache.clone();
                    tokio::spawn(async move { cache.get_or_load(&key, || load(LOAD)).await })
                })
                .collect();
            let mut answers = Vec::new();
            for task in tasks {
                answers.push(String::from_utf8(task.await.unwrap().unwrap()).unwrap());
            }
            answers.dedup();
            format!("answer {}", answers.join(" and "))
        }
        // `slow KEY MILLIS`: asks with a load that takes so long.
        "slow" => {
            let time = Duration::from_millis(number(2));
            let value = cache.get_or_load(&number(1), move || load(time)).await.unwrap();
            format!("answer {}", String::from_utf8(value).unwrap())
        }
        "get" => match cache.get(&number(1)).await {
            Some(value) => format!("answer {}", String::from_utf8(value).unwrap()),
            None => "answer nothing".to_owned(),
        },
        "insert" => format!("answer {:?}", cache.insert(number(1), words[2].as_bytes().to_vec()).await),
        "fenced" => format!("answer {}", cache.snapshot().fenced),
        _ => "answer what?".to_owned(),
    }
}

struct Instance {
    process: Process,
    loads: u32,
}

impl Instance {
    fn start(server: &RedisServer) -> Self {
        Self { process: Process::start(SERVER, server, &["answer ", "loading"]), loads: 0 }
    }

    fn tell(&mut self, order: &str) {
        self.process.say(order);
    }

    /// Its next answer; loads before it are counted.
    fn answer(&mut self) -> String {
        loop {
            match self.process.line().strip_prefix("answer ") {
                Some(answer) => return answer.to_owned(),
                None => self.loads += 1,
            }
        }
    }

    fn ask(&mut self, order: &str) -> String {
        self.tell(order);
        self.answer()
    }

    /// What a load of it brings.
    fn value(&self) -> String {
        format!("by {}", self.process.id())
    }
}

fn four(server: &RedisServer) -> Vec<Instance> {
    (0..4).map(|_| Instance::start(server)).collect()
}

#[test]
fn of_ten_thousand_tasks_in_four_processes_one_loads_an_expired_key() {
    let server = RedisServer::start();
    let mut instances = four(&server);
    let first = instances[0].ask("ask 7 1");
    for instance in &mut instances {
        assert_eq!(instance.ask("get 7"), first);
    }
    std::thread::sleep(TTL + Duration::from_millis(50));
    for instance in &mut instances {
        instance.loads = 0;
        instance.tell("ask 7 2500");
    }
    let answers: Vec<String> = instances.iter_mut().map(Instance::answer).collect();
    assert!(answers.iter().all(|answer| *answer == answers[0] && !answer.contains(" and ")), "{answers:?}");
    assert_eq!(instances.iter().map(|instance| instance.loads).sum::<u32>(), 1);
}

#[test]
fn after_kill_9_of_the_one_who_loads_the_next_one_does_when_the_lease_is_over() {
    let server = RedisServer::start();
    let (mut one, mut other) = (Instance::start(&server), Instance::start(&server));
    one.tell("slow 7 60000");
    assert_eq!(one.process.line(), "loading");
    one.process.signal("-KILL");
    let began = Instant::now();
    assert_eq!(other.ask("ask 7 100"), other.value());
    let took = began.elapsed();
    assert_eq!(other.loads, 1);
    // What is left of a lease that was renewed a third of it ago at the latest, and a load.
    assert!(took >= LEASE / 2 + LOAD && took < LEASE + LOAD + Duration::from_secs(10), "{took:?}");
}

#[test]
fn one_who_was_held_up_while_it_loaded_is_fenced() {
    let server = RedisServer::start();
    let (mut one, mut other) = (Instance::start(&server), Instance::start(&server));
    one.tell("slow 7 1000");
    assert_eq!(one.process.line(), "loading");
    one.process.signal("-STOP");
    let newer = other.value();
    assert_eq!(other.ask("ask 7 1"), newer);
    one.process.signal("-CONT");
    assert_eq!(one.answer(), one.value(), "who waited gets it");
    assert_eq!((one.ask("fenced"), one.ask("get 7"), other.ask("get 7")), ("1".to_owned(), newer.clone(), newer));
}

#[test]
fn what_one_process_writes_the_others_see() {
    let server = RedisServer::start();
    let mut instances = four(&server);
    for round in 0..5 {
        // All have it in memory.
        for instance in &mut instances {
            instance.ask("ask 7 1");
        }
        let new = format!("new-{round}");
        assert_eq!(instances[round % 4].ask(&format!("insert 7 {new}")), "Everywhere");
        assert_eq!(instances[round % 4].ask("get 7"), new, "at once where it was written");
        let began = Instant::now();
        for instance in &mut instances {
            while instance.ask("get 7") != new {
                assert!(began.elapsed() < TTL / 2, "before it would have expired by itself");
            }
        }
    }
}

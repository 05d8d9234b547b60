//! `cargo xtask compare redis`: decisions a second on a real server of its own,
//! beside an empty script, in turns, under the same pipelining: so many tasks on
//! one connection, each of which asks again as soon as it is answered.

use std::error::Error;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use stanchion_conformance::RedisServer;
use stanchion_core::{RateLimit, RateRequest, RateStore, TokenBucket};
use stanchion_redis::RedisRateStore;

/// How many tasks ask at once.
const DEPTHS: [u32; 3] = [1, 16, 64];
/// Requests of all tasks in a round.
const REQUESTS: u32 = 6_400;
/// Keys, one after the other.
const KEYS: u32 = 10_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let (mut rounds, mut json) = (31, None);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => rounds = 5,
            "--json" => json = Some(arguments.next().ok_or("--json FILE")?),
            other => return Err(format!("`{other}` is no option").into()),
        }
    }
    let server = RedisServer::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("{:<16} {:>12} {:>14} {:>11}", "case", "ours", "empty script", "throughput");
    let mut rows = Vec::new();
    for depth in DEPTHS {
        let (ours, empty) = runtime.block_on(measure(&server, depth, rounds))?;
        let case = format!("redis/decide-{depth}");
        println!("{case:<16} {:>10.0}/s {:>12.0}/s {:>11.3}", 1e9 / ours, 1e9 / empty, empty / ours);
        rows.push(serde_json::json!({
            "case": case, "ours_ns": ours, "peer": "empty script", "peer_ns": empty, "ratio": ours / empty,
        }));
    }
    if let Some(file) = json {
        std::fs::write(file, serde_json::to_string_pretty(&rows)?)?;
    }
    Ok(())
}

/// Nanoseconds for a decision and for an empty script: the medians of rounds in turns.
async fn measure(server: &RedisServer, depth: u32, rounds: usize) -> Result<(f64, f64), Box<dyn Error>> {
    let client = redis::Client::open(server.url())?;
    let connection = client.get_multiplexed_async_connection().await?;
    let store = RedisRateStore::new(connection.clone()).deadline(Duration::from_secs(20));
    let script = redis::Script::new("return 0");
    script.prepare_invoke().load_async(&mut connection.clone()).await?;
    let (mut ours, mut empty) = (Vec::new(), Vec::new());
    // Two more rounds at first, to warm up.
    for round in 0..rounds + 2 {
        let decided_first = if round % 2 == 0 { Some(decisions(&store, depth).await) } else { None };
        let scripted = scripts(&connection, script.get_hash(), depth).await;
        let decided = match decided_first {
            Some(time) => time,
            None => decisions(&store, depth).await,
        };
        if round >= 2 {
            ours.push(decided);
            empty.push(scripted);
        }
    }
    Ok((median(ours), median(empty)))
}

async fn decisions(store: &RedisRateStore<MultiplexedConnection>, depth: u32) -> f64 {
    let bucket = TokenBucket::new(1_000, Duration::from_secs(1), 1_000).expect("representable");
    let limit = RateLimit::new("bench", bucket);
    let began = Instant::now();
    let tasks = (0..depth).map(|task| {
        let limit = &limit;
        async move {
            for request in 0..REQUESTS / depth {
                let key = format!("tenant-{}", (task * 7_919 + request * depth) % KEYS);
                let decision = store.decide(RateRequest::single(key.as_bytes(), 1, limit)).await;
                assert!(decision.is_ok_and(|decision| decision.allowed()));
            }
        }
    });
    futures::future::join_all(tasks).await;
    per_request(began)
}

async fn scripts(connection: &MultiplexedConnection, hash: &str, depth: u32) -> f64 {
    let began = Instant::now();
    let tasks = (0..depth).map(|_| {
        let mut connection = connection.clone();
        async move {
            for _ in 0..REQUESTS / depth {
                let answer = redis::cmd("EVALSHA").arg(hash).arg(0).query_async::<i64>(&mut connection).await;
                assert!(answer.is_ok_and(|answer| answer == 0));
            }
        }
    });
    futures::future::join_all(tasks).await;
    per_request(began)
}

fn per_request(began: Instant) -> f64 {
    began.elapsed().as_nanos() as f64 / f64::from(REQUESTS)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

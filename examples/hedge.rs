//! A hedge: what is late is asked once more beside the first. The same traffic without and with one.
//!
//! `cargo run --example hedge`

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use stanchion_retry::{Hedge, Random};
use tokio::task::JoinSet;

const CALLS: u32 = 1_000;

/// A service that answers in 5 to 15 ms, but three times in a hundred in 300 ms.
struct Service {
    random: Random,
    asked: AtomicU32,
}

impl Service {
    async fn fetch(&self) -> io::Result<()> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut chance = self.random.run();
        let usual = 5.0 + 10.0 * chance.unit();
        let millis = if chance.unit() < 0.03 { 300.0 } else { usual };
        tokio::time::sleep(Duration::from_secs_f64(millis / 1_000.0)).await;
        Ok(())
    }
}

/// A call each millisecond, whatever becomes of the others. Prints how long they took.
async fn play(name: &str, hedge: Option<Hedge>) -> Result<Duration, Box<dyn Error>> {
    let service = Arc::new(Service { random: Random::seeded(1), asked: AtomicU32::new(0) });
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    let mut calls = JoinSet::new();
    for _ in 0..CALLS {
        ticks.tick().await;
        let (service, hedge) = (Arc::clone(&service), hedge.clone());
        calls.spawn(async move {
            let began = Instant::now();
            match hedge {
                // To call this is to say that asking twice does no harm.
                Some(hedge) => hedge.run(|_| service.fetch()).await.expect("it never fails"),
                None => service.fetch().await.expect("it never fails"),
            }
            began.elapsed()
        });
    }
    let mut took = calls.join_all().await;
    took.sort_unstable();
    let (p50, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    let more = service.asked.load(Ordering::Relaxed) - CALLS;
    println!("{name:8} p50 {p50:>5.0?}   p99 {p99:>5.0?}   {CALLS} calls and {more:3} hedges");
    // Whatever is late, the default budget grants a tenth of the calls, and a few besides.
    assert!(more <= CALLS / 5);
    Ok(p99)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    play("without", None).await?;
    play("after", Some(Hedge::after(Duration::from_millis(30)).validated()?)).await?;
    // Learns from what it sees when a call is late; until it knows a hundred, none is.
    play("p95", Some(Hedge::at_percentile(95.0).validated()?)).await?;
    Ok(())
}

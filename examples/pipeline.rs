//! All policies of a call as one value in a field: configured with JSON, reloaded while calls are
//! under way, and its state as JSON.
//!
//! `cargo run --example pipeline`

use std::error::Error;
use std::io;
use std::time::Duration;

use stanchion_pipeline::{CallError, Pipeline, PipelineConfig};
use tokio::task::JoinSet;

const AT_FIRST: &str = r#"{
    "total_timeout": "2s",
    "attempt_timeout": "250ms",
    "retry": { "max_attempts": 3, "backoff": { "shape": "exponential", "first": "10ms" } },
    "budget": { "ratio": { "percent": 50.0 } },
    "bulkhead": { "permits": 8 }
}"#;
const NO_ATTEMPTS: &str = r#"{ "retry": { "max_attempts": 0 } }"#;

#[derive(Clone)]
struct Rates {
    pipeline: Pipeline,
}

impl Rates {
    async fn of(&self, currency: u32) -> Result<u32, CallError<io::Error>> {
        // Every fifth hangs at first; the operation is told what time remains.
        self.pipeline
            .run(|attempt| async move {
                let hangs = currency.is_multiple_of(5) && attempt.number() == 1;
                let millis = if hangs { 10_000 } else { 20 };
                tokio::time::sleep(Duration::from_millis(millis)).await;
                Ok(currency * 100)
            })
            .await
    }

    /// Twenty at once: how many succeed, and how many the bulkhead refuses.
    async fn twenty(&self) -> (usize, usize) {
        let mut calls = JoinSet::new();
        for currency in 1..=20 {
            let rates = self.clone();
            calls.spawn(async move { rates.of(currency).await });
        }
        let results = calls.join_all().await;
        let refused = results.iter().filter(|result| matches!(result, Err(CallError::Rejected(_)))).count();
        (results.iter().filter(|result| result.is_ok()).count(), refused)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let config: PipelineConfig = serde_json::from_str(AT_FIRST)?;
    let rates = Rates { pipeline: Pipeline::named("rates").config(&config).build()? };
    let (served, refused) = rates.twenty().await;
    println!("room for 8:  of 20 calls {served} served, {refused} refused");

    // What can't be honoured is refused whole, and says why.
    let error = rates.pipeline.reload(&serde_json::from_str(NO_ATTEMPTS)?);
    println!("not loaded:  {}", error.expect_err("nothing can be tried no times"));

    // Calls under way keep what they began with; the next ones go by the new.
    let more_room = AT_FIRST.replace(r#""permits": 8"#, r#""permits": 64"#);
    let under_way = tokio::spawn({
        let rates = rates.clone();
        async move { rates.of(5).await }
    });
    tokio::task::yield_now().await;
    rates.pipeline.reload(&serde_json::from_str(&more_room)?)?;
    let (served, refused) = rates.twenty().await;
    println!(
        "room for 64: of 20 calls {served} served, {refused} refused; the one that was under way: {}",
        under_way.await??
    );
    assert_eq!((served, refused), (20, 0));

    println!("{}", serde_json::to_string_pretty(&rates.pipeline.snapshot())?);
    Ok(())
}

//! Retry on its own: a service that is away for a while, and an error that won't pass.
//!
//! `cargo run --example retry`

use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

use stanchion_retry::{self as retry, CallError, Random, Retry};

/// A service that takes no connections until then.
async fn fetch(away_until: Instant) -> io::Result<&'static str> {
    if Instant::now() < away_until { Err(io::ErrorKind::ConnectionRefused.into()) } else { Ok("soup of the day: leek") }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // All that it takes: three attempts, and delays that grow and are spread by chance. Where the
    // service is well, it costs nothing.
    let now = Instant::now();
    let menu = retry::exponential().run(|_| fetch(now)).await?;
    println!("well: {menu}");

    // The same as a value to keep in a field, with more patience. Only this example needs a seed.
    let began = Instant::now();
    let retry = Retry::exponential().max_attempts(8).max_elapsed(Duration::from_secs(10)).random(Random::seeded(1));
    let told = retry.clone().on_retry(move |retrying| {
        let (attempt, outcome, at) = (retrying.attempt, retrying.outcome.as_str(), began.elapsed());
        println!("away: attempt {attempt} at {at:3.0?} was {outcome}, the next in {:.0?}", retrying.delay);
    });
    let away_until = began + Duration::from_millis(400);
    let menu = told.run(|_| fetch(away_until)).await?;
    println!("back: {menu}, after {:.0?}", began.elapsed());
    assert!(Instant::now() >= away_until);

    // What won't pass isn't tried again, and the error says how often it was. Without a runtime, too.
    let missing = retry.run_blocking(|_| std::fs::read_to_string("no/such/file"));
    let Err(CallError::Inner { error, attempts }) = missing else { panic!("there is such a file: {missing:?}") };
    println!("gone: {error}, {attempts} attempt");
    assert_eq!(attempts, 1);
    Ok(())
}

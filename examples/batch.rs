//! Many items through one pipeline, with a progress bar: some need another try, and one fails for good.
//!
//! `cargo run --example batch`

use std::error::Error;
use std::io;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use stanchion_pipeline::{Attempt, Batch, Budget, Pipeline, RatioBudget, Retry};

/// Every seventh item is refused at first, and item 23 is one that nobody can take.
async fn upload(item: u64, attempt: Attempt) -> io::Result<u64> {
    tokio::time::sleep(Duration::from_millis(20 + item % 5 * 10)).await;
    match item {
        23 => Err(io::Error::new(io::ErrorKind::InvalidData, "not a picture")),
        _ if item.is_multiple_of(7) && attempt.number() == 1 => Err(io::ErrorKind::ConnectionReset.into()),
        _ => Ok(item * 1_000),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // One in seven needs another try: more than the tenth that the default budget grants.
    let budget = Budget::new(RatioBudget::default().percent(50.0))?;
    let uploads = Pipeline::named("uploads")
        .attempt_timeout(Duration::from_secs(1))
        .budget(budget)
        .retry(Retry::constant(Duration::from_millis(50)))
        .build()?;

    // Nothing is drawn where stderr is no terminal.
    let bar = ProgressBar::no_length()
        .with_style(ProgressStyle::with_template("{bar:40} {pos}/{len} items, {msg}, {eta} to go")?);
    let report = Batch::new(&uploads, 8)
        .on_progress(|progress| {
            progress.total.inspect(|total| bar.set_length(*total));
            bar.set_position(progress.done());
            bar.set_message(format!("{} failed", progress.failed));
        })
        .run(1..=200, upload)
        .await;
    bar.finish_and_clear();

    println!("{} items, {} bytes", report.succeeded.len(), report.succeeded.iter().sum::<u64>());
    for failed in &report.failed {
        println!("item {} failed: {failed}", failed.item);
    }
    println!("{} items needed another try", uploads.snapshot().retries);
    // What goes in comes out, as a result or as an item with its error.
    assert_eq!((report.succeeded.len(), report.failed.len()), (199, 1));
    Ok(())
}

//! What stands on stderr while a pass is played.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, interval_at};

use crate::tally::Tally;

/// Waits until a pass is played, and says meanwhile how it stands: in one line
/// that is rewritten, or, where nobody watches, in a new one now and then.
pub(crate) async fn watch(
    name: &str,
    length: Duration,
    tally: &Mutex<Tally>,
    mut playing: JoinHandle<()>,
) -> Result<(), JoinError> {
    let terminal = std::io::stderr().is_terminal();
    let period = Duration::from_millis(if terminal { 250 } else { 3_000 });
    let start = Instant::now();
    let mut ticks = interval_at(start + period, period);
    let (before, after) = if terminal { ("\r\x1b[2K", "") } else { ("", "\n") };
    let result = loop {
        tokio::select! {
            result = &mut playing => break result,
            _ = ticks.tick() => {
                let now = start.elapsed().min(length);
                let standing = standing(&tally.lock().expect("nothing panics while it counts"), now);
                say(&format!("{before}{name:8}{:2.0} s of {:.0}   {standing}{after}", now.as_secs_f64(), length.as_secs_f64()));
            }
        }
    };
    if terminal {
        say(before);
    }
    result
}

fn standing(tally: &Tally, elapsed: Duration) -> String {
    let per_second = |number: u64| number as f64 / elapsed.as_secs_f64().max(0.001);
    format!(
        "quiet: {:3.0} % served, p50 {:4} ms   noisy: {:3.0} served, {:3.0} refused a second",
        tally.quiet.served_percent(),
        tally.quiet.percentile(50).unwrap_or_default().as_millis(),
        per_second(tally.noisy.served()),
        per_second(tally.noisy.refused),
    )
}

/// A progress that nobody can read is no reason to stop.
fn say(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

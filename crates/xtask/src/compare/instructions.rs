//! Instructions per operation, counted by valgrind: the same on a busy machine.

use std::fs;
use std::path::Path;

use super::figures::Row;
use crate::run::{cargo, exists};

/// Operations of each contestant.
const FULL: u64 = 10_000;
const QUICK: u64 = 1_000;

/// Counts for each row, ours and the peer's, or says that valgrind is missing.
pub(super) fn count(suite: &str, rows: &mut [Row], quick: bool) -> Result<(), String> {
    if !exists("valgrind") {
        println!("There is no valgrind: instructions aren't counted.");
        return Ok(());
    }
    let folder = std::env::temp_dir().join(format!("stanchion-callgrind-{}", std::process::id()));
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let counted = dumps(&folder, suite, rows.len() * 2, if quick { QUICK } else { FULL });
    // A folder that stays in the temporary directory does no harm.
    let _ = fs::remove_dir_all(&folder);
    for (row, pair) in rows.iter_mut().zip(counted?.chunks_exact(2)) {
        row.instructions = Some((pair[0], pair[1]));
    }
    for row in rows {
        if let Some((ours, peer)) = row.instructions {
            println!("{:<38} {ours:>6.0}      {peer:>6.0}     {:<19} {:>6.3}", row.case, row.peer, ours / peer);
        }
    }
    Ok(())
}

/// Runs the bench under callgrind, which collects within the function `counted`
/// only, and writes a file after each call of it.
fn dumps(folder: &Path, suite: &str, contestants: usize, operations: u64) -> Result<Vec<f64>, String> {
    let out = folder.join("out");
    let out = out.to_str().ok_or("the temporary folder has no name in UTF-8")?;
    // Two patterns for one function: given the same twice, callgrind forgets the first order.
    let runner = format!(
        "target.'cfg(all())'.runner = ['valgrind', '-q', '--tool=callgrind', '--callgrind-out-file={out}', \
         '--toggle-collect=*compare::counted*', '--dump-after=compare::counted']"
    );
    let operations_text = operations.to_string();
    cargo(&[
        "bench",
        "--quiet",
        "-p",
        "stanchion-benches",
        "--bench",
        "compare",
        "--config",
        &runner,
        "--",
        suite,
        "--count",
        &operations_text,
    ])?;
    (1..=contestants)
        .map(|number| {
            let text = super::read(Path::new(&format!("{out}.{number}")))?;
            let total = total(&text).ok_or_else(|| format!("callgrind's file {number} has no total"))?;
            Ok(total / operations as f64)
        })
        .collect()
}

/// What callgrind's file says of all instructions.
fn total(file: &str) -> Option<f64> {
    file.lines().find_map(|line| line.strip_prefix("totals: "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_found() {
        assert_eq!(total("events: Ir\nsummary: 7\n\nfn=(1) x\n12 3\ntotals: 281259\n"), Some(281_259.0));
        assert_eq!(total("events: Ir\n"), None);
    }
}

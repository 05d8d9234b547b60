//! `cargo xtask compare redis`: decisions on a real server beside an empty script.

use serde_json::Value;

use super::{Options, bench, report_named, write};
use crate::run::Outcome;

/// Runs the bench `redis`, and writes docs/performance/redis.md unless told to be quick.
pub(super) fn run(options: &Options) -> Outcome {
    crate::redis::provide()?;
    let written = bench("redis", &[], &["--json"], options)?;
    if options.quick {
        return Ok(());
    }
    let rows = serde_json::from_str(&written.concat()).map_err(|error| format!("the bench's figures: {error}"))?;
    write(&report_named("redis", "md"), &markdown(&rows))
}

fn markdown(rows: &Value) -> String {
    let mut text = String::from(
        "<!-- Written by `cargo xtask compare redis`. -->\n# Decisions on Redis\n\n\
         Decisions a second of one rate limit, over one connection to a redis-server on the same machine, with so many\n\
         requests in flight; beside them a script that does nothing (`return 0`), in turns, medians of 31 rounds.\n\n\
         | in flight | decisions | empty script | throughput |\n|--:|--:|--:|--:|\n",
    );
    for row in rows.as_array().into_iter().flatten() {
        let number = |key: &str| row[key].as_f64().unwrap_or(f64::NAN);
        let depth = row["case"].as_str().and_then(|case| case.rsplit('-').next()).unwrap_or("?");
        text += &format!(
            "| {depth} | {:.0} /s | {:.0} /s | {:.2} |\n",
            1e9 / number("ours_ns"),
            1e9 / number("peer_ns"),
            1.0 / number("ratio")
        );
    }
    text += "\nWith one request in flight the round trip is what counts. With many, the server is: a decision is one\n\
             script that calls `TIME`, `GET` and `SET`, and each of these takes longer than to run an empty script. A\n\
             refusal needs no `SET`.\n";
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_has_a_row_for_each_case() {
        let rows = serde_json::json!([
            { "case": "redis/decide-16", "ours_ns": 2_000.0, "peer": "empty script", "peer_ns": 1_000.0, "ratio": 2.0 },
        ]);
        assert!(markdown(&rows).contains("| 16 | 500000 /s | 1000000 /s | 0.50 |\n"));
    }
}

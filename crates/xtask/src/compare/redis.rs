//! `cargo xtask compare redis`: decisions on a real server beside an empty script.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::run::{cargo, root};

/// Runs the bench `redis`, and writes docs/performance/redis.md unless told to be quick.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let (mut quick, mut copy) = (false, None);
    let mut rest = arguments.iter().map(String::as_str);
    while let Some(argument) = rest.next() {
        match argument {
            "--quick" => quick = true,
            "--json" => copy = Some(rest.next().ok_or("--json FILE")?.to_owned()),
            other => return Err(format!("`{other}` is no option of `compare redis`")),
        }
    }
    crate::redis::provide()?;
    let json = std::env::temp_dir().join(format!("stanchion-redis-{}.json", std::process::id()));
    let json_path = json.to_str().ok_or("the temporary folder has no name in UTF-8")?;
    let mut command =
        vec!["bench", "--quiet", "-p", "stanchion-benches", "--bench", "redis", "--", "--json", json_path];
    if quick {
        command.push("--quick");
    }
    let measured = cargo(&command).and_then(|()| fs::read_to_string(&json).map_err(|error| error.to_string()));
    fs::remove_file(&json).ok();
    let measured = measured?;
    if let Some(copy) = copy {
        fs::write(&copy, &measured).map_err(|error| format!("{copy}: {error}"))?;
    }
    if quick {
        return Ok(());
    }
    let rows = serde_json::from_str(&measured).map_err(|error| format!("the bench's figures: {error}"))?;
    let report = Path::new(root()).join("docs/performance/redis.md");
    fs::write(&report, markdown(&rows)).map_err(|error| format!("{}: {error}", report.display()))
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

//! Hit ratios of caches and of policies alone, over generated streams and over traces.
//!
//! `cargo bench -p stanchion-benches --bench hit_ratio -- run [--traces DIR] [--json FILE] [--quick]`
//!
//! `cargo xtask hit-ratio` makes the report of it.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;
use stanchion_benches::replay::streams::{Scale, streams};
use stanchion_benches::replay::{contestants, hits, traces};

const USAGE: &str = "usage: hit_ratio run [--traces DIR] [--json FILE] [--quick]";

fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)) {
        // `cargo bench` without arguments comes here; it has no figures to give.
        Ok(None) => println!("{USAGE}"),
        Ok(Some(options)) => {
            if let Err(error) = replay(&options) {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        }
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn replay(options: &Options) -> std::io::Result<()> {
    let names: Vec<&str> = contestants().collect();
    println!("{:<32}{}", "hits of 100 requests", names.iter().map(|name| format!("{name:>13}")).collect::<String>());
    let mut all = streams(options.scale);
    if let Some(folder) = &options.traces {
        all.extend(traces::read(folder)?);
    }
    let mut rows = Vec::new();
    for trace in &all {
        for &capacity in &trace.capacities {
            let percent = |hits: u64| 100.0 * hits as f64 / trace.requests.len() as f64;
            let hits: Vec<f64> = hits(&trace.requests, capacity).into_iter().map(percent).collect();
            let shown: String = hits.iter().map(|hits| format!("{hits:>13.2}")).collect();
            println!("{:<32}{shown}", format!("{}@{capacity}", trace.name));
            rows.push(json!({
                "trace": trace.name,
                "kind": trace.kind.as_str(),
                "requests": trace.requests.len(),
                "capacity": capacity,
                "hits": hits,
            }));
        }
    }
    if let Some(file) = &options.json {
        std::fs::write(file, format!("{:#}\n", json!({ "contestants": names, "rows": rows })))?;
    }
    Ok(())
}

/// What the command line asks for.
struct Options {
    traces: Option<PathBuf>,
    json: Option<PathBuf>,
    scale: Scale,
}

impl Options {
    /// `None` if nothing was asked for.
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        // Cargo adds `--bench` to whatever it runs as a benchmark.
        let mut arguments = arguments.filter(|argument| argument != "--bench");
        match arguments.next().as_deref() {
            None => return Ok(None),
            Some("run") => {}
            Some(other) => return Err(format!("`{other}` is nothing that can be done")),
        }
        let mut options = Self { traces: None, json: None, scale: Scale::Full };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("`{argument}` needs a value"));
            match argument.as_str() {
                "--traces" => options.traces = Some(value()?.into()),
                "--json" => options.json = Some(value()?.into()),
                "--quick" => options.scale = Scale::Small,
                other => return Err(format!("`{other}` is no option")),
            }
        }
        Ok(Some(options))
    }
}

//! What the command line asks for.

use std::path::PathBuf;

use stanchion_benches::{SUITES, Suite, suite};

const OPTIONS: &str = "
  --json FILE   writes the figures as JSON
  --facts FILE  writes what else a report says as JSON: the rounds, bytes per key
  --count N     measures nothing: each contestant's loop once, N times, for a profiler that counts
  --quick       fewer and shorter rounds, to see that it works";

pub(crate) fn usage() -> String {
    let names = SUITES.map(|suite| suite.name).join("|");
    format!("usage: compare {names} [--json FILE] [--facts FILE] [--count N] [--quick]\n{OPTIONS}")
}

/// A run of the comparison.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) suite: &'static Suite,
    pub(crate) json: Option<PathBuf>,
    pub(crate) facts: Option<PathBuf>,
    pub(crate) count: Option<u64>,
    pub(crate) quick: bool,
}

impl Options {
    /// `None` if nothing was asked for.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        // Cargo adds `--bench` to whatever it runs as a benchmark.
        let mut arguments = arguments.filter(|argument| argument != "--bench");
        let Some(name) = arguments.next() else { return Ok(None) };
        let suite = suite(&name).ok_or_else(|| format!("`{name}` is nothing that can be compared"))?;
        let mut options = Self { suite, json: None, facts: None, count: None, quick: false };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("`{argument}` needs a value"));
            match argument.as_str() {
                "--json" => options.json = Some(value()?.into()),
                "--facts" => options.facts = Some(value()?.into()),
                "--count" => options.count = Some(value()?.parse().map_err(|_| "--count needs a number")?),
                "--quick" => options.quick = true,
                other => return Err(format!("`{other}` is no option")),
            }
        }
        Ok(Some(options))
    }
}

//! What the command line asks for.

use std::path::PathBuf;

use stanchion_benches::{SUITES, Suite};

pub(crate) const USAGE: &str = "usage: compare SUITE [--json FILE] [--facts FILE] [--quick]

  --json FILE   writes the figures as JSON
  --facts FILE  writes what else a report says as JSON: the rounds, bytes per key
  --quick       fewer and shorter rounds, to see that it works";

/// A run of the comparison.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) suite: &'static Suite,
    pub(crate) json: Option<PathBuf>,
    pub(crate) facts: Option<PathBuf>,
    pub(crate) quick: bool,
}

impl Options {
    /// `None` if nothing was asked for.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        // Cargo adds `--bench` to whatever it runs as a benchmark.
        let mut arguments = arguments.filter(|argument| argument != "--bench");
        let Some(name) = arguments.next() else { return Ok(None) };
        let Some(suite) = SUITES.iter().find(|suite| suite.name == name) else {
            let names: Vec<&str> = SUITES.iter().map(|suite| suite.name).collect();
            return Err(format!("`{name}` is no suite; there are {}", names.join(", ")));
        };
        let mut options = Self { suite, json: None, facts: None, quick: false };
        while let Some(argument) = arguments.next() {
            let mut file = || arguments.next().ok_or(format!("`{argument}` needs a file"));
            match argument.as_str() {
                "--json" => options.json = Some(file()?.into()),
                "--facts" => options.facts = Some(file()?.into()),
                "--quick" => options.quick = true,
                other => return Err(format!("`{other}` is no option")),
            }
        }
        Ok(Some(options))
    }
}

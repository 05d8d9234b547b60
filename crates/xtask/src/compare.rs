//! `cargo xtask compare`: ours beside the peers, measured in turns, and the
//! report of it.
//!
//! A suite is a table of cases in `benches/subjects`, and here a page of prose
//! with places for the figures.

mod chart;
mod figures;
pub(crate) mod hit_ratio;
mod instructions;
mod machine;
mod redis;
mod report;

use std::fs;
use std::path::{Path, PathBuf};

use figures::Figures;
use machine::Machine;

use crate::run::{Outcome, cargo, root};

/// A suite of the bench `compare`.
struct Suite {
    name: &'static str,
    /// What an operation is called.
    unit: &'static str,
    page: &'static str,
}

const SUITES: [Suite; 4] = [
    Suite { name: "limit", unit: "check", page: include_str!("compare/pages/limit.md") },
    Suite { name: "breaker", unit: "call", page: include_str!("compare/pages/breaker.md") },
    Suite { name: "retry", unit: "call", page: include_str!("compare/pages/retry.md") },
    Suite { name: "cache", unit: "operation", page: include_str!("compare/pages/cache.md") },
];

/// Runs the comparison that `arguments` name, those after `compare`.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    let options = Options::parse(arguments)?;
    match SUITES.iter().find(|suite| suite.name == options.name) {
        Some(suite) => suite.run(&options),
        None => redis::run(&options),
    }
}

impl Suite {
    fn run(&self, options: &Options) -> Outcome {
        let mut figures = Figures::parse(&bench("compare", &[self.name], &["--json", "--facts"], options)?)?;
        if self.page.contains(report::WORK) {
            instructions::count(self.name, &mut figures.rows, options.quick)?;
        }
        if options.quick {
            return Ok(());
        }
        let machine = Machine::inspect()?;
        write(&report_named(self.name, "md"), &report::markdown(self, &figures, &machine))?;
        write(&report_named(self.name, "svg"), &chart::svg(self.unit, &figures.rows))
    }
}

/// Runs a bench, whose table goes straight to the reader, and reads the files
/// that these flags make it write; a copy of the first is for the user.
fn bench(name: &str, arguments: &[&str], flags: &[&str], options: &Options) -> Result<Vec<String>, String> {
    let folder = std::env::temp_dir().join(format!("stanchion-compare-{}", std::process::id()));
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let written = written_by_bench(&folder, name, arguments, flags, options.quick);
    // A folder that stays in the temporary directory does no harm.
    let _ = fs::remove_dir_all(&folder);
    let written = written?;
    if let (Some(copy), Some(json)) = (&options.json, written.first()) {
        write(copy, json)?;
    }
    Ok(written)
}

fn written_by_bench(
    folder: &Path,
    name: &str,
    arguments: &[&str],
    flags: &[&str],
    quick: bool,
) -> Result<Vec<String>, String> {
    let folder = folder.to_str().ok_or("the temporary folder has no name in UTF-8")?;
    let files: Vec<String> =
        flags.iter().map(|flag| format!("{folder}/{}.json", flag.trim_start_matches('-'))).collect();
    let mut command = vec!["bench", "--quiet", "-p", "stanchion-benches", "--bench", name, "--"];
    command.extend(arguments);
    command.extend(flags.iter().zip(&files).flat_map(|(flag, file)| [*flag, file]));
    if quick {
        command.push("--quick");
    }
    cargo(&command)?;
    files.iter().map(|file| read(Path::new(file))).collect()
}

fn report_named(suite: &str, extension: &str) -> PathBuf {
    Path::new(root()).join(format!("docs/performance/{suite}.{extension}"))
}

fn read(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
}

fn write(file: &Path, text: &str) -> Outcome {
    fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}

/// What the command line asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    name: String,
    json: Option<PathBuf>,
    quick: bool,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let names: Vec<&str> = SUITES.iter().map(|suite| suite.name).chain(["redis"]).collect();
        let usage = || {
            format!(
                "usage: cargo xtask compare {} [--json FILE] [--quick]

Measures ours beside peers, and writes the report in docs/performance.
  --json FILE  copies the figures there
  --quick      only sees whether it works, and leaves the report as it is",
                names.join("|")
            )
        };
        let mut arguments = arguments.iter().map(String::as_str);
        let name = arguments.next().filter(|name| names.contains(name)).ok_or_else(usage)?;
        let mut options = Self { name: name.to_owned(), ..Self::default() };
        while let Some(argument) = arguments.next() {
            match argument {
                "--json" => options.json = Some(arguments.next().ok_or_else(usage)?.into()),
                "--quick" => options.quick = true,
                other => return Err(format!("`{other}` is no option\n{}", usage())),
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_command_line_is_read() {
        let expected = Options { name: "limit".into(), json: Some("out.json".into()), quick: true };
        assert_eq!(Options::parse(&words("limit --quick --json out.json")), Ok(expected));
        for name in ["limit", "retry", "redis"] {
            assert_eq!(Options::parse(&words(name)), Ok(Options { name: name.into(), ..Options::default() }));
        }
        for wrong in ["", "nothing", "limit --json", "limit --fast"] {
            assert!(Options::parse(&words(wrong)).unwrap_err().contains("usage"), "{wrong}");
        }
    }
}

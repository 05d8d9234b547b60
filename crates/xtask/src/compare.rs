//! `cargo xtask compare`: ours beside the peers, measured in turns.

mod breaker;
mod limit;
mod redis;
mod suite;

use suite::Prose;

/// The suites of `benches/suites.rs`. A new one is its prose in a file here, and a
/// place in this list.
const SUITES: [&Prose; 2] = [&limit::PROSE, &breaker::PROSE];

/// Runs the comparison that `args` name, those after `compare`.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let name = args.first().map(String::as_str);
    if name == Some("redis") {
        return redis::run(&args[1..]);
    }
    match SUITES.iter().find(|prose| name == Some(prose.suite)) {
        Some(prose) => suite::run(prose, &args[1..]),
        None => {
            let names: Vec<&str> = SUITES.iter().map(|prose| prose.suite).collect();
            Err(format!("usage: cargo xtask compare {}|redis [--json FILE] [--quick]", names.join("|")))
        }
    }
}

/// Each comparison, quickly: whether they work.
pub(crate) fn all_quickly() -> Result<(), String> {
    for name in SUITES.iter().map(|prose| prose.suite).chain(["redis"]) {
        run(&[name.to_owned(), "--quick".to_owned()])?;
    }
    Ok(())
}

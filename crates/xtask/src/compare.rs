//! `cargo xtask compare`: ours beside the peers, measured in turns.

mod limit;
mod redis;

/// Runs the comparison that `args` name, those after `compare`.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    match args.first().map(String::as_str) {
        Some("limit") => limit::run(args),
        Some("redis") => redis::run(&args[1..]),
        _ => Err("usage: cargo xtask compare limit|redis [--json FILE] [--quick]".into()),
    }
}

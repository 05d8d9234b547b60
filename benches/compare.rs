//! Ours against a peer, in turns.
//!
//! `cargo bench -p stanchion-benches --bench compare -- SUITE [--json FILE] [--facts FILE] [--quick]`
//!
//! For each case the two run in many short rounds, each round both, and each
//! round in the other order; what slows the machine for a while slows both. The
//! figures are the medians of the rounds, and their ratio. `cargo xtask compare
//! SUITE` makes the report of them.

#[path = "compare/alloc.rs"]
mod alloc;
#[path = "compare/options.rs"]
mod options;
#[path = "compare/output.rs"]
mod output;
#[path = "compare/pair.rs"]
mod pair;

use std::process::ExitCode;

use options::Options;
use output::{Figures, Weights};
use pair::Rounds;
use stanchion_benches::{Case, Contestant, Store, Suite};

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting::new();

fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)) {
        // `cargo bench` without arguments comes here; it has no figures to give.
        Ok(None) => println!("{}", options::USAGE),
        Ok(Some(options)) => {
            if let Err(error) = compare(&options) {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        }
        Err(error) => {
            eprintln!("{error}\n{}", options::USAGE);
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn compare(options: &Options) -> std::io::Result<()> {
    let rounds = if options.quick { Rounds::QUICK } else { Rounds::FULL };
    let mut all = Vec::new();
    println!("{}", output::HEADING);
    for (name, ours, peer) in pairs(options.suite) {
        let (ours_ns, peer_ns) = pair::measure(rounds, &mut (ours.start)(), &mut (peer.start)());
        let figures = Figures { case: name, ours_ns, peer: peer.name, peer_ns };
        println!("{figures}");
        all.push(figures);
    }
    println!();
    let weights: Vec<Weights> = options.suite.stores.iter().map(weigh).collect();
    for each in &weights {
        println!("{each}");
    }
    if let Some(file) = &options.json {
        std::fs::write(file, output::json(&all))?;
    }
    if let Some(file) = &options.facts {
        std::fs::write(file, output::facts(rounds, &weights))?;
    }
    Ok(())
}

/// First each case against its peer, then against the others.
fn pairs(suite: &'static Suite) -> impl Iterator<Item = (String, &'static Contestant, &'static Contestant)> {
    let others = |case: &'static Case| {
        let row = move |peer: &'static Contestant| (format!("{}/{}", case.name, peer.name), &case.ours, peer);
        case.others.iter().map(row)
    };
    let firsts = suite.cases.iter().map(|case| (case.name.to_owned(), &case.ours, &case.peer));
    firsts.chain(suite.cases.iter().flat_map(others))
}

fn weigh(store: &Store) -> Weights {
    // First, so that the keys themselves aren't counted as anybody's.
    let keys = (store.keys)();
    let per_key = |make: fn() -> Box<dyn std::any::Any>| {
        let before = ALLOCATOR.bytes();
        let made = make();
        let bytes = ALLOCATOR.bytes() - before;
        drop(made);
        bytes as f64 / keys as f64
    };
    Weights {
        case: store.name,
        keys,
        ours_bytes: per_key(store.ours),
        peer: store.peer,
        peer_bytes: per_key(store.peers),
    }
}

//! Ours against a peer, in turns.
//!
//! `cargo bench -p stanchion-benches --bench compare -- SUITE [--json FILE] [--facts FILE] [--count N] [--quick]`
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

use std::hint::black_box;
use std::process::ExitCode;

use options::Options;
use output::{Figures, Tails, Weights};
use pair::Rounds;
use stanchion_benches::{Case, Contestant, Run, Store, Suite, Tail};

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting::new();

fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)) {
        // `cargo bench` without arguments comes here; it has no figures to give.
        Ok(None) => println!("{}", options::usage()),
        Ok(Some(options)) => {
            if let Some(count) = options.count {
                count_all(options.suite, count);
            } else if let Err(error) = compare(&options) {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        }
        Err(error) => {
            eprintln!("{error}\n{}", options::usage());
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
        let (mut ours_run, mut peer_run) = ((ours.start)(), (peer.start)());
        let (ours_ns, peer_ns) = pair::measure(rounds, &mut ours_run, &mut peer_run);
        let figures = Figures {
            case: name,
            ours_ns,
            peer: peer.name,
            peer_ns,
            ours_allocations: allocations(&mut ours_run),
            peer_allocations: allocations(&mut peer_run),
        };
        println!("{figures}");
        all.push(figures);
    }
    println!();
    let tails: Vec<Tails> = options.suite.tails.iter().flat_map(|tail| sample(rounds, tail)).collect();
    for each in &tails {
        println!("{each}");
    }
    let weights: Vec<Weights> = options.suite.stores.iter().map(weigh).collect();
    for each in &weights {
        println!("{each}");
    }
    if let Some(file) = &options.json {
        std::fs::write(file, output::json(&all))?;
    }
    if let Some(file) = &options.facts {
        std::fs::write(file, output::facts(rounds, &tails, &weights))?;
    }
    Ok(())
}

/// Blocks that an operation asks of the allocator, after it has warmed up.
fn allocations(run: &mut Run) -> f64 {
    const OPERATIONS: u16 = 1_000;
    let (_, counted) = ALLOCATOR.during(|| run(OPERATIONS.into()));
    counted.blocks as f64 / f64::from(OPERATIONS)
}

/// Each pair's loops, ours first, in the order of the figures. A profiler can tell
/// one from the other by the calls of [`counted`].
fn count_all(suite: &'static Suite, count: u64) {
    for contestant in pairs(suite).flat_map(|(_, ours, peer)| [ours, peer]) {
        let mut run = (contestant.start)();
        // What is done once, lazily, is nobody's.
        run(count / 10 + 1);
        counted(&mut run, count);
    }
}

/// What a profiler looks out for, by this name.
#[inline(never)]
fn counted(run: &mut Run, count: u64) {
    // Used after, so that the call isn't the last thing, which would be a jump.
    black_box(run(count));
}

/// First each case against its peer, then against the others.
fn pairs(suite: &'static Suite) -> impl Iterator<Item = (String, &'static Contestant, &'static Contestant)> {
    let others = |case: &'static Case| {
        let row = move |peer: &'static Contestant| (format!("{}/{}", case.name, peer.name), &case.ours, peer);
        case.others.iter().map(row)
    };
    let first = |case: &'static Case| (case.name.to_owned(), &case.ours, &case.peer);
    suite.cases.iter().map(first).chain(suite.cases.iter().flat_map(others))
}

/// Ours beside each peer, who take turns as in the other cases.
fn sample(rounds: Rounds, tail: &'static Tail) -> impl Iterator<Item = Tails> {
    tail.peers.iter().map(move |peer| {
        let [ours, theirs] = pair::sample(rounds, [(tail.ours)(), (peer.start)()]);
        Tails { case: tail.name, ours, peer: peer.name, theirs }
    })
}

fn weigh(store: &Store) -> Weights {
    // First, so that the keys themselves aren't counted as anybody's.
    let keys = (store.keys)();
    let per_key = |make: fn() -> Box<dyn std::any::Any>| {
        let (_made, counted) = ALLOCATOR.during(make);
        counted.bytes as f64 / keys as f64
    };
    Weights {
        case: store.name,
        keys,
        ours_bytes: per_key(store.ours),
        peer: store.peer,
        peer_bytes: per_key(store.peers),
    }
}

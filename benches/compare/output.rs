//! The figures, for a reader and for a program.

use std::fmt;

use serde_json::json;

use crate::pair::Rounds;

pub(crate) const HEADING: &str =
    "case                                        ours        peer  peer's name          ratio";

/// What a case took.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) case: String,
    pub(crate) ours_ns: f64,
    pub(crate) peer: &'static str,
    pub(crate) peer_ns: f64,
    pub(crate) ours_allocations: f64,
    pub(crate) peer_allocations: f64,
}

impl Figures {
    fn ratio(&self) -> f64 {
        self.ours_ns / self.peer_ns
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<38} {:>6.1} ns   {:>6.1} ns  {:<19} {:>6.3}",
            self.case,
            self.ours_ns,
            self.peer_ns,
            self.peer,
            self.ratio()
        )
    }
}

/// What the middle operation of a case took, and the slowest ones.
#[derive(Debug)]
pub(crate) struct Tails {
    pub(crate) case: &'static str,
    /// In nanoseconds, p50, p99 and p99.9.
    pub(crate) ours: [f64; 3],
    pub(crate) peer: &'static str,
    pub(crate) theirs: [f64; 3],
}

impl fmt::Display for Tails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranks = ["p50", "p99", "p99.9"].into_iter().zip(self.ours).zip(self.theirs);
        for (place, ((rank, ours), theirs)) in ranks.enumerate() {
            let case = format!("{}, {rank}", self.case);
            let end = if place < 2 { "\n" } else { "" };
            let ratio = ours / theirs;
            write!(f, "{case:<38} {ours:>6.0} ns   {theirs:>6.0} ns  {:<19} {ratio:>6.3}{end}", self.peer)?;
        }
        Ok(())
    }
}

/// What a store with keys in it takes of memory, for each key.
#[derive(Debug)]
pub(crate) struct Weights {
    pub(crate) case: &'static str,
    pub(crate) keys: usize,
    pub(crate) ours_bytes: f64,
    pub(crate) peer: &'static str,
    pub(crate) peer_bytes: f64,
}

impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<38} {:>6.1} B    {:>6.1} B   {:<19} {:>6.3}  per key, of {} keys",
            self.case,
            self.ours_bytes,
            self.peer_bytes,
            self.peer,
            self.ours_bytes / self.peer_bytes,
            self.keys
        )
    }
}

/// The figures as a list of objects.
pub(crate) fn json(figures: &[Figures]) -> String {
    let row = |each: &Figures| {
        json!({
            "case": each.case,
            "ours_ns": each.ours_ns,
            "peer": each.peer,
            "peer_ns": each.peer_ns,
            "ratio": each.ratio(),
            "ours_allocations": each.ours_allocations,
            "peer_allocations": each.peer_allocations,
        })
    };
    format!("{:#}\n", figures.iter().map(row).collect::<serde_json::Value>())
}

/// What else a report says: how it was measured, the slowest operations, and the memory.
pub(crate) fn facts(rounds: Rounds, tails: &[Tails], weights: &[Weights]) -> String {
    let tail = |each: &Tails| json!({ "case": each.case, "ours": each.ours, "peer": each.peer, "theirs": each.theirs });
    let row = |each: &Weights| {
        json!({
            "case": each.case,
            "keys": each.keys,
            "ours_bytes": each.ours_bytes,
            "peer": each.peer,
            "peer_bytes": each.peer_bytes,
        })
    };
    let facts = json!({
        "rounds": rounds.count,
        "round_ms": rounds.length.as_millis(),
        "tails": tails.iter().map(tail).collect::<serde_json::Value>(),
        "memory": weights.iter().map(row).collect::<serde_json::Value>(),
    });
    format!("{facts:#}\n")
}

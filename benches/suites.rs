//! The suites: what is compared, and who takes part.

mod breaker;
mod limit;

use std::any::Any;

use crate::Run;

/// What `cargo xtask compare` compares at a time. A new one is a file beside
/// `limit.rs` with a `SUITE`, a place in [`SUITES`], and its prose in
/// `crates/xtask/src/compare/`.
#[derive(Debug)]
pub struct Suite {
    /// The name, by which it is asked for.
    pub name: &'static str,
    /// The cases.
    pub cases: &'static [Case],
    /// What is weighed.
    pub stores: &'static [Store],
}

/// All suites.
pub static SUITES: [&Suite; 2] = [&limit::SUITE, &breaker::SUITE];

/// A case of the comparison: something that each contestant does.
#[derive(Debug)]
pub struct Case {
    /// The name under which figures of different days are compared.
    pub name: &'static str,
    /// Ours.
    pub ours: Contestant,
    /// The peer that the case is about.
    pub peer: Contestant,
    /// Other peers.
    pub others: &'static [Contestant],
}

/// Who does it.
#[derive(Debug)]
pub struct Contestant {
    /// The crate's name.
    pub name: &'static str,
    /// Makes a new subject, and a loop of what the case is about.
    pub start: fn() -> Run,
}

/// A keyed store of ours and one of a peer, to be weighed.
#[derive(Debug)]
pub struct Store {
    /// What is weighed.
    pub name: &'static str,
    /// How many keys are in it.
    pub keys: fn() -> usize,
    /// Makes ours, with all keys in it.
    pub ours: fn() -> Box<dyn Any>,
    /// The peer's name.
    pub peer: &'static str,
    /// Makes the peer's, with all keys in it.
    pub peers: fn() -> Box<dyn Any>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each subject asserts by itself that it does what the case says.
    #[test]
    fn every_contestant_runs() {
        for case in SUITES.iter().flat_map(|suite| suite.cases) {
            for contestant in [&case.ours, &case.peer].into_iter().chain(case.others) {
                let mut run = (contestant.start)();
                assert!(!run(1_000).is_zero(), "{} of {}", contestant.name, case.name);
            }
        }
    }
}

//! The suites of cases, and who takes part in each.

mod breaker;
pub mod cache;
mod limit;
mod retry;
pub mod workload;

use std::any::Any;

use crate::{Run, Samples};

/// All suites, each with a page of prose in `crates/xtask/src/compare`.
pub static SUITES: [&Suite; 4] = [&limit::SUITE, &breaker::SUITE, &retry::SUITE, &cache::SUITE];

/// The suite of this name.
pub fn suite(name: &str) -> Option<&'static Suite> {
    SUITES.into_iter().find(|suite| suite.name == name)
}

/// What is compared in one go and told in one report.
#[derive(Debug)]
pub struct Suite {
    /// What it is asked for by.
    pub name: &'static str,
    /// What is timed.
    pub cases: &'static [Case],
    /// What is timed one by one, for those that take longest.
    pub tails: &'static [Tail],
    /// What is weighed.
    pub stores: &'static [Store],
}

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

impl Case {
    /// All who take part.
    pub fn contestants(&self) -> impl Iterator<Item = &Contestant> {
        [&self.ours, &self.peer].into_iter().chain(self.others)
    }
}

/// Who does it.
#[derive(Debug)]
pub struct Contestant {
    /// The crate's name.
    pub name: &'static str,
    /// Makes something new, and a loop of operations on it.
    pub start: fn() -> Run,
}

/// A case in which each operation is timed by itself.
#[derive(Debug)]
pub struct Tail {
    /// The name under which figures of different days are compared.
    pub name: &'static str,
    /// Makes something new of ours, and what samples it.
    pub ours: fn() -> Samples,
    /// Those beside whom it stands.
    pub peers: &'static [Sampled],
}

/// Who else does it.
#[derive(Debug)]
pub struct Sampled {
    /// The crate's name.
    pub name: &'static str,
    /// Makes something new, and what samples it.
    pub start: fn() -> Samples,
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
            for contestant in case.contestants() {
                let mut run = (contestant.start)();
                assert!(!run(1_000).is_zero(), "{} of {}", contestant.name, case.name);
            }
        }
    }

    #[test]
    fn every_operation_of_a_tail_is_timed() {
        for tail in SUITES.iter().flat_map(|suite| suite.tails) {
            for start in tail.peers.iter().map(|peer| peer.start).chain([tail.ours]) {
                let mut times = [0; 1_000];
                start()(&mut times);
                assert!(times.iter().all(|&time| time > 0), "{}", tail.name);
            }
        }
    }

    #[test]
    fn a_suite_is_found_by_its_name() {
        for known in &SUITES {
            assert!(suite(known.name).is_some_and(|found| std::ptr::eq(found, *known)));
        }
        assert!(suite("nothing").is_none());
    }
}

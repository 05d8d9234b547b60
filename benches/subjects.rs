//! The cases, and who takes part in each.

mod floor;
mod governor;
mod leaky_bucket;
mod ratelimit;
mod stanchion;

use std::any::Any;

use crate::Run;

/// A quota per key and second that is never used up.
const GENEROUS: u32 = 100_000_000;
/// One that the most frequent keys use up.
const SCARCE: u32 = 1_000;

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
    /// Makes a new limiter, and a loop of checks of it.
    pub start: fn() -> Run,
}

/// The cases of the rate limiters.
///
/// Direct and allowed: 10^9 a second, as many at once, so that no check is ever
/// refused. Refused: 1 an hour, which has been taken. Keyed: 10^8 a second and
/// 1,000 at once for each of 100,000 keys that were all seen before, so that none
/// is refused; mixed: 1,000 a second, so that about half of the checks are.
pub static LIMIT: [Case; 7] = [
    Case {
        name: "limit/direct-allow",
        ours: stanchion(stanchion::direct_allow),
        peer: governor(governor::direct_allow),
        others: &[leaky_bucket(leaky_bucket::direct_allow), ratelimit(ratelimit::direct_allow)],
    },
    Case {
        name: "limit/direct-refuse",
        ours: stanchion(stanchion::direct_refuse),
        peer: governor(governor::direct_refuse),
        others: &[leaky_bucket(leaky_bucket::direct_refuse), ratelimit(ratelimit::direct_refuse)],
    },
    Case {
        name: "limit/two-threads",
        ours: stanchion(stanchion::two_threads),
        peer: governor(governor::two_threads),
        others: &[leaky_bucket(leaky_bucket::two_threads), ratelimit(ratelimit::two_threads)],
    },
    Case {
        name: "limit/keyed-u64",
        ours: stanchion(stanchion::keyed_u64),
        peer: governor(governor::keyed_u64),
        others: &[Contestant { name: "governor-foldhash", start: governor::keyed_u64_foldhash }],
    },
    Case {
        name: "limit/keyed-string",
        ours: stanchion(stanchion::keyed_string),
        peer: governor(governor::keyed_string),
        others: &[Contestant { name: "governor-foldhash", start: governor::keyed_string_foldhash }],
    },
    Case {
        name: "limit/keyed-u64-mixed",
        ours: stanchion(stanchion::keyed_u64_mixed),
        peer: governor(governor::keyed_u64_mixed),
        others: &[],
    },
    Case {
        name: "limit/floor",
        ours: stanchion(stanchion::direct_allow),
        peer: Contestant { name: "clock+cas", start: floor::clock_and_swap },
        others: &[],
    },
];

const fn stanchion(start: fn() -> Run) -> Contestant {
    Contestant { name: "stanchion", start }
}

const fn governor(start: fn() -> Run) -> Contestant {
    Contestant { name: "governor", start }
}

const fn leaky_bucket(start: fn() -> Run) -> Contestant {
    Contestant { name: "leaky-bucket", start }
}

const fn ratelimit(start: fn() -> Run) -> Contestant {
    Contestant { name: "ratelimit", start }
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

/// The stores of the keyed rate limiters.
pub static STORES: [Store; 2] = [
    Store {
        name: "limit/keyed-u64",
        keys: || crate::workload::numbers().keys.len(),
        ours: || Box::new(stanchion::filled_u64(GENEROUS)),
        peer: "governor",
        peers: || Box::new(governor::filled_u64(GENEROUS)),
    },
    Store {
        name: "limit/keyed-string",
        keys: || crate::workload::strings().keys.len(),
        ours: || Box::new(stanchion::filled_string()),
        peer: "governor",
        peers: || Box::new(governor::filled_string()),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Each subject asserts by itself that its limiter does what the case says.
    #[test]
    fn every_contestant_runs() {
        for case in &LIMIT {
            for contestant in [&case.ours, &case.peer].into_iter().chain(case.others) {
                let mut run = (contestant.start)();
                assert!(!run(1_000).is_zero(), "{} of {}", contestant.name, case.name);
            }
        }
    }
}

//! The rate limiters.

mod algorithms;
mod floor;
mod governor;
mod leaky_bucket;
mod ratelimit;
mod stanchion;

use super::{Case, Contestant, Store, Suite, workload};
use crate::Run;

pub(super) static SUITE: Suite = Suite { name: "limit", cases: &CASES, tails: &[], stores: &STORES };

/// A quota per key and second that is never used up.
const GENEROUS: u32 = 100_000_000;
/// One that the most frequent keys use up.
const SCARCE: u32 = 1_000;

/// Direct and allowed: 10^9 a second, as many at once or 1,000, so that no check is
/// ever refused. Refused: 1 an hour, which has been taken. Keyed: 10^8 a second and
/// 1,000 at once for each of 100,000 keys that were all seen before, so that none
/// is refused; mixed: 1,000 a second, so that about half of the checks are.
static CASES: [Case; 13] = [
    Case {
        name: "limit/direct-allow",
        ours: stanchion(stanchion::direct_allow),
        peer: governor(governor::direct_allow),
        others: &[leaky_bucket(leaky_bucket::direct_allow), ratelimit(ratelimit::direct_allow)],
    },
    Case {
        name: "limit/direct-small-burst",
        ours: stanchion(stanchion::direct_small_burst),
        peer: governor(governor::direct_small_burst),
        others: &[],
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
        ours: stanchion(stanchion::direct_small_burst),
        peer: Contestant { name: "clock+cas", start: floor::clock_and_swap },
        others: &[],
    },
    Case {
        name: "limit/acquire",
        ours: stanchion(algorithms::acquire),
        peer: leaky_bucket(algorithms::leaky_bucket_acquire),
        others: &[],
    },
    Case {
        name: "limit/sliding-log",
        ours: stanchion(algorithms::log),
        peer: tower_resilience(algorithms::peers_log),
        others: &[],
    },
    Case {
        name: "limit/sliding-counter",
        ours: stanchion(algorithms::counter),
        peer: tower_resilience(algorithms::peers_counter),
        others: &[],
    },
    Case {
        name: "limit/fixed-window",
        ours: stanchion(algorithms::window),
        peer: tower_resilience(algorithms::peers_window),
        others: &[],
    },
    Case {
        name: "limit/three-quotas",
        ours: stanchion(algorithms::three_quotas),
        peer: Contestant { name: "governor three times", start: algorithms::governor_three_times },
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

const fn tower_resilience(start: fn() -> Run) -> Contestant {
    Contestant { name: "tower-resilience-ratelimiter", start }
}

const fn ratelimit(start: fn() -> Run) -> Contestant {
    Contestant { name: "ratelimit", start }
}

static STORES: [Store; 2] = [
    Store {
        name: "limit/keyed-u64",
        keys: || workload::numbers().keys.len(),
        ours: || Box::new(stanchion::filled_u64(GENEROUS)),
        peer: "governor",
        peers: || Box::new(governor::filled_u64(GENEROUS)),
    },
    Store {
        name: "limit/keyed-string",
        keys: || workload::strings().keys.len(),
        ours: || Box::new(stanchion::filled_string()),
        peer: "governor",
        peers: || Box::new(governor::filled_string()),
    },
];

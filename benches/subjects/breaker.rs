//! The circuit breakers.

mod failsafe;
mod recloser;
mod stanchion;
mod tower;

use super::{Case, Contestant, Suite};
use crate::Run;

/// The suite `breaker`.
pub(super) static SUITE: Suite = Suite { name: "breaker", cases: &CASES, tails: &[], stores: &[] };

/// The cases of the circuit breakers: half of the calls of a window open them.
///
/// Closed: every call succeeds, after a window full of successes. Open: every call
/// is refused. Tower: a layer over a service that answers at once.
static CASES: [Case; 6] = [
    Case {
        name: "breaker/closed-count",
        ours: ours(stanchion::closed_count),
        peer: Contestant { name: "recloser", start: recloser::closed },
        others: &[failsafe(failsafe::closed_default)],
    },
    Case {
        name: "breaker/closed-time",
        ours: ours(stanchion::closed_time),
        peer: failsafe(failsafe::closed_time),
        others: &[],
    },
    Case {
        name: "breaker/two-threads",
        ours: ours(stanchion::two_threads),
        peer: Contestant { name: "recloser", start: recloser::two_threads },
        others: &[failsafe(failsafe::two_threads)],
    },
    Case {
        name: "breaker/open",
        ours: ours(stanchion::open),
        peer: Contestant { name: "recloser", start: recloser::open },
        others: &[failsafe(failsafe::open)],
    },
    Case {
        name: "breaker/tower",
        ours: ours(tower::ours),
        peer: Contestant { name: "tower-resilience-circuitbreaker", start: tower::tower_resilience },
        others: &[],
    },
    Case {
        name: "breaker/window-of-a-million",
        ours: ours(stanchion::closed_million),
        peer: Contestant { name: "window of 100", start: stanchion::closed_mixed },
        others: &[],
    },
];

const fn ours(start: fn() -> Run) -> Contestant {
    Contestant { name: "stanchion", start }
}

const fn failsafe(start: fn() -> Run) -> Contestant {
    Contestant { name: "failsafe", start }
}

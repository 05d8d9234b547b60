//! Retry alone, and all policies of a call at once.

mod backon;
mod stanchion;
mod tower_resilience;

use std::hint::black_box;
use std::io;
use std::time::Duration;

use super::{Case, Contestant, Suite};

pub(super) static SUITE: Suite = Suite { name: "retry", cases: &CASES, tails: &[], stores: &[] };

static CASES: [Case; 3] = [
    Case {
        name: "retry/happy",
        ours: Contestant { name: "stanchion", start: stanchion::retry_happy },
        peer: Contestant { name: "backon", start: backon::happy },
        others: &[Contestant { name: "tower-resilience", start: tower_resilience::retry_happy }],
    },
    Case {
        name: "retry/three-attempts",
        ours: Contestant { name: "stanchion", start: stanchion::three_attempts },
        peer: Contestant { name: "backon", start: backon::three_attempts },
        others: &[],
    },
    Case {
        name: "pipeline/happy",
        ours: Contestant { name: "stanchion", start: stanchion::pipeline_happy },
        peer: Contestant { name: "tower-resilience", start: tower_resilience::pipeline_happy },
        others: &[],
    },
];

/// What both sides of `pipeline/happy` are told.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(10);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPTS: u32 = 3;
const FIRST_DELAY: Duration = Duration::from_millis(100);
const PER_SECOND: u32 = 1_000_000_000;
const AT_ONCE: u32 = 64;

/// The least that a call can do.
async fn succeed() -> io::Result<u64> {
    Ok(black_box(7))
}

/// Fails twice.
async fn succeed_at_third(attempt: u32) -> io::Result<u64> {
    if black_box(attempt) < 3 { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(black_box(7)) }
}

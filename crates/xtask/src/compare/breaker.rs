//! What the report on the circuit breakers says.

use super::suite::Prose;

pub(super) const PROSE: Prose = Prose {
    suite: "breaker",
    title: "What a call through a circuit breaker costs",
    what: "call",
    cases: "\
The operation is a closure that returns a number at once; a failure rate of a half trips. The figures include it.

- **closed-count**: closed, a window of the last 100 calls, full of successes. failsafe has no such window; it
  has its default policy there, a success rate over 30 s or five consecutive failures. In the cases below it counts
  consecutive failures, the cheapest that it has.
- **closed-time**: closed, a window of 30 s. Both sides read a clock: ours the timestamp counter, failsafe std's.
- **two-threads**: as closed-count, by two threads at once; the time is that of one call on one of them. Each round
  has a new breaker, since what two cores pay for a cache line depends on its address.
- **open**: open for an hour; every call is refused.
- **tower**: a layer over a service that answers a number at once; its future is polled here, without a runtime. With
  tower-resilience's defaults but for the same window.
- **window-of-a-million**: ours with a window of 10⁶ calls beside ours with one of 100, both full; every eighth call
  fails.",
    memory: "",
};

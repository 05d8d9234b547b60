//! A circuit breaker that says what it promises.
//!
//! 1. It opens on the first failure at which a rule holds over its window, whatever
//!    came before the window; its windows are tested against naive ones over
//!    histories far longer than they are.
//! 2. Half-open, it lets **at most [`probes`](BreakerConfig::probes) calls at a
//!    time** pass, and comes to a verdict however far apart they are.
//! 3. What was admitted in an earlier generation changes nothing, however late it
//!    ends.
//! 4. A dropped call is seen, and its slot is free at once.
//!
//! ```
//! use stanchion_breaker::{Breaker, Outcome, State};
//!
//! let payments = Breaker::new("payments");
//! for _ in 0..20 {
//!     payments.try_acquire()?.settle(Outcome::Transient);
//! }
//! assert_eq!(payments.state(), State::Open);
//! let refusal = payments.try_acquire().unwrap_err();
//! assert!(refusal.come_back_after() <= Some(std::time::Duration::from_secs(5)));
//! # Ok::<(), stanchion_breaker::Rejection>(())
//! ```
//! Or around a call: [`run`](Breaker::run) for a future, [`call`](Breaker::call) for
//! a closure that blocks.
//!
//! # The states
//! | in | when | it becomes | because of |
//! |---|---|---|---|
//! | closed | a failure or slow call makes a rule true | open | the rule |
//! | closed | the fleet opens | open | `fleet` |
//! | open | a call arrives after the open time | half-open; the call is a probe | `rest_over` |
//! | half-open | failed, hung and dropped probes reach `probe_failure_rate · probes` | open, for longer | `probes_failed` |
//! | half-open | so many probes succeed that the others can't open it | closed, with an empty window | `probes_succeeded` |
//! | half-open | the fleet opens | open, for longer | `fleet` |
//! | shadow | a failure or slow call makes a rule true | shadow, with an empty window | the rule |
//! | any | [`force`](Breaker::force), [`reset`](Breaker::reset) | what was said | `command` |
//! | any | [`reconfigure`](Breaker::reconfigure) | the same, with an empty window | `reconfigured` |
//!
//! Forced open, disabled and shadow are left by command only. Each row begins a new
//! generation. A rule is only ever made true by a call that it is about: a success
//! never trips a failure rate. Hung and dropped probes count against the other side
//! and yet leave their slots to others, so that no probe can wedge a breaker.
//!
//! # What counts as what
//! | outcome | closed | half-open |
//! |---|---|---|
//! | `Success` | a success, and slow after `slow_after` | a success; a slow one is a failure where slowness trips |
//! | `Transient`, `TimedOut`, `Throttled` | a failure | a failure |
//! | `Abandoned` | as [`Abandoned`] says: by default a failure | likewise; its slot is free |
//! | `Permanent` | as [`Permanent`] says: by default nothing | likewise; its slot is free |
//! | `Ignored` | nothing, which is not a success | nothing; its slot is free |
//!
//! # What it costs
//! A closed breaker with a count window: one compare-and-swap for a success, no lock
//! and no clock. A [`Breaker`] takes about a KiB, and two bits for each call of its
//! window and rate; a key of a [`KeyedBreaker`] some 220 bytes with the default window.
//!
//! # Features
//! | feature | what it adds |
//! |---|---|
//! | `fast-clock` (default) | reads the CPU's timestamp counter where the system vouches for it |
//! | `serde` | [`BreakerConfig`] as configuration, snapshots as data |
//! | `tracing` | an event for each transition: INFO when calls may pass again, else WARN |
//! | `watch` | `subscribe`: the state as a `tokio::sync::watch` channel |
//! | `fleet` | `share`: trips shared by all instances of a service |
//! | `test-util` | breakers follow tokio's clock, paused or not |
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::panic, clippy::unwrap_used)]

mod breaker;
mod builder;
mod config;
#[cfg(feature = "fleet")]
mod fleet;
mod keyed;
mod machine;
mod memory;
mod notices;
mod outlier;
mod permit;
mod plan;
mod sync;
mod tally;
mod tape;
mod trace;

pub use breaker::{Breaker, BreakerSnapshot};
pub use builder::BreakerBuilder;
pub use config::{Abandoned, BreakerConfig, Permanent, Window};
#[cfg(feature = "fleet")]
pub use fleet::Sharing;
pub use keyed::{KeyedBreaker, KeyedBreakerBuilder, KeyedSnapshot};
pub use machine::{Cause, Change, State};
pub use memory::MemoryTripStore;
#[cfg(feature = "watch")]
pub use notices::Status;
pub use outlier::{OutlierConfig, Outliers};
pub use permit::BreakerPermit;

pub use stanchion_core::{
    CallError, Classifier, Classify, Clock, ConfigError, Gate, ManualClock, Moment, Outcome, Permit, Random, Rejection,
    RejectionKind,
};

/// The pure machine, for those who run it themselves or test an executor against it.
pub mod pure {
    pub use crate::machine::{Event, Machine, Reply};
    pub use crate::plan::{Plan, Verdict};
    pub use crate::tally::{Counts, Tally};
}

#[cfg(all(test, stanchion_loom))]
mod loom_tests;

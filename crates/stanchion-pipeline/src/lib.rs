//! All policies of a call as one plain value: retry, timeouts, hedge, fallback, and
//! the gates that may refuse: circuit breaker, rate limit, bulkhead.
//!
//! ```
//! # async fn charge(_: Option<std::time::Duration>) -> std::io::Result<&'static str> { Ok("receipt") }
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use stanchion_breaker::Breaker;
//! use stanchion_limit::{Bulkhead, Limiter};
//! use stanchion_pipeline::{Pipeline, Retry};
//!
//! let payments = Pipeline::named("payments")
//!     .total_timeout(Duration::from_secs(10))
//!     .retry(Retry::exponential().max_attempts(4))
//!     .breaker(Breaker::new("payments"))
//!     .rate_limit(Limiter::per_second(50).burst(10))
//!     .bulkhead(Bulkhead::new(64))
//!     .attempt_timeout(Duration::from_secs(2))
//!     .build()?;
//! let receipt = payments.run(|attempt| charge(attempt.remaining())).await?;
//! # assert_eq!(receipt, "receipt");
//! # Ok(()) }
//! ```
//!
//! # The order
//! It is fixed, whatever the order in which policies are added:
//!
//! ```text
//!  run ─▶ fallback ─▶ total timeout ─▶ call gates ─▶ hedge ─▶ retry ─▶ attempt gates ─▶ attempt timeout ─▶ operation
//!                                      │ others                        │ breaker
//!                                      │ bulkhead                      │ rate limit
//!                                                                      │ others
//! ```
//!
//! - The **fallback** is outside of everything: it answers for whatever failed inside.
//! - The **total timeout** is over all attempts and waits. A wait that cannot end before it isn't begun.
//! - **Gates of the call** are asked once. A call between two attempts holds its place in the bulkhead.
//! - **Gates of the attempt** are asked before each: the breaker first, so that an open one costs no token of the
//!   rate limit. A refusal ends the call: no attempts are spent on it, unless the retry is
//!   [told to](stanchion_retry::Retry::retry_rejections).
//! - The **operation** is told which attempt it is, how the last one ended, and what time remains.
//!
//! Who needs another order nests two pipelines, or uses tower.
//!
//! # What the policies know
//! Each attempt is classified once, and every policy reads the same [`Outcome`]. Each gate that let the
//! call in is told how it ended, exactly once, also when the future is dropped or the operation panics. A try that
//! loses against another of a hedge is `Ignored`; what is dropped from outside is `Abandoned`.
//!
//! # What is promised
//! - **Without amplification by default**: at most a tenth more requests than calls, and one a second, unless
//!   another [`Budget`] is given. A thousand clients with ten calls a second each ask an upstream that has lost four
//!   fifths of its capacity 1.2 times as often as before; a plain loop of four attempts, 3.9 times
//!   (`tests/storm.rs`).
//! - **A call that succeeds allocates nothing**, with up to four gates of the call and four of the attempt.
//! - **Dropped at any await, everything is given back**: permits, places in line, grants.
//!
//! # Configuration
//! [`PipelineConfig`] is a pipeline as data (feature `serde`); [`Pipeline::reload`] changes it while calls go on;
//! [`Registry`] keeps pipelines by name, and by key with bounded memory; [`Pipeline::snapshot`] says how it
//! stands; [`Mode::Shadow`] asks everybody and lets everything through.
//!
//! With the feature `batch`, `Batch` runs many items through a pipeline; with `chaos`, `chaos::Chaos` orders
//! faults for tests.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::panic, clippy::unwrap_used)]

#[cfg(feature = "batch")]
mod batch;
mod builder;
mod call;
#[cfg(feature = "chaos")]
pub mod chaos;
mod config;
mod drive;
mod gates;
mod pipeline;
mod presets;
mod registry;
mod settings;
mod snapshot;
mod stats;
mod trace;

#[cfg(feature = "batch")]
pub use batch::{Batch, BatchProgress, BatchReport, FailedItem};
pub use builder::PipelineBuilder;
pub use call::PipelineCall;
pub use config::{Mode, PipelineConfig};
pub use pipeline::Pipeline;
pub use registry::Registry;
pub use snapshot::{LatencySnapshot, OutcomeCounts, PipelineSnapshot};
pub use stanchion_breaker::BreakerConfig;
pub use stanchion_core::{
    Attempt, ByError, Call, CallError, Classifier, Classify, Clock, ConfigError, Gate, IntoGate, Moment, Outcome,
    Priority, Rejection, RejectionKind, Scope,
};
pub use stanchion_limit::{BulkheadConfig, Quota};
pub use stanchion_retry::{BackoffConfig, Budget, BudgetConfig, Hedge, HedgeConfig, RatioBudget, Retry, RetryConfig};

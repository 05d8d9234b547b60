//! Retry, hedge, timeout and fallback for calls to others, without making the
//! others' trouble worse.
//!
//! ```
//! # async fn fetch() -> std::io::Result<&'static str> { Ok("body") }
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use stanchion_retry as retry;
//!
//! let body = retry::exponential().run(|_| fetch()).await?;
//! # assert_eq!(body, "body");
//! # Ok(()) }
//! ```
//!
//! | to say | the word |
//! |---|---|
//! | when to try again | [`Retry`], a plain value; [`Retry::run`], [`Retry::run_blocking`] |
//! | how long to wait before | [`Backoff`] with [`Jitter`] |
//! | how many retries all calls together may make | [`Budget`] |
//! | how an attempt ended | [`Classify`] for errors of one's own; [`Retry::when`] and [`Retry::classify`] for others' |
//! | ask again beside a call that is late | `Hedge` |
//! | stop waiting | `timeout` |
//! | something else instead | `fallback` |
//! | all of it as one value, with a breaker and limits | the crate `stanchion-pipeline` |
//!
//! # What is promised
//! - **No delay is longer than its cap, jitter included**, for any configuration.
//! - **Each run draws its jitter by itself**: clients that failed together don't come back
//!   together.
//! - **No wait is begun that cannot end in time**: not within
//!   [`max_elapsed`](Retry::max_elapsed), which counts attempts and delays alike, nor before the deadline.
//! - **A budget grants the share that it says**, to a millionth, and costs the same after a month of idleness.
//! - **A call that succeeds allocates nothing**; a retry nothing of ours.
//! - **Dropping a future is always fine**: what a budget granted for a retry that was never begun is
//!   given back.
//! - No configuration panics. One that makes no sense is an error that names the field:
//!   [`Retry::validated`].
//!
//! # Errors
//! Whatever the stack, a call fails with a [`CallError`]: the operation's own error with the number of attempts,
//! a gate's refusal, or which timeout ran out.
//!
//! # In tests
//! With the feature `test-util`, tokio's clock drives every policy: under
//! `tokio::time::pause` nothing waits for real.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::panic, clippy::unwrap_used)]

mod backoff;
mod budget;
mod config;
#[cfg(feature = "tokio")]
mod fallback;
#[cfg(feature = "tokio")]
mod hedge;
mod jitter;
mod latencies;
mod progress;
mod retry;
mod run;
#[cfg(feature = "tokio")]
mod timeout;
mod trace;

pub use backoff::{Backoff, Delays};
pub use budget::{Budget, BudgetConfig, Costs, RatioBudget, Spent, ThrottleBudget, TokensBudget};
pub use config::{BackoffConfig, Delay, Growth, HedgeConfig, RetryConfig};
#[cfg(feature = "tokio")]
pub use fallback::fallback;
#[cfg(feature = "tokio")]
pub use hedge::{Hedge, RaceVerdict, Raced};
pub use jitter::Jitter;
pub use latencies::Latencies;
pub use progress::{Next, Progress, Stop};
pub use retry::{Retry, Retrying, exponential};
pub use run::{Run, When};
pub use stanchion_core::{
    Attempt, ByError, Call, CallError, Classifier, Classify, Clock, ConfigError, ManualClock, Moment, Outcome, Random,
    Rejection, Scope,
};
#[cfg(feature = "tokio")]
#[doc(hidden)]
pub use timeout::pause;
#[cfg(feature = "tokio")]
pub use timeout::{Within, timeout, within};

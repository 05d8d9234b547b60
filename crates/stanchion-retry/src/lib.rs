//! Retry, hedge, timeout and fallback for calls to others, without making the
//! others' trouble worse.
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
pub use hedge::{Ended, Hedge};
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
pub use timeout::{Within, timeout, within};

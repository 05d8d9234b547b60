//! All policies of a call as one plain value.
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
pub use batch::{Batch, Failed, Progress, Report};
pub use builder::PipelineBuilder;
pub use call::PipelineCall;
pub use config::{Mode, PipelineConfig};
pub use pipeline::Pipeline;
pub use registry::Registry;
pub use snapshot::{LatencySnapshot, OutcomeCounts, PipelineSnapshot};
pub use stanchion_core::{
    Attempt, ByError, Call, CallError, Classifier, Classify, Clock, ConfigError, Gate, IntoGate, Moment, Outcome,
    Priority, Rejection, RejectionKind, Scope,
};
pub use stanchion_retry::{Budget, Hedge, Retry};

//! All policies of a call as one plain value.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::panic, clippy::unwrap_used)]

mod builder;
mod call;
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

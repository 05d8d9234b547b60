//! A pipeline as data.

use std::time::Duration;

use stanchion_breaker::BreakerConfig;
use stanchion_limit::{BulkheadConfig, Quotas};
use stanchion_retry::{BudgetConfig, HedgeConfig, RetryConfig};

/// A pipeline as data. What is left out is as in code, or isn't there.
///
/// ```
/// # #[cfg(feature = "serde")] {
/// use stanchion_pipeline::{Pipeline, PipelineConfig};
///
/// let config: PipelineConfig = serde_json::from_str(r#"{
///     "total_timeout": "10s",
///     "attempt_timeout": "2s",
///     "retry": { "max_attempts": 4 },
///     "budget": { "ratio": { "percent": 10.0 } },
///     "breaker": { "failure_rate": 0.5, "open_for": "5s" },
///     "rate_limit": { "count": 50, "period": "1s", "burst": 10 },
///     "bulkhead": { "permits": 64 }
/// }"#)?;
/// let payments = Pipeline::named("payments").config(&config).build()?;
///
/// let mut other = config.clone();
/// other.retry.as_mut().unwrap().max_attempts = 0;
/// let error = payments.reload(&other).unwrap_err();
/// assert_eq!(error.to_string(), "retry.max_attempts is 0: must be at least 1");
/// assert_eq!(payments.config(), config);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct PipelineConfig {
    /// Whether the policies are applied.
    pub mode: Option<Mode>,
    /// [`PipelineBuilder::total_timeout`](crate::PipelineBuilder::total_timeout).
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text::option"))]
    pub total_timeout: Option<Duration>,
    /// [`PipelineBuilder::attempt_timeout`](crate::PipelineBuilder::attempt_timeout).
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text::option"))]
    pub attempt_timeout: Option<Duration>,
    /// [`PipelineBuilder::repeatable`](crate::PipelineBuilder::repeatable).
    pub repeatable: Option<bool>,
    /// [`PipelineBuilder::retry`](crate::PipelineBuilder::retry).
    pub retry: Option<RetryConfig>,
    /// [`PipelineBuilder::hedge`](crate::PipelineBuilder::hedge).
    pub hedge: Option<HedgeConfig>,
    /// [`PipelineBuilder::budget`](crate::PipelineBuilder::budget).
    pub budget: Option<BudgetConfig>,
    /// A circuit breaker, where [`PipelineBuilder::breaker`](crate::PipelineBuilder::breaker) puts it.
    pub breaker: Option<BreakerConfig>,
    /// A quota, or several by name, where [`PipelineBuilder::rate_limit`](crate::PipelineBuilder::rate_limit) puts it.
    pub rate_limit: Option<Quotas>,
    /// A bulkhead, where [`PipelineBuilder::bulkhead`](crate::PipelineBuilder::bulkhead) puts it.
    pub bulkhead: Option<BulkheadConfig>,
}

/// Whether a pipeline's policies are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Mode {
    /// They are.
    #[default]
    Enabled,
    /// They are asked, told and counted, and nothing comes of it: the operation
    /// runs once, whatever a gate says, without a timeout. A snapshot says what
    /// would have been refused or cut.
    Shadow,
    /// They aren't: the operation runs once. Calls are counted.
    Disabled,
}

//! Policies as data.

use std::time::Duration;

use stanchion_core::ConfigError;

use crate::{Backoff, Budget, BudgetConfig, Jitter, Retry};

/// A [`Retry`] as data. What is left out is as in [`Retry::exponential`].
///
/// ```
/// # #[cfg(feature = "serde")] {
/// use stanchion_retry::{Retry, RetryConfig};
///
/// let config: RetryConfig = serde_json::from_str(r#"{
///     "max_attempts": 5,
///     "backoff": { "shape": "exponential", "first": "50ms", "max_delay": "2s", "jitter": "equal" },
///     "max_elapsed": "10s",
///     "budget": { "ratio": { "percent": 10.0 } }
/// }"#)?;
/// let retry = Retry::from_config(&config)?;
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct RetryConfig {
    /// [`Retry::max_attempts`]. Default: 3.
    pub max_attempts: u32,
    /// [`Retry::backoff`]. Default: exponential from 100 ms on.
    pub backoff: BackoffConfig,
    /// [`Retry::throttled_backoff`]. Default: as `backoff`.
    pub throttled_backoff: Option<BackoffConfig>,
    /// [`Retry::max_elapsed`]. Default: no limit.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text::option"))]
    pub max_elapsed: Option<Duration>,
    /// [`Retry::attempt_timeout`]. Default: no limit.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text::option"))]
    pub attempt_timeout: Option<Duration>,
    /// [`Retry::max_retry_after`]. Default: 60 s.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub max_retry_after: Duration,
    /// [`Retry::again_after_refresh`]. Default: no.
    pub again_after_refresh: bool,
    /// [`Retry::retry_rejections`]. Default: no.
    pub retry_rejections: bool,
    /// [`Retry::budget`], one of its own. Default: as there.
    pub budget: Option<BudgetConfig>,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            backoff: BackoffConfig::default(),
            throttled_backoff: None,
            max_elapsed: None,
            attempt_timeout: None,
            max_retry_after: Duration::from_secs(60),
            again_after_refresh: false,
            retry_rejections: false,
            budget: None,
        }
    }
}

/// A [`Backoff`] as data; `jitter` and `max_delay` are as there if left out.
///
/// `{ "shape": "exponential", "first": "100ms", "factor": 2.0, "max_delay": "20s", "jitter": "full" }`,
/// `{ "shape": "list", "delays": ["1s", "5s"] }`. A jitter is `"none"`, `"full"`,
/// `"equal"`, `"decorrelated"` or `{ "fraction": 0.2 }`.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(tag = "shape", rename_all = "snake_case", deny_unknown_fields)
)]
#[non_exhaustive]
pub enum BackoffConfig {
    /// [`Backoff::constant`].
    Constant {
        /// The delay.
        #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
        delay: Duration,
        /// How it is spread.
        #[cfg_attr(feature = "serde", serde(default))]
        jitter: Option<Jitter>,
    },
    /// [`Backoff::linear`].
    Linear(Growth),
    /// [`Backoff::exponential`].
    Exponential(Growth),
    /// [`Backoff::fibonacci`].
    Fibonacci(Growth),
    /// [`Backoff::list`].
    List {
        /// The delays.
        delays: Vec<Delay>,
        /// How they are spread.
        #[cfg_attr(feature = "serde", serde(default))]
        jitter: Option<Jitter>,
    },
}

/// A delay in a list: "250ms".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Delay(#[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))] pub Duration);

/// A shape that grows.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct Growth {
    /// The first delay. Default: 100 ms.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub first: Duration,
    /// [`Backoff::factor`]. Default: 2.
    pub factor: f64,
    /// [`Backoff::max_delay`]. Default: 20 s.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub max_delay: Duration,
    /// [`Backoff::jitter`]. Default: full.
    pub jitter: Jitter,
}

impl Default for Growth {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            factor: 2.0,
            max_delay: crate::backoff::DEFAULT_MAX_DELAY,
            jitter: Jitter::Full,
        }
    }
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self::Exponential(Growth::default())
    }
}

impl Backoff {
    /// The backoff that the data describe; [`validate`](Self::validate) says
    /// whether it can be honoured.
    pub fn from_config(config: &BackoffConfig) -> Self {
        let grown = |backoff: Self, growth: &Growth| {
            backoff.factor(growth.factor).max_delay(growth.max_delay).jitter(growth.jitter)
        };
        let spread = |backoff: Self, jitter: Option<Jitter>| match jitter {
            Some(jitter) => backoff.jitter(jitter),
            None => backoff,
        };
        match config {
            BackoffConfig::Constant { delay, jitter } => spread(Self::constant(*delay), *jitter),
            BackoffConfig::Linear(growth) => grown(Self::linear(growth.first), growth),
            BackoffConfig::Exponential(growth) => grown(Self::exponential(growth.first), growth),
            BackoffConfig::Fibonacci(growth) => grown(Self::fibonacci(growth.first), growth),
            BackoffConfig::List { delays, jitter } => {
                let delays: Vec<Duration> = delays.iter().map(|delay| delay.0).collect();
                spread(Self::list(delays), *jitter)
            }
        }
    }
}

impl Retry {
    /// The policy that the data describe.
    ///
    /// # Errors
    /// Names the field that can't be honoured.
    pub fn from_config(config: &RetryConfig) -> Result<Self, ConfigError> {
        let mut retry = Self::new(Backoff::from_config(&config.backoff))
            .max_attempts(config.max_attempts)
            .max_retry_after(config.max_retry_after);
        if let Some(backoff) = &config.throttled_backoff {
            retry = retry.throttled_backoff(Backoff::from_config(backoff));
        }
        if let Some(limit) = config.max_elapsed {
            retry = retry.max_elapsed(limit);
        }
        if let Some(limit) = config.attempt_timeout {
            retry = retry.attempt_timeout(limit);
        }
        if config.again_after_refresh {
            retry = retry.again_after_refresh();
        }
        if config.retry_rejections {
            retry = retry.retry_rejections();
        }
        if let Some(budget) = &config.budget {
            retry = retry.budget(Budget::new(budget.clone()).map_err(|error| error.inside("budget"))?);
        }
        retry.validated()
    }
}

/// A [`Hedge`](crate::Hedge) as data: `after` or `at_percentile`.
///
/// `{ "after": "50ms" }`, `{ "at_percentile": 95.0, "at_least": "5ms", "max_hedges": 1 }`.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct HedgeConfig {
    /// `Hedge::after`.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text::option"))]
    pub after: Option<Duration>,
    /// `Hedge::at_percentile`.
    pub at_percentile: Option<f64>,
    /// `Hedge::at_least`. Default: 1 ms.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub at_least: Duration,
    /// `Hedge::max_hedges`. Default: 1.
    pub max_hedges: u32,
    /// `Hedge::budget`, one of its own. Default: as there.
    pub budget: Option<BudgetConfig>,
}

impl Default for HedgeConfig {
    fn default() -> Self {
        Self { after: None, at_percentile: None, at_least: Duration::from_millis(1), max_hedges: 1, budget: None }
    }
}

#[cfg(feature = "tokio")]
impl crate::Hedge {
    /// The policy that the data describe.
    ///
    /// # Errors
    /// Names the field that can't be honoured; `after` when it and
    /// `at_percentile` are both there, or neither.
    pub fn from_config(config: &HedgeConfig) -> Result<Self, ConfigError> {
        let hedge = match (config.after, config.at_percentile) {
            (Some(delay), None) => Self::after(delay),
            (None, Some(percent)) => Self::at_percentile(percent),
            (None, None) => return Err(ConfigError::new("after", "missing", "say either this or at_percentile")),
            (Some(delay), Some(_)) => {
                return Err(ConfigError::new("after", format_args!("{delay:?}"), "say either this or at_percentile"));
            }
        };
        let hedge = hedge.at_least(config.at_least).max_hedges(config.max_hedges);
        match &config.budget {
            Some(budget) => {
                let budget = Budget::new(budget.clone()).map_err(|error| error.inside("budget"))?;
                hedge.budget(budget).validated()
            }
            None => hedge.validated(),
        }
    }
}

#[cfg(all(test, feature = "serde", feature = "tokio"))]
mod tests {
    use super::*;
    use crate::Hedge;

    fn error(json: &str) -> String {
        match serde_json::from_str::<RetryConfig>(json) {
            Ok(config) => Retry::from_config(&config).expect_err(json).to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn nothing_said_is_the_default() {
        let config: RetryConfig = serde_json::from_str("{}").unwrap();
        assert_eq!(config, RetryConfig::default());
        let (ours, written) = (Retry::from_config(&config).unwrap(), Retry::exponential());
        assert_eq!(format!("{ours:?}"), format!("{written:?}"));
    }

    #[test]
    fn what_is_written_is_read() {
        let config = RetryConfig {
            backoff: BackoffConfig::List {
                delays: vec![Delay(Duration::from_secs(5))],
                jitter: Some(Jitter::Fraction(0.5)),
            },
            throttled_backoff: Some(BackoffConfig::Fibonacci(Growth::default())),
            max_elapsed: Some(Duration::from_secs(90)),
            budget: Some(crate::TokensBudget::aws_2_1().into()),
            ..RetryConfig::default()
        };
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<RetryConfig>(&json).unwrap(), config, "{json}");
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        assert_eq!(error(r#"{"max_attempts": 0}"#), "max_attempts is 0: must be at least 1");
        let shape = |rest: &str| format!(r#"{{"backoff": {{"shape": "exponential", "first": "1s"{rest}}}}}"#);
        assert!(error(&shape(r#", "factor": -2.0"#)).starts_with("backoff.factor is -2: "));
        assert!(error(&shape(r#", "factor": 0.5"#)).starts_with("backoff.factor is 0.5: "));
        assert!(error(&shape(r#", "jitter": {"fraction": 7.0}"#)).starts_with("backoff.jitter is 7: "));
        assert!(error(&shape(r#", "max_delay": "soon""#)).contains("\"soon\" is no duration"));
        assert!(error(&shape(r#", "frist": "1s""#)).contains("unknown field `frist`"));
        assert!(error(r#"{"atempts": 3}"#).contains("unknown field `atempts`"));
        assert!(error(r#"{"max_elapsed": "0s"}"#).starts_with("max_elapsed is 0ns: "));
        assert!(error(r#"{"budget": {"ratio": {"percent": -5.0}}}"#).starts_with("budget.percent is -5: "));
        let hedge =
            |json: &str| Hedge::from_config(&serde_json::from_str(json).unwrap()).unwrap_err().field().to_owned();
        assert_eq!(hedge("{}"), "after");
        assert_eq!(hedge(r#"{"after": "1s", "at_percentile": 5.0}"#), "after");
        assert_eq!(hedge(r#"{"at_percentile": 100.0}"#), "at_percentile");
        assert!(serde_json::from_str::<HedgeConfig>(r#"{"after": "1s", "hedges": 5}"#).is_err());
    }
}

//! A pipeline to be.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use stanchion_breaker::Breaker;
use stanchion_core::{ConfigError, Gate, IntoGate, Name};
use stanchion_limit::{BulkheadBuilder, Limiter};
use stanchion_retry::{Budget, Hedge, HedgeConfig, Retry, RetryConfig};

use crate::settings::{Made, Settings};
use crate::{Mode, Pipeline, PipelineConfig};

/// A pipeline to be. The order in which policies are added makes no difference,
/// except among gates of one kind.
#[derive(Clone)]
#[must_use = "a builder builds nothing until it is told to"]
pub struct PipelineBuilder {
    pub(crate) name: Name,
    pub(crate) config: PipelineConfig,
    mode: Option<Mode>,
    total_timeout: Option<Duration>,
    attempt_timeout: Option<Duration>,
    repeatable: Option<bool>,
    retry: Option<Retry>,
    hedge: Option<Hedge>,
    budget: Option<Budget>,
    /// That of the pipeline which is built of this, unless it has another.
    default_budget: Budget,
    call_gates: Vec<Placed>,
    attempt_gates: Vec<Placed>,
    mistake: Option<ConfigError>,
}

/// A gate and its place: of two, the lower one is asked first.
#[derive(Clone)]
struct Placed {
    place: u8,
    gate: Arc<dyn Gate>,
}

/// The places among the gates of a call, and of an attempt.
mod place {
    pub(super) const BULKHEAD: u8 = 1;
    pub(super) const BREAKER: u8 = 0;
    pub(super) const RATE_LIMIT: u8 = 1;
    pub(super) const OTHERS: u8 = 2;
}

impl PipelineBuilder {
    pub(crate) fn new(name: Name) -> Self {
        Self {
            name,
            config: PipelineConfig::default(),
            mode: None,
            total_timeout: None,
            attempt_timeout: None,
            repeatable: None,
            retry: None,
            hedge: None,
            budget: None,
            default_budget: Budget::default(),
            call_gates: Vec::new(),
            attempt_gates: Vec::new(),
            mistake: None,
        }
    }

    /// What `config` names, in place of what is said in code. [`Pipeline::reload`]
    /// changes it while running.
    pub fn config(mut self, config: &PipelineConfig) -> Self {
        self.config = config.clone();
        self
    }

    /// The whole call, with all its attempts and waits, is over after this.
    /// Default: no limit.
    ///
    /// The attempt under way is cut then, and its gates are told
    /// [`TimedOut`](crate::Outcome::TimedOut), not `Abandoned`. What blocks its thread
    /// can't be cut, and what the first poll of an attempt takes isn't counted.
    pub const fn total_timeout(mut self, timeout: Duration) -> Self {
        self.total_timeout = Some(timeout);
        self
    }

    /// An attempt that takes longer is cut, and counts as
    /// [`TimedOut`](crate::Outcome::TimedOut). Default: that of the retry, or no limit.
    pub const fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = Some(timeout);
        self
    }

    /// Declares all calls to be safe to repeat, or not to be, unless a call says
    /// otherwise. Default: not declared: calls are retried and never hedged.
    pub const fn repeatable(mut self, repeatable: bool) -> Self {
        self.repeatable = Some(repeatable);
        self
    }

    /// Tries again. Default: one attempt.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = Some(retry);
        self
    }

    /// Asks again beside a late call, where it is declared
    /// [repeatable](Self::repeatable). Default: no hedge.
    pub fn hedge(mut self, hedge: Hedge) -> Self {
        self.hedge = Some(hedge);
        self
    }

    /// What retries and hedges may spend, unless they have a budget of their own.
    /// Default: a [`Budget::default`], for this pipeline: a tenth of the calls of
    /// the last 10 s, and 1 a second.
    pub fn budget(mut self, budget: impl Into<Budget>) -> Self {
        self.budget = Some(budget.into());
        self
    }

    /// A breaker: the first gate of each attempt.
    pub fn breaker(self, gate: impl IntoGate) -> Self {
        self.at_attempt(place::BREAKER, gate)
    }

    /// A rate limit: a gate of each attempt, after the breaker, since the other side
    /// counts attempts.
    pub fn rate_limit(self, gate: impl IntoGate) -> Self {
        self.at_attempt(place::RATE_LIMIT, gate)
    }

    /// A bulkhead: a gate of the call. A call between two attempts holds its place.
    pub fn bulkhead(self, gate: impl IntoGate) -> Self {
        self.at_call(place::BULKHEAD, gate)
    }

    /// Any gate, asked once for the call: before the bulkhead.
    pub fn call_gate(self, gate: impl IntoGate) -> Self {
        self.at_call(0, gate)
    }

    /// Any gate, asked before each attempt: after breaker and rate limit.
    pub fn attempt_gate(self, gate: impl IntoGate) -> Self {
        self.at_attempt(place::OTHERS, gate)
    }

    /// Whether the policies are applied. Default: they are.
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = Some(mode);
        self
    }

    fn at_call(mut self, place: u8, gate: impl IntoGate) -> Self {
        let field = if place == place::BULKHEAD { "bulkhead" } else { "call_gate" };
        let mistake = added(&mut self.call_gates, place, gate).map_err(|error| error.inside(field));
        self.mistake = self.mistake.or(mistake.err());
        self
    }

    fn at_attempt(mut self, place: u8, gate: impl IntoGate) -> Self {
        let field = match place {
            place::BREAKER => "breaker",
            place::RATE_LIMIT => "rate_limit",
            _ => "attempt_gate",
        };
        let mistake = added(&mut self.attempt_gates, place, gate).map_err(|error| error.inside(field));
        self.mistake = self.mistake.or(mistake.err());
        self
    }

    /// The pipeline.
    ///
    /// # Errors
    /// Names the first field that can't be honoured: of the pipeline, of a policy,
    /// or of a gate that was added as a builder.
    pub fn build(mut self) -> Result<Pipeline, ConfigError> {
        // One for each pipeline, though its builder may be a clone.
        self.default_budget = Budget::default();
        let settings = self.settings(&self.config, None)?;
        Ok(Pipeline::of(settings, self))
    }

    /// What calls go by under `config`; what has state is kept from `before` where
    /// its configuration is the same.
    pub(crate) fn settings(&self, config: &PipelineConfig, before: Option<&Settings>) -> Result<Settings, ConfigError> {
        if let Some(mistake) = &self.mistake {
            return Err(mistake.clone());
        }
        let total_timeout = positive("total_timeout", config.total_timeout.or(self.total_timeout))?;
        let attempt_timeout = positive("attempt_timeout", config.attempt_timeout.or(self.attempt_timeout))?;
        let made = self.made(config, before.map(|before| &before.made))?;

        let retry = made.retry.as_ref().or(self.retry.as_ref());
        let retries = retry.is_some();
        let mut retry = retry.cloned().unwrap_or_else(Retry::never).name_or(&self.name);
        let mut hedge = made.hedge.as_ref().or(self.hedge.as_ref()).cloned();
        let budget = made.budget.as_ref().or(self.budget.as_ref()).unwrap_or(&self.default_budget);
        if retries {
            retry = retry.budget_or(budget);
        }
        hedge = hedge.map(|hedge| hedge.name_or(&self.name).budget_or(budget));
        if let Some(timeout) = attempt_timeout {
            retry = retry.attempt_timeout(timeout);
        }
        let retry = retry.validated().map_err(|error| error.inside("retry"))?;
        let hedge = hedge.map(Hedge::validated).transpose().map_err(|error| error.inside("hedge"))?;
        let mut budgets = SmallVec::<[Budget; 2]>::new();
        for budget in retry.spends_from().into_iter().chain(hedge.as_ref().map(Hedge::spends_from)) {
            if !budgets.iter().any(|known| known.is_shared_with(budget)) {
                budgets.push(budget.clone());
            }
        }
        Ok(Settings {
            mode: config.mode.or(self.mode).unwrap_or_default(),
            total_timeout,
            repeatable: config.repeatable.or(self.repeatable),
            call_gates: in_order(&self.call_gates, [(place::BULKHEAD, made.bulkhead.as_ref())]),
            attempt_gates: in_order(
                &self.attempt_gates,
                [(place::BREAKER, made.breaker.as_ref()), (place::RATE_LIMIT, made.rate_limit.as_ref())],
            ),
            retry,
            retries,
            hedge,
            budgets,
            made,
        })
    }

    /// What has state, of the configuration: kept or made.
    fn made(&self, config: &PipelineConfig, before: Option<&Made>) -> Result<Made, ConfigError> {
        let fresh = Made::default();
        let old = before.unwrap_or(&fresh);
        let (was, name) = (&old.config, &self.name);
        let breaker = kept_or_made(&old.breaker, &was.breaker, &config.breaker, |breaker| {
            let made = Breaker::builder(name).config(breaker.clone()).into_gate();
            made.map_err(|error| error.inside("breaker"))
        })?;
        let rate_limit = kept_or_made(&old.rate_limit, &was.rate_limit, &config.rate_limit, |quota| {
            let made = Limiter::builder(quota.clone()).name(name).into_gate();
            made.map_err(|error| error.inside("rate_limit"))
        })?;
        let bulkhead = kept_or_made(&old.bulkhead, &was.bulkhead, &config.bulkhead, |bulkhead| {
            let made = BulkheadBuilder::from(*bulkhead).name(name).into_gate();
            made.map_err(|error| error.inside("bulkhead"))
        })?;
        let budget = kept_or_made(&old.budget, &was.budget, &config.budget, |budget| {
            Budget::new(budget.clone()).map_err(|error| error.inside("budget"))
        })?;
        // The budget of a retry or hedge is kept by itself: the rest may have changed.
        let own = |retry: &RetryConfig| retry.budget.clone();
        let (retry_was, retry_is) = (was.retry.as_ref().and_then(own), config.retry.as_ref().and_then(own));
        let retry_budget = kept_or_made(&old.retry_budget, &retry_was, &retry_is, |budget| {
            Budget::new(budget.clone()).map_err(|error| error.inside("retry.budget"))
        })?;
        let own = |hedge: &HedgeConfig| hedge.budget.clone();
        let (hedge_was, hedge_is) = (was.hedge.as_ref().and_then(own), config.hedge.as_ref().and_then(own));
        let hedge_budget = kept_or_made(&old.hedge_budget, &hedge_was, &hedge_is, |budget| {
            Budget::new(budget.clone()).map_err(|error| error.inside("hedge.budget"))
        })?;
        let retry = kept_or_made(&old.retry, &was.retry, &config.retry, |retry| {
            let mut made = Retry::from_config(retry).map_err(|error| error.inside("retry"))?;
            if let Some(budget) = &retry_budget {
                made = made.budget(budget);
            }
            Ok(match &self.retry {
                Some(in_code) => made.in_place_of(in_code),
                None => made,
            })
        })?;
        let hedge = kept_or_made(&old.hedge, &was.hedge, &config.hedge, |hedge| {
            let mut made = Hedge::from_config(hedge).map_err(|error| error.inside("hedge"))?;
            if let Some(budget) = &hedge_budget {
                made = made.budget(budget);
            }
            Ok(match &self.hedge {
                Some(in_code) => made.in_place_of(in_code),
                None => made,
            })
        })?;
        Ok(Made {
            config: config.clone(),
            breaker,
            rate_limit,
            bulkhead,
            budget,
            retry,
            retry_budget,
            hedge,
            hedge_budget,
        })
    }
}

/// What `config` asks for: what is there if it was made of the same, else a new one.
fn kept_or_made<T: Clone, C: PartialEq>(
    old: &Option<T>,
    was: &Option<C>,
    is: &Option<C>,
    make: impl FnOnce(&C) -> Result<T, ConfigError>,
) -> Result<Option<T>, ConfigError> {
    match (is, old) {
        (None, _) => Ok(None),
        (Some(_), Some(old)) if was == is => Ok(Some(old.clone())),
        (Some(config), _) => make(config).map(Some),
    }
}

fn added(gates: &mut Vec<Placed>, place: u8, gate: impl IntoGate) -> Result<(), ConfigError> {
    gates.push(Placed { place, gate: gate.into_gate()? });
    Ok(())
}

/// The gates by their place, those of one place in the order in which they were
/// added; a configured one takes the place of those that were added in code.
fn in_order<const N: usize>(gates: &[Placed], configured: [(u8, Option<&Arc<dyn Gate>>); N]) -> Vec<Arc<dyn Gate>> {
    let configured = configured.into_iter().filter_map(|(place, gate)| Some(Placed { place, gate: Arc::clone(gate?) }));
    let configured: Vec<Placed> = configured.collect();
    let is_kept = |gate: &&Placed| configured.iter().all(|other| other.place != gate.place);
    let mut all: Vec<Placed> = gates.iter().filter(is_kept).chain(&configured).cloned().collect();
    // Stable.
    all.sort_by_key(|placed| placed.place);
    all.into_iter().map(|placed| placed.gate).collect()
}

fn positive(field: &'static str, limit: Option<Duration>) -> Result<Option<Duration>, ConfigError> {
    match limit {
        Some(limit) if limit.is_zero() => Err(ConfigError::new(field, "0ns", "must be longer than zero")),
        limit => Ok(limit),
    }
}

impl fmt::Debug for PipelineBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipelineBuilder")
            .field("name", &self.name)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

//! What a call goes by, from its beginning to its end.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use stanchion_core::Gate;
use stanchion_retry::{Budget, Hedge, Retry};

use crate::{Mode, PipelineConfig};

/// What a call goes by. Never changed; a reload makes a new one.
pub(crate) struct Settings {
    pub(crate) mode: Mode,
    pub(crate) total_timeout: Option<Duration>,
    pub(crate) repeatable: Option<bool>,
    pub(crate) call_gates: Vec<Arc<dyn Gate>>,
    pub(crate) attempt_gates: Vec<Arc<dyn Gate>>,
    pub(crate) retry: Retry,
    pub(crate) retries: bool,
    pub(crate) hedge: Option<Hedge>,
    /// Each budget once, to be told that a call begins.
    pub(crate) budgets: SmallVec<[Budget; 2]>,
    /// What was made of the configuration, to be kept where that stays the same.
    pub(crate) made: Made,
}

/// What has state, with the configuration that it was made of.
#[derive(Clone, Default)]
pub(crate) struct Made {
    pub(crate) config: PipelineConfig,
    pub(crate) breaker: Option<Arc<dyn Gate>>,
    pub(crate) rate_limit: Option<Arc<dyn Gate>>,
    pub(crate) bulkhead: Option<Arc<dyn Gate>>,
    pub(crate) budget: Option<Budget>,
    pub(crate) retry: Option<Retry>,
    pub(crate) retry_budget: Option<Budget>,
    pub(crate) hedge: Option<Hedge>,
    pub(crate) hedge_budget: Option<Budget>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("mode", &self.mode)
            .field("total_timeout", &self.total_timeout)
            .field("repeatable", &self.repeatable)
            .field("call_gates", &self.call_gates.len())
            .field("attempt_gates", &self.attempt_gates.len())
            .field("retry", &self.retries.then_some(&self.retry))
            .field("hedge", &self.hedge)
            .finish_non_exhaustive()
    }
}

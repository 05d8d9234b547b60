//! The value that people hold.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use stanchion_core::{Attempt, Call, CallError, Classify, ConfigError, Name};
use stanchion_retry::When;

use crate::call::PipelineCall;
use crate::settings::Settings;
use crate::snapshot::PipelineSnapshot;
use crate::stats::Stats;
use crate::{PipelineBuilder, PipelineConfig, trace};

/// All policies of a call to one other side, as one plain value: no type
/// parameters, cheap to clone, good to name in a field. Clones are one pipeline.
///
/// ```
/// use std::time::Duration;
/// use stanchion_breaker::Breaker;
/// use stanchion_limit::{Bulkhead, Limiter};
/// use stanchion_pipeline::{CallError, Pipeline, Retry};
///
/// struct Payments {
///     pipeline: Pipeline,
/// }
///
/// impl Payments {
///     fn new() -> Result<Self, stanchion_pipeline::ConfigError> {
///         let pipeline = Pipeline::named("payments")
///             .total_timeout(Duration::from_secs(10))
///             .retry(Retry::exponential().max_attempts(4))
///             .breaker(Breaker::new("payments"))
///             .rate_limit(Limiter::per_second(50).burst(10))
///             .bulkhead(Bulkhead::new(64))
///             .attempt_timeout(Duration::from_secs(2))
///             .build()?;
///         Ok(Self { pipeline })
///     }
///
///     async fn charge(&self, cents: u64) -> Result<u64, CallError<std::io::Error>> {
///         // The operation is told what time remains; whoever it calls should know.
///         self.pipeline.run(|attempt| post_charge(cents, attempt.remaining())).await
///     }
/// }
/// # async fn post_charge(cents: u64, _: Option<Duration>) -> std::io::Result<u64> { Ok(cents) }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # assert_eq!(Payments::new()?.charge(7).await?, 7);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Pipeline(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) name: Name,
    pub(crate) settings: ArcSwap<Settings>,
    pub(crate) stats: Stats,
    /// What was said in code, to which a reload goes back; one reload at a time.
    code: Mutex<PipelineBuilder>,
}

impl Pipeline {
    /// A pipeline to be: without anything added it runs the operation once and
    /// counts.
    pub fn named(name: impl Into<Name>) -> PipelineBuilder {
        PipelineBuilder::new(name.into())
    }

    pub(crate) fn of(settings: Settings, code: PipelineBuilder) -> Self {
        Self(Arc::new(Shared {
            name: code.name.clone(),
            settings: ArcSwap::from_pointee(settings),
            stats: Stats::new(&code.name),
            code: Mutex::new(code),
        }))
    }

    /// Runs the operation under all policies. It makes a future for each attempt.
    ///
    /// An operation that nothing was declared of is retried, where the pipeline
    /// retries, and never hedged: see [`Call::repeatable`].
    ///
    /// # Errors
    /// The operation's last error, with the number of its attempts; a gate's
    /// refusal, which says when to come back; or which timeout ran out.
    ///
    /// # Cancellation
    /// Dropping the future drops whatever is under way. Every gate is told
    /// ([`Outcome::Abandoned`](crate::Outcome::Abandoned)), and a retry that was granted and not begun is given
    /// back to the budget.
    pub fn run<T, E, F, Fut>(&self, operation: F) -> impl Future<Output = Result<T, CallError<E>>>
    where
        F: FnMut(Attempt) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: Classify,
    {
        // Not in a future of its own, which would have to move that one into itself.
        self.call(Call::new()).run(operation)
    }

    /// For a call of which more is known: whom it is for, what it costs, how much
    /// it matters, until when it must be over, whether it is repeatable.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use stanchion_pipeline::{Call, Pipeline, Priority};
    ///
    /// let search = Pipeline::named("search").build()?;
    /// let call = Call::new().key("tenant-7").priority(Priority::Critical).repeatable(true);
    /// let found = search.call(call).run(|_| async { Ok::<_, std::io::Error>(3) }).await?;
    /// # assert_eq!(found, 3);
    /// # Ok(()) }
    /// ```
    pub fn call<'a>(&'a self, call: Call<'a>) -> PipelineCall<'a> {
        PipelineCall::new(self, call)
    }

    /// With a classifier, which sees the whole result: as [`PipelineCall::classify`].
    pub fn classify<C>(&self, classifier: C) -> PipelineCall<'_, C> {
        self.call(Call::new()).classify(classifier)
    }

    /// With a condition: errors of which it says `true` are transient, the others
    /// permanent.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use stanchion_pipeline::{Pipeline, Retry};
    ///
    /// let pipeline = Pipeline::named("x").retry(Retry::exponential()).build()?;
    /// let answer = pipeline
    ///     .when(|error: &&str| *error == "busy")
    ///     .run(|attempt| async move { if attempt.number() == 1 { Err("busy") } else { Ok("fine") } })
    ///     .await;
    /// assert_eq!(answer.unwrap(), "fine");
    /// # Ok(()) }
    /// ```
    pub fn when<E, F: Fn(&E) -> bool>(&self, condition: F) -> PipelineCall<'_, When<F>> {
        self.call(Call::new()).when(condition)
    }

    /// Runs the operation, and where that fails, `instead`: as
    /// [`PipelineCall::run_or_else`].
    ///
    /// # Errors
    /// Those of `instead`.
    pub async fn run_or_else<T, E, F, Fut, G, Other>(&self, operation: F, instead: G) -> Result<T, CallError<E>>
    where
        F: FnMut(Attempt) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: Classify,
        G: FnOnce(CallError<E>) -> Other,
        Other: Future<Output = Result<T, CallError<E>>>,
    {
        self.call(Call::new()).run_or_else(operation, instead).await
    }

    /// Goes on with another configuration. Calls under way keep what they began
    /// with.
    ///
    /// What the configuration names takes the place of what was said in code; what it
    /// doesn't name is as in code. A retry or hedge of the configuration keeps hook,
    /// jitter's source and budget of the one in code, unless it names another; a breaker,
    /// rate limit or bulkhead takes the place of those in code. Other gates stay as they are.
    /// A gate, a budget or a hedge whose configuration hasn't changed keeps its
    /// state; one whose configuration has begins anew.
    ///
    /// # Errors
    /// Names the field that can't be honoured; then nothing has changed.
    pub fn reload(&self, config: &PipelineConfig) -> Result<(), ConfigError> {
        // One at a time, so that of two the later one stays.
        let mut code = self.0.code.lock().unwrap_or_else(PoisonError::into_inner);
        let settings = code.settings(config, Some(&self.0.settings.load_full()))?;
        code.config = config.clone();
        self.0.settings.store(Arc::new(settings));
        drop(code);
        trace::reloaded(&self.0.name);
        Ok(())
    }

    /// Whether a reload would go through.
    pub(crate) fn would_reload(&self, config: &PipelineConfig) -> Result<(), ConfigError> {
        let code = self.0.code.lock().unwrap_or_else(PoisonError::into_inner);
        code.settings(config, Some(&self.0.settings.load_full())).map(drop)
    }

    /// The configuration that it runs with: the one of its last reload, or that of its builder.
    pub fn config(&self) -> PipelineConfig {
        self.0.code.lock().unwrap_or_else(PoisonError::into_inner).config.clone()
    }

    /// What it is called in telemetry.
    pub fn name(&self) -> &str {
        self.0.name.as_str()
    }

    /// How it stands now.
    pub fn snapshot(&self) -> PipelineSnapshot {
        PipelineSnapshot::of(&self.0)
    }
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline").field("name", &self.0.name).field("settings", &**self.0.settings.load()).finish()
    }
}

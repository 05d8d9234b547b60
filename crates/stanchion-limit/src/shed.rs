//! Who is let in when not all can be.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use stanchion_core::{
    Admission, Call, ConfigError, Gate, IntoGate, Name, Outcome, Permit, Priority, Rejection, RejectionKind, Ticket,
};

use crate::adaptive::{AdaptiveConfig, AdaptiveLimiter, AdaptiveLimiterBuilder, AdaptiveSnapshot, Algorithm};

/// A concurrency limit that less important calls may fill only in part: a call is
/// let in if, with it, at most `⌊limit · share ÷ 100⌋` units are under way, of
/// whatever priority, where `share` is **50 for `Sheddable`, 90 for `Normal` and
/// 100 for `Critical`** calls; at least 1, unless the share is 0.
///
/// ```text
///   0 %                          50 %                    90 %  100 %
///   ├─────────── all ─────────────┼── Normal, Critical ───┼─ C ──┤
///                                 │                       └ Critical alone
///                                 └ Sheddable calls are shed from here on
/// ```
///
/// So the last tenth is `Critical`'s, whatever the others ask for, from a limit of
/// 2 on; and `Normal` calls find two fifths that no prefetching fills. A call that
/// is refused for its priority alone is refused as [`Shed`](RejectionKind::Shed);
/// where the limit itself is full, as [`Saturated`](RejectionKind::Saturated).
///
/// The limit is any [`Algorithm`]: fixed, or one that adapts, about which see
/// [`AdaptiveLimiter`]. Costs and weights are as there.
///
/// ```
/// use stanchion_limit::{Algorithm, Call, LoadShedder, Permit, Priority, RejectionKind};
///
/// let shedder = LoadShedder::new(Algorithm::Fixed(10)).build()?;
/// let call = |priority| Call::new().priority(priority);
/// let held: Vec<_> = (0..9).map(|_| Permit::try_new(&shedder, &call(Priority::Normal)).unwrap()).collect();
///
/// let refused = Permit::try_new(&shedder, &call(Priority::Normal)).unwrap_err();
/// assert_eq!(refused.kind(), RejectionKind::Shed);
/// let _critical = Permit::try_new(&shedder, &call(Priority::Critical))?;
/// let refused = Permit::try_new(&shedder, &call(Priority::Critical)).unwrap_err();
/// assert_eq!(refused.kind(), RejectionKind::Saturated);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct LoadShedder {
    limiter: AdaptiveLimiter,
    sheddable: AtomicU32,
    normal: AtomicU32,
    shed: AtomicU64,
}

impl LoadShedder {
    /// Settings for shedding under a limit by this algorithm; [`Algorithm::Fixed`]
    /// for one that is known. It returns a builder for the same reason as
    /// [`AdaptiveLimiter::new`].
    #[allow(clippy::new_ret_no_self, reason = "a pipeline takes `LoadShedder::new(…)` as it is")]
    pub fn new(algorithm: impl Into<Algorithm>) -> LoadShedderBuilder {
        LoadShedderConfig::new(AdaptiveConfig::new(algorithm)).into()
    }

    /// Does as `config` says from now on; about the limit see
    /// [`AdaptiveLimiter::reconfigure`].
    ///
    /// # Errors
    /// As for [`build`](LoadShedderBuilder::build); nothing is changed then.
    pub fn reconfigure(&self, config: LoadShedderConfig) -> Result<(), ConfigError> {
        config.check()?;
        self.limiter.reconfigure(config.limit)?;
        // Relaxed here and throughout: the numbers guard no other memory.
        self.sheddable.store(config.sheddable, Ordering::Relaxed);
        self.normal.store(config.normal, Ordering::Relaxed);
        Ok(())
    }

    /// Takes the call's units, if its priority may have them.
    ///
    /// # Errors
    /// [`Shed`](RejectionKind::Shed), [`Saturated`](RejectionKind::Saturated),
    /// [`NeverFits`](RejectionKind::NeverFits).
    pub fn try_acquire_for(&self, call: &Call<'_>) -> Result<Permit<'_>, Rejection> {
        Permit::try_new(self, call)
    }

    /// What it is called in rejections and telemetry.
    pub fn name(&self) -> &str {
        self.limiter.name()
    }

    /// How it stands now.
    pub fn snapshot(&self) -> LoadShedderSnapshot {
        LoadShedderSnapshot { limit: self.limiter.snapshot(), shed: self.shed.load(Ordering::Relaxed) }
    }

    /// How much of `limit` calls of this priority may fill.
    fn ceiling(&self, limit: u32, priority: Priority) -> u32 {
        let share = match priority {
            Priority::Critical => return limit,
            Priority::Sheddable => self.sheddable.load(Ordering::Relaxed),
            _ => self.normal.load(Ordering::Relaxed),
        };
        let part = u64::from(limit) * u64::from(share) / 100;
        // At most `limit`, as shares are at most 100.
        u32::try_from(part).unwrap_or(limit).max(share.min(1))
    }
}

/// Takes the call's units; the key is not looked at.
impl Gate for LoadShedder {
    #[inline]
    fn try_admit(&self, call: &Call<'_>) -> Admission {
        match self.limiter.enter(call.units(), |limit| self.ceiling(limit, call.importance())) {
            Ok(ticket) => Admission::Admitted(ticket),
            Err(kind) => {
                if kind == RejectionKind::Shed {
                    self.shed.fetch_add(1, Ordering::Relaxed);
                }
                Admission::Rejected(self.limiter.refuse(kind))
            }
        }
    }

    fn settle(&self, ticket: Ticket, outcome: Outcome, elapsed: Duration) {
        self.limiter.settle(ticket, outcome, elapsed);
    }

    fn needs_elapsed(&self) -> bool {
        self.limiter.needs_elapsed()
    }
}

impl fmt::Debug for LoadShedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.snapshot(), f)
    }
}

/// How a [`LoadShedder`] stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LoadShedderSnapshot {
    /// The limit that it sheds under.
    pub limit: AdaptiveSnapshot,
    /// The calls that were refused so far for their priority alone; among
    /// `limit.refused`, too.
    pub shed: u64,
}

/// What a load shedder's numbers are, as data. What it says is checked when a
/// [`LoadShedder`] is built of it.
///
/// With the feature `serde`:
/// `{ "limit": { "algorithm": { "vegas": {} } }, "sheddable": 50, "normal": 90 }`,
/// where the shares may be left out.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct LoadShedderConfig {
    /// The limit to shed under.
    limit: AdaptiveConfig,
    /// How much of it sheddable calls may fill, in percent. Default: 50.
    #[cfg_attr(feature = "serde", serde(default = "LoadShedderConfig::default_sheddable"))]
    sheddable: u32,
    /// How much of it normal calls may fill, in percent. Default: 90.
    #[cfg_attr(feature = "serde", serde(default = "LoadShedderConfig::default_normal"))]
    normal: u32,
}

impl LoadShedderConfig {
    /// Shedding under this limit.
    pub const fn new(limit: AdaptiveConfig) -> Self {
        Self { limit, sheddable: Self::default_sheddable(), normal: Self::default_normal() }
    }

    /// The same with these shares of the limit, in percent.
    pub const fn shares(mut self, sheddable: u32, normal: u32) -> Self {
        self.sheddable = sheddable;
        self.normal = normal;
        self
    }

    const fn default_sheddable() -> u32 {
        50
    }

    const fn default_normal() -> u32 {
        90
    }

    fn check(&self) -> Result<(), ConfigError> {
        if !(1..=100).contains(&self.normal) {
            return Err(ConfigError::new("normal", self.normal, "must be 1 to 100 percent"));
        }
        if self.sheddable > self.normal {
            let limit = format_args!("must be at most `normal` ({}) percent", self.normal).to_string();
            return Err(ConfigError::new("sheddable", self.sheddable, limit));
        }
        Ok(())
    }
}

/// Settings of a [`LoadShedder`]. It is a gate in the making, too: a pipeline
/// takes it as it is.
#[derive(Debug, Clone)]
#[must_use = "a builder builds nothing until it is told to"]
pub struct LoadShedderBuilder {
    config: LoadShedderConfig,
    limiter: AdaptiveLimiterBuilder,
}

impl From<LoadShedderConfig> for LoadShedderBuilder {
    fn from(config: LoadShedderConfig) -> Self {
        Self { config, limiter: AdaptiveLimiterBuilder::from(config.limit).name("load-shedder") }
    }
}

impl LoadShedderBuilder {
    /// How much of the limit sheddable calls may fill, in percent; 0 lets none in.
    /// Default: 50.
    pub const fn sheddable(mut self, percent: u32) -> Self {
        self.config.sheddable = percent;
        self
    }

    /// How much of the limit normal calls may fill, in percent. Default: 90.
    pub const fn normal(mut self, percent: u32) -> Self {
        self.config.normal = percent;
        self
    }

    /// What it is called in rejections and telemetry. Default: `load-shedder`.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.limiter = self.limiter.name(name);
        self
    }

    /// As [`AdaptiveLimiterBuilder::samples`]. Default: 10.
    pub fn samples(mut self, calls: u32) -> Self {
        self.limiter = self.limiter.samples(calls);
        self
    }

    /// As [`AdaptiveLimiterBuilder::seed`].
    pub fn seed(mut self, seed: u64) -> Self {
        self.limiter = self.limiter.seed(seed);
        self
    }

    /// The load shedder, with nothing under way.
    ///
    /// # Errors
    /// Names the field that can't be honoured: `normal` of 0, `sheddable` above
    /// `normal`, or one of the limit's.
    pub fn build(self) -> Result<LoadShedder, ConfigError> {
        self.config.check()?;
        let LoadShedderConfig { sheddable, normal, .. } = self.config;
        Ok(LoadShedder {
            limiter: self.limiter.build()?,
            sheddable: AtomicU32::new(sheddable),
            normal: AtomicU32::new(normal),
            shed: AtomicU64::new(0),
        })
    }
}

impl IntoGate for LoadShedderBuilder {
    fn into_gate(self) -> Result<Arc<dyn Gate>, ConfigError> {
        self.build()?.into_gate()
    }
}

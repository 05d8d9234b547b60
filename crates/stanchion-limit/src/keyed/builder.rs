//! The settings of a keyed limiter.

use std::fmt;
use std::marker::PhantomData;

use stanchion_core::{Clock, ConfigError, Name, RateStore};

use super::local::Local;
use super::tiers::{Tier, Tiers};
use super::{InMemory, KeyedLimiter, NoTiers, TierBy};
use crate::Outage;
use crate::hash::KeyHasher;
use crate::outage::Health;
use crate::quota::Quotas;
use crate::table::WhenFull;
use crate::trace::Reporter;

/// Settings of a [`KeyedLimiter`].
#[must_use = "a builder builds nothing until it is told to"]
pub struct KeyedLimiterBuilder<K: ?Sized, S = InMemory, T = NoTiers> {
    quotas: Quotas,
    tiers: Vec<(Name, Quotas)>,
    tier_of: T,
    changeable: bool,
    has_tier_of: bool,
    name: Option<Name>,
    clock: Option<Clock>,
    max_keys: usize,
    when_full: WhenFull,
    #[cfg(feature = "tokio")]
    max_wait: std::time::Duration,
    #[cfg(feature = "tokio")]
    queue: usize,
    store: S,
    outage: Option<Outage>,
    key: PhantomData<fn() -> *const K>,
}

impl<K: ?Sized> KeyedLimiter<K> {
    /// Settings beyond the quota, or the quotas, which then hold all at once.
    pub fn builder(quotas: impl Into<Quotas>) -> KeyedLimiterBuilder<K> {
        KeyedLimiterBuilder {
            quotas: quotas.into(),
            tiers: Vec::new(),
            tier_of: NoTiers,
            changeable: false,
            has_tier_of: false,
            name: None,
            clock: None,
            max_keys: KeyedLimiterBuilder::<K>::MAX_KEYS,
            when_full: WhenFull::default(),
            #[cfg(feature = "tokio")]
            max_wait: std::time::Duration::ZERO,
            #[cfg(feature = "tokio")]
            queue: 1_000,
            store: InMemory,
            outage: None,
            key: PhantomData,
        }
    }
}

impl<K: ?Sized, S, T> KeyedLimiterBuilder<K, S, T> {
    /// The default of [`max_keys`](Self::max_keys).
    const MAX_KEYS: usize = 65_536;
    /// The most that [`max_keys`](Self::max_keys) takes: a table of 28 GiB.
    const MOST_KEYS: usize = 1 << 30;

    /// At most `units` of a key at once, whatever the (first) quota says. Default: the quota's burst.
    pub fn burst(mut self, units: u64) -> Self {
        self.quotas.burst(units);
        self
    }

    /// Another quota, or others, for the keys of a tier. They have the names of the first ones,
    /// under which states are kept. See [Tiers](KeyedLimiter#tiers).
    pub fn tier(mut self, name: impl Into<Name>, quotas: impl Into<Quotas>) -> Self {
        self.tiers.push((name.into(), quotas.into()));
        self
    }

    /// Which tier a key is of. It is asked at each check, and shouldn't take long. A key of a tier that
    /// isn't there has the first quota, and is [counted](super::KeyedSnapshot::unknown_tiers).
    /// Default: all keys have the first quota.
    pub fn tier_by<N: Into<Name>>(
        mut self,
        tier_of: impl Fn(&K) -> N + Send + Sync + 'static,
    ) -> KeyedLimiterBuilder<K, S, TierBy<K>> {
        self.changeable = true;
        self.has_tier_of = true;
        self.with(|store, outage, _| (store, outage, TierBy::new(tier_of)))
    }

    /// Lets the quota be [changed](KeyedLimiter::set_quotas) while running, as tiers do; a check in
    /// memory is then behind a short lock. Default: it can't be.
    pub fn changeable(mut self) -> Self {
        self.changeable = true;
        self
    }

    /// As a gate, it lets calls wait in their key's line so long, and not beyond their
    /// deadlines. Default: not at all.
    #[cfg(feature = "tokio")]
    pub fn max_wait(mut self, wait: std::time::Duration) -> Self {
        self.max_wait = wait;
        self
    }

    /// How many may wait in line for each key. Default: 1,000.
    #[cfg(feature = "tokio")]
    pub fn queue(mut self, calls: usize) -> Self {
        self.queue = calls;
        self
    }

    /// What it is called in rejections, in telemetry, and in a store, where
    /// limiters of one name share their states: there it must be given. Default in
    /// memory: `keyed-limiter`.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Where it reads time in this process. Default: [`Clock::system`].
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = Some(clock.into());
        self
    }

    /// How many keys can be in debt at a time, in this process. With one token bucket each takes 28
    /// bytes, all from the start. Default: 65,536, which is 1.75 MiB. With tiers, several
    /// quotas or other algorithms, each takes some 100 bytes for each quota once it is in debt, and what a
    /// sliding log remembers.
    ///
    /// A key is in debt from a unit taken until the bucket is full again. Keys
    /// beyond this number mostly find room, too, up to some three quarters more.
    pub fn max_keys(mut self, keys: usize) -> Self {
        self.max_keys = keys;
        self
    }

    /// What becomes of a new key when there is no room. Default: [`WhenFull::Refuse`].
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// Keeps the states in `store`, and does as `outage` says while it gives no answer.
    pub fn on<R: RateStore>(self, store: R, outage: Outage) -> KeyedLimiterBuilder<K, R, T> {
        self.with(|_, _, tier_of| (store, Some(outage), tier_of))
    }

    fn with<R, U>(
        self,
        change: impl FnOnce(S, Option<Outage>, T) -> (R, Option<Outage>, U),
    ) -> KeyedLimiterBuilder<K, R, U> {
        let (store, outage, tier_of) = change(self.store, self.outage, self.tier_of);
        KeyedLimiterBuilder {
            quotas: self.quotas,
            tiers: self.tiers,
            tier_of,
            changeable: self.changeable,
            has_tier_of: self.has_tier_of,
            name: self.name,
            clock: self.clock,
            max_keys: self.max_keys,
            when_full: self.when_full,
            #[cfg(feature = "tokio")]
            max_wait: self.max_wait,
            #[cfg(feature = "tokio")]
            queue: self.queue,
            store,
            outage,
            key: PhantomData,
        }
    }

    /// The limiter.
    fn assemble(self) -> Result<KeyedLimiter<K, S, T>, ConfigError> {
        if self.max_keys == 0 || self.max_keys > Self::MOST_KEYS {
            let limit = format_args!("must be 1 to {}", Self::MOST_KEYS).to_string();
            return Err(ConfigError::new("max_keys", self.max_keys, limit));
        }
        let name = self.name.unwrap_or_else(|| "keyed-limiter".into());
        let fixed = Tier::new(&self.quotas, &name, self.outage)?;
        let mut named = Vec::with_capacity(self.tiers.len());
        for (tier, quotas) in self.tiers {
            let limits = Tier::new(&quotas, &name, self.outage);
            let limits = limits.map_err(|error| error.inside(tier.as_str()).inside("tiers"))?;
            named.push((tier, limits));
        }
        if !named.is_empty() && !self.has_tier_of {
            return Err(ConfigError::new("tier_by", "not set", "must be given: which keys are of which of the tiers"));
        }
        let changes = self.changeable || !named.is_empty();
        let tiers = changes.then(|| Tiers::new(fixed.clone(), named)).transpose()?;
        let hasher = KeyHasher::new();
        let clock = self.clock.unwrap_or_default();
        let local = match (self.outage, &fixed.shares) {
            (Some(_), None) => Local::None,
            (_, shares) => {
                let limits = shares.as_ref().unwrap_or(&fixed.limits);
                Local::new(limits, changes, self.max_keys, self.when_full, &clock, &hasher)
            }
        };
        Ok(KeyedLimiter {
            fixed,
            tiers,
            tier_of: self.tier_of,
            names: self.quotas.names().map(Option::<&Name>::cloned).collect(),
            reporter: Reporter::new(name),
            clock,
            health: Health::new(hasher.hash("pause")),
            hasher,
            local,
            max_keys: self.max_keys,
            store: self.store,
            outage: self.outage,
            #[cfg(feature = "tokio")]
            lines: super::lines::Lines::default(),
            #[cfg(feature = "tokio")]
            waiting: (self.max_wait, self.queue),
            key: PhantomData,
        })
    }
}

impl<K: ?Sized, T> KeyedLimiterBuilder<K, InMemory, T> {
    /// The limiter, with a full bucket for each key.
    ///
    /// # Errors
    /// Names the field that can't be honoured.
    pub fn build(self) -> Result<KeyedLimiter<K, InMemory, T>, ConfigError> {
        self.assemble()
    }
}

impl<K: ?Sized, S: RateStore, T> KeyedLimiterBuilder<K, S, T> {
    /// The limiter.
    ///
    /// # Errors
    /// Names the field that can't be honoured: `instances` too, where the quota is
    /// too small to be divided by it, and `name`, which a store must have.
    pub fn build(self) -> Result<KeyedLimiter<K, S, T>, ConfigError> {
        if self.name.as_ref().is_none_or(|name| name.as_str().is_empty()) {
            let limit = "must be given: on a store, limiters of one name share their states";
            return Err(ConfigError::new("name", "not set", limit));
        }
        self.assemble()
    }
}

impl<K: ?Sized, S, T> fmt::Debug for KeyedLimiterBuilder<K, S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedLimiterBuilder")
            .field("quotas", &self.quotas)
            .field("name", &self.name)
            .field("max_keys", &self.max_keys)
            .field("when_full", &self.when_full)
            .finish_non_exhaustive()
    }
}

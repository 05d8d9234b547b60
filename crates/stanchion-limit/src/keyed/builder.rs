//! The settings of a keyed limiter.

use std::fmt;
use std::marker::PhantomData;

use stanchion_core::{Clock, ConfigError, Name, RateLimit, RateStore, TokenBucket};

use super::{InMemory, KeyedLimiter};
use crate::hash::KeyHasher;
use crate::outage::Health;
use crate::table::{Table, WhenFull};
use crate::trace::Reporter;
use crate::{Outage, Quota};

/// Settings of a [`KeyedLimiter`].
#[must_use = "a builder builds nothing until it is told to"]
pub struct KeyedLimiterBuilder<K: ?Sized, S = InMemory> {
    pub(super) quota: Quota,
    pub(super) name: Option<Name>,
    pub(super) clock: Option<Clock>,
    pub(super) max_keys: usize,
    pub(super) when_full: WhenFull,
    pub(super) store: S,
    pub(super) outage: Outage,
    pub(super) key: PhantomData<fn() -> *const K>,
}

impl<K: ?Sized, S> KeyedLimiterBuilder<K, S> {
    /// The default of [`max_keys`](Self::max_keys).
    pub(super) const MAX_KEYS: usize = 65_536;
    /// The most that [`max_keys`](Self::max_keys) takes: a table of 28 GiB.
    const MOST_KEYS: usize = 1 << 30;

    /// At most `units` of a key at once, whatever the quota says. Default: the quota's burst.
    pub fn burst(mut self, units: u64) -> Self {
        self.quota = self.quota.burst(units);
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

    /// How many keys can be in debt at a time, in this process. Each takes 28
    /// bytes, all from the start. Default: 65,536, which is 1.75 MiB.
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
    pub fn on<T: RateStore>(self, store: T, outage: Outage) -> KeyedLimiterBuilder<K, T> {
        let Self { quota, name, clock, max_keys, when_full, .. } = self;
        KeyedLimiterBuilder { quota, name, clock, max_keys, when_full, store, outage, key: PhantomData }
    }

    /// The limiter.
    fn assemble(self, needs_table: bool, share: Option<TokenBucket>) -> Result<KeyedLimiter<K, S>, ConfigError> {
        let bucket = self.quota.bucket()?;
        if self.max_keys == 0 || self.max_keys > Self::MOST_KEYS {
            let limit = format_args!("must be 1 to {}", Self::MOST_KEYS).to_string();
            return Err(ConfigError::new("max_keys", self.max_keys, limit));
        }
        let name = self.name.unwrap_or_else(|| "keyed-limiter".into());
        let hasher = KeyHasher::new();
        let max_keys = if needs_table { self.max_keys } else { 0 };
        Ok(KeyedLimiter {
            limit: RateLimit::new(&name, bucket),
            reporter: Reporter::new(name),
            clock: self.clock.unwrap_or_default(),
            health: Health::new(hasher.hash("pause")),
            hasher,
            table: Table::new(max_keys, self.when_full),
            max_keys,
            store: self.store,
            outage: self.outage,
            share,
            key: PhantomData,
        })
    }
}

impl<K: ?Sized> KeyedLimiterBuilder<K, InMemory> {
    /// The limiter, with a full bucket for each key.
    ///
    /// # Errors
    /// Names the field that can't be honoured.
    pub fn build(self) -> Result<KeyedLimiter<K>, ConfigError> {
        self.assemble(true, None)
    }
}

impl<K: ?Sized, S: RateStore> KeyedLimiterBuilder<K, S> {
    /// The limiter.
    ///
    /// # Errors
    /// Names the field that can't be honoured: `instances` too, where the quota is
    /// too small to be divided by it, and `name`, which a store must have.
    pub fn build(self) -> Result<KeyedLimiter<K, S>, ConfigError> {
        if self.name.as_ref().is_none_or(|name| name.as_str().is_empty()) {
            let limit = "must be given: on a store, limiters of one name share their states";
            return Err(ConfigError::new("name", "not set", limit));
        }
        let share = self.outage.share(&self.quota.bucket()?)?;
        self.assemble(share.is_some(), share)
    }
}

impl<K: ?Sized, S> fmt::Debug for KeyedLimiterBuilder<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedLimiterBuilder")
            .field("quota", &self.quota)
            .field("name", &self.name)
            .field("max_keys", &self.max_keys)
            .field("when_full", &self.when_full)
            .finish_non_exhaustive()
    }
}

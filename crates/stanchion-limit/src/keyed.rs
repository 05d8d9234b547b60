//! One limit for each key.

use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::time::Duration;

use stanchion_core::{
    Admission, Answer, BoxFuture, Call, Clock, ConfigError, Decision, Gate, IntoGate, Key, Moment, Name, Outcome,
    RateLimit, RateRequest, RateStore, Rejection, StoreError, Ticket, TokenBucket,
};

use crate::hash::KeyHasher;
use crate::limit::Limit;
use crate::limiter::{admission, admitted};
use crate::outage::{Course, Episode, Health};
use crate::table::{Table, WhenFull};
use crate::trace::Reporter;
use crate::{Outage, Quota, gcra};

/// One rate limit for each key: in any window of length `W`, each admits at
/// most `burst + ⌊W · count / period⌋` units.
///
/// `K` is the type of the keys: `str`, `IpAddr`, `u64`, whatever is [`Hash`].
/// `S` is where the states are: in this process, or in a [`RateStore`] that all
/// instances share, for keys that are [`Key`].
///
/// # In this process
/// A check decides at once. Keys are hashed, not stored; they need no cleaning
/// up, since a key that is out of debt gives its place to the next one. At most
/// [`max_keys`](KeyedLimiterBuilder::max_keys) keys can be in debt at a time;
/// [`when_full`](KeyedLimiterBuilder::when_full) says what becomes of one more.
///
/// ```
/// use std::net::IpAddr;
/// use stanchion_limit::{KeyedLimiter, Quota, WhenFull};
///
/// struct Api {
///     per_address: KeyedLimiter<IpAddr>,
/// }
/// let api = Api {
///     per_address: KeyedLimiter::builder(Quota::per_second(5).burst(1))
///         .max_keys(10_000)
///         .when_full(WhenFull::Forget)
///         .build()?,
/// };
/// let home: IpAddr = [127, 0, 0, 1].into();
/// assert!(api.per_address.check(&home).allowed());
/// assert!(!api.per_address.check(&home).allowed());
/// # Ok::<(), stanchion_limit::ConfigError>(())
/// ```
///
/// # On a store
/// The same checks, awaited, and an [`Outage`] policy for when the store gives
/// no answer.
///
/// ```
/// use stanchion_limit::{KeyedLimiter, MemoryRateStore, Outage, Quota};
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let store = MemoryRateStore::new(10_000); // or `RedisRateStore`
/// let limiter: KeyedLimiter<str, _> =
///     KeyedLimiter::builder(Quota::per_minute(100).burst(20)).on(store, Outage::Admit).build()?;
/// let decision = limiter.check("alice").await?;
/// assert_eq!((decision.allowed(), decision.remaining()), (true, 19));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct KeyedLimiter<K: ?Sized, S = InMemory> {
    limit: RateLimit,
    reporter: Reporter,
    clock: Clock,
    hasher: KeyHasher,
    /// The states in this process: all of them, or those of the local share.
    table: Table,
    max_keys: usize,
    store: S,
    outage: Outage,
    /// What the table counts with in an outage.
    share: Option<TokenBucket>,
    health: Health,
    key: PhantomData<fn(&K)>,
}

/// The states of a [`KeyedLimiter`] are in this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct InMemory;

impl<K: ?Sized> KeyedLimiter<K> {
    /// A limiter in this process, of this quota for each key.
    ///
    /// # Errors
    /// Names the field of the quota that can't be honoured.
    pub fn new(quota: Quota) -> Result<Self, ConfigError> {
        Self::builder(quota).build()
    }

    /// Settings beyond the quota.
    pub fn builder(quota: Quota) -> KeyedLimiterBuilder<K> {
        KeyedLimiterBuilder {
            quota,
            name: "keyed-limiter".into(),
            clock: None,
            max_keys: KeyedLimiterBuilder::<K>::MAX_KEYS,
            when_full: WhenFull::default(),
            store: InMemory,
            outage: Outage::Refuse,
            key: PhantomData,
        }
    }
}

impl<K: Hash + ?Sized> KeyedLimiter<K, InMemory> {
    /// Takes one unit of the key's, if it is there.
    #[inline]
    pub fn check(&self, key: &K) -> Decision {
        self.check_n(key, 1)
    }

    /// Takes `cost` units of the key's, or none. A cost of 0 only looks.
    #[inline]
    pub fn check_n(&self, key: &K, cost: u64) -> Decision {
        self.take(key, cost, || self.clock.now(), || Some(gcra::ticks(self.limit.bucket(), self.clock.now())))
    }

    /// The same at a time that the caller has read already, from the clock of
    /// this limiter. A time that is earlier than another thread's last one may
    /// let a key that has just come out of debt begin afresh too early, by the
    /// difference.
    #[inline]
    pub fn check_at(&self, now: Moment, key: &K, cost: u64) -> Decision {
        self.take(key, cost, || now, || None)
    }

    #[inline]
    fn take(&self, key: &K, cost: u64, now: impl Fn() -> Moment, again: impl Fn() -> Option<u64>) -> Decision {
        let bucket = self.limit.bucket();
        let decision = match bucket.cost(cost) {
            Some(ticks) => self.table.take(self.hasher.hash(key), bucket, ticks, || gcra::ticks(bucket, now()), again),
            None => Decision::never_fits(bucket),
        };
        self.reporter.decided(&decision);
        decision
    }
}

impl<K: Key + ?Sized, S: RateStore> KeyedLimiter<K, S> {
    /// Takes one unit of the key's, if it is there.
    ///
    /// # Errors
    /// Only those of the store that don't pass by themselves, such as a missing
    /// right: they want a person, not a policy. While the store can't be
    /// reached or doesn't answer in time, the [`Outage`] policy decides.
    ///
    /// # Cancellation
    /// Dropping the answer leaves open whether the unit was taken.
    pub fn check(&self, key: &K) -> Answer<'_, Result<Decision, StoreError>> {
        self.check_n(key, 1)
    }

    /// Takes `cost` units of the key's, or none. A cost of 0 only looks.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    ///
    /// # Cancellation
    /// As [`check`](Self::check).
    pub fn check_n(&self, key: &K, cost: u64) -> Answer<'_, Result<Decision, StoreError>> {
        key.with_bytes(|bytes| {
            let request = RateRequest::single(bytes, cost, &self.limit);
            if let Some(never) = request.never_fits() {
                self.reporter.decided(&never);
                return Answer::Ready(Ok(never));
            }
            let hash = self.hasher.hash(bytes);
            match self.health.course(|| self.clock.now()) {
                Course::Bypass(retry) => Answer::Ready(Ok(self.without_store(hash, cost, retry))),
                Course::Ask(episode) => match self.store.decide(request) {
                    Answer::Ready(result) => Answer::Ready(self.concluded(episode, hash, cost, result)),
                    Answer::Later(future) => {
                        Answer::later(async move { self.concluded(episode, hash, cost, future.await) })
                    }
                },
            }
        })
    }

    /// The store's answer, or the policy's in its place.
    fn concluded(
        &self,
        episode: Episode,
        hash: u64,
        cost: u64,
        result: Result<Decision, StoreError>,
    ) -> Result<Decision, StoreError> {
        if let Err(error) = &result {
            self.reporter.store_failed(error);
            if error.is_temporary() {
                let retry = self.health.failed(episode, self.clock.now());
                return Ok(self.without_store(hash, cost, retry));
            }
        }
        // An error that wants a person is an answer, too: it is not hidden behind a policy.
        if self.health.answered(episode) {
            self.reporter.store_recovered();
        }
        if let Ok(decision) = &result {
            self.reporter.decided(decision);
        }
        result
    }

    fn without_store(&self, hash: u64, cost: u64, retry: Duration) -> Decision {
        let decision = match &self.share {
            Some(share) => {
                let taken = match share.cost(cost) {
                    Some(ticks) => {
                        let now = || gcra::ticks(share, self.clock.now());
                        self.table.take(hash, share, ticks, now, || Some(now()))
                    }
                    // It fits the whole but not the share: not yet, rather than never.
                    None => Decision::refused_by(share, share.capacity(), share.capacity()),
                };
                taken.as_degraded()
            }
            None => self.outage.decide(self.limit.bucket(), retry),
        };
        self.reporter.decided(&decision);
        decision
    }

    /// The decision, if the store needn't be asked for it.
    fn try_check(&self, key: &K, cost: u64) -> Option<Decision> {
        let bucket = self.limit.bucket();
        if bucket.cost(cost).is_none() {
            let never = Decision::never_fits(bucket);
            self.reporter.decided(&never);
            return Some(never);
        }
        let retry = self.health.rest(|| self.clock.now())?;
        Some(self.without_store(key.with_bytes(|bytes| self.hasher.hash(bytes)), cost, retry))
    }

    /// As [`check_n`](Self::check_n), with the policy's decision in place of any error.
    async fn check_anyway(&self, key: &K, cost: u64) -> Decision {
        match self.check_n(key, cost).await {
            Ok(decision) => decision,
            // The error has been reported.
            Err(_) => {
                let hash = key.with_bytes(|bytes| self.hasher.hash(bytes));
                self.without_store(hash, cost, Duration::from_secs(1))
            }
        }
    }
}

impl<K: ?Sized, S> KeyedLimiter<K, S> {
    /// What it is called in rejections, in telemetry and in a store.
    pub fn name(&self) -> &str {
        self.reporter.name().as_str()
    }

    /// The numbers of the limit.
    pub const fn bucket(&self) -> TokenBucket {
        *self.limit.bucket()
    }

    /// How it stands now.
    pub fn snapshot(&self) -> KeyedSnapshot {
        KeyedSnapshot {
            name: self.name().to_owned(),
            max_keys: self.max_keys,
            table_bytes: self.table.bytes(),
            keys_turned_away: self.table.turned_away(),
            keys_forgotten: self.table.forgotten(),
            store_failures: self.health.failures(),
            store_is_ill: self.health.is_ill(),
        }
    }

    /// How many keys are in debt now, in this process. Walks the whole table.
    pub fn keys_in_debt(&self) -> usize {
        let bucket = self.share.as_ref().unwrap_or_else(|| self.limit.bucket());
        self.table.in_debt(gcra::ticks(bucket, self.clock.now()))
    }
}

impl<K: ?Sized, S> fmt::Debug for KeyedLimiter<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedLimiter").field("limit", &self.limit).field("snapshot", &self.snapshot()).finish()
    }
}

/// How a [`KeyedLimiter`] stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct KeyedSnapshot {
    /// The limiter's name.
    pub name: String,
    /// How many keys can be in debt at a time, in this process.
    pub max_keys: usize,
    /// The bytes of the table in this process.
    pub table_bytes: usize,
    /// New keys refused for want of room.
    pub keys_turned_away: u64,
    /// Keys in debt that were forgotten for new ones.
    pub keys_forgotten: u64,
    /// Requests to which the store gave no answer.
    pub store_failures: u64,
    /// Whether the store is left alone at present, and the outage policy decides.
    pub store_is_ill: bool,
}

/// Settings of a [`KeyedLimiter`].
#[must_use = "a builder builds nothing until it is told to"]
pub struct KeyedLimiterBuilder<K: ?Sized, S = InMemory> {
    quota: Quota,
    name: Name,
    clock: Option<Clock>,
    max_keys: usize,
    when_full: WhenFull,
    store: S,
    outage: Outage,
    key: PhantomData<fn(&K)>,
}

impl<K: ?Sized, S> KeyedLimiterBuilder<K, S> {
    /// The default of [`max_keys`](Self::max_keys).
    const MAX_KEYS: usize = 65_536;
    /// The most that [`max_keys`](Self::max_keys) takes: a table of 28 GiB.
    const MOST_KEYS: usize = 1 << 30;

    /// At most `units` of a key at once, whatever the quota says. Default: the quota's burst.
    pub fn burst(mut self, units: u64) -> Self {
        self.quota = self.quota.burst(units);
        self
    }

    /// What it is called in rejections, in telemetry, and in a store, where
    /// limiters of one name share their states. Default: `keyed-limiter`.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = name.into();
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
        let hasher = KeyHasher::new();
        let max_keys = if needs_table { self.max_keys } else { 0 };
        Ok(KeyedLimiter {
            limit: RateLimit::new(self.name.clone(), bucket),
            reporter: Reporter::new(self.name),
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
    /// Names the field that can't be honoured: `instances` too, where the
    /// quota is too small to be divided by it.
    pub fn build(self) -> Result<KeyedLimiter<K, S>, ConfigError> {
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

impl Limit for KeyedLimiter<[u8]> {
    fn try_decide(&self, key: &[u8], cost: u64) -> Option<Decision> {
        Some(self.check_n(key, cost))
    }

    fn decide<'a>(&'a self, key: &'a [u8], cost: u64) -> BoxFuture<'a, Decision> {
        Box::pin(async move { self.check_n(key, cost) })
    }

    fn name(&self) -> &str {
        self.name()
    }
}

/// Errors that want a person are reported, and the [`Outage`] policy decides.
impl<S: RateStore> Limit for KeyedLimiter<[u8], S> {
    fn try_decide(&self, key: &[u8], cost: u64) -> Option<Decision> {
        self.try_check(key, cost)
    }

    fn decide<'a>(&'a self, key: &'a [u8], cost: u64) -> BoxFuture<'a, Decision> {
        Box::pin(self.check_anyway(key, cost))
    }

    fn name(&self) -> &str {
        self.name()
    }
}

/// Takes the call's cost from the bucket of the call's key.
impl Gate for KeyedLimiter<[u8]> {
    fn try_admit(&self, call: &Call<'_>) -> Admission {
        admission(self.reporter.name(), &self.check_n(call.key_bytes(), call.units()))
    }

    fn settle(&self, _ticket: Ticket, _outcome: Outcome, _elapsed: Duration) {}
}

/// Takes the call's cost from the bucket of the call's key, which the store
/// has. Errors that want a person are reported, and the [`Outage`] policy decides.
impl<S: RateStore> Gate for KeyedLimiter<[u8], S> {
    fn try_admit(&self, call: &Call<'_>) -> Admission {
        match self.try_check(call.key_bytes(), call.units()) {
            Some(decision) => admission(self.reporter.name(), &decision),
            None => Admission::Wait,
        }
    }

    fn admit<'a>(&'a self, call: &'a Call<'a>) -> BoxFuture<'a, Result<Ticket, Rejection>> {
        Box::pin(
            async move { admitted(self.reporter.name(), &self.check_anyway(call.key_bytes(), call.units()).await) },
        )
    }

    fn settle(&self, _ticket: Ticket, _outcome: Outcome, _elapsed: Duration) {}
}

impl IntoGate for KeyedLimiterBuilder<[u8], InMemory> {
    fn into_gate(self) -> Result<std::sync::Arc<dyn Gate>, ConfigError> {
        self.build()?.into_gate()
    }
}

impl<S: RateStore + 'static> IntoGate for KeyedLimiterBuilder<[u8], S> {
    fn into_gate(self) -> Result<std::sync::Arc<dyn Gate>, ConfigError> {
        self.build()?.into_gate()
    }
}

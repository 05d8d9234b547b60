//! One limit for each key.

mod builder;
mod gate;

use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::time::Duration;

use stanchion_core::{
    Answer, Clock, ConfigError, Decision, Key, Moment, RateLimit, RateRequest, RateStore, StoreError, TokenBucket,
};

pub use builder::KeyedLimiterBuilder;

use crate::hash::KeyHasher;
use crate::outage::{Course, Episode, Health};
use crate::table::{Table, WhenFull};
use crate::trace::Reporter;
use crate::{Outage, Quota, gcra};

/// One rate limit for each key: in any window of length `W`, each admits at
/// most `burst + ⌊W · count / period⌋` units.
///
/// `K` is the type of the keys: `str` (rather than `String`), `IpAddr`, `u64`, a
/// tuple such as `(&str, u64)`, whatever is [`Hash`].
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
/// no answer. Limiters of one name share their states: that is how the instances
/// of a service share a limit. Two quotas under one name, as while a new version
/// is rolled out, cut each other's debts; give a changed quota a new name where
/// that matters.
///
/// ```
/// use stanchion_limit::{KeyedLimiter, MemoryRateStore, Outage, Quota};
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let store = MemoryRateStore::new(10_000); // or `RedisRateStore`
/// let limiter: KeyedLimiter<str, _> =
///     KeyedLimiter::builder(Quota::per_minute(100).burst(20)).name("api").on(store, Outage::Admit).build()?;
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
    key: PhantomData<fn() -> *const K>,
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
            name: None,
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
        self.take(key, cost, || self.clock.now(), || self.now_again())
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
        if result.is_err() {
            self.health.count_failure();
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

    /// The time in ticks, for the rare occasion that it is wanted twice.
    #[cold]
    #[inline(never)]
    fn now_again(&self) -> Option<u64> {
        Some(gcra::ticks(self.limit.bucket(), self.clock.now()))
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
    /// Requests that the store didn't decide: it gave no answer, or refused.
    pub store_failures: u64,
    /// Whether the outage policy decides at present. Only a request finds out that
    /// the store has recovered.
    pub store_is_ill: bool,
}

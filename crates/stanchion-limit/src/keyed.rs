//! One limit for each key.

mod builder;
mod gate;
#[cfg(feature = "tokio")]
mod lines;
mod local;
mod remote;
mod tiers;

use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;

use stanchion_core::{Ask, Clock, ConfigError, Decision, Moment, Name, RateLimit, RateRequest, RateRule, Receipt};

pub use builder::KeyedLimiterBuilder;
use local::Local;
pub use tiers::{NoTiers, TierBy, TierOf};
use tiers::{Tier, Tiers};

use crate::hash::KeyHasher;
use crate::outage::Health;
use crate::quota::Quotas;
use crate::reservation::{Reservation, TakesBack};
use crate::trace::Reporter;
use crate::{Outage, gcra};
#[cfg(feature = "tokio")]
use {
    crate::line::Wait,
    stanchion_core::{BoxFuture, Rejection, RejectionKind, Verdict},
    std::time::Duration,
};

/// One limit for each key. By default it is a token bucket: in any window of length `W`, each key is
/// admitted at most `burst + ⌊W · count / period⌋` units; a [`Quota`](crate::Quota) says what else it can be, and what it
/// promises then. Several quotas hold all at once, all or nothing.
///
/// `K` is the type of the keys: `str` (rather than `String`), `IpAddr`, `u64`, a
/// tuple such as `(&str, u64)`, whatever is [`Hash`].
/// `T` says of which tier a key is, if there are any.
/// `S` is where the states are: in this process, or in a [`RateStore`](crate::RateStore) that all
/// instances share, for keys that are [`Key`](crate::Key).
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
/// # Tiers
/// The quota of a key may depend on what it has paid for, and be changed while running. What
/// was used stays used: a bucket's debt stays as long as it was in time, or
/// becomes an empty bucket if that is shorter; counts and logs stay as they are. So all tiers count by
/// the same algorithm, quota by quota. Who could choose his tier at each call would gain by it, since an hour's
/// debt to one bucket is a second's to another: a tier is for what somebody has paid, not for what he asks.
///
/// ```
/// use stanchion_limit::{KeyedLimiter, Quota};
///
/// let limiter = KeyedLimiter::<str>::builder(Quota::per_minute(10))
/// #   .clock(stanchion_limit::ManualClock::new())
///     .tier("free", Quota::per_minute(10))
///     .tier("paid", Quota::per_minute(1_000))
///     .tier_by(|key: &str| if key.starts_with("paid-") { "paid" } else { "free" })
///     .build()?;
/// assert!(!limiter.check_n("somebody", 11).allowed());
/// assert!(limiter.check_n("paid-somebody", 11).allowed());
/// // 11 units are a debt of 660 ms, and of 22 units when these come twice as fast.
/// limiter.set_tier("paid", Quota::per_minute(2_000))?;
/// assert_eq!(limiter.peek("paid-somebody").remaining(), 1_978);
/// # Ok::<(), stanchion_limit::ConfigError>(())
/// ```
///
/// # On a store
/// The same checks, awaited, and an [`Outage`] policy for when the store gives
/// no answer. Limiters of one name share their states: that is how the instances
/// of a service share a limit, and the routes of a tenant: see [`Quotas`](crate::Quotas). Two quotas under one name, as while a new version
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
pub struct KeyedLimiter<K: ?Sized, S = InMemory, T = NoTiers> {
    /// The limits, where they don't depend on the key and never change.
    fixed: Tier,
    /// Where they do.
    tiers: Option<Tiers>,
    tier_of: T,
    names: Box<[Option<Name>]>,
    reporter: Reporter,
    clock: Clock,
    hasher: KeyHasher,
    /// The states in this process: all of them, or those of the local share.
    local: Local,
    max_keys: usize,
    store: S,
    outage: Option<Outage>,
    health: Health,
    #[cfg(feature = "tokio")]
    lines: lines::Lines,
    /// How long a gate waits, and how many may for each key.
    #[cfg(feature = "tokio")]
    waiting: (Duration, usize),
    key: PhantomData<fn() -> *const K>,
}

/// The states of a [`KeyedLimiter`] are in this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct InMemory;

impl<K: ?Sized> KeyedLimiter<K> {
    /// A limiter in this process, of this quota for each key, or of several.
    ///
    /// # Errors
    /// Names the field of the quota that can't be honoured.
    pub fn new(quotas: impl Into<Quotas>) -> Result<Self, ConfigError> {
        Self::builder(quotas).build()
    }
}

impl<K: Hash + ?Sized, T: TierOf<K>> KeyedLimiter<K, InMemory, T> {
    /// Takes one unit of the key's, if it is there.
    #[inline]
    pub fn check(&self, key: &K) -> Decision {
        self.check_n(key, 1)
    }

    /// Takes `cost` units of the key's, or none. A cost of 0 only looks.
    #[inline]
    pub fn check_n(&self, key: &K, cost: u64) -> Decision {
        self.take(key, cost, || self.clock.now(), || self.now_again(), None)
    }

    /// The same at a time that the caller has read already, from the clock of
    /// this limiter. A time that is earlier than another thread's last one may
    /// let a key that has just come out of debt begin afresh too early, by the
    /// difference.
    #[inline]
    pub fn check_at(&self, now: Moment, key: &K, cost: u64) -> Decision {
        self.take(key, cost, || now, || None, Some(now))
    }

    #[inline]
    fn take(
        &self,
        key: &K,
        cost: u64,
        now: impl Fn() -> Moment,
        again: impl Fn() -> Option<u64>,
        at: Option<Moment>,
    ) -> Decision {
        let hash = self.hasher.hash(key);
        let decision = match &self.local {
            Local::Table { bucket, table } if !self.somebody_waits(hash) => match bucket.cost(cost) {
                Some(ticks) => table.take(hash, bucket, ticks, || gcra::ticks(bucket, now()), again).granting(cost),
                None => Decision::never_fits(bucket),
            },
            _ => self.ask(key, hash, Ask::Exactly, cost, at),
        };
        self.reporter.decided(&decision);
        decision
    }

    /// Takes as many of `units` of the key's as are there: [`Decision::granted`] says how many.
    /// Refused only if there are none.
    pub fn take_up_to(&self, key: &K, units: u64) -> Decision {
        let decision = self.ask(key, self.hasher.hash(key), Ask::UpTo, units, None);
        self.reporter.decided(&decision);
        decision
    }

    /// Takes `units` of the key's that have been used already, into debt if need be: see
    /// [`Limiter::charge`](crate::Limiter::charge).
    pub fn charge(&self, key: &K, units: u64) -> Decision {
        let decision = self.ask(key, self.hasher.hash(key), Ask::Overdraw, units, None);
        self.reporter.decided(&decision);
        decision
    }

    /// Takes `units` of the key's, or none, for a cost that is known only afterwards: what was not
    /// used goes back.
    ///
    /// # Errors
    /// The refusal, as a decision.
    pub fn reserve(&self, key: &K, units: u64) -> Result<Reservation<'_>, Decision> {
        let hash = self.hasher.hash(key);
        let limits = self.tier(key).limits;
        let (decision, receipt) = match self.turned_away(hash, &limits, Ask::Exactly, units) {
            Some(refused) => (refused, Receipt::new(0, Vec::new())),
            None => self.local.reserve(&self.clock, hash, &limits, units),
        };
        self.reporter.decided(&decision);
        if decision.allowed() { Ok(Reservation::new(self, hash, limits, receipt, decision)) } else { Err(decision) }
    }

    /// How the key's limit stands. Takes nothing, and is counted nowhere.
    pub fn peek(&self, key: &K) -> Decision {
        self.ask(key, self.hasher.hash(key), Ask::Exactly, 0, None)
    }

    fn ask(&self, key: &K, hash: u64, ask: Ask, units: u64, at: Option<Moment>) -> Decision {
        let limits = self.tier(key).limits;
        let refused = self.turned_away(hash, &limits, ask, units);
        refused.unwrap_or_else(|| self.local.ask(&self.clock, hash, &limits, ask, units, at))
    }

    /// The refusal that needs no state: what never fits, and who comes while others wait.
    fn turned_away(&self, hash: u64, limits: &[RateLimit], ask: Ask, units: u64) -> Option<Decision> {
        let request = RateRequest::of(b"", units, limits).ask(ask);
        if let Some(never) = request.never_fits() {
            return Some(never);
        }
        #[cfg(feature = "tokio")]
        if let Some(line) = self.lines.of(hash).filter(|_| units > 0 && ask != Ask::Overdraw) {
            let look = self.local.ask(&self.clock, hash, limits, Ask::Exactly, 0, None);
            let wait = crate::line::least_wait(&self.local.looks(&self.clock, hash, limits), line.length().1, 1);
            return Some(look.refused_for(wait.max(Duration::from_nanos(1))));
        }
        let _ = hash;
        None
    }

    /// Whether somebody is in line for a key.
    #[inline]
    fn somebody_waits(&self, hash: u64) -> bool {
        #[cfg(feature = "tokio")]
        return self.lines.of(hash).is_some();
        #[cfg(not(feature = "tokio"))]
        {
            let _ = hash;
            false
        }
    }
}

#[cfg(feature = "tokio")]
impl<K: Hash + Sync + ?Sized, T: TierOf<K>> KeyedLimiter<K, InMemory, T> {
    /// Takes one unit of the key's, and waits for it in the key's line, for `max_wait` at most: see
    /// [`Limiter::acquire`](crate::Limiter::acquire).
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancellation
    /// Dropping the future gives up the place in line. Nothing is taken before it is ready.
    pub async fn acquire(&self, key: &K, max_wait: Duration) -> Result<(), Rejection> {
        self.acquire_n(key, 1, max_wait).await
    }

    /// The same for `units` at once; nobody overtakes within a key.
    ///
    /// # Errors
    /// As [`Limiter::acquire_n`](crate::Limiter::acquire_n).
    pub async fn acquire_n(&self, key: &K, units: u64, max_wait: Duration) -> Result<(), Rejection> {
        if units == 0 || !self.somebody_waits(self.hasher.hash(key)) {
            let decision = self.check_n(key, units);
            if !matches!(decision.verdict(), Verdict::Refused | Verdict::KeysFull) {
                return crate::limiter::admitted(self.reporter.name(), &decision).map(drop);
            }
        }
        self.wait_in_line(key, units, (max_wait, RejectionKind::RateLimited)).await
    }

    /// A box, so that those who need not wait don't carry what waiting takes.
    fn wait_in_line<'a>(
        &'a self,
        key: &'a K,
        units: u64,
        (most, too_long): (Duration, RejectionKind),
    ) -> BoxFuture<'a, Result<(), Rejection>> {
        Box::pin(async move {
            let hash = self.hasher.hash(key);
            let limits = self.tier(key).limits;
            if let Some(never) = RateRequest::of(b"", units, &limits).never_fits() {
                return crate::limiter::admitted(self.reporter.name(), &never).map(drop);
            }
            let place = self.lines.enter(hash);
            let wait = Wait { name: self.name(), units, most, too_long, queue: self.waiting.1 };
            let looks = self.local.looks(&self.clock, hash, &limits);
            let least = |ahead| crate::line::least_wait(&looks, ahead, units);
            let ask = || async {
                let limits = self.tier(key).limits;
                let never = RateRequest::of(b"", units, &limits).never_fits();
                never.unwrap_or_else(|| self.local.ask(&self.clock, hash, &limits, Ask::Exactly, units, None))
            };
            let result = place.line().wait(wait, least, ask).await;
            result.map(|decision| self.reporter.decided(&decision))
        })
    }
}

impl<K: ?Sized, T: Send + Sync> TakesBack for KeyedLimiter<K, InMemory, T> {
    fn take_back(&self, hash: u64, limits: &[RateLimit], receipt: &Receipt, units: u64) -> u64 {
        let back = self.local.give_back(&self.clock, hash, limits, receipt, units);
        #[cfg(feature = "tokio")]
        self.lines.changed(Some(hash));
        back
    }
}

impl<K: ?Sized, S, T> KeyedLimiter<K, S, T> {
    /// What it is called in rejections, in telemetry and in a store.
    pub fn name(&self) -> &str {
        self.reporter.name().as_str()
    }

    /// The numbers of the limits, as they were built, for keys of no tier.
    pub fn rules(&self) -> impl Iterator<Item = RateRule> + '_ {
        self.fixed.limits.iter().map(|limit| *limit.rule())
    }

    /// The name of the quota that decided, where there are several.
    pub fn limit_name(&self, decision: &Decision) -> Option<Name> {
        self.names.get(decision.limit_index())?.clone()
    }

    /// Sets the quota of keys of no tier, while running: see [Tiers](#tiers). From the next
    /// check on; what was used stays used.
    ///
    /// # Errors
    /// Names what can't be honoured: `changeable`, if the limiter was built neither with tiers nor as
    /// [`changeable`](KeyedLimiterBuilder::changeable); `quotas`, if they have other names than before.
    pub fn set_quotas(&self, quotas: impl Into<Quotas>) -> Result<(), ConfigError> {
        self.set(None, &quotas.into())
    }

    /// Sets the quota of a tier, or adds the tier, while running: see [Tiers](#tiers).
    ///
    /// # Errors
    /// As [`set_quotas`](Self::set_quotas).
    pub fn set_tier(&self, tier: &str, quotas: impl Into<Quotas>) -> Result<(), ConfigError> {
        self.set(Some(tier), &quotas.into())
    }

    fn set(&self, tier: Option<&str>, quotas: &Quotas) -> Result<(), ConfigError> {
        let Some(tiers) = &self.tiers else {
            return Err(ConfigError::new("changeable", false, "the limiter was built without tiers and as it is"));
        };
        tiers.set(tier, Tier::new(quotas, self.reporter.name(), self.outage)?)?;
        #[cfg(feature = "tokio")]
        self.lines.changed(None);
        Ok(())
    }

    /// The limits of a key.
    fn tier(&self, key: &K) -> Tier
    where
        T: TierOf<K>,
    {
        // The user's function runs outside of the lock.
        self.tiers.as_ref().map_or_else(|| self.fixed.clone(), |tiers| tiers.get(self.tier_of.tier_of(key).as_ref()))
    }

    /// The time in ticks, for the rare occasion that it is wanted twice.
    #[cold]
    #[inline(never)]
    fn now_again(&self) -> Option<u64> {
        match &self.local {
            Local::Table { bucket, .. } => Some(gcra::ticks(bucket, self.clock.now())),
            _ => None,
        }
    }

    /// How it stands now.
    pub fn snapshot(&self) -> KeyedSnapshot {
        let [keys_turned_away, keys_forgotten] = self.local.lost();
        KeyedSnapshot {
            name: self.name().to_owned(),
            max_keys: self.max_keys,
            table_bytes: self.local.bytes(),
            keys_turned_away,
            keys_forgotten,
            unknown_tiers: self.tiers.as_ref().map_or(0, Tiers::unknown),
            waiting: self.waiting(),
            store_failures: self.health.failures(),
            store_is_ill: self.health.is_ill(),
        }
    }

    fn waiting(&self) -> usize {
        #[cfg(feature = "tokio")]
        return self.lines.waiting();
        #[cfg(not(feature = "tokio"))]
        0
    }

    /// How many keys are in debt now, in this process; of several quotas, each counts by
    /// itself. Walks the whole table.
    pub fn keys_in_debt(&self) -> usize {
        self.local.in_debt(&self.clock)
    }
}

impl<K: ?Sized, S, T> fmt::Debug for KeyedLimiter<K, S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedLimiter").field("limits", &self.fixed.limits).field("snapshot", &self.snapshot()).finish()
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
    /// The bytes of the table in this process; 0 where the states are in a map that grows.
    pub table_bytes: usize,
    /// New keys refused for want of room.
    pub keys_turned_away: u64,
    /// Keys in debt that were forgotten for new ones.
    pub keys_forgotten: u64,
    /// Requests of keys whose tier isn't there; they were limited by the default quota.
    pub unknown_tiers: u64,
    /// How many wait in line.
    pub waiting: usize,
    /// Requests that the store didn't decide: it gave no answer, or refused.
    pub store_failures: u64,
    /// Whether the outage policy decides at present. Only a request finds out that
    /// the store has recovered.
    pub store_is_ill: bool,
}

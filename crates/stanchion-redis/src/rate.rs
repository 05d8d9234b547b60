//! Rate limits on Redis.

mod wire;

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use redis::FromRedisValue;
use redis::aio::{ConnectionLike, ConnectionManager};
use stanchion_core::{
    Answer, ConfigError, Decision, RateLimit, RateRequest, RateRule, RateStore, Receipt, StoreError, StoreErrorKind,
};

use self::wire::{Asked, One, Returned};
use crate::client::Client;
use crate::key::Prefix;
use crate::link::Link;
use crate::script::{Call, Script};

/// A [`RateStore`] on Redis: each decision is one script and one round trip, by
/// the server's clock, and equal to the nanosecond to what the same history gives in
/// memory. Any rules, any number of limits, asked in any way, all or nothing; units that are
/// given back are one round trip, too.
///
/// For each key and limit there is one Redis key, which goes away by itself a second after
/// what it remembers is worth nothing. All of one request lie in one hash slot. Keys of more
/// than 128 bytes are hashed. The memory that one takes on Redis 7.0, for a key of 17 bytes
/// and a limit named `api` (`tests/economy.rs` measures it):
///
/// | Rule | Redis key | A string or list | Bytes |
/// |---|---|---|---|
/// | [`TokenBucket`](stanchion_core::TokenBucket) | `prefix:rate:{key}:limit` | when it is full | 88 to 120 |
/// | the same, while units of it may be given back | | and what was given back | 136 |
/// | [`FixedWindow`](stanchion_core::FixedWindow) | `prefix:rate-window:{key}:limit` | `end:used` | 136 |
/// | [`SlidingCounter`](stanchion_core::SlidingCounter) | `prefix:rate-counter:{key}:limit` | two counts | 136 |
/// | [`SlidingLog`](stanchion_core::SlidingLog) | `prefix:rate-log:{key}:limit` | the admissions in a window | 200, and 20 for each |
///
/// A refusal writes nothing, but that it may drop what has long expired of a log. A decision
/// takes the same time however much a log remembers; one that asks a log for many units at
/// once, or gives back to it, reads a number of entries with that.
///
/// Every decision has a deadline; a decision that failed or was late is not asked again,
/// since its tokens may be taken. Units whose return failed or was late are not
/// returned again.
///
/// Times must lie before the year 2255, and [`Ask::UpTo`](stanchion_core::Ask::UpTo) asks for at most 2^53 - 1
/// units.
///
/// # Failover
/// Redis replicates asynchronously. A replica that is promoted without the writes of
/// its last `lag` admits again what these had admitted, for each key and each failover:
///
/// `lost ≤ burst + ⌊lag / T⌋`, where `T = period / count`,
///
/// so any window of length W admits at most `burst + ⌊W / T⌋ + lost`: what survives
/// keeps to the bound, and what was lost kept to it while it was admitted. The tests
/// check every window of a failover whose lag they choose.
///
/// A promoted server whose clock is ahead by `skew` admits at most
/// `min(burst, ⌈skew / T⌉)` on top. One whose clock is behind admits nothing more; it
/// makes a key wait for at most a second longer than for an empty bucket.
///
/// A server that restarts without persistence, or that evicts keys for want of memory,
/// has forgotten all: it admits at most another `burst`.
pub struct RedisRateStore<C = ConnectionManager> {
    client: Client<C>,
    nonces: Nonces,
}

/// One bucket in whole microseconds: most requests.
static ONE: Script = Script::new(include_str!("rate/one.lua"));
/// A script on any limits: what all have, the rules, and what is to be done.
macro_rules! with_rules {
    ($act:literal) => {
        Script::new(concat!(
            include_str!("rate/begin.lua"),
            include_str!("rate/bucket.lua"),
            include_str!("rate/fixed.lua"),
            include_str!("rate/counter.lua"),
            include_str!("rate/log.lua"),
            include_str!($act),
        ))
    };
}

/// Any limits, asked in any way.
static DECIDE: Script = with_rules!("rate/decide.lua");
static GIVE_BACK: Script = with_rules!("rate/give_back.lua");

impl RedisRateStore {
    /// A store on the server at `url`, such as `redis://127.0.0.1/`.
    ///
    /// It connects at the first decision, in the background, and again whenever
    /// the connection is lost; so a service starts while its Redis is away.
    ///
    /// Several limiters share one connection by sharing the store in an
    /// [`Arc`](std::sync::Arc). For a cluster there is `connect_cluster` (feature
    /// `cluster`). For TLS or sentinels make a connection with the `redis` crate, 1.x, and
    /// hand it to [`new`](Self::new).
    ///
    /// # Errors
    /// A `url` that is none, or no tokio runtime around the call. Whether anybody
    /// answers there is not asked.
    pub fn connect(url: &str) -> Result<Self, StoreError> {
        Link::connect(url).map(Self::on)
    }
}

impl<C: Clone> RedisRateStore<C> {
    /// A store on a connection that can be shared by cloning: a
    /// `ConnectionManager`, a `MultiplexedConnection`, a cluster connection.
    ///
    /// A connection that dies without a word is the connection's to notice; one
    /// made by [`connect`](RedisRateStore::connect) is replaced. Mind that redis' own
    /// cluster connection, unless it is told `retries(0)`, sends a decision again whose
    /// fate is unknown, and so may take its tokens twice.
    pub fn new(connection: C) -> Self {
        Self::on(Link::fixed(connection))
    }

    pub(crate) fn on(link: Link<C>) -> Self {
        Self { client: Client::on(link), nonces: Nonces::new() }
    }

    /// What its keys begin with. Default: `stanchion`.
    ///
    /// # Errors
    /// A prefix with braces.
    pub fn prefix(mut self, prefix: &str) -> Result<Self, ConfigError> {
        self.client.prefix = Prefix::new(prefix)?;
        Ok(self)
    }

    /// How long a decision may take before it counts as failed. Default: 100 ms.
    /// In no time at all every decision fails.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.client.deadline = deadline;
        self
    }

    /// Decides by `clock`, in whole microseconds, instead of the server's. For tests.
    #[cfg(feature = "test-util")]
    pub fn clock(mut self, clock: impl Into<stanchion_core::Clock>) -> Self {
        self.client.clock = Some(clock.into());
        self
    }
}

impl<C: ConnectionLike + Clone + Send + Sync> RateStore for RedisRateStore<C> {
    fn decide(&self, request: RateRequest<'_>) -> Answer<'_, Result<Decision, StoreError>> {
        if let Some(never) = request.never_fits() {
            return Answer::Ready(Ok(never));
        }
        if let Some(one) = One::of(&request) {
            return self.decide_one(one, self.keys(&request));
        }
        let (asked, call) = self.asked(&request, 0);
        Answer::later(async move {
            let reply: Vec<i64> = self.ask(&DECIDE, call).await?;
            asked.decision(&reply).map(|(decision, _)| decision).ok_or_else(|| garbled(&reply))
        })
    }

    fn reserve(&self, request: RateRequest<'_>) -> Answer<'_, Result<(Decision, Receipt), StoreError>> {
        if let Some(never) = request.never_fits() {
            return Answer::Ready(Ok((never, Receipt::new(0, Vec::new()))));
        }
        let (asked, call) = self.asked(&request, self.nonces.next());
        Answer::later(async move {
            let reply: Vec<i64> = self.ask(&DECIDE, call).await?;
            asked.decision(&reply).ok_or_else(|| garbled(&reply))
        })
    }

    fn give_back(&self, request: RateRequest<'_>, receipt: &Receipt) -> Answer<'_, Result<u64, StoreError>> {
        let units = receipt.draw(request.cost());
        let Some(returned) = Returned::of(&request, receipt, units).filter(|_| units > 0) else {
            return Answer::Ready(Ok(0));
        };
        let call = Call::new(self.keys(&request), returned.arguments(self.client.time()));
        Answer::later(async move {
            let reply: Vec<i64> = self.ask(&GIVE_BACK, call).await?;
            returned.units(&reply).ok_or_else(|| garbled(&reply))
        })
    }
}

impl<C: ConnectionLike + Clone + Send + Sync> RedisRateStore<C> {
    /// One limit that needs no ticks beyond the microsecond.
    fn decide_one(&self, one: One, keys: Vec<Vec<u8>>) -> Answer<'_, Result<Decision, StoreError>> {
        let mut arguments = one.arguments().to_vec();
        if let Some(injected) = self.client.injected_time() {
            arguments.extend(injected);
        }
        Answer::later(async move {
            let reply: i64 = self.ask(&ONE, Call::new(keys, arguments)).await?;
            one.decision(reply).ok_or_else(|| garbled(&reply))
        })
    }

    /// Runs a script; says in plain words if somebody else's value lies under a key.
    async fn ask<T: FromRedisValue>(&self, script: &Script, call: Call) -> Result<T, StoreError> {
        self.client.ask(script, call).await.map_err(|error| {
            if !error.to_string().contains("WRONGTYPE") {
                return error;
            }
            let message = "redis: under a limit's key lies a value of another type, not the state of a rate limit";
            StoreError::new(StoreErrorKind::Refused, message).caused_by(error)
        })
    }
}

impl<C> RedisRateStore<C> {
    /// A request to any limits, with a number for a receipt, or 0 for none.
    fn asked(&self, request: &RateRequest<'_>, nonce: i64) -> (Asked, Call) {
        let asked = Asked::of(request, nonce != 0);
        let arguments = asked.arguments(self.client.time(), nonce);
        (asked, Call::new(self.keys(request), arguments))
    }

    fn keys(&self, request: &RateRequest<'_>) -> Vec<Vec<u8>> {
        let key = |limit: &RateLimit| self.client.prefix.key(family(limit.rule()), request.key(), limit.name());
        request.limits().iter().map(key).collect()
    }
}

impl<C> fmt::Debug for RedisRateStore<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisRateStore").field(&self.client).finish()
    }
}

/// Numbers that no other request has, of any process: by them a bucket knows its receipts.
struct Nonces {
    /// Keyed at random.
    hasher: RandomState,
    next: AtomicU64,
}

impl Nonces {
    fn new() -> Self {
        Self { hasher: RandomState::new(), next: AtomicU64::new(0) }
    }

    /// One of 52 bits, and not 0.
    fn next(&self) -> i64 {
        // Relaxed: only that it is another one matters.
        let hash = self.hasher.hash_one(self.next.fetch_add(1, Relaxed)) >> 12;
        i64::try_from(hash.max(1)).expect("52 bits")
    }
}

/// The name of a rule's keys: another algorithm under the same name begins afresh.
const fn family(rule: &RateRule) -> &'static str {
    match rule {
        RateRule::FixedWindow(_) => "rate-window",
        RateRule::SlidingCounter(_) => "rate-counter",
        RateRule::SlidingLog(_) => "rate-log",
        _ => "rate",
    }
}

fn garbled(reply: &dyn fmt::Debug) -> StoreError {
    StoreError::new(StoreErrorKind::Garbled, format!("redis: a rate script answered {reply:?}"))
}

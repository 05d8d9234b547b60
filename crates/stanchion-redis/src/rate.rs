//! Rate limits on Redis.

use std::fmt;
use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager};
use stanchion_core::{
    Answer, Ask, ConfigError, Decision, RateLimit, RateRequest, RateStore, StoreError, StoreErrorKind, TokenBucket,
};

use crate::client::Client;
use crate::key::Prefix;
use crate::link::Link;
use crate::script::{Call, Script};

/// A [`RateStore`] on Redis: each decision is one script and one round trip, by
/// the server's clock, and equal to the tick to what the same history gives in
/// memory.
///
/// For each key and limit there is one Redis key, `prefix:rate:{key}:limit`,
/// which goes away by itself a second after the debt is paid off. It takes some
/// 100 bytes of the server's memory. Keys of more than 128 bytes are hashed.
///
/// A refusal writes nothing. Every decision has a deadline; a decision that
/// failed or was late is not asked again, since its tokens may be taken.
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
}

/// One limit in whole microseconds: most requests.
static ONE: Script = Script::new(include_str!("rate_one.lua"));
/// Any limits.
static SEVERAL: Script = Script::new(include_str!("rate.lua"));

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
        Self { client: Client::on(link) }
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
        let asked = |limit: &RateLimit| {
            let bucket = limit.bucket()?;
            Some(Asked { bucket: *bucket, cost: bucket.cost(request.cost())? })
        };
        let asked = request.limits().iter().map(asked).collect::<Option<Vec<_>>>();
        let Some(buckets) = asked.filter(|_| request.how() == Ask::Exactly) else {
            let message = "redis: only token buckets, exactly";
            return Answer::Ready(Err(StoreError::new(StoreErrorKind::Unsupported, message)));
        };
        let key = |limit: &RateLimit| self.client.prefix.key("rate", request.key(), limit.name());
        let units = request.cost();
        let answer = match (request.limits(), &*buckets) {
            ([limit], [asked]) if asked.is_whole() => self.decide_one(*asked, key(limit)),
            (limits, _) => self.decide_several(buckets, limits.iter().map(key).collect()),
        };
        answer.map(move |result| result.map(|decision| decision.granting(units)))
    }
}

impl<C: ConnectionLike + Clone + Send + Sync> RedisRateStore<C> {
    /// One limit that needs no ticks beyond the microsecond.
    fn decide_one(&self, asked: Asked, key: Vec<u8>) -> Answer<'_, Result<Decision, StoreError>> {
        let parts = parts(&asked.bucket);
        let mut arguments = vec![signed(asked.cost / parts), signed(asked.bucket.capacity() / parts)];
        if let Some(injected) = self.client.injected_time() {
            arguments.extend(injected);
        }
        Answer::later(async move {
            let reply: i64 = self.client.ask(&ONE, Call { keys: vec![key], arguments }).await?;
            let (taken, debt) = if reply >= 0 { (true, reply) } else { (false, -1 - reply) };
            asked.decision(taken, debt, 0).filter(|decision| decision.allowed() == taken).ok_or_else(|| garbled(&reply))
        })
    }

    fn decide_several(&self, buckets: Vec<Asked>, keys: Vec<Vec<u8>>) -> Answer<'_, Result<Decision, StoreError>> {
        let mut arguments = Vec::with_capacity(2 + 5 * buckets.len());
        arguments.extend(self.client.time());
        for asked in &buckets {
            let parts = parts(&asked.bucket);
            arguments.push(signed(parts));
            for ticks in [asked.cost, asked.bucket.capacity()] {
                arguments.extend([signed(ticks / parts), signed(ticks % parts)]);
            }
        }
        Answer::later(async move {
            let reply: Vec<i64> = self.client.ask(&SEVERAL, Call { keys, arguments }).await?;
            decision(&buckets, &reply).ok_or_else(|| garbled(&reply))
        })
    }
}

impl<C> fmt::Debug for RedisRateStore<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisRateStore").field(&self.client).finish()
    }
}

/// Ticks in a microsecond.
fn parts(bucket: &TokenBucket) -> u64 {
    1_000 * u64::from(bucket.ticks_per_nano())
}

/// The script's numbers are far below 2^53.
fn signed(number: u64) -> i64 {
    i64::try_from(number).expect("ticks of a bucket are below 2^62")
}

/// What is asked of one bucket: so many ticks.
#[derive(Debug, Clone, Copy)]
struct Asked {
    bucket: TokenBucket,
    cost: u64,
}

impl Asked {
    /// Whether all its numbers are whole microseconds, whatever the cost.
    fn is_whole(&self) -> bool {
        self.bucket.interval().is_multiple_of(parts(&self.bucket))
    }

    /// The decision, given whether all was taken and what this bucket owes.
    /// `None` if that can't be.
    fn decision(&self, taken: bool, whole_debt: i64, ticks: i64) -> Option<Decision> {
        let whole = u64::try_from(whole_debt).ok()?.checked_mul(parts(&self.bucket))?;
        let debt = whole.checked_add(u64::try_from(ticks).ok()?)?;
        // One that would have allowed it may stand beside one that did not.
        let allowed = taken || debt.checked_add(self.cost)? <= self.bucket.capacity();
        Some(if allowed {
            Decision::allowed_by(&self.bucket, debt)
        } else {
            Decision::refused_by(&self.bucket, debt, self.cost)
        })
    }
}

/// The decision in a reply of `rate.lua`: whether the cost was taken, then the
/// debts. `None` if the reply is something else.
fn decision(buckets: &[Asked], reply: &[i64]) -> Option<Decision> {
    let (&taken, debts) = reply.split_first()?;
    if debts.len() != 2 * buckets.len() || !(0..=1).contains(&taken) {
        return None;
    }
    let decisions =
        debts.chunks_exact(2).zip(buckets).map(|(debt, asked)| asked.decision(taken == 1, debt[0], debt[1]));
    let decisions: Vec<Decision> = decisions.collect::<Option<_>>()?;
    let strictest = Decision::strictest(decisions)?;
    (strictest.allowed() == (taken == 1)).then_some(strictest)
}

fn garbled(reply: &dyn fmt::Debug) -> StoreError {
    StoreError::new(StoreErrorKind::Garbled, format!("redis: a rate script answered {reply:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bucket() -> TokenBucket {
        TokenBucket::new(10, Duration::from_secs(1), 5).unwrap()
    }

    #[test]
    fn a_reply_becomes_a_decision() {
        let asked = [Asked { bucket: bucket(), cost: bucket().interval() }];
        let allowed = decision(&asked, &[1, 100_000, 0]).unwrap();
        assert_eq!((allowed.allowed(), allowed.remaining()), (true, 4));
        let refused = decision(&asked, &[0, 450_000, 0]).unwrap();
        assert_eq!(refused.retry_after(), Some(Duration::from_millis(50)));
    }

    proptest! {
        #[test]
        fn a_garbled_reply_is_no_decision_and_no_panic(reply in prop::collection::vec(any::<i64>(), 0..6)) {
            let asked = [Asked { bucket: bucket(), cost: bucket().interval() }];
            if let Some(decision) = decision(&asked, &reply) {
                prop_assert!(reply.len() == 3 && reply[0] == i64::from(decision.allowed()));
            }
        }
    }
}

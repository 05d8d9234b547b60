//! A cache that several instances share, on Redis.

mod backlog;
mod change;
mod subscription;
mod wire;

use std::fmt;
use std::future::{Future, poll_fn};
use std::task::Poll;
use std::time::Duration;

use redis::Value;
use redis::aio::{ConnectionLike, ConnectionManager};
use stanchion_core::{
    Answer, CacheStore, ChangeListener, ConfigError, Fence, Found, Lease, LeaseStore, NewValue, StoreError,
    StoreErrorKind, StoredValue, Subscription,
};
use tokio::runtime::Handle;

use self::change::{Identity, Kind};
use self::wire::{Looked, micros};
use crate::client::Client;
use crate::key::Prefix;
use crate::link::{Link, must_be_in_a_runtime, unusable};
use crate::script::{Call, Script};

/// A [`CacheStore`] on Redis: each call is one script and one round trip, by the server's clock.
///
/// A store is the cache of *one name*. Each value of this type is a subscriber of its own,
/// that isn't told of what was done through it: make one for each cache, and share it.
///
/// ```no_run
/// use stanchion_core::{CacheStore, NewValue};
/// use stanchion_redis::RedisCacheStore;
/// use std::time::Duration;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let users = RedisCacheStore::connect("redis://127.0.0.1/", "users")?;
/// let minute = Duration::from_secs(60);
/// let alice = NewValue { bytes: b"{}", fresh_for: minute, keep_for: 10 * minute, tags: &["team-7"] };
/// users.insert(b"alice", alice).await?;
/// users.invalidate_tag("team-7").await?;
/// assert_eq!(users.get(b"alice").await?, None);
/// # Ok(())
/// # }
/// ```
///
/// # Keys
/// A cache has one or several [slots](Self::slots), each a hash slot of a cluster:
///
/// | Redis key | What it is | It lives for |
/// |---|---|---|
/// | `prefix:cache1:{name.slot}:e:key` | a value, with its times and tags | what it is kept for |
/// | `prefix:cache1:{name.slot}:l:key` | a lease | its duration |
/// | `prefix:cache1:{name.slot}:s` | the ledger of a slot: which tags were invalidated, and when | 30 days |
///
/// Each lives for a second more. Times are in microseconds; a value is kept, and a lease lasts,
/// for 30 days at most: what is longer is 30 days. On Redis 7.0 a value under a key of 16 bytes takes some
/// 230 bytes more than its own, and 25 for each tag; a lease takes 220; an invalidated tag 130, for 30 days (`tests/cache_economy.rs` measures
/// it). Names, keys and tags are any bytes; long ones are hashed. What somebody else has put under one of these keys is read
/// as if it weren't there, and written over. The `1` is the format's number.
///
/// A server that evicts keys may evict a ledger: then all values of its slot are gone with it, and no
/// load that was under way is stored. So nothing that was invalidated comes back.
///
/// # Changes
/// They are told by pub/sub, on `prefix:cache1:database:name`. A [subscription](CacheStore::subscribe) has a connection of
/// its own, which it tries each second, and makes anew after a growing pause of at most a second:
/// a listener is told within about 3 s that nothing is heard from the server any more. A listener that lags by more than
/// 4 MiB is told [`Interrupted`](stanchion_core::Change::Interrupted) and
/// [`Resumed`](stanchion_core::Change::Resumed) in place of what it missed. One that panics is told
/// the next change all the same. One that blocks its thread holds up whatever shares it.
///
/// On a cluster a change is passed on from node to node. Where one is cut off from the others, its subscribers miss
/// changes without knowing it: the time for which an instance believes its own memory must have a limit.
///
/// # Failover
/// Redis replicates asynchronously. A replica that is promoted without the last writes of its
/// master has values that were invalidated by these, and leases that were given back; what was under way then may be
/// stored in spite of an invalidation. If its clock is behind, too, a fence may be given twice. Each value is there for its time and no
/// longer, whatever was lost.
pub struct RedisCacheStore<C = ConnectionManager> {
    client: Client<C>,
    name: String,
    slots: u32,
    most_bytes: usize,
    identity: Identity,
    /// Where subscriptions connect to.
    nodes: Vec<redis::Client>,
    runtime: Handle,
}

/// The scripts begin alike.
macro_rules! script {
    ($act:literal) => {
        Script::new(concat!(include_str!("cache/begin.lua"), include_str!($act)))
    };
}

static LOOK: Script = script!("cache/look.lua");
static HOLD: Script = script!("cache/hold.lua");
static WRITE: Script = script!("cache/write.lua");
static STAMP: Script = script!("cache/stamp.lua");
static INVALIDATE: Script = Script::new(include_str!("cache/invalidate.lua"));

/// What all its keys have after the prefix, with the number of the format.
const FAMILY: &str = "cache1";

/// Keys and tags that are told may not be longer: a server takes arguments of 512 MiB.
const MOST_TOLD: usize = 64 << 20;

impl RedisCacheStore {
    /// The cache `name` on the server at `url`, such as `redis://127.0.0.1/`. It connects at the first call, in the
    /// background, and again whenever the connection is lost.
    ///
    /// # Errors
    /// A `url` that is none, or no tokio runtime around the call. Whether anybody
    /// answers there is not asked.
    pub fn connect(url: &str, name: &str) -> Result<Self, StoreError> {
        let node = redis::Client::open(url).map_err(unusable)?;
        Ok(Self::on(Link::connect(url)?, vec![node], name, 1))
    }
}

impl<C: Clone> RedisCacheStore<C> {
    /// The cache `name` on a connection that can be shared by cloning, with subscriptions by `subscriber`; see
    /// [`RedisRateStore::new`](crate::RedisRateStore::new).
    ///
    /// # Errors
    /// No tokio runtime around the call.
    pub fn new(connection: C, subscriber: redis::Client, name: &str) -> Result<Self, StoreError> {
        must_be_in_a_runtime()?;
        Ok(Self::on(Link::fixed(connection), vec![subscriber], name, 1))
    }

    /// Inside of a runtime.
    pub(crate) fn on(link: Link<C>, nodes: Vec<redis::Client>, name: &str, slots: u32) -> Self {
        Self {
            client: Client::on(link),
            name: name.to_owned(),
            slots,
            most_bytes: 8 << 20,
            identity: Identity::random(),
            nodes,
            runtime: Handle::current(),
        }
    }

    /// What its keys begin with. Default: `stanchion`.
    ///
    /// # Errors
    /// A prefix with braces.
    pub fn prefix(mut self, prefix: &str) -> Result<Self, ConfigError> {
        self.client.prefix = Prefix::new(prefix)?;
        Ok(self)
    }

    /// How long a call may take before it counts as failed. Default: 100 ms. Where there are several
    /// [slots](Self::slots), `invalidate_tag` and `clear` may take twice as long.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.client.deadline = deadline;
        self
    }

    /// The most bytes that a value may have, with its tags. Default: 8 MiB. Servers take 512 MiB at most.
    ///
    /// To store a larger one is an error, of the kind [`Unsupported`](StoreErrorKind::Unsupported), and nothing is
    /// sent. One that lies there is never fetched: it is no value. Mind that whatever shares the connection
    /// waits while a large value is on its way, and that each call has the same [deadline](Self::deadline).
    pub fn max_value_bytes(mut self, most: usize) -> Self {
        self.most_bytes = most;
        self
    }

    /// Over how many hash slots the cache is spread, 1 to 1,024. Default: 1, and 64 on a cluster, so that all its nodes have a
    /// share of the keys.
    ///
    /// All instances must have the same number for one name. `invalidate_tag` and `clear` have two round trips instead of
    /// one, with a call for each slot.
    ///
    /// # Errors
    /// A number out of range.
    pub fn slots(mut self, slots: u32) -> Result<Self, ConfigError> {
        if !(1..=1_024).contains(&slots) {
            return Err(ConfigError::new("slots", slots, "must be from 1 to 1024"));
        }
        self.slots = slots;
        Ok(self)
    }

    /// Goes by `clock`, in whole microseconds, instead of the server's. For tests.
    #[cfg(feature = "test-util")]
    pub fn clock(mut self, clock: impl Into<stanchion_core::Clock>) -> Self {
        self.client.clock = Some(clock.into());
        self
    }
}

impl<C: ConnectionLike + Clone + Send + Sync> LeaseStore for RedisCacheStore<C> {
    fn acquire(&self, key: &[u8], duration: Duration) -> Answer<'_, Result<Lease, StoreError>> {
        let call = self.look(key, -1, micros(duration));
        Answer::later(async move { self.looked(call).await?.lease.ok_or_else(|| garbled("it gave no lease")) })
    }

    fn renew(&self, key: &[u8], fence: Fence, duration: Duration) -> Answer<'_, Result<bool, StoreError>> {
        self.hold(key, fence, micros(duration))
    }

    fn release(&self, key: &[u8], fence: Fence) -> Answer<'_, Result<bool, StoreError>> {
        self.hold(key, fence, -1)
    }
}

impl<C: ConnectionLike + Clone + Send + Sync> CacheStore for RedisCacheStore<C> {
    fn get(&self, key: &[u8]) -> Answer<'_, Result<Option<StoredValue>, StoreError>> {
        let call = self.look(key, self.most(), -1);
        Answer::later(async move { Ok(self.looked(call).await?.value) })
    }

    fn get_or_lease(&self, key: &[u8], lease: Duration) -> Answer<'_, Result<Found, StoreError>> {
        let call = self.look(key, self.most(), micros(lease));
        Answer::later(async move {
            match self.looked(call).await? {
                Looked { value, lease: Some(lease) } => Ok(Found::Stale { value, lease }),
                Looked { value: Some(value), lease: None } if value.is_fresh() => Ok(Found::Fresh(value)),
                Looked { .. } => Err(garbled("it gave neither a fresh value nor a lease")),
            }
        })
    }

    fn put(&self, key: &[u8], fence: Fence, value: NewValue<'_>) -> Answer<'_, Result<bool, StoreError>> {
        match (number(fence), self.write(key, number(fence).unwrap_or(0), value)) {
            // Nobody was ever given it.
            (None, _) => Answer::Ready(Ok(false)),
            (_, Err(error)) => Answer::Ready(Err(error)),
            (_, Ok(call)) => self.yes_or_no(&WRITE, call),
        }
    }

    fn insert(&self, key: &[u8], value: NewValue<'_>) -> Answer<'_, Result<(), StoreError>> {
        match self.told(Kind::Key, key).and_then(|told| Ok((self.write(key, 0, value)?, told))) {
            Err(error) => Answer::Ready(Err(error)),
            Ok((mut call, told)) => {
                call.bytes.extend(told);
                self.done(&WRITE, call)
            }
        }
    }

    fn invalidate(&self, key: &[u8]) -> Answer<'_, Result<(), StoreError>> {
        match self.told(Kind::Key, key) {
            Err(error) => Answer::Ready(Err(error)),
            Ok(told) => {
                let [_, entry, lease] = self.keys(key);
                self.done(&INVALIDATE, Call { keys: vec![entry, lease], arguments: Vec::new(), bytes: told.into() })
            }
        }
    }

    fn invalidate_tag(&self, tag: &str) -> Answer<'_, Result<(), StoreError>> {
        match self.told(Kind::Tag, tag.as_bytes()) {
            Err(error) => Answer::Ready(Err(error)),
            Ok(told) => self.stamp(1, tag, told),
        }
    }

    fn clear(&self) -> Answer<'_, Result<(), StoreError>> {
        match self.told(Kind::All, b"") {
            Err(error) => Answer::Ready(Err(error)),
            Ok(told) => self.stamp(0, "", told),
        }
    }

    fn subscribe(&self, listener: ChangeListener) -> Subscription {
        subscription::listen(&self.runtime, self.nodes.clone(), self.channel(), self.identity, listener)
    }
}

impl<C: ConnectionLike + Clone + Send + Sync> RedisCacheStore<C> {
    async fn looked(&self, call: Call) -> Result<Looked, StoreError> {
        let reply: Value = self.client.ask(&LOOK, call).await?;
        Looked::of(reply).ok_or_else(|| garbled("it answered something else"))
    }

    fn hold(&self, key: &[u8], fence: Fence, duration: i64) -> Answer<'_, Result<bool, StoreError>> {
        let Some(fence) = number(fence) else { return Answer::Ready(Ok(false)) };
        let mut arguments = self.client.time().to_vec();
        arguments.extend([fence, duration]);
        self.yes_or_no(&HOLD, Call::new(self.keys(key).into(), arguments))
    }

    fn yes_or_no(&self, script: &'static Script, call: Call) -> Answer<'_, Result<bool, StoreError>> {
        Answer::later(async move {
            match self.client.ask::<i64>(script, call).await? {
                yes @ (0 | 1) => Ok(yes == 1),
                other => Err(garbled(&format!("it answered {other}"))),
            }
        })
    }

    fn done(&self, script: &'static Script, call: Call) -> Answer<'_, Result<(), StoreError>> {
        Answer::later(async move { self.client.ask::<i64>(script, call).await.map(drop) })
    }

    /// Puts a mark on each slot; then on the first, which tells it: whoever hears of it may come to any slot.
    fn stamp(&self, tagged: i64, tag: &str, told: [Vec<u8>; 2]) -> Answer<'_, Result<(), StoreError>> {
        let call = |slot, told: [Vec<u8>; 2]| {
            let mut arguments = self.client.time().to_vec();
            arguments.push(tagged);
            let [channel, message] = told;
            let bytes = vec![tag.as_bytes().to_vec(), channel, message];
            Call { keys: vec![self.key_in(slot, "s", None)], arguments, bytes }
        };
        let others: Vec<Call> = (1..self.slots).map(|slot| call(slot, [Vec::new(), Vec::new()])).collect();
        let first = call(0, told);
        Answer::later(async move {
            let ask = |call| self.client.ask::<i64>(&STAMP, call);
            let others = together(others.into_iter().map(ask).collect()).await;
            // Even where one of them has failed: what is gone is gone.
            let first = ask(first).await;
            others.into_iter().chain([first]).try_for_each(|answer| answer.map(drop))
        })
    }
}

impl<C: ConnectionLike + Clone> RedisCacheStore<C> {
    fn look(&self, key: &[u8], most: i64, duration: i64) -> Call {
        let mut arguments = self.client.time().to_vec();
        arguments.extend([most, duration]);
        Call::new(self.keys(key).into(), arguments)
    }

    /// A value to be stored under a fence, or under 0.
    fn write(&self, key: &[u8], fence: i64, value: NewValue<'_>) -> Result<Call, StoreError> {
        let tags = wire::packed(value.tags);
        let size = value.bytes.len().saturating_add(tags.len());
        if size > self.most_bytes {
            let most = self.most_bytes;
            let message = format!("redis: a value of {size} bytes is above the cache's max_value_bytes, {most}");
            return Err(StoreError::new(StoreErrorKind::Unsupported, message));
        }
        let mut arguments = self.client.time().to_vec();
        arguments.extend([fence, micros(value.fresh_for), micros(value.keep_for)]);
        Ok(Call { keys: self.keys(key).into(), arguments, bytes: vec![value.bytes.to_vec(), tags] })
    }

    /// The channel, and what is to be told there.
    fn told(&self, kind: Kind, what: &[u8]) -> Result<[Vec<u8>; 2], StoreError> {
        if what.len() > MOST_TOLD {
            let message = format!("redis: a key or tag of {} bytes is above {MOST_TOLD}", what.len());
            return Err(StoreError::new(StoreErrorKind::Unsupported, message));
        }
        Ok([self.channel(), change::message(self.identity, kind, what)])
    }

    fn channel(&self) -> Vec<u8> {
        self.client.prefix.channel(FAMILY, self.client.database(), self.name.as_bytes())
    }
}

impl<C> RedisCacheStore<C> {
    /// The ledger, the entry and the lease.
    fn keys(&self, key: &[u8]) -> [Vec<u8>; 3] {
        let slot = slot(key, self.slots);
        [self.key_in(slot, "s", None), self.key_in(slot, "e", Some(key)), self.key_in(slot, "l", Some(key))]
    }

    fn key_in(&self, slot: u32, kind: &str, key: Option<&[u8]>) -> Vec<u8> {
        self.client.prefix.key_in_part(FAMILY, self.name.as_bytes(), slot, kind, key)
    }

    fn most(&self) -> i64 {
        i64::try_from(self.most_bytes).unwrap_or(i64::MAX)
    }
}

impl<C> fmt::Debug for RedisCacheStore<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisCacheStore")
            .field("client", &self.client)
            .field("name", &self.name)
            .field("slots", &self.slots)
            .field("max_value_bytes", &self.most_bytes)
            .finish_non_exhaustive()
    }
}

/// The slot of a key: the same in each process and for ever, by FNV-1a (Fowler, Noll, Vo).
fn slot(key: &[u8], slots: u32) -> u32 {
    if slots == 1 {
        return 0;
    }
    let hash = key
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    // Folded: its upper half alone is much the same for keys that are much the same.
    u32::try_from((hash ^ hash >> 32) % u64::from(slots)).expect("below the number of slots")
}

/// A fence that the scripts can have given.
fn number(fence: Fence) -> Option<i64> {
    i64::try_from(fence.get()).ok().filter(|number| *number > 0)
}

fn garbled(what: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Garbled, format!("redis: a script on a cache made no sense: {what}"))
}

/// The outcomes of all, which run at once.
async fn together<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    poll_fn(|context| {
        let mut all = true;
        for (future, outcome) in &mut running {
            if outcome.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(ready) => *outcome = Some(ready),
                    Poll::Pending => all = false,
                }
            }
        }
        if all { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    running.into_iter().filter_map(|(_, outcome)| outcome).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slot_of_a_key_is_the_same_for_ever_and_keys_are_spread() {
        assert_eq!([b"alice".as_slice(), b"bob", b""].map(|key| slot(key, 64)), [60, 13, 1]);
        assert_eq!(slot(b"alice", 1), 0);
        let mut keys = [0; 64];
        (0..6_400).for_each(|number: u32| keys[slot(format!("key-{number}").as_bytes(), 64) as usize] += 1);
        assert!(keys.iter().all(|keys| (50..=150).contains(keys)), "{keys:?}");
    }

    #[test]
    fn a_fence_that_nobody_was_given_is_none() {
        assert_eq!(number(Fence::new(7)), Some(7));
        assert_eq!([0, 1 << 63, u64::MAX].map(|fence| number(Fence::new(fence))), [None; 3]);
    }
}

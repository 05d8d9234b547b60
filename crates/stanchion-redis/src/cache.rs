//! A cache that several instances share, on Redis.

mod backlog;
mod calls;
mod change;
mod slots;
mod subscription;
mod wire;

use std::fmt;
use std::time::Duration;

use redis::aio::ConnectionManager;
use stanchion_core::{ConfigError, StoreError};
use tokio::runtime::Handle;

use self::change::Identity;
use crate::client::Client;
use crate::key::Prefix;
use crate::link::{Link, must_be_in_a_runtime, unusable};

/// A [`CacheStore`](stanchion_core::CacheStore) on Redis: each call is one script and one round trip, by the server's clock.
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
/// They are told by pub/sub, on `prefix:cache1:database:name`. A [subscription](stanchion_core::CacheStore::subscribe) has a connection of
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
    /// To store a larger one is an error, of the kind [`Unsupported`](stanchion_core::StoreErrorKind::Unsupported), and nothing is
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

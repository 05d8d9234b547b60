//! What a load of the cache in memory does: asks the store, and loads where it must.

use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use stanchion_core::{Fence, Found, Lease, Moment, NewValue, StoredValue};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};

use super::frame::Unstorable;
use super::key::bytes_of;
use super::lease::HeldLease;
use super::{Inner, RemoteKey};
use crate::freshness::{Rung, Times};
use crate::loaded::Loaded;

/// While another instance loads, the store is asked again after this, then after longer.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// A value out of the store.
pub(super) struct Opened<V> {
    /// With the tags, and the time to live that it has in memory.
    pub(super) loaded: Loaded<V>,
    age: Duration,
    fresh_for: Duration,
    load_time: Duration,
}

impl<V> Opened<V> {
    /// Whether it is a value, stale, and not for too long.
    fn is_stale_for_less_than(&self, window: Duration) -> bool {
        self.loaded.value.is_some() && self.age.checked_sub(self.fresh_for).is_some_and(|stale| stale < window)
    }
}

/// How a key stands in the store.
pub(super) enum Standing<V> {
    /// To be used as it is.
    Known(Opened<V>),
    /// To be loaded by the caller, who has the lease. There may be a value to serve if that fails,
    /// and it may be one to serve at once.
    Leads { fence: Fence, stale: Option<Opened<V>> },
    /// Somebody else loads.
    Awaits { stale: Option<Opened<V>>, retry_after: Duration },
    /// The store says nothing.
    Unknown,
}

/// The pauses of somebody who waits for another instance.
pub(super) struct Patience {
    until: Instant,
    pause: Duration,
}

impl<K, V> Inner<K, V>
where
    K: RemoteKey + Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// The value from the store, or from the loader.
    pub(super) async fn fetch<F, Fut, L, E>(self: Arc<Self>, key: K, load: F) -> Result<Loaded<V>, E>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<L, E>> + Send + 'static,
        L: Into<Loaded<V>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        // Served already: what is wanted is something younger.
        let is_refresh = self.local.contains(&key);
        let key = bytes_of(&key);
        let mut patience = None;
        loop {
            match self.standing(&key, is_refresh).await {
                Standing::Known(opened) => return Ok(opened.loaded),
                Standing::Leads { fence, stale } => {
                    let lease = HeldLease::new(&self, &key, fence);
                    return match stale {
                        Some(stale) if self.revalidates(&stale) => {
                            self.clone().load_behind(lease, key, load);
                            Ok(self.stale(stale))
                        }
                        stale => self.load_under(lease, &key, load, stale).await,
                    };
                }
                Standing::Awaits { stale: Some(stale), .. } if self.revalidates(&stale) => return Ok(self.stale(stale)),
                Standing::Awaits { retry_after, .. } => {
                    let patience = patience.get_or_insert_with(|| self.patience());
                    if !self.wait(patience, retry_after).await {
                        return self.load_alone(load).await;
                    }
                }
                Standing::Unknown => return self.load_alone(load).await,
            }
        }
    }

    /// Asks the store for a key, and for the lease if there is nothing fresh.
    pub(super) async fn standing(&self, key: &Arc<[u8]>, is_refresh: bool) -> Standing<V> {
        let counts = &self.remote.counts;
        if self.pending.covers(key) {
            return Standing::Unknown;
        }
        let Some(found) = self.remote.ask(|store| store.get_or_lease(key, self.config.lease)).await else {
            return Standing::Unknown;
        };
        let (value, lease) = match found {
            Found::Fresh(stored) if self.pending.covers_tags(&stored.tags) => return Standing::Unknown,
            Found::Fresh(stored) => {
                let opened = self.open(stored);
                if opened.as_ref().is_some_and(|opened| !(is_refresh && self.is_due(opened))) {
                    counts.hits.one();
                }
                match opened {
                    Some(opened) if !(is_refresh && self.is_due(&opened)) => return Standing::Known(opened),
                    opened => (opened, self.remote.acquire(key, self.config.lease).await),
                }
            }
            Found::Stale { value, lease } => (value.and_then(|stored| self.open(stored)), Some(lease)),
        };
        counts.misses.one();
        match (lease, value) {
            (Some(Lease::Held(fence)), stale) => Standing::Leads { fence, stale },
            // Somebody else sees to it that it becomes younger.
            (_, Some(value)) if value.age < value.fresh_for => Standing::Known(value),
            (Some(Lease::Taken { retry_after }), stale) => Standing::Awaits { stale, retry_after },
            (None, _) => Standing::Unknown,
        }
    }

    /// A value as the store has it, or none if it is none, or may have been invalidated.
    pub(super) fn open(&self, stored: StoredValue) -> Option<Opened<V>> {
        if self.pending.covers_tags(&stored.tags) {
            return None;
        }
        // A codec of the user's that panics on bytes finds none.
        let open = || self.framing.open(&*self.codec, &stored.bytes);
        let Some(unframed) = catch_unwind(AssertUnwindSafe(open)).ok().flatten() else {
            self.remote.counts.garbled.one();
            return None;
        };
        let left = stored.fresh_for.saturating_sub(stored.age).min(self.config.max_local_age);
        let mut loaded = unframed.loaded.ttl(left);
        loaded.tags.extend(stored.tags.into_iter().map(Into::into));
        Some(Opened { loaded, age: stored.age, fresh_for: stored.fresh_for, load_time: unframed.load_time })
    }

    /// A loader's answer for the store, with the time that it is fresh; `None` if it isn't for the store.
    pub(super) fn seal(&self, loaded: &Loaded<V>, load_time: Duration) -> Option<(Vec<u8>, Duration)> {
        let fresh_for = match loaded.value {
            Some(_) => loaded.ttl.or(self.ttl).unwrap_or(Duration::MAX),
            None => self.negative_ttl?,
        };
        if !loaded.is_kept || fresh_for.is_zero() {
            return None;
        }
        let counts = &self.remote.counts;
        let seal = || self.framing.seal(&*self.codec, loaded, load_time);
        match catch_unwind(AssertUnwindSafe(seal)).unwrap_or(Err(Unstorable::NotEncoded)) {
            Ok(sealed) => Some((sealed, self.local.0.jittered(fresh_for))),
            Err(Unstorable::NotEncoded) => {
                counts.not_encoded.one();
                None
            }
            Err(Unstorable::TooLarge) => {
                counts.too_large.one();
                None
            }
        }
    }

    /// Loads without a lease, for this instance only.
    async fn load_alone<F, Fut, L, E>(&self, load: F) -> Result<Loaded<V>, E>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<L, E>>,
        L: Into<Loaded<V>>,
    {
        self.loads.one();
        Ok(self.kept_here(load().await?.into()))
    }

    /// Loads under a lease, and stores what comes.
    async fn load_under<F, Fut, L, E>(
        &self,
        lease: HeldLease<K, V>,
        key: &Arc<[u8]>,
        load: F,
        stale: Option<Opened<V>>,
    ) -> Result<Loaded<V>, E>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<L, E>>,
        L: Into<Loaded<V>>,
    {
        self.loads.one();
        let clock = &self.local.0.clock;
        let began = clock.now();
        let result = tokio::select! {
            biased;
            result = load() => result,
            never = lease.keep() => match never {},
        };
        match result {
            Ok(loaded) => Ok(self.store(lease, key, loaded.into(), clock.now() - began).await),
            Err(error) => match stale {
                Some(stale) if self.covers_errors(&stale) => Ok(self.stand_in(stale)),
                _ => Err(error),
            },
        }
    }

    /// Stores what was loaded under a lease; what is for the cache in memory.
    pub(super) async fn store(
        &self,
        lease: HeldLease<K, V>,
        key: &Arc<[u8]>,
        loaded: Loaded<V>,
        load_time: Duration,
    ) -> Loaded<V> {
        let Some((sealed, fresh_for)) = self.seal(&loaded, load_time) else { return self.kept_here(loaded) };
        if self.pending.covers(key) || self.pending.covers_tags(&loaded.tags) {
            // Invalidated here, and the store may not know it yet.
            self.remote.counts.fenced.one();
            return loaded.uncached();
        }
        let tags: Vec<&str> = loaded.tags.iter().map(AsRef::as_ref).collect();
        let keep_for = fresh_for.saturating_add(self.ladder.grace());
        let value = NewValue { bytes: &sealed, fresh_for, keep_for, tags: &tags };
        match self.remote.ask(|store| store.put(key, lease.fence, value)).await {
            Some(true) => {
                lease.forget();
                self.kept_here(loaded)
            }
            Some(false) => {
                // Somebody invalidated it meanwhile: it is for those who wait only.
                self.remote.counts.fenced.one();
                lease.forget();
                loaded.uncached()
            }
            None => self.kept_here(loaded),
        }
    }

    /// Loads in the background what is served stale meanwhile.
    fn load_behind<F, Fut, L, E>(self: Arc<Self>, lease: HeldLease<K, V>, key: Arc<[u8]>, load: F)
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<L, E>> + Send + 'static,
        L: Into<Loaded<V>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        let limit = self.local.0.live.load_timeout();
        // It runs in a task of a runtime already.
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            // Whoever asks next finds it in the store, or tries again.
            drop(timeout(limit, self.load_under(lease, &key, load, None)).await);
        });
    }

    /// What was loaded, as the cache in memory has it.
    pub(super) fn kept_here(&self, loaded: Loaded<V>) -> Loaded<V> {
        let ttl = match loaded.value {
            Some(_) => loaded.ttl.or(self.ttl).unwrap_or(Duration::MAX),
            None => self.negative_ttl.unwrap_or(Duration::MAX),
        };
        loaded.ttl(ttl.min(self.config.max_local_age))
    }

    /// A stale value, for those who wait only.
    pub(super) fn stale(&self, stale: Opened<V>) -> Loaded<V> {
        self.remote.counts.stale_served.one();
        stale.loaded.uncached()
    }

    /// A stale value in place of one that can't be loaded: kept as what it is, and for the time of
    /// the throttle nobody tries again.
    pub(super) fn stand_in(&self, stale: Opened<V>) -> Loaded<V> {
        self.remote.counts.stale_served.one();
        let stale_for = Some(stale.age.saturating_sub(stale.fresh_for));
        Loaded { stale_for, ttl: None, ..stale.loaded }
    }

    /// Whether a value that is served should be refreshed, by its whole age.
    fn is_due(&self, opened: &Opened<V>) -> bool {
        let moment = |age: Duration| Moment::default() + age;
        let mut times = Times::new(Moment::default(), moment(opened.fresh_for));
        times.load_time = opened.load_time;
        let chance = self.local.0.random.run().unit();
        self.ladder.rung(&times, moment(opened.age), chance) == Rung::RefreshAhead
    }

    /// Whether a stale value is served while it is loaded.
    pub(super) fn revalidates(&self, stale: &Opened<V>) -> bool {
        stale.is_stale_for_less_than(self.ladder.stale_while_revalidate)
    }

    /// Whether a value is served if it can't be loaded.
    pub(super) fn covers_errors(&self, stale: &Opened<V>) -> bool {
        stale.is_stale_for_less_than(self.ladder.stale_if_error)
    }

    pub(super) fn patience(&self) -> Patience {
        self.remote.counts.lease_waits.one();
        Patience { until: Instant::now() + self.config.lease_wait, pause: FIRST_PAUSE }
    }

    /// Waits a while for another instance's load. `false` if that has taken too long.
    pub(super) async fn wait(&self, patience: &mut Patience, retry_after: Duration) -> bool {
        let left = patience.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            self.remote.counts.lease_wait_timeouts.one();
            return false;
        }
        let pause = patience.pause.mul_f64(0.5 + self.local.0.random.run().unit() / 2.0);
        patience.pause = (patience.pause * 3 / 2).min(LONGEST_PAUSE);
        // Never nothing, as a lease that is over leaves.
        sleep(pause.min(retry_after).min(left).max(Duration::from_millis(1))).await;
        true
    }
}

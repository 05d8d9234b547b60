//! What a load of the cache in memory does: asks the store, and loads where it must.

use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use stanchion_core::{Found, Lease, LeaseStore, Moment, NewValue, StoredValue};
use tokio::time::{Instant, sleep, timeout};

use super::frame::Unstorable;
use super::key::bytes_of;
use super::lease::HeldLease;
use super::{Inner, RemoteKey};
use crate::error::Failure;
use crate::freshness::{Rung, Times};
use crate::loaded::Loaded;
use crate::stats::Count;

/// While another instance loads, the store is asked again after this, then after longer.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// A value out of the store.
pub(super) struct Opened<V> {
    /// With the tags, and the time to live that it has in memory.
    pub(super) loaded: Loaded<V>,
    age: Duration,
    fresh_for: Duration,
}

impl<V> Opened<V> {
    /// Whether it is a value, stale, and not for too long.
    fn is_stale_for_less_than(&self, window: Duration) -> bool {
        self.loaded.value.is_some() && self.age.checked_sub(self.fresh_for).is_some_and(|stale| stale < window)
    }
}

/// How a key stands in the store.
pub(super) enum Standing<K, V>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// To be used as it is.
    Known(Opened<V>),
    /// To be loaded by the caller, who has the lease. There may be a value to serve if that fails,
    /// and it may be one to serve at once.
    Leads { lease: HeldLease<K, V>, stale: Option<Opened<V>> },
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
    pub(super) async fn fetch<F, Fut, L, E>(self: Arc<Self>, key: K, load: F) -> Result<Loaded<V>, Failure>
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
                Standing::Leads { lease, stale: Some(stale) } if self.revalidates(&stale) => {
                    tokio::spawn(self.clone().load_behind(lease, key, load));
                    return Ok(self.stand_in(stale));
                }
                Standing::Leads { lease, stale: Some(stale) } if self.covers_errors(&stale) => {
                    let loading = tokio::spawn(self.clone().load_behind(lease, key, load));
                    let soft = self.local.0.live.load_timeout_soft().unwrap_or(Duration::MAX);
                    // The load goes on, and what it brings is for the store.
                    return match timeout(soft, loading).await {
                        Ok(Ok(Ok(loaded))) => Ok(loaded),
                        _ => Ok(self.stand_in(stale)),
                    };
                }
                Standing::Leads { lease, .. } => return self.load_under(lease, &key, load).await,
                Standing::Awaits { stale: Some(stale), .. } if self.revalidates(&stale) => {
                    return Ok(self.stand_in(stale));
                }
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
    pub(super) async fn standing(self: &Arc<Self>, key: &Arc<[u8]>, is_refresh: bool) -> Standing<K, V> {
        let counts = &self.remote.counts;
        if !self.may_be_asked(key).await {
            return Standing::Unknown;
        }
        // What was in doubt when the store was asked is so still when it answers.
        let doubtful = self.pending.tags();
        let Some(found) = self.ask_for(key).await else { return Standing::Unknown };
        let (value, lease) = match found {
            Found::Fresh(stored) => {
                let opened = self.open(stored, &doubtful);
                if opened.is_some() { &counts.hits } else { &counts.misses }.one();
                match opened {
                    Some(opened) if !(is_refresh && self.is_due(&opened)) => return Standing::Known(opened),
                    opened => (opened, self.remote.acquire(key, self.config.lease).await),
                }
            }
            Found::Stale { value, lease } => {
                counts.misses.one();
                (value.and_then(|stored| self.open(stored, &doubtful)), Some(lease))
            }
        };
        match (lease, value) {
            (Some(Lease::Held(fence)), stale) => Standing::Leads { lease: HeldLease::new(self, key, fence), stale },
            // Somebody else sees to it that it becomes younger.
            (_, Some(value)) if value.age < value.fresh_for => Standing::Known(value),
            (Some(Lease::Taken { retry_after }), stale) => Standing::Awaits { stale, retry_after },
            (None, _) => Standing::Unknown,
        }
    }

    /// Whether the store may be asked for a key. What is on its way there is waited for, as long as a
    /// call may take; what was lost isn't.
    async fn may_be_asked(self: &Arc<Self>, key: &[u8]) -> bool {
        let until = Instant::now() + self.config.timeout;
        while self.pending.is_on_the_way(key) && Instant::now() < until {
            sleep(Duration::from_millis(1)).await;
        }
        let is_pending = self.pending.covers(key);
        if is_pending {
            self.resend();
        }
        !is_pending
    }

    /// Asks for a key. Where loads are aborted, the question isn't: a lease that is granted to nobody
    /// is given back.
    async fn ask_for(self: &Arc<Self>, key: &Arc<[u8]>) -> Option<Found> {
        if !self.local.0.live.aborts_abandoned() {
            return self.remote.ask(|store| store.get_or_lease(key, self.config.lease)).await;
        }
        let (inner, key) = (self.clone(), key.clone());
        let (answer, answered) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            let found = inner.remote.ask(|store| store.get_or_lease(&key, inner.config.lease)).await;
            if let Err(Some(Found::Stale { lease: Lease::Held(fence), .. })) = answer.send(found) {
                inner.remote.ask(|store| LeaseStore::release(store, &key, fence)).await;
            }
        });
        answered.await.ok().flatten()
    }

    /// A value as the store has it, or none if it is none, or may have been invalidated.
    pub(super) fn open(&self, stored: StoredValue, doubtful: &[Arc<str>]) -> Option<Opened<V>> {
        if stored.tags.iter().any(|tag| doubtful.iter().any(|doubtful| **doubtful == **tag)) {
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
        loaded.load_time = Some(unframed.load_time);
        loaded.tags.extend(stored.tags.into_iter().map(Into::into));
        Some(Opened { loaded, age: stored.age, fresh_for: stored.fresh_for })
    }

    /// A loader's answer for the store, with the time that it is fresh; `None` if it isn't for the store.
    pub(super) fn seal(&self, loaded: &Loaded<V>, load_time: Duration) -> Option<(Vec<u8>, Duration)> {
        let fresh_for = match loaded.value {
            Some(_) => loaded.ttl.or(self.ttl).unwrap_or(Duration::MAX),
            None => self.negative_ttl_of(loaded)?,
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

    /// The time to live of the news that there is no such thing.
    fn negative_ttl_of(&self, loaded: &Loaded<V>) -> Option<Duration> {
        let most = self.negative_ttl?;
        Some(loaded.ttl.map_or(most, |ttl| ttl.min(most)))
    }

    /// Runs a loader, which has its time from now on, and which may panic.
    pub(super) async fn run<Fut, T, E>(&self, load: impl FnOnce() -> Fut) -> Result<T, Failure>
    where
        Fut: Future<Output = Result<T, E>>,
        E: Send + Sync + 'static,
    {
        self.loads.one();
        let limit = self.load_timeout;
        match timeout(limit, AssertUnwindSafe(async { load().await }).catch_unwind()).await {
            Ok(Ok(result)) => result.map_err(Failure::error),
            Ok(Err(panic)) => Err(Failure::panic(&*panic)),
            Err(_) => Err(Failure::TimedOut(limit)),
        }
    }

    /// Loads without a lease, for this instance only.
    async fn load_alone<F, Fut, L, E>(&self, load: F) -> Result<Loaded<V>, Failure>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<L, E>>,
        L: Into<Loaded<V>>,
        E: Send + Sync + 'static,
    {
        Ok(self.kept_here(self.run(load).await?.into()))
    }

    /// Loads under a lease, and stores what comes.
    async fn load_under<F, Fut, L, E>(
        &self,
        lease: HeldLease<K, V>,
        key: &Arc<[u8]>,
        load: F,
    ) -> Result<Loaded<V>, Failure>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<L, E>>,
        L: Into<Loaded<V>>,
        E: Send + Sync + 'static,
    {
        let clock = &self.local.0.clock;
        let began = clock.now();
        let result = tokio::select! {
            biased;
            result = self.run(load) => result,
            never = lease.keep() => match never {},
        };
        Ok(self.store(lease, key, result?.into(), clock.now() - began).await)
    }

    /// The same as a task of its own, while something stale is served or waited with.
    async fn load_behind<F, Fut, L, E>(
        self: Arc<Self>,
        lease: HeldLease<K, V>,
        key: Arc<[u8]>,
        load: F,
    ) -> Result<Loaded<V>, Failure>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<L, E>> + Send + 'static,
        L: Into<Loaded<V>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        let clock = &self.local.0.clock;
        let began = clock.now();
        let result = self.load_under(lease, &key, load).await;
        if let Err(failure) = &result {
            self.local.0.stats.count(Count::LoadFailures);
            self.local.0.reporter.failed(failure.as_str(), clock.now() - began, true);
        }
        result
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

    /// What was loaded, as the cache in memory has it.
    pub(super) fn kept_here(&self, loaded: Loaded<V>) -> Loaded<V> {
        let ttl = match loaded.value {
            Some(_) => loaded.ttl.or(self.ttl).unwrap_or(Duration::MAX),
            None => self.negative_ttl_of(&loaded).unwrap_or(Duration::MAX),
        };
        loaded.ttl(ttl.min(self.config.max_local_age))
    }

    /// A stale value in place of one that is loaded elsewhere or can't be: kept as what it is, and for the time
    /// of the throttle nobody here asks again.
    pub(super) fn stand_in(&self, stale: Opened<V>) -> Loaded<V> {
        self.remote.counts.stale_served.one();
        let stale_for = Some(stale.age.saturating_sub(stale.fresh_for));
        Loaded { stale_for, ttl: None, ..stale.loaded }
    }

    /// Whether a value that is served should be refreshed, by its whole age.
    fn is_due(&self, opened: &Opened<V>) -> bool {
        let moment = |age: Duration| Moment::default() + age;
        let mut times = Times::new(Moment::default(), moment(opened.fresh_for));
        times.load_time = opened.loaded.load_time.unwrap_or_default();
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

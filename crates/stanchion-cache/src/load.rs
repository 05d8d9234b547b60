//! `get_or_load`: one load however many ask, as a task of its own.

use std::borrow::Borrow;
use std::future::poll_fn;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Sleep, sleep, timeout};

use crate::ancestry::Ancestry;
use crate::cache::{Cache, Look};
use crate::ending::Ending;
use crate::error::{Failure, LoadError};
use crate::flight::Seat;
use crate::hash::local;
use crate::loaded::Loaded;
use crate::pilot::{Boarded, Load, Pilot};
use crate::stats::Count;

/// Loads that a caller joins, at most, each of which came to nothing it could use.
const ATTEMPTS: usize = 3;
/// A load that is so late has no runtime that runs.
const LATE: Duration = Duration::from_millis(100);

impl<K, V> Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// The key's value; `load` brings it where there is none. However many ask for a key, and in
    /// whatever way, one of them loads.
    ///
    /// `load` is only called by the one who loads. Its future runs as a task of its
    /// own, on the runtime of whoever asks or on the builder's. It returns a value, an `Option` of one, or a [`Loaded`].
    /// A hit costs what [`get`](Self::get) costs.
    ///
    /// What is stale is served or not as the settings say: see the crate's front page.
    /// With the settings' refreshes a value that is served may start a load, too.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use stanchion_cache::Cache;
    ///
    /// let users: Cache<u64, String> = Cache::builder().max_entries(1_000).build()?;
    /// let load = || async { Ok::<_, std::io::Error>(String::from("Alice")) };
    /// assert_eq!(users.get_or_load(&7, load).await?, "Alice");
    /// assert_eq!(users.get(&7).as_deref(), Some("Alice"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancellation
    /// Dropping the future, or not polling it, does nothing to the load: it goes
    /// on, for others who wait and for those who ask next. With [`Abandoned::Abort`](crate::Abandoned::Abort) a load
    /// that nobody waits for any more is dropped.
    ///
    /// # Errors
    /// The load's failure, shared by all who waited; [`LoadError::NotFound`] if there is
    /// no such thing; [`LoadError::Recursive`] where the load would wait for itself.
    /// That is seen through any number of loads that ask for each other, but not through tasks
    /// that a loader spawns, nor where two loads that were begun apart wait for each other: those end by the load timeout.
    pub async fn get_or_load<Q, F, Fut, L, E>(&self, key: &Q, load: F) -> Result<V, LoadError<E>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<L, E>> + Send + 'static,
        L: Into<Loaded<V>>,
        E: Send + Sync + 'static,
    {
        let hash = self.0.store.hash(key);
        match self.0.look(hash, key) {
            Look::Serve(value) => Ok(value),
            Look::NotFound => Err(LoadError::NotFound),
            Look::Refresh { value, expires } => {
                self.refresh(hash, key, expires, load);
                Ok(value)
            }
            Look::Load { fallback } => self.load(hash, key, load, fallback).await,
        }
    }

    /// Loads the key's value anew, whatever there is, and waits for it. What there was is gone, and
    /// a load under way is void, as by [`invalidate`](Self::invalidate).
    ///
    /// # Errors
    /// As [`get_or_load`](Self::get_or_load).
    pub async fn reload<Q, F, Fut, L, E>(&self, key: &Q, load: F) -> Result<V, LoadError<E>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<L, E>> + Send + 'static,
        L: Into<Loaded<V>>,
        E: Send + Sync + 'static,
    {
        self.invalidate(key);
        self.load(self.0.store.hash(key), key, load, None).await
    }

    async fn load<Q, F, Fut, L, E>(&self, hash: u64, key: &Q, load: F, fallback: Option<V>) -> Result<V, LoadError<E>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<L, E>> + Send + 'static,
        L: Into<Loaded<V>>,
        E: Send + Sync + 'static,
    {
        let Some(runtime) = self.runtime() else { return Err(LoadError::NoRuntime) };
        let asked = self.0.store.tags.now();
        let mut load = Some(load);
        for _ in 0..ATTEMPTS {
            let (passenger, is_own) = match self.0.board(hash, key, None) {
                Boarded::Served(Look::Serve(value) | Look::Refresh { value, .. }) => return Ok(value),
                Boarded::Served(_) => return Err(LoadError::NotFound),
                Boarded::Joins(flight) if Ancestry::current().contains(flight.id()) => {
                    return fallback.ok_or(LoadError::Recursive);
                }
                Boarded::Joins(flight) => {
                    self.0.stats.count(Count::Joined);
                    (Passenger::join(flight), false)
                }
                Boarded::Leads(pilot) => {
                    let passenger = Passenger::join(pilot.flight().clone());
                    // A caller leads once at most.
                    if let Some(load) = load.take() {
                        self.spawn(&runtime, pilot, load);
                    }
                    (passenger, true)
                }
            };
            if let Some(result) = self.settle(passenger, is_own, fallback.clone(), asked).await {
                return result;
            }
        }
        Err(LoadError::Aborted)
    }

    /// Starts a load of an entry that is served meanwhile, unless one is under way.
    fn refresh<Q, F, Fut, L, E>(&self, hash: u64, key: &Q, expires: u64, load: F)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<L, E>> + Send + 'static,
        L: Into<Loaded<V>>,
        E: Send + Sync + 'static,
    {
        // Everybody who is served comes here, and few are needed.
        if self.0.store.read(hash).flights.contains(local(hash), key) {
            return;
        }
        let Some(runtime) = self.runtime() else { return };
        if let Boarded::Leads(pilot) = self.0.board(hash, key, Some(expires)) {
            // The cache itself wants it, whoever else joins and leaves.
            pilot.flight().join();
            self.spawn(&runtime, pilot, load);
        }
    }

    fn spawn<F, Fut, L, E>(&self, runtime: &Handle, pilot: Pilot<K, V>, load: F)
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<L, E>> + Send + 'static,
        L: Into<Loaded<V>>,
        E: Send + Sync + 'static,
    {
        let flight = pilot.flight().clone();
        let ancestry = Ancestry::current().with(flight.id());
        let limit = self.0.live.load_timeout();
        let future = match Guarded::start(ancestry, limit, load) {
            Ok(future) => future,
            Err(failure) => return pilot.finish(Err(failure)),
        };
        let task = runtime.spawn(async move {
            let result = future.await;
            pilot.finish(result.map(Into::into));
        });
        if self.0.live.aborts_abandoned() {
            let task = task.abort_handle();
            flight.abort_with(move || task.abort());
        }
    }

    pub(crate) fn runtime(&self) -> Option<Handle> {
        self.0.runtime.clone().or_else(|| Handle::try_current().ok())
    }

    /// Waits for a load, and takes from it what is for this caller. `None`: to be asked for anew.
    pub(crate) async fn settle<E: Send + Sync + 'static>(
        &self,
        passenger: Passenger<V>,
        is_own: bool,
        fallback: Option<V>,
        asked: u64,
    ) -> Option<Result<V, LoadError<E>>> {
        match self.wait(passenger, fallback.as_ref()).await {
            Waited::SoftTimeout(value) => Some(Ok(value)),
            Waited::TimedOut => Some(fallback.ok_or(LoadError::TimedOut { after: self.0.live.load_timeout() })),
            Waited::Landed(ending) => {
                // Somebody else's load may have been dropped, or have come too late for this caller.
                let is_aborted = matches!(*ending, Ending::Failed(Failure::Aborted));
                let is_usable = is_own || !(is_aborted || self.0.came_too_late(&ending, asked));
                is_usable.then(|| self.0.tell(&ending))
            }
        }
    }

    /// Waits for a load, as long as this caller and the load may.
    async fn wait(&self, mut passenger: Passenger<V>, fallback: Option<&V>) -> Waited<V> {
        // The load's own timer comes first, unless its runtime stands still.
        let left = self.0.time_left(&passenger.flight) + LATE;
        let soft = self.0.live.load_timeout_soft().filter(|&soft| soft < left);
        if let (Some(soft), Some(value)) = (soft, fallback) {
            return match timeout(soft, passenger.landed()).await {
                Ok(ending) => Waited::Landed(ending),
                Err(_) => {
                    self.0.stats.count(Count::StaleServed);
                    passenger.is_waited_for = true;
                    Waited::SoftTimeout(value.clone())
                }
            };
        }
        match timeout(left, passenger.landed()).await {
            Ok(ending) => Waited::Landed(ending),
            Err(_) => Waited::TimedOut,
        }
    }
}

/// A loader's future as a part of its load, with its time limit. Whatever goes wrong is a
/// failure to be shared.
pub(crate) struct Guarded<F> {
    ancestry: Ancestry,
    limit: Duration,
    future: Pin<Box<F>>,
    /// From the first poll on, which is on the runtime.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<F> Guarded<F> {
    /// Calls the loader: its own code before its first await runs here.
    pub(crate) fn start(ancestry: Ancestry, limit: Duration, load: impl FnOnce() -> F) -> Result<Self, Failure> {
        let future =
            catch_unwind(AssertUnwindSafe(|| ancestry.scope(load))).map_err(|panic| Failure::panic(&*panic))?;
        Ok(Self { ancestry, limit, future: Box::pin(future), timer: None })
    }
}

impl<F, T, E> Future for Guarded<F>
where
    F: Future<Output = Result<T, E>>,
    E: Send + Sync + 'static,
{
    type Output = Result<T, Failure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { ancestry, limit, future, timer } = &mut *self;
        let poll = || {
            let result = ancestry.scope(|| future.as_mut().poll(context));
            match result {
                Poll::Ready(result) => Poll::Ready(result.map_err(Failure::error)),
                Poll::Pending => timer
                    .get_or_insert_with(|| Box::pin(sleep(*limit)))
                    .as_mut()
                    .poll(context)
                    .map(|()| Err(Failure::TimedOut(*limit))),
            }
        };
        // A future that has panicked is never polled again, only dropped.
        catch_unwind(AssertUnwindSafe(poll)).unwrap_or_else(|panic| Poll::Ready(Err(Failure::panic(&*panic))))
    }
}

/// What becomes of somebody who waits.
enum Waited<V> {
    Landed(Arc<Ending<V>>),
    SoftTimeout(V),
    TimedOut,
}

/// Somebody who waits for a load, until dropped.
pub(crate) struct Passenger<V> {
    flight: Load<V>,
    seat: Seat,
    /// Though this caller leaves, the load is wanted still.
    is_waited_for: bool,
}

impl<V> Passenger<V> {
    pub(crate) fn join(flight: Load<V>) -> Self {
        flight.join();
        Self { flight, seat: Seat::default(), is_waited_for: false }
    }

    async fn landed(&mut self) -> Arc<Ending<V>> {
        poll_fn(|context| self.flight.poll(&mut self.seat, context)).await
    }
}

impl<V> Drop for Passenger<V> {
    fn drop(&mut self) {
        if self.is_waited_for {
            return;
        }
        if let Some(abort) = self.flight.leave(&mut self.seat) {
            abort();
        }
    }
}

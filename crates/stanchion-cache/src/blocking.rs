//! `get_or_load_blocking`: the same flights, for threads.

use std::borrow::Borrow;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::ancestry::Ancestry;
use crate::cache::{Cache, Look};
use crate::error::{Failure, LoadError};
use crate::flight::Seat;
use crate::loaded::Loaded;
use crate::pilot::{Boarded, Load, Pilot};
use crate::stats::Count;

/// Loads of others that a caller waits for, at most, each of which came to nothing it could use.
const ATTEMPTS: usize = 3;

impl<K: Hash + Eq, V: Clone> Cache<K, V> {
    /// The key's value; `load` brings it where there is none. The one who loads does it in
    /// its own thread; all others wait, those of [`get_or_load`](Self::get_or_load), too.
    ///
    /// A stale value that may be served while it is refreshed is served to all but the one
    /// who refreshes it. Not to be called in an async function: it blocks.
    ///
    /// ```
    /// # let users = stanchion_cache::Cache::<u64, String>::builder().build()?;
    /// let user = users.get_or_load_blocking(&7, || Ok::<_, std::io::Error>(String::from("Alice")))?;
    /// assert_eq!(user, "Alice");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As of [`get_or_load`](Self::get_or_load). Those who wait do so for the load timeout at
    /// most. Nobody can stop a closure of one's own that blocks for longer; what it brings then
    /// is returned to its caller, and not kept if others have begun anew.
    pub fn get_or_load_blocking<Q, L, E>(&self, key: &Q, load: impl FnOnce() -> Result<L, E>) -> Result<V, LoadError<E>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
        L: Into<Loaded<V>>,
        E: Send + Sync + 'static,
    {
        let hash = self.0.store.hash(key);
        let (fallback, refreshed) = match self.0.look(hash, key) {
            Look::Serve(value) => return Ok(value),
            Look::NotFound => return Err(LoadError::NotFound),
            Look::Refresh { value, expires } => (Some(value), Some(expires)),
            Look::Load { fallback } => (fallback, None),
        };
        let asked = self.0.store.tags.now();
        for _ in 0..ATTEMPTS {
            match (self.0.board(hash, key, refreshed), fallback.as_ref()) {
                (Boarded::Leads(pilot), _) => return fly(pilot, load),
                // Somebody is at it.
                (Boarded::Joins(_), Some(value)) if refreshed.is_some() => return Ok(value.clone()),
                (Boarded::Served(Look::Serve(value) | Look::Refresh { value, .. }), _) => return Ok(value),
                (Boarded::Served(_), _) => return Err(LoadError::NotFound),
                (Boarded::Joins(flight), stale) => {
                    if Ancestry::current().contains(flight.id()) {
                        return stale.cloned().ok_or(LoadError::Recursive);
                    }
                    self.0.stats.count(Count::Joined);
                    match self.wait_blocking(&flight, stale, asked) {
                        Err(LoadError::Aborted) => {}
                        result => return result,
                    }
                }
            }
        }
        Err(LoadError::Aborted)
    }

    /// Waits for somebody else's load. [`LoadError::Aborted`]: to be asked for anew.
    fn wait_blocking<E>(&self, flight: &Load<V>, stale: Option<&V>, asked: u64) -> Result<V, LoadError<E>>
    where
        E: Send + Sync + 'static,
    {
        let limit = self.0.live.load_timeout();
        let left = self.0.time_left(flight);
        let soft = self.0.live.load_timeout_soft().filter(|_| stale.is_some());
        flight.join();
        let ending = flight.wait(soft.unwrap_or(left).min(left));
        // A thread leaves only when it knows or when time is up: nothing to abort.
        drop(flight.leave(&mut Seat::default()));
        match (ending, stale) {
            (Some(ending), _) if self.0.came_too_late(&ending, asked) => Err(LoadError::Aborted),
            (Some(ending), _) => self.0.tell(&ending),
            (None, Some(stale)) => {
                self.0.stats.count(Count::StaleServed);
                Ok(stale.clone())
            }
            (None, None) => Err(LoadError::TimedOut { after: limit }),
        }
    }
}

/// Runs a load in this thread.
fn fly<K: Hash + Eq, V: Clone, L: Into<Loaded<V>>, E: Send + Sync + 'static>(
    pilot: Pilot<K, V>,
    load: impl FnOnce() -> Result<L, E>,
) -> Result<V, LoadError<E>> {
    let (cache, flight) = (pilot.cache().clone(), pilot.flight().clone());
    let ancestry = Ancestry::current().with(flight.id());
    pilot.finish(match catch_unwind(AssertUnwindSafe(|| ancestry.scope(load))) {
        Ok(Ok(loaded)) => Ok(loaded.into()),
        Ok(Err(error)) => Err(Failure::error(error)),
        Err(panic) => Err(Failure::panic(&*panic)),
    });
    match flight.ending() {
        Some(ending) => cache.tell(&ending),
        None => Err(LoadError::Aborted),
    }
}

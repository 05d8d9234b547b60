//! Many keys at once: one batch for what is missing, and still one load a key.

use std::borrow::Borrow;
use std::hash::Hash;

use crate::cache::Cache;

impl<K: Hash + Eq, V: Clone> Cache<K, V> {
    /// The fresh values of these keys, in their order.
    pub fn get_many<'a, Q>(&self, keys: impl IntoIterator<Item = &'a Q>) -> Vec<Option<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized + 'a,
    {
        keys.into_iter().map(|key| self.get(key)).collect()
    }

    /// Takes out every entry that is so. All loads under way become void, as nobody
    /// knows what they bring. Returns how many entries that were.
    ///
    /// It walks all entries and runs `is_it` outside of locks, on copies of some entries at
    /// a time. What is put in while it walks may stay, and may go.
    pub fn invalidate_if(&self, mut is_it: impl FnMut(&K, &V) -> bool) -> u64
    where
        K: Clone,
    {
        // First, so that no older value gets in behind the walk.
        self.0.store.void_all_loads();
        let mut gone = 0;
        for number in 0..self.0.store.shards() {
            let mut next = Some(0);
            while let Some(from) = next {
                let copies;
                (copies, next) = self.0.store.copies(number, from);
                for (key, _) in copies.into_iter().filter(|(key, value)| is_it(key, value)) {
                    gone += u64::from(self.invalidate(&key));
                }
            }
        }
        gone
    }
}

#[cfg(feature = "tier")]
pub(crate) use loading::Each;

#[cfg(feature = "tokio")]
mod loading {
    use std::collections::HashMap;

    use super::*;
    use crate::ancestry::Ancestry;
    use crate::cache::Look;
    use crate::error::{Failure, LoadError};
    use crate::load::{Guarded, Passenger};
    use crate::loaded::Loaded;
    use crate::pilot::{Boarded, Pilot};
    use crate::stats::Count;

    /// Rounds of loads, at most, of keys whose load by somebody else came to nothing.
    const ROUNDS: usize = 3;

    /// What a batch brought, by key.
    pub(crate) type Each<K, V> = Vec<(K, Result<Loaded<V>, Failure>)>;

    /// How a key stands.
    enum Place<V, E> {
        Known(Result<V, LoadError<E>>),
        Waits { passenger: Passenger<V>, is_own: bool, fallback: Option<V> },
        Unknown,
    }

    impl<K, V> Cache<K, V>
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
    {
        /// The values of these keys, in their order; `load` brings those that are missing, all in
        /// one call. Of each key there is still one load at a time: keys that others
        /// load are waited for, and others wait for those of the batch.
        ///
        /// `load` gets the missing keys and returns pairs of key and value. A key
        /// that it doesn't return is not found.
        ///
        /// ```
        /// # #[tokio::main(flavor = "current_thread")]
        /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
        /// # let users = stanchion_cache::Cache::<u64, String>::builder().build()?;
        /// users.insert(1, "Alice".into());
        /// let found = users
        ///     .get_or_load_many(&[1, 2, 3], |missing| async move {
        ///         assert_eq!(missing, [2, 3]);
        ///         Ok::<_, std::io::Error>(vec![(2, String::from("Bob"))])
        ///     })
        ///     .await;
        /// assert_eq!(found[1].as_deref().unwrap(), "Bob");
        /// assert!(found[2].as_ref().unwrap_err().is_not_found());
        /// # Ok(())
        /// # }
        /// ```
        ///
        /// # Cancellation
        /// As of [`get_or_load`](Self::get_or_load): the batch goes on. It isn't aborted by
        /// [`Abandoned::Abort`](crate::Abandoned::Abort).
        pub async fn get_or_load_many<F, Fut, C, L, E>(&self, keys: &[K], mut load: F) -> Vec<Result<V, LoadError<E>>>
        where
            F: FnMut(Vec<K>) -> Fut,
            Fut: Future<Output = Result<C, E>> + Send + 'static,
            C: IntoIterator<Item = (K, L)> + Send,
            L: Into<Loaded<V>>,
            E: Send + Sync + 'static,
        {
            self.load_each(keys, |missing| {
                let batch = load(missing);
                async move {
                    let all = |loaded: C| loaded.into_iter().map(|(key, loaded)| (key, Ok(loaded.into()))).collect();
                    batch.await.map(all)
                }
            })
            .await
        }

        /// The same with a batch that may fail for some of its keys.
        pub(crate) async fn load_each<F, Fut, E>(&self, keys: &[K], mut load: F) -> Vec<Result<V, LoadError<E>>>
        where
            F: FnMut(Vec<K>) -> Fut,
            Fut: Future<Output = Result<Each<K, V>, E>> + Send + 'static,
            E: Send + Sync + 'static,
        {
            let asked = self.0.store.tags.now();
            let mut places: Vec<Place<V, E>> = keys.iter().map(|_| Place::Unknown).collect();
            for _ in 0..ROUNDS {
                let (mut missing, mut pilots) = (Vec::new(), HashMap::new());
                for (key, place) in keys.iter().zip(&mut places) {
                    if matches!(place, Place::Unknown) {
                        *place = self.begin(key, &mut missing, &mut pilots);
                    }
                }
                if !pilots.is_empty() {
                    self.spawn_batch(missing, pilots, &mut load);
                }
                for place in &mut places {
                    if let Place::Waits { .. } = place
                        && let Place::Waits { passenger, is_own, fallback } = std::mem::replace(place, Place::Unknown)
                        && let Some(known) = self.settle(passenger, is_own, fallback, asked).await
                    {
                        *place = Place::Known(known);
                    }
                }
                if places.iter().all(|place| matches!(place, Place::Known(_))) {
                    break;
                }
            }
            let known = |place| if let Place::Known(known) = place { known } else { Err(LoadError::Aborted) };
            places.into_iter().map(known).collect()
        }

        fn begin<E>(&self, key: &K, missing: &mut Vec<K>, pilots: &mut HashMap<K, Pilot<K, V>>) -> Place<V, E> {
            let hash = self.0.store.hash(key);
            let (fallback, refreshed) = match self.0.look(hash, key) {
                Look::Serve(value) => return Place::Known(Ok(value)),
                Look::NotFound => return Place::Known(Err(LoadError::NotFound)),
                Look::Refresh { value, expires } => (Some(value), Some(expires)),
                Look::Load { fallback } => (fallback, None),
            };
            if self.runtime().is_none() {
                return Place::Known(fallback.ok_or(LoadError::NoRuntime));
            }
            let boarded = self.0.board(hash, key, refreshed);
            if let Boarded::Leads(pilot) = boarded {
                let flight = pilot.flight().clone();
                missing.push(key.clone());
                pilots.insert(key.clone(), pilot);
                return match fallback {
                    // It is served, and replaced behind the caller's back.
                    Some(value) if refreshed.is_some() => Place::Known(Ok(value)),
                    fallback => Place::Waits { passenger: Passenger::join(flight), is_own: true, fallback },
                };
            }
            match (boarded, fallback) {
                (Boarded::Served(Look::Serve(value) | Look::Refresh { value, .. }), _) => Place::Known(Ok(value)),
                (Boarded::Joins(_), Some(value)) if refreshed.is_some() => Place::Known(Ok(value)),
                (Boarded::Joins(flight), fallback) if Ancestry::current().contains(flight.id()) => {
                    Place::Known(fallback.ok_or(LoadError::Recursive))
                }
                (Boarded::Joins(flight), fallback) => {
                    self.0.stats.count(Count::Joined);
                    Place::Waits { passenger: Passenger::join(flight), is_own: false, fallback }
                }
                _ => Place::Known(Err(LoadError::NotFound)),
            }
        }

        fn spawn_batch<F, Fut, E>(&self, missing: Vec<K>, mut pilots: HashMap<K, Pilot<K, V>>, load: &mut F)
        where
            F: FnMut(Vec<K>) -> Fut,
            Fut: Future<Output = Result<Each<K, V>, E>> + Send + 'static,
            E: Send + Sync + 'static,
        {
            let ancestry =
                pilots.values().fold(Ancestry::current(), |ancestry, pilot| ancestry.with(pilot.flight().id()));
            let limit = self.0.live.load_timeout();
            let future = Guarded::start(ancestry, limit, || load(missing));
            let task = async move {
                let result = match future {
                    Ok(future) => future.await,
                    Err(failure) => Err(failure),
                };
                match result {
                    Ok(loaded) => {
                        for (key, loaded) in loaded {
                            if let Some(pilot) = pilots.remove(&key) {
                                pilot.finish(loaded);
                            }
                        }
                        pilots.into_values().for_each(|pilot| pilot.finish(Ok(Loaded::absent())));
                    }
                    Err(failure) => {
                        pilots.into_values().for_each(|pilot| pilot.finish(Err(failure.clone())));
                    }
                }
            };
            // Without a runtime nobody would have become a pilot.
            if let Some(runtime) = self.runtime() {
                runtime.spawn(task);
            }
        }
    }
}

//! Many keys at once: one question each, all on their way together, and one batch for what is
//! missing.

use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::fetch::{Opened, Standing};
use super::key::bytes_of;
use super::lease::HeldLease;
use super::{Inner, RemoteKey, TieredCache};
use crate::bulk::Each;
use crate::error::{Failure, LoadError};
use crate::loaded::Loaded;

impl<K, V> TieredCache<K, V>
where
    K: RemoteKey + Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// The fresh values of these keys, in their order, from memory or from the store, which is asked
    /// for all that are missing at once.
    pub async fn get_many(&self, keys: &[K]) -> Vec<Option<V>> {
        let mut found = Vec::with_capacity(keys.len());
        for some in keys.chunks(AT_ONCE) {
            found.extend(join_all(some.iter().map(|key| self.get(key))).await);
        }
        found
    }

    /// The values of these keys, in their order; `load` brings those that no tier has, all in one
    /// call. Of each key there is still one load at a time among all instances: keys that others
    /// load are waited for.
    ///
    /// As [`Cache::get_or_load_many`](crate::Cache::get_or_load_many). `load` may be called again, for
    /// keys whose load elsewhere came to nothing. Its error is that of the keys that it was asked
    /// for, and of no other.
    pub async fn get_or_load_many<F, Fut, C, L, E>(&self, keys: &[K], load: F) -> Vec<Result<V, LoadError<E>>>
    where
        F: FnMut(Vec<K>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<C, E>> + Send + 'static,
        C: IntoIterator<Item = (K, L)> + Send + 'static,
        L: Into<Loaded<V>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        let inner = &self.0;
        let loaded = inner.local.load_each(keys, |missing| inner.clone().fetch_many(missing, load.clone())).await;
        loaded.into_iter().map(|loaded| loaded.map_err(LoadError::told_as)).collect()
    }
}

/// So many questions of a batch are on their way together: more would wait for each other longer than a
/// call may take.
const AT_ONCE: usize = 64;

/// A key that is to be loaded.
struct Missing<K, V>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    key: K,
    bytes: Arc<[u8]>,
    lease: Option<HeldLease<K, V>>,
    stale: Option<Opened<V>>,
}

impl<K, V> Inner<K, V>
where
    K: RemoteKey + Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    async fn fetch_many<F, Fut, C, L, E>(self: Arc<Self>, keys: Vec<K>, mut load: F) -> Result<Each<K, V>, Failure>
    where
        F: FnMut(Vec<K>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<C, E>> + Send + 'static,
        C: IntoIterator<Item = (K, L)> + Send + 'static,
        L: Into<Loaded<V>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        let mut known = Vec::with_capacity(keys.len());
        let mut patience = None;
        let mut asked: Vec<(K, Arc<[u8]>)> = keys.into_iter().map(|key| (key.clone(), bytes_of(&key))).collect();
        loop {
            let mut standings = Vec::with_capacity(asked.len());
            for some in asked.chunks(AT_ONCE) {
                let some = some.iter().map(|(key, bytes)| self.standing(bytes, self.local.contains(key)));
                standings.extend(join_all(some).await);
            }
            let (mut missing, mut waiting, mut pause) = (Vec::new(), Vec::new(), Duration::MAX);
            let mut behind = Vec::new();
            for ((key, bytes), standing) in asked.into_iter().zip(standings) {
                match standing {
                    Standing::Known(opened) => known.push((key, Ok(opened.loaded))),
                    Standing::Leads { lease, stale: Some(stale) } if self.revalidates(&stale) => {
                        known.push((key.clone(), Ok(self.stand_in(stale))));
                        behind.push(Missing { key, bytes, lease: Some(lease), stale: None });
                    }
                    Standing::Leads { lease, stale } => {
                        missing.push(Missing { key, bytes, lease: Some(lease), stale });
                    }
                    Standing::Awaits { stale: Some(stale), .. } if self.revalidates(&stale) => {
                        known.push((key, Ok(self.stand_in(stale))));
                    }
                    Standing::Awaits { retry_after, .. } => {
                        pause = pause.min(retry_after);
                        waiting.push((key, bytes));
                    }
                    Standing::Unknown => missing.push(Missing { key, bytes, lease: None, stale: None }),
                }
            }
            if !behind.is_empty() {
                let (inner, mut load) = (self.clone(), load.clone());
                tokio::spawn(async move { inner.load_batch(behind, &mut load, &mut Vec::new()).await });
            }
            self.load_batch(missing, &mut load, &mut known).await;
            if waiting.is_empty() {
                return Ok(known);
            }
            if !self.wait(patience.get_or_insert_with(|| self.patience()), pause).await {
                let alone = |(key, bytes)| Missing { key, bytes, lease: None, stale: None };
                self.load_batch(waiting.into_iter().map(alone).collect(), &mut load, &mut known).await;
                return Ok(known);
            }
            asked = waiting;
        }
    }

    async fn load_batch<F, Fut, C, L, E>(&self, missing: Vec<Missing<K, V>>, load: &mut F, known: &mut Each<K, V>)
    where
        F: FnMut(Vec<K>) -> Fut,
        Fut: Future<Output = Result<C, E>> + Send,
        C: IntoIterator<Item = (K, L)> + Send,
        L: Into<Loaded<V>>,
        E: Send + Sync + 'static,
    {
        if missing.is_empty() {
            return;
        }
        let clock = &self.local.0.clock;
        let began = clock.now();
        let keep = async {
            join_all(missing.iter().filter_map(|missing| missing.lease.as_ref()).map(HeldLease::keep)).await;
            // Without a lease there is nothing to keep.
            std::future::pending::<Infallible>().await
        };
        let result = tokio::select! {
            biased;
            result = self.run(|| load(missing.iter().map(|missing| missing.key.clone()).collect())) => result,
            never = keep => match never {},
        };
        match result {
            Ok(loaded) => {
                let mut loaded: HashMap<K, Loaded<V>> =
                    loaded.into_iter().map(|(key, loaded)| (key, loaded.into())).collect();
                let took = clock.now() - began;
                let mut missing = missing;
                while !missing.is_empty() {
                    let some = missing.split_off(missing.len().saturating_sub(AT_ONCE));
                    let stored = some.into_iter().map(|Missing { key, bytes, lease, .. }| {
                        let loaded = loaded.remove(&key).unwrap_or_else(Loaded::absent);
                        async move {
                            let loaded = match lease {
                                Some(lease) => self.store(lease, &bytes, loaded, took).await,
                                None => self.kept_here(loaded),
                            };
                            (key, Ok(loaded))
                        }
                    });
                    known.extend(join_all(stored.collect::<Vec<_>>()).await);
                }
            }
            Err(failure) => {
                known.extend(missing.into_iter().map(|Missing { key, stale, .. }| match stale {
                    Some(stale) if self.covers_errors(&stale) => (key, Ok(self.stand_in(stale))),
                    _ => (key, Err(failure.clone())),
                }));
            }
        }
    }
}

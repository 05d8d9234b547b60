//! From a change here to all instances.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use stanchion_core::{Answer, CacheStore, NewValue, StoreError};

use super::key::bytes_of;
use super::pending::What;
use super::{Inner, RemoteKey};
use crate::loaded::Loaded;

/// How far a change has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Spread {
    /// The store knows, and tells the other instances. A value that is too large or can't be encoded isn't
    /// stored: then it knows that there is none.
    Everywhere,
    /// This instance has it. The store couldn't be told, and will be when it answers again.
    Pending,
}

/// What was lost is sent again in portions of this size.
const PORTION: usize = 64;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

impl<K, V> Inner<K, V>
where
    K: RemoteKey + Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Forgets here, tells the store, and forgets again what has been read from it meanwhile.
    pub(super) async fn spread<'a>(
        self: &'a Arc<Self>,
        what: What,
        forget: impl Fn(),
        tell: impl FnOnce(&'a dyn CacheStore) -> Answer<'a, Result<(), StoreError>>,
    ) -> Spread {
        let sent = Sent::begin(self, what);
        forget();
        let has_arrived = self.remote.ask(tell).await.is_some();
        // Before it is taken from what is pending: who asks in between doesn't ask the store.
        forget();
        if has_arrived { sent.arrived() } else { Spread::Pending }
    }

    pub(super) async fn insert(self: &Arc<Self>, key: &K, loaded: &Loaded<V>) -> Spread {
        let bytes = bytes_of(key);
        let forget = || _ = self.local.invalidate(key);
        let Some((sealed, fresh_for)) = self.seal(loaded, Duration::ZERO) else {
            // What can't be stored makes the older value go all the same.
            return self.spread(What::Key(bytes.clone()), forget, |store| store.invalidate(&bytes)).await;
        };
        let tags: Vec<&str> = loaded.tags.iter().map(AsRef::as_ref).collect();
        let keep_for = fresh_for.saturating_add(self.ladder.grace());
        let value = NewValue { bytes: &sealed, fresh_for, keep_for, tags: &tags };
        self.spread(What::Key(bytes.clone()), forget, |store| store.insert(&bytes, value)).await
    }

    /// Starts to send again what was lost, if nobody does yet.
    pub(super) fn resend(self: &Arc<Self>) {
        // Without any runtime it is left to the next one who has one.
        let Some(runtime) = self.local.runtime().or_else(|| self.runtime.clone()) else { return };
        if !self.pending.start_resending() {
            return;
        }
        let weak = Arc::downgrade(self);
        let resending = Resending(weak.clone());
        runtime.spawn(async move {
            let _resending = resending;
            let mut pause = FIRST_PAUSE;
            loop {
                // Shorter by chance, so that the instances of a service don't come all at once.
                let Some(chance) = weak.upgrade().map(|inner| inner.local.0.random.run().unit()) else { return };
                tokio::time::sleep(pause.mul_f64(1.0 - chance / 2.0)).await;
                let Some(inner) = weak.upgrade() else { return };
                let lost = inner.pending.take_lost(PORTION);
                if lost.is_empty() {
                    return;
                }
                let inner = &inner;
                let all = join_all(lost.into_iter().map(|(what, number)| inner.send_again(what, number))).await;
                pause = if all.contains(&false) { (pause * 2).min(LONGEST_PAUSE) } else { Duration::ZERO };
            }
        });
    }

    async fn send_again(self: &Arc<Self>, what: What, number: u64) -> bool {
        // Whatever cuts this short, it is to be sent still.
        let sent = Sent { inner: self, what: Some(what.clone()), number, is_again: true };
        let has_arrived = self
            .remote
            .insist(|store| match &what {
                What::Key(key) => store.invalidate(key),
                What::Tag(tag) => store.invalidate_tag(tag),
                What::All => store.clear(),
            })
            .await
            .is_some();
        if has_arrived {
            self.remote.counts.resent.one();
            self.local.0.reporter.resent();
            // As in `spread`: an answer of before may be on its way still.
            self.forget(&what);
            sent.arrived();
        }
        has_arrived
    }
}

/// A change on its way: dropped, it is lost, and is to be sent again.
struct Sent<'a, K, V>
where
    K: RemoteKey + Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    inner: &'a Arc<Inner<K, V>>,
    what: Option<What>,
    number: u64,
    is_again: bool,
}

impl<'a, K, V> Sent<'a, K, V>
where
    K: RemoteKey + Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn begin(inner: &'a Arc<Inner<K, V>>, what: What) -> Self {
        let number = inner.pending.begin(what.clone());
        Self { inner, what: Some(what), number, is_again: false }
    }

    fn arrived(mut self) -> Spread {
        if let Some(what) = self.what.take() {
            self.inner.pending.arrived(&what, self.number);
        }
        Spread::Everywhere
    }
}

impl<K, V> Drop for Sent<'_, K, V>
where
    K: RemoteKey + Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn drop(&mut self) {
        if let Some(what) = self.what.take() {
            self.inner.pending.lost(what);
            if !self.is_again {
                self.inner.local.0.reporter.pending();
            }
            self.inner.resend();
        }
    }
}

/// The duty to send again: dropped with its task, somebody else may begin.
struct Resending<K, V>(std::sync::Weak<Inner<K, V>>);

impl<K, V> Drop for Resending<K, V> {
    fn drop(&mut self) {
        if let Some(inner) = self.0.upgrade() {
            inner.pending.stop_resending();
        }
    }
}

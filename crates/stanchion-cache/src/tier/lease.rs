//! The right to load, as long as a load is under way.

use std::convert::Infallible;
use std::sync::Arc;

use stanchion_core::{Fence, LeaseStore};
use tokio::runtime::Handle;

use super::Inner;

/// A lease on a key: dropped, it is given back in the background. Where that fails it ends by
/// itself.
pub(super) struct HeldLease<K, V>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    inner: Arc<Inner<K, V>>,
    key: Arc<[u8]>,
    pub(super) fence: Fence,
    is_over: bool,
}

impl<K, V> HeldLease<K, V>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    pub(super) fn new(inner: &Arc<Inner<K, V>>, key: &Arc<[u8]>, fence: Fence) -> Self {
        Self { inner: inner.clone(), key: key.clone(), fence, is_over: false }
    }

    /// Renews it for as long as it is polled.
    pub(super) async fn keep(&self) -> Infallible {
        let lease = self.inner.config.lease;
        loop {
            tokio::time::sleep(lease / 3).await;
            let renewed = self.inner.remote.ask(|store| LeaseStore::renew(store, &self.key, self.fence, lease)).await;
            if renewed == Some(false) {
                // Lost: the store will say so when there is something to put.
                std::future::pending::<()>().await;
            }
        }
    }

    /// It has been given back with what was put, or was lost: there is nothing to give back.
    pub(super) fn forget(mut self) {
        self.is_over = true;
    }
}

impl<K, V> Drop for HeldLease<K, V>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        let (inner, key, fence) = (self.inner.clone(), self.key.clone(), self.fence);
        runtime.spawn(async move { inner.remote.ask(|store| LeaseStore::release(store, &key, fence)).await });
    }
}

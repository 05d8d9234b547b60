//! The store as a cache calls it: behind a breaker, with a limit of time, and never an error to
//! the caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use stanchion_breaker::Breaker;
use stanchion_core::{Answer, CacheStore, Call, Classify, Lease, Outcome, Permit, StoreError, StoreErrorKind};
use tokio::runtime::Handle;

/// The store with what stands around it.
pub(super) struct Remote {
    pub(super) store: Arc<dyn CacheStore>,
    pub(super) breaker: Breaker,
    pub(super) timeout: Duration,
    pub(super) counts: Counts,
    pub(super) is_listening: AtomicBool,
}

/// Declares the counters, each with its place in the snapshot.
macro_rules! counts {
    ($($name:ident)*) => {
        /// What a tiered cache counts. All that happens here waits for a store.
        #[derive(Debug, Default)]
        pub(super) struct Counts { $(pub(super) $name: Count,)* }
    };
}
counts!(hits misses failed refused timed_out lease_waits lease_wait_timeouts fenced garbled not_encoded too_large
    resent heard flushes stale_served);

#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn one(&self) {
        // Relaxed: only ever read for a snapshot.
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Remote {
    /// The store's answer. `None` if there is none: it is as if the store weren't there.
    pub(super) async fn ask<'a, T>(
        &'a self,
        question: impl FnOnce(&'a dyn CacheStore) -> Answer<'a, Result<T, StoreError>>,
    ) -> Option<T> {
        if Handle::try_current().is_err() {
            // Nobody would say when the time is over.
            self.counts.refused.one();
            return None;
        }
        let Ok(permit) = Permit::try_new(&self.breaker, &Call::new()) else {
            self.counts.refused.one();
            return None;
        };
        let answer = self.in_time(question).await;
        let (outcome, answer) = self.judge(answer);
        permit.settle(outcome);
        answer
    }

    /// The same past the breaker: for what must arrive as soon as it can, asked by one task with
    /// pauses of its own.
    pub(super) async fn insist<'a, T>(
        &'a self,
        question: impl FnOnce(&'a dyn CacheStore) -> Answer<'a, Result<T, StoreError>>,
    ) -> Option<T> {
        let answer = self.in_time(question).await;
        self.judge(answer).1
    }

    async fn in_time<'a, T>(
        &'a self,
        question: impl FnOnce(&'a dyn CacheStore) -> Answer<'a, Result<T, StoreError>>,
    ) -> Option<Result<T, StoreError>> {
        match question(&*self.store) {
            Answer::Ready(answer) => Some(answer),
            Answer::Later(answer) => tokio::time::timeout(self.timeout, answer).await.ok(),
        }
    }

    fn judge<T>(&self, answer: Option<Result<T, StoreError>>) -> (Outcome, Option<T>) {
        match answer {
            None => {
                self.counts.timed_out.one();
                (Outcome::TimedOut, None)
            }
            Some(Err(error)) => {
                let is_too_large = error.kind() == StoreErrorKind::Unsupported;
                if is_too_large { &self.counts.too_large } else { &self.counts.failed }.one();
                (error.outcome(), None)
            }
            Some(Ok(answer)) => (Outcome::Success, Some(answer)),
        }
    }

    pub(super) async fn acquire(&self, key: &[u8], lease: Duration) -> Option<Lease> {
        self.ask(|store| store.acquire(key, lease)).await
    }
}

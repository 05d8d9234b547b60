//! The laws of a [`CacheStore`], and with it of a [`LeaseStore`](stanchion_core::LeaseStore).
//!
//! Each law uses caches of its own names, so that all can run on one store. Times are in whole milliseconds, which
//! every store has. A law that waits to be told something waits for ten seconds of real time at most.

#[cfg(test)]
mod flaws;
mod gone;
mod heard;
mod lease;
mod load;
mod model;
#[cfg(test)]
mod naive;
mod random;
mod told;
mod value;

use std::sync::Arc;
use std::time::Duration;

use stanchion_core::{CacheStore, Fence, Found, Lease, ManualClock, NewValue, StoredValue};

pub use gone::*;
pub use lease::*;
pub use load::*;
pub use random::*;
pub use told::*;
pub use value::*;

/// From a name to an instance of its cache.
pub type Open = Arc<dyn Fn(&str) -> Arc<dyn CacheStore> + Send + Sync>;

/// Stores to be judged, and the clock by which they go.
#[derive(Clone)]
pub struct Subject {
    /// The cache of a name, as one instance of a service has it. Each call gives another instance of the same
    /// cache, which is told what others change.
    pub open: Open,
    /// The clock, which the laws advance.
    pub clock: ManualClock,
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subject").field("clock", &self.clock).finish_non_exhaustive()
    }
}

impl Subject {
    fn store(&self, name: &str) -> Instance {
        Instance((self.open)(name))
    }
}

/// Makes a `#[tokio::test]` of each law, on the [`Subject`] that the async
/// function `$subject` makes for it.
#[macro_export]
macro_rules! cache_laws {
    ($subject:path) => {
        $crate::cache_laws!($subject:
            a_value_comes_back_as_it_was_stored
            a_value_is_fresh_and_there_for_exactly_its_times
            an_age_begins_with_the_load_and_not_with_its_end
            a_value_takes_the_place_of_another_with_its_tags_and_times
            times_without_end_are_times_all_the_same
            any_bytes_are_a_key_and_any_text_is_a_tag
            names_do_not_meet
            one_holder_at_a_time
            a_lease_ends_exactly_when_its_time_is_over
            only_its_fence_renews_or_releases_a_lease
            fences_grow
            a_fresh_value_needs_no_lease_and_a_stale_one_comes_with_it
            a_hundred_at_once_get_one_lease
            what_was_loaded_is_stored_once_and_gives_the_lease_back
            a_late_load_is_not_stored
            an_insertion_voids_a_load
            an_invalidation_voids_a_load_and_another_may_begin_at_once
            a_clearing_voids_all_loads
            an_invalidated_tag_voids_the_loads_that_bear_it
            what_was_invalidated_is_gone_and_nothing_else
            what_bears_an_invalidated_tag_is_gone_and_nothing_else
            what_was_cleared_is_gone_and_what_comes_after_is_there
            others_are_told_and_not_oneself
            an_ended_subscription_lets_go_of_its_listener
            random_histories_are_those_of_the_definition
        );
    };
    ($subject:path: $($law:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $law() {
            $crate::cache::$law(&$subject().await).await;
        })*
    };
}

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// What is fresh for a second, and there for two.
const fn value<'a>(bytes: &'a [u8], tags: &'a [&'a str]) -> NewValue<'a> {
    NewValue { bytes, fresh_for: SECOND, keep_for: Duration::from_secs(2), tags }
}

/// A store that answers: the laws are for one that works.
#[derive(Clone)]
struct Instance(Arc<dyn CacheStore>);

const ANSWERS: &str = "a store under test answers";

impl Instance {
    async fn get(&self, key: &[u8]) -> Option<StoredValue> {
        self.0.get(key).await.expect(ANSWERS)
    }

    /// The bytes of the value.
    async fn bytes(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.get(key).await.map(|value| value.bytes)
    }

    async fn get_or_lease(&self, key: &[u8], lease: Duration) -> Found {
        self.0.get_or_lease(key, lease).await.expect(ANSWERS)
    }

    async fn put(&self, key: &[u8], fence: Fence, value: NewValue<'_>) -> bool {
        self.0.put(key, fence, value).await.expect(ANSWERS)
    }

    async fn insert(&self, key: &[u8], value: NewValue<'_>) {
        self.0.insert(key, value).await.expect(ANSWERS);
    }

    async fn invalidate(&self, key: &[u8]) {
        self.0.invalidate(key).await.expect(ANSWERS);
    }

    async fn invalidate_tag(&self, tag: &str) {
        self.0.invalidate_tag(tag).await.expect(ANSWERS);
    }

    async fn clear(&self) {
        self.0.clear().await.expect(ANSWERS);
    }

    async fn acquire(&self, key: &[u8], duration: Duration) -> Lease {
        self.0.acquire(key, duration).await.expect(ANSWERS)
    }

    async fn renew(&self, key: &[u8], fence: Fence, duration: Duration) -> bool {
        self.0.renew(key, fence, duration).await.expect(ANSWERS)
    }

    async fn release(&self, key: &[u8], fence: Fence) -> bool {
        self.0.release(key, fence).await.expect(ANSWERS)
    }

    /// The lease for a second on a key that is free.
    async fn lease(&self, key: &[u8]) -> Fence {
        match self.acquire(key, SECOND).await {
            Lease::Held(fence) => fence,
            taken @ Lease::Taken { .. } => panic!("the lease on {key:?} is free, but {taken:?}"),
        }
    }
}

/// Keys and tags of any kind, and the longest of them.
fn any_bytes() -> Vec<Vec<u8>> {
    let plain =
        [&b""[..], b"\0", b"{", b"}", b"{}", b"}.0{", b"#", b":", b"k", b"kk", b"\xff\r\n", b"\xc3\xbc", b"*?[a]"];
    let mut any: Vec<Vec<u8>> = plain.iter().map(|bytes| bytes.to_vec()).collect();
    any.extend([127, 128, 129, 130, 1 << 20].map(|length| vec![b'x'; length]));
    any
}

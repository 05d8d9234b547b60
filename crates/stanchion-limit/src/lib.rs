//! Rate limiters that say what they promise.
//!
//! A limiter of `count` per `period` with a burst of `B` admits, in any window
//! of length `W`, **at most `B + ⌊W / T⌋` units**, where `T = period / count`.
//! That holds for every window, under any concurrency, for keyed limiters key
//! by key, and on Redis as in memory; the arithmetic is in integers and rounds
//! towards refusal. The tests check every window of random histories.
//!
//! That is the token bucket. [`RateAlgorithm`] has the others with what each promises, and a
//! picture: strict buckets and sliding logs, of which no window sees more than the count; sliding
//! counters; fixed windows, also by the calendar. `Limiter::shaper` is the leaky bucket in which calls queue.
//!
//! ```
//! use stanchion_limit::{Limiter, Quota};
//!
//! // 50 a second, at most 10 at once.
//! let limiter = Limiter::new(Quota::per_second(50).burst(10))?;
//!
//! let decision = limiter.check();
//! assert!(decision.allowed());
//! assert_eq!((decision.limit(), decision.remaining()), (10, 9));
//!
//! // One limit for each tenant. A key is hashed, never stored.
//! let tenants = stanchion_limit::KeyedLimiter::<str>::new(Quota::per_minute(100).burst(2))?;
//! assert!(tenants.check("alice").allowed());
//! assert!(tenants.check("alice").allowed());
//! let refused = tenants.check("alice");
//! assert!(refused.retry_after() > Some(std::time::Duration::from_millis(500)));
//! assert!(tenants.check("bob").allowed());
//! # Ok::<(), stanchion_limit::ConfigError>(())
//! ```
//!
//! # Which one
//!
//! | one limit for | in this process | for all instances |
//! |---|---|---|
//! | everything | [`Limiter`] | [`KeyedLimiter`] on a store, with one key |
//! | each key | [`KeyedLimiter`] | [`KeyedLimiter`] on a store |
//! | each key, by what it has paid | [`KeyedLimiterBuilder::tier`] | the same on a store |
//!
//! Each takes one [`Quota`], or several that hold all at once.
//!
//! A store is anything that implements [`RateStore`]: `stanchion-redis` has one
//! for Redis and Valkey, and [`MemoryRateStore`] stands in for it in tests.
//! What happens when the store gives no answer is an argument: [`Outage`]. Where a limit
//! on a store is checked thousands of times a second, [`Leased`] stands in front of the
//! store: it takes units in batches and decides by what it holds, and the bound has a
//! term more.
//!
//! # Ways of asking
//! [`check`](Limiter::check) takes all or nothing; [`take_up_to`](Limiter::take_up_to) as many as are there;
//! `acquire` (feature `tokio`) waits in line, in order, and is refused at once if it can't be in time;
//! [`reserve`](Limiter::reserve) takes what is perhaps needed and gives back the rest; [`charge`](Limiter::charge) takes what
//! has been used already, into an [overdraft](Quota::overdraft). All of them are there for keys and on stores.
//!
//! # What a check costs
//! One reading of the clock and one compare-and-swap; a refusal writes
//! nothing. Nothing is allocated, for a new key neither. A [`KeyedLimiter`]
//! holds 28 bytes for each key of its `max_keys`, from the start and for good.
//! That is one token bucket. Other algorithms, several quotas and tiers are behind a short lock, and
//! take room for each key as it comes.
//!
//! A [`Limiter`] with a [generous burst](Limiter#a-generous-burst) does neither for most
//! checks: each thread takes from a reservoir of its own. The bound is the same.
//!
//! # How many at a time
//! Rate limits count calls; these count what is under way. All are [`Gate`]s, and
//! say what they promise in their first line.
//!
//! | what you know | which |
//! |---|---|
//! | how many the other side can bear | `Bulkhead` (feature `tokio`), with or without a line to wait in |
//! | nothing, or it changes | [`AdaptiveLimiter`], by [`Vegas`], [`Aimd`] or [`Gradient2`] |
//! | some calls matter more than others | [`LoadShedder`], under a limit that is fixed or adapts |
//! | the other side refuses when it has enough | `ClientThrottle` (feature `random`) |
//!
//! # The limiter as a gate
//! [`Limiter`], and [`KeyedLimiter`] of `[u8]`, are [`Gate`]s: they stand in a
//! pipeline beside breakers and bulkheads, and read key and cost from the call.
//!
//! # Features
//! | feature | what it adds |
//! |---|---|
//! | `fast-clock` (default) | reads the CPU's timestamp counter where the system vouches for it |
//! | `serde` | [`Quota`], [`WhenFull`], [`Outage`], [`LeaseConfig`] and the concurrency limits' configs as configuration, snapshots as data |
//! | `tracing` | DEBUG for each refusal, TRACE for each change of a concurrency limit, WARN when a store gives no answer, INFO when it does again |
//! | `metrics` | counters `stanchion_limit_decisions_total` (by `limiter` and `verdict`), `stanchion_limit_degraded_total` and `stanchion_limit_store_failures_total` (by `limiter`), `stanchion_limit_admissions_total` (by `gate` and `verdict`), and a gauge `stanchion_limit_concurrency_limit` (by `gate`), registered when a limiter is built: install the recorder before |
//! | `tokio` | `acquire`, `Limiter::shaper` and `Bulkhead`, whose queues are tokio's semaphore and whose waits end by tokio's timer |
//! | `random` | `ClientThrottle`, which refuses by chance |
//! | `test-util` | limiters follow tokio's clock, paused or not |
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::panic, clippy::unwrap_used)]

mod adaptive;
#[cfg(feature = "tokio")]
mod bulkhead;
mod cell;
mod config;
mod gcra;
mod hash;
mod keyed;
mod lease;
mod ledger;
mod limit;
mod limiter;
#[cfg(feature = "tokio")]
mod line;
mod memory;
mod outage;
mod quota;
mod reservation;
mod reservoir;
mod returns;
mod shed;
mod state;
mod sync;
mod table;
mod thread_id;
#[cfg(feature = "random")]
mod throttle;
mod trace;

pub use adaptive::{
    AdaptiveConfig, AdaptiveLimiter, AdaptiveLimiterBuilder, AdaptiveSnapshot, Aimd, Algorithm, Gradient2, Vegas,
};
#[cfg(feature = "tokio")]
pub use bulkhead::{Bulkhead, BulkheadBuilder, BulkheadConfig, BulkheadSnapshot};
pub use config::{KeyedLimiterConfig, LimiterConfig};
pub use keyed::{InMemory, KeyedLimiter, KeyedLimiterBuilder, KeyedSnapshot, NoTiers, TierBy, TierOf};
pub use lease::{LeaseConfig, Leased, LeasedSnapshot};
pub use limit::Limit;
#[cfg(feature = "tokio")]
pub use limiter::Acquire;
pub use limiter::{Limiter, LimiterBuilder, LimiterSnapshot};
pub use memory::MemoryRateStore;
pub use outage::Outage;
pub use quota::{Quota, Quotas, RateAlgorithm};
pub use reservation::Reservation;
pub use shed::{LoadShedder, LoadShedderBuilder, LoadShedderConfig, LoadShedderSnapshot};
pub use table::WhenFull;
#[cfg(feature = "random")]
pub use throttle::{ClientThrottle, ClientThrottleBuilder, ClientThrottleConfig, ClientThrottleSnapshot};

pub use stanchion_core::{
    Answer, Ask, CalendarUnit, Call, Clock, ConfigError, Decision, FixedWindow, Gate, Key, ManualClock, Moment, Name,
    Permit, Priority, RateLimit, RateRequest, RateRule, RateStore, Receipt, Rejection, RejectionKind, SlidingCounter,
    SlidingLog, StoreError, TokenBucket, Verdict,
};

/// The pure step, for those who write a store, or test one against it.
///
/// A store keeps `tat` for each key and limit; one that it doesn't know has
/// `tat = now`, with `now` in ticks: the clock's nanoseconds, wrapping times
/// [`ticks_per_nano`](stanchion_core::TokenBucket::ticks_per_nano).
pub mod pure {
    pub use crate::gcra::{Step, step};
}

#[cfg(all(test, stanchion_loom))]
mod loom_tests;

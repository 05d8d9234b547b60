//! The words and traits that every Stanchion crate shares.
//!
//! Most users never name this crate: `stanchion-limit`, `stanchion-retry` and
//! the others re-export what their callers need. It is for those who write a
//! gate, a store or a policy of their own and want it to fit with ours.
//!
//! | to say | the word |
//! |---|---|
//! | how an attempt ended | [`Outcome`], read from a result by [`Classify`] or [`Classifier`] |
//! | what is known before a call | [`Call`] |
//! | something that may refuse a call | [`Gate`], with its [`Ticket`], [`Permit`] and [`Rejection`] |
//! | how a call through any stack of policies failed | [`CallError`] |
//! | where an operation stands among its attempts | [`Attempt`] |
//! | time, randomness | [`Clock`] and [`Moment`]; `Random`, with the feature `random` |
//! | a rate limit and what it decided | [`RateRule`], [`Decision`] |
//! | state outside this process | [`RateStore`], [`CacheStore`], [`LeaseStore`], [`IdempotencyStore`], [`TripStore`] |
//! | why such a store gave no answer | [`StoreError`] |
//!
//! Nothing here does I/O, starts a thread or needs a runtime.
//!
//! # Example
//!
//! A gate of one's own: it lets nobody in during maintenance.
//!
//! ```
//! use std::sync::atomic::{AtomicBool, Ordering};
//! use std::time::Duration;
//! use stanchion_core::{Admission, Call, Gate, Outcome, Permit, Rejection, RejectionKind, Ticket};
//!
//! struct Maintenance(AtomicBool);
//!
//! impl Gate for Maintenance {
//!     fn try_admit(&self, _call: &Call<'_>) -> Admission {
//!         // Relaxed: the flag guards no other memory.
//!         if self.0.load(Ordering::Relaxed) {
//!             let refusal = Rejection::new("maintenance", RejectionKind::Shed);
//!             Admission::Rejected(refusal.retry_after(Duration::from_secs(60)))
//!         } else {
//!             Admission::Admitted(Ticket::new(0))
//!         }
//!     }
//!
//!     fn settle(&self, _ticket: Ticket, _outcome: Outcome, _elapsed: Duration) {}
//! }
//!
//! let gate = Maintenance(AtomicBool::new(false));
//! let permit = Permit::try_new(&gate, &Call::new()).expect("open");
//! permit.settle(Outcome::Success);
//!
//! gate.0.store(true, Ordering::Relaxed);
//! let refusal = Permit::try_new(&gate, &Call::new()).unwrap_err();
//! assert_eq!(refusal.come_back_after(), Some(Duration::from_secs(60)));
//! ```
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::panic, clippy::unwrap_used)]

mod answer;
mod attempt;
mod call;
mod classify;
mod clock;
#[cfg(feature = "serde")]
pub mod duration_text;
mod error;
mod gate;
mod key;
mod outcome;
#[cfg(feature = "random")]
mod random;
mod rate;
mod rejection;
mod store;

pub use answer::{Answer, AnswerFuture, BoxFuture};
pub use attempt::Attempt;
pub use call::{Call, Priority};
pub use classify::{ByError, Classifier, Classify};
pub use clock::{Clock, ManualClock, Moment, TimeSource};
pub use error::{CallError, ConfigError, Scope};
pub use gate::{Admission, Gate, IntoGate, Permit, Ticket};
pub use key::Key;
pub use outcome::Outcome;
#[cfg(feature = "random")]
pub use random::{Random, RandomRun};
pub use rate::{
    Ask, CalendarUnit, Counted, Decision, FixedWindow, RateLimit, RateRequest, RateRule, RateStore, Receipt,
    SlidingCounter, SlidingLog, Span, TokenBucket, Usage, Verdict,
};
pub use rejection::{Name, Rejection, RejectionKind};
pub use store::{
    Begin, CacheStore, Change, ChangeListener, Claim, Completion, Fence, Fingerprint, FleetView, Found, Idempotency,
    IdempotencyStore, Lease, LeaseStore, NewValue, StoreError, StoreErrorKind, StoredValue, Subscription, TripQuorum,
    TripReport, TripStore,
};

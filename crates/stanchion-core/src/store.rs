//! The traits of the stores outside a process, each call one atomic step, and
//! their error.
//!
//! A call copies what it needs of its arguments before it returns its answer, so
//! that a key may lie on the caller's stack. Each is made so that Redis can do it in one script on one hash slot; the
//! scripts of the two hardest are tried in `stanchion-redis`.

mod cache;
mod error;
mod idempotency;
mod lease;
mod trip;

pub use cache::{CacheStore, Change, ChangeListener, Found, NewValue, StoredValue, Subscription};
pub use error::{StoreError, StoreErrorKind};
pub use idempotency::{Begin, Claim, Completion, Fingerprint, Idempotency, IdempotencyStore};
pub use lease::{Fence, Lease, LeaseStore};
pub use trip::{FleetView, TripQuorum, TripReport, TripStore};

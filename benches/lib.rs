//! What the benches measure: the same loops for ours and for each peer.
//!
//! `benches/all.rs` shows all of them under criterion, `benches/compare.rs`
//! measures them in pairs. Run them with `-p stanchion-benches`: in a build of
//! the whole workspace the test helpers would turn on `test-util`, and our
//! policies would read tokio's clock.

pub mod replay;
mod runs;
mod subjects;

pub use runs::{Run, Samples};
pub use subjects::{Case, Contestant, SUITES, Sampled, Store, Suite, Tail, cache, suite, workload};

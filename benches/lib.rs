//! What the benches measure: the same loops for ours and for each peer.
//!
//! `benches/criterion.rs` shows all of them under criterion, `benches/compare.rs`
//! measures them in pairs. Run them with `-p stanchion-benches`: in a build of
//! the whole workspace the test helpers would turn on `test-util`, and our
//! limiters would read tokio's clock.

mod runs;
mod suites;
mod workload;

pub use runs::Run;
pub use suites::{Case, Contestant, SUITES, Store, Suite};

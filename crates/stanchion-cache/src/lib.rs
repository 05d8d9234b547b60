//! x
pub mod policy;
pub use policy::Eviction;

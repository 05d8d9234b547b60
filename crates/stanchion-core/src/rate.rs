//! Rate limits, what they decide, and the trait of the stores that keep them.

mod bucket;
mod decision;
mod store;

pub use bucket::TokenBucket;
pub use decision::{Decision, Verdict};
pub use store::{RateLimit, RateRequest, RateStore};

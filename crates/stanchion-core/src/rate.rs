//! Rate limits, what they decide, and the trait of the stores that keep them.

mod bucket;
mod calendar;
mod decision;
mod rule;
mod store;
mod usage;
mod window;

pub use bucket::TokenBucket;
pub use calendar::CalendarUnit;
pub use decision::{Counted, Decision, Verdict};
pub use rule::RateRule;
pub use store::{Ask, RateLimit, RateRequest, RateStore, Receipt};
pub use usage::Usage;
pub use window::{FixedWindow, SlidingCounter, SlidingLog, Span};

//! What a layer asks of a limiter, whichever it is.

use std::sync::Arc;

use stanchion_core::{BoxFuture, Decision};

/// Anything that decides by key and cost, and always comes to a decision: what
/// `stanchion-tower` builds a layer on. Sync first, like a
/// [`Gate`](stanchion_core::Gate).
///
/// A [`Limiter`](crate::Limiter) is one, and so is a
/// [`KeyedLimiter`](crate::KeyedLimiter) of `[u8]`, in memory or on a store.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't limit requests by their bytes",
    note = "a keyed limiter in a layer is a `KeyedLimiter<[u8]>`, or a `KeyedLimiter<[u8], S>` on a store; if this is a builder, `.build()?` is missing"
)]
pub trait Limit: Send + Sync {
    /// Takes `cost` units of the key's, or none, if it can be told at once;
    /// `None` where a store must be asked, of which nothing has been asked yet.
    fn try_decide(&self, key: &[u8], cost: u64) -> Option<Decision>;

    /// Takes `cost` units of the key's, or none. Only called after `try_decide`
    /// could not tell.
    ///
    /// # Cancellation
    /// Dropping the future leaves open whether the units were taken.
    fn decide<'a>(&'a self, key: &'a [u8], cost: u64) -> BoxFuture<'a, Decision>;

    /// What the limiter is called.
    fn name(&self) -> &str;
}

impl<L: Limit + ?Sized> Limit for Arc<L> {
    fn try_decide(&self, key: &[u8], cost: u64) -> Option<Decision> {
        (**self).try_decide(key, cost)
    }

    fn decide<'a>(&'a self, key: &'a [u8], cost: u64) -> BoxFuture<'a, Decision> {
        (**self).decide(key, cost)
    }

    fn name(&self) -> &str {
        (**self).name()
    }
}

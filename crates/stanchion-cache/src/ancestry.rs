//! Which loads the running code is a part of, so that a load that waits for itself is
//! told so.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A load and those within which it was asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ancestry(Option<Arc<Link>>);

#[derive(Debug)]
struct Link {
    flight: u64,
    parent: Ancestry,
}

thread_local! {
    static CURRENT: RefCell<Ancestry> = const { RefCell::new(Ancestry(None)) };
}

impl Ancestry {
    /// That of the running code.
    pub(crate) fn current() -> Self {
        CURRENT.try_with(|current| current.borrow().clone()).unwrap_or_default()
    }

    /// That of a load that is asked for here.
    pub(crate) fn with(self, flight: u64) -> Self {
        Self(Some(Arc::new(Link { flight, parent: self })))
    }

    pub(crate) fn contains(&self, flight: u64) -> bool {
        let mut next = &self.0;
        while let Some(link) = next {
            if link.flight == flight {
                return true;
            }
            next = &link.parent.0;
        }
        false
    }

    /// Runs something as a part of it.
    pub(crate) fn scope<T>(&self, run: impl FnOnce() -> T) -> T {
        let _restore = Restore(CURRENT.try_with(|current| current.replace(self.clone())).unwrap_or_default());
        run()
    }
}

struct Restore(Ancestry);

impl Drop for Restore {
    fn drop(&mut self) {
        // A thread that is ending has nothing to restore.
        let _ = CURRENT.try_with(|current| current.replace(std::mem::take(&mut self.0)));
    }
}

/// A future that is polled as a part of a load. It ends with the panic, if there is one.
pub(crate) struct Scoped<F> {
    ancestry: Ancestry,
    future: Pin<Box<F>>,
}

impl<F> Scoped<F> {
    pub(crate) fn new(ancestry: Ancestry, future: F) -> Self {
        Self { ancestry, future: Box::pin(future) }
    }
}

impl<F: Future> Future for Scoped<F> {
    type Output = Result<F::Output, Box<dyn Any + Send>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        // A future that has panicked is never polled again, only dropped.
        match catch_unwind(AssertUnwindSafe(|| this.ancestry.scope(|| this.future.as_mut().poll(context)))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}

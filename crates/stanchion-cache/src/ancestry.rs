//! Which loads the running code is a part of, so that a load that waits for itself is
//! told so.

use std::cell::RefCell;
use std::sync::Arc;

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

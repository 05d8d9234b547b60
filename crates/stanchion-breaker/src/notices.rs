//! Who is told of transitions, after them and outside of any lock.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use stanchion_core::Name;

use crate::machine::Change;
use crate::trace;

/// Somebody who is told of transitions.
pub(crate) type Listener = Arc<dyn Fn(&Change) + Send + Sync>;

/// Those who are told.
#[derive(Clone)]
pub(crate) struct Notices {
    pub(crate) listeners: Vec<Listener>,
    #[cfg(feature = "watch")]
    status: tokio::sync::watch::Sender<Status>,
}

/// The state of a breaker, as a channel shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[cfg(feature = "watch")]
pub struct Status {
    /// The state.
    pub state: crate::State,
    /// Its generation, which grows with each transition.
    pub generation: u64,
}

impl Notices {
    pub(crate) fn new(listeners: Vec<Listener>) -> Self {
        Self {
            listeners,
            #[cfg(feature = "watch")]
            status: tokio::sync::watch::Sender::new(Status { state: crate::State::Closed, generation: 1 }),
        }
    }

    /// Tells everybody. A listener that panics is on its own.
    #[cold]
    pub(crate) fn tell(&self, name: &Name, change: &Change) {
        trace::changed(name.as_str(), change);
        #[cfg(feature = "watch")]
        self.status.send_if_modified(|status| {
            // Two threads may come here in either order: the later transition stays.
            let is_news = change.generation > status.generation;
            if is_news {
                *status = Status { state: change.to, generation: change.generation };
            }
            is_news
        });
        for listener in &self.listeners {
            // The panic's message has been printed by the hook.
            let _ = catch_unwind(AssertUnwindSafe(|| listener(change)));
        }
    }

    #[cfg(feature = "watch")]
    pub(crate) fn subscribe(&self) -> tokio::sync::watch::Receiver<Status> {
        self.status.subscribe()
    }
}

impl fmt::Debug for Notices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notices").field("listeners", &self.listeners.len()).finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "watch", not(stanchion_loom)))]
mod tests {
    use super::*;
    use crate::machine::{Cause, State};

    #[test]
    fn of_two_transitions_told_in_the_wrong_order_the_later_one_stays() {
        let notices = Notices::new(Vec::new());
        let change = |generation, to| Change { from: State::Closed, to, cause: Cause::Command, generation };
        notices.tell(&"b".into(), &change(7, State::Open));
        notices.tell(&"b".into(), &change(6, State::HalfOpen));
        assert_eq!(*notices.subscribe().borrow(), Status { state: State::Open, generation: 7 });
    }
}

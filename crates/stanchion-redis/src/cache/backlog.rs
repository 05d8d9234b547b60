//! What was heard and not told yet.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::change::Told;

/// A bounded line between the connection and the listener. What doesn't fit is not kept: the
/// listener is told that it has missed something, in place of all that it hasn't been told.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    line: Mutex<Line>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Line {
    told: VecDeque<Told>,
    bytes: usize,
    closed: bool,
}

/// The most bytes of keys and tags, each with what is needed to keep it.
const MOST: usize = 4 << 20;

impl Backlog {
    pub(super) fn push(&self, told: Told) {
        {
            let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
            let size = size(&told);
            if line.bytes + size > MOST {
                let resumed = told != Told::Interrupted;
                line.told = VecDeque::from([Told::Interrupted]);
                line.told.extend(resumed.then_some(Told::Resumed));
                line.bytes = line.told.iter().map(self::size).sum();
            } else {
                line.bytes += size;
                line.told.push_back(told);
            }
        }
        self.news.notify_one();
    }

    /// The next thing to be told, once there is one; `None` after the end.
    pub(super) async fn next(&self) -> Option<Told> {
        loop {
            {
                let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
                if line.closed {
                    return None;
                }
                if let Some(told) = line.told.pop_front() {
                    line.bytes -= size(&told);
                    return Some(told);
                }
            }
            self.news.notified().await;
        }
    }

    /// Nothing more is told.
    pub(super) fn close(&self) {
        self.line.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.news.notify_one();
    }
}

fn size(told: &Told) -> usize {
    size_of::<Told>()
        + match told {
            Told::Key(key) => key.capacity(),
            Told::Tag(tag) => tag.capacity(),
            Told::All | Told::Interrupted | Told::Resumed => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(backlog: &Backlog) -> Vec<Told> {
        let mut all = Vec::new();
        while !backlog.line.lock().unwrap().told.is_empty() {
            all.extend(backlog.next().await);
        }
        all
    }

    #[tokio::test]
    async fn a_listener_that_lags_has_missed_something_and_no_more_is_kept() {
        let backlog = Backlog::default();
        backlog.push(Told::Resumed);
        for _ in 0..3 {
            backlog.push(Told::Key(vec![0; 1 << 20]));
        }
        assert_eq!(all(&backlog).await.len(), 4);
        for _ in 0..5 {
            backlog.push(Told::Key(vec![0; 1 << 20]));
        }
        // The fourth didn't fit; the fifth came after it.
        assert_eq!(all(&backlog).await, [Told::Interrupted, Told::Resumed, Told::Key(vec![0; 1 << 20])]);
        for _ in 0..1_000_000 {
            backlog.push(Told::All);
            assert!(backlog.line.lock().unwrap().told.len() < 140_000);
        }
        assert_eq!(all(&backlog).await[..2], [Told::Interrupted, Told::Resumed]);
        backlog.push(Told::Key(vec![0; MOST]));
        assert_eq!(all(&backlog).await, [Told::Interrupted, Told::Resumed]);
        assert_eq!(backlog.line.lock().unwrap().bytes, 0);
    }

    #[tokio::test]
    async fn what_is_interrupted_is_not_resumed_by_lack_of_room() {
        let backlog = Backlog::default();
        backlog.push(Told::Key(vec![0; MOST - size(&Told::All)]));
        backlog.push(Told::Interrupted);
        assert_eq!(all(&backlog).await, [Told::Interrupted]);
    }

    #[tokio::test]
    async fn after_the_end_nothing_is_told() {
        let backlog = Backlog::default();
        backlog.push(Told::All);
        backlog.close();
        assert_eq!(backlog.next().await, None);
    }
}

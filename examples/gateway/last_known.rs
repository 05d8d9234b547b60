//! The answers that the upstream gave last, for when it gives none.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use axum::http::{HeaderValue, StatusCode};
use lru::LruCache;
use tokio::time::Instant;

use crate::outbound::{Answer, Asked};

/// So many answers are kept, those that were asked for last.
const ANSWERS: NonZeroUsize = NonZeroUsize::new(1_000).expect("a thousand is not zero");
/// A larger one is not worth its room.
const LARGEST: usize = 64 << 10;

/// Who asked for what. What one tenant was told is never another's answer.
type Key = (Option<HeaderValue>, String);

/// The last known answers. Clones are the same ones.
#[derive(Debug, Clone)]
pub(crate) struct LastKnown(Arc<Mutex<LruCache<Key, (Instant, Answer)>>>);

impl LastKnown {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(LruCache::new(ANSWERS))))
    }

    /// Keeps a success, unless it is too large, or comes from here.
    pub(crate) fn put(&self, asked: &Asked, answer: &Answer) {
        if answer.status == StatusCode::OK && answer.body.len() <= LARGEST && answer.age.is_none() {
            let mut answers = self.0.lock().expect("nothing panics while it is kept");
            answers.put(key(asked), (Instant::now(), answer.clone()));
        }
    }

    /// The last answer, which says how old it is.
    pub(crate) fn get(&self, asked: &Asked) -> Option<Answer> {
        let mut answers = self.0.lock().expect("nothing panics while it is kept");
        let (since, answer) = answers.get(&key(asked))?;
        Some(Answer { age: Some(since.elapsed()), ..answer.clone() })
    }
}

fn key(asked: &Asked) -> Key {
    (asked.tenant.clone(), asked.path.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Bytes;
    use std::time::Duration;

    fn asked(tenant: Option<&'static str>, path: &str) -> Asked {
        Asked { tenant: tenant.map(HeaderValue::from_static), path: path.to_owned(), repeatable: true }
    }

    fn answer(status: StatusCode, length: usize) -> Answer {
        Answer { status, kind: None, body: Bytes::from(vec![b'x'; length]), age: None }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_known_to_whom_it_was_given_with_its_age() {
        let known = LastKnown::new();
        known.put(&asked(Some("a"), "/orders"), &answer(StatusCode::OK, 3));
        tokio::time::advance(Duration::from_secs(7)).await;
        let found = known.get(&asked(Some("a"), "/orders")).unwrap();
        assert_eq!((found.age, &found.body[..]), (Some(Duration::from_secs(7)), &b"xxx"[..]));
        // It doesn't become younger by being given out.
        known.put(&asked(Some("a"), "/orders"), &found);
        assert_eq!(known.get(&asked(Some("a"), "/orders")).unwrap().age, found.age);
        for other in [asked(Some("b"), "/orders"), asked(None, "/orders"), asked(Some("a"), "/bills")] {
            assert!(known.get(&other).is_none());
        }
    }

    #[test]
    fn only_successes_of_bounded_size_and_number_are_kept() {
        let known = LastKnown::new();
        let kept = |path: &str, status, length| {
            known.put(&asked(None, path), &answer(status, length));
            known.get(&asked(None, path)).is_some()
        };
        assert!(!kept("/missing", StatusCode::NOT_FOUND, 1));
        assert!(kept("/large", StatusCode::OK, LARGEST));
        assert!(!kept("/larger", StatusCode::OK, LARGEST + 1));
        for number in 0..ANSWERS.get() {
            assert!(kept(&format!("/{number}"), StatusCode::OK, 1));
        }
        assert!(known.get(&asked(None, "/large")).is_none());
        assert!(known.get(&asked(None, "/0")).is_some());
    }
}

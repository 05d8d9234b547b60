//! What goes to the upstream, and what comes back.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::header::HeaderName;
use axum::http::{HeaderValue, StatusCode, uri};
use stanchion_cache::Moment;
use stanchion_pipeline::{Classify, Outcome};

/// Who asks.
pub(crate) const TENANT: HeaderName = HeaderName::from_static("x-tenant");

/// What the gateway gives each of its calls: all attempts of one have the same.
pub(crate) const CALL: HeaderName = HeaderName::from_static("x-request-id");

/// What is asked of the upstream: as much of a request as it gets.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) tenant: Option<HeaderValue>,
    pub(crate) path: String,
    /// Whether it does no harm twice.
    pub(crate) repeatable: bool,
}

impl Asked {
    pub(crate) fn by(incoming: &Request) -> Self {
        Self { tenant: incoming.headers().get(TENANT).cloned(), ..Self::by_anybody(incoming) }
    }

    /// The same, without a word of who asks: what comes back is for everybody.
    pub(crate) fn by_anybody(incoming: &Request) -> Self {
        let path = incoming.uri().path_and_query().map_or("/", uri::PathAndQuery::as_str);
        Self { tenant: None, path: path.to_owned(), repeatable: incoming.method().is_safe() }
    }
}

/// What the upstream has answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) kind: Option<HeaderValue>,
    pub(crate) body: Bytes,
    pub(crate) origin: Origin,
}

/// Where an answer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// From the upstream, while whoever gets it was waiting.
    New,
    /// From the cache, so old, and still fresh.
    Hit { age: Duration },
    /// It is the last known one, so old, and there was no other.
    LastKnown { age: Duration },
}

/// An answer that is kept, to be given again.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    answer: Answer,
    /// When the upstream was asked: it is as old as that.
    asked: Moment,
    came: Moment,
}

impl Kept {
    /// An answer that came now, of an upstream that was asked then.
    pub(crate) fn new(answer: Answer, asked: Moment, now: Moment) -> Self {
        Self { answer, asked, came: now }
    }

    /// For somebody who has come at `since`: new, if it came no earlier than they did, and if not, a
    /// hit for `fresh`, and the last known answer from then on.
    pub(crate) fn given(&self, since: Moment, now: Moment, fresh: Duration) -> Answer {
        let age = now - self.asked;
        let origin = if self.came >= since {
            Origin::New
        } else if age < fresh {
            Origin::Hit { age }
        } else {
            Origin::LastKnown { age }
        };
        Answer { origin, ..self.answer.clone() }
    }

    /// For want of another.
    pub(crate) fn instead(&self, now: Moment) -> Answer {
        Answer { origin: Origin::LastKnown { age: now - self.asked }, ..self.answer.clone() }
    }

    /// What of a cache's room it takes, in bytes: its body, and about so much for the rest.
    pub(crate) fn weight(&self) -> u64 {
        self.answer.body.len() as u64 + 256
    }
}

/// How an attempt failed.
#[derive(Debug)]
pub(crate) enum Fault {
    /// With an answer that says so: a 5xx.
    Answered(Answer),
    /// Without one.
    Broken(Box<dyn Error + Send + Sync>),
}

/// Only what is asked with GET comes here, and nothing of that is for good.
impl Classify for Fault {
    fn outcome(&self) -> Outcome {
        Outcome::Transient
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(answer) => write!(f, "the upstream answered {}", answer.status),
            Self::Broken(error) => error.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    #[test]
    fn the_upstream_is_told_who_asks_only_where_that_makes_a_difference() {
        let incoming = Request::get("http://gateway/orders?page=2").header(TENANT, "a").body(Body::empty()).unwrap();
        let (own, everybodys) = (Asked::by(&incoming), Asked::by_anybody(&incoming));
        assert_eq!(
            (own.tenant, &*own.path, own.repeatable),
            (Some(HeaderValue::from_static("a")), "/orders?page=2", true)
        );
        assert_eq!((everybodys.tenant, &*everybodys.path), (None, "/orders?page=2"));
    }

    #[test]
    fn an_answer_is_new_to_who_waited_for_it_and_old_to_who_comes_later() {
        let at = |millis: u64| Moment::from_nanos(millis * 1_000_000);
        let (millis, fresh) = (Duration::from_millis, Duration::from_millis(100));
        let answer = Answer { status: StatusCode::OK, kind: None, body: Bytes::new(), origin: Origin::New };
        let kept = Kept::new(answer, at(1_000), at(1_040));
        let origin = |since, now| kept.given(at(since), at(now), fresh).origin;
        // However long it took.
        assert_eq!([origin(1_000, 1_040), origin(1_040, 1_140)], [Origin::New; 2]);
        assert_eq!(origin(1_041, 1_041), Origin::Hit { age: millis(41) });
        assert_eq!(origin(1_099, 1_099), Origin::Hit { age: millis(99) });
        assert_eq!(origin(1_100, 1_100), Origin::LastKnown { age: millis(100) });
        // A value that was fresh when it was asked for isn't, when it was waited for in vain.
        assert_eq!(origin(1_090, 1_500), Origin::LastKnown { age: millis(500) });
        assert_eq!(kept.instead(at(1_041)).origin, Origin::LastKnown { age: millis(41) });
    }
}

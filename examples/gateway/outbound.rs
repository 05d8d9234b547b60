//! The way out, from the gateway to the upstream, and how Stanchion protects it.

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::http::{HeaderValue, StatusCode, uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use stanchion_breaker::Breaker;
use stanchion_pipeline::{Attempt, Call, CallError, Classify, ConfigError, Hedge, Outcome, Pipeline, Retry};
use tokio::time::{Instant, sleep};

use crate::last_known::LastKnown;

/// All policies of a call of the upstream, in one value.
///
/// An answer takes 20 to 40 ms and seldom 500: a call that is late is asked once
/// more beside the first. Retries and hedges have the pipeline's default budget
/// together, a tenth of the calls and one a second: in an outage that is what
/// keeps the upstream from several times its load.
///
/// About 140 attempts a second come to the breaker. In an outage half of them
/// fail, and the others are worth having: it is to open when all do, after
/// a seventh of a second, or nearly all, after most of one. 20 failures in a row are one
/// in a million where every other call fails. Dead, the upstream is tried again
/// four times a second, with five calls, which is nothing to it if it is well:
/// so its recovery is noticed within a quarter of a second.
pub(crate) fn pipeline() -> Result<Pipeline, ConfigError> {
    Pipeline::named("upstream")
        .total_timeout(Duration::from_secs(1))
        .attempt_timeout(Duration::from_millis(400))
        .retry(Retry::exponential())
        .hedge(Hedge::after(Duration::from_millis(100)))
        .breaker(
            Breaker::builder("upstream")
                .consecutive_failures(20)
                .failure_rate(0.8)
                .open_for(Duration::from_millis(100), Duration::from_millis(250))
                .probe_max_wait(Duration::from_millis(500)),
        )
        .build()
}

/// A gateway to one upstream. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Gateway {
    upstream: SocketAddr,
    client: Client<HttpConnector, Body>,
    /// Without it, the retry loop that people write.
    pipeline: Option<Pipeline>,
    last_known: LastKnown,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    insisted: AtomicU64,
    timed_out: AtomicU64,
}

/// What a gateway has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct GatewayCounts {
    pub(crate) retries: u64,
    pub(crate) hedges: u64,
    /// Calls that were given the last known answer.
    pub(crate) fallbacks: u64,
    /// Attempts that were given up for want of time, the gateway's or its client's.
    pub(crate) timed_out: u64,
}

impl Gateway {
    pub(crate) fn to(upstream: SocketAddr, pipeline: Option<Pipeline>) -> Self {
        Self {
            upstream,
            client: Client::builder(TokioExecutor::new()).build_http(),
            pipeline,
            last_known: LastKnown::new(),
            counters: Arc::default(),
        }
    }

    /// One call of the upstream: with all its policies, the last known answer
    /// included, which says that it is one.
    pub(crate) async fn call(&self, asked: &Asked) -> Result<Answer, CallError<Fault>> {
        let Some(pipeline) = &self.pipeline else {
            return self.insist(asked).await;
        };
        let instead = |reason| async { self.last_known.get(asked).ok_or(reason) };
        let answer = pipeline
            .call(Call::new().repeatable(asked.repeatable))
            .run_or_else(|attempt| self.attempt(asked, attempt), instead)
            .await?;
        self.last_known.put(asked, &answer);
        Ok(answer)
    }

    /// What stands in many a code base instead: up to three times more, almost at
    /// once, whatever the upstream's state, and however long it takes.
    async fn insist(&self, asked: &Asked) -> Result<Answer, CallError<Fault>> {
        let mut attempts = 1;
        loop {
            match self.attempt(asked, Attempt::first()).await {
                Ok(answer) => return Ok(answer),
                Err(error) if attempts == 4 => return Err(CallError::Inner { error, attempts }),
                Err(_) => {
                    attempts += 1;
                    self.counters.insisted.fetch_add(1, Ordering::Relaxed);
                    sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }

    /// One request to the upstream, from the first byte to the last.
    async fn attempt(&self, asked: &Asked, attempt: Attempt) -> Result<Answer, Fault> {
        let mut under_way =
            UnderWay { counters: &self.counters, began: Instant::now(), limit: attempt.remaining(), over: false };
        let answer = self.ask(asked).await;
        under_way.over = true;
        match answer {
            Ok(answer) if answer.status.is_server_error() => Err(Fault::Answered(answer)),
            Ok(answer) => Ok(answer),
            Err(error) => Err(Fault::Broken(error)),
        }
    }

    async fn ask(&self, asked: &Asked) -> Result<Answer, Box<dyn Error + Send + Sync>> {
        let mut request = Request::get(format!("http://{}{}", self.upstream, asked.path));
        if let Some(tenant) = &asked.tenant {
            request = request.header(TENANT, tenant);
        }
        let (mut head, body) = self.client.request(request.body(Body::empty())?).await?.into_parts();
        let body = to_bytes(Body::new(body), LARGEST_BODY).await?;
        Ok(Answer { status: head.status, kind: head.headers.remove(CONTENT_TYPE), body, age: None })
    }

    pub(crate) fn counts(&self) -> GatewayCounts {
        // Relaxed, here and above: each number stands for itself.
        let timed_out = self.counters.timed_out.load(Ordering::Relaxed);
        match self.pipeline.as_ref().map(Pipeline::snapshot) {
            Some(pipeline) => GatewayCounts {
                retries: pipeline.retries,
                hedges: pipeline.hedges,
                fallbacks: pipeline.fallbacks,
                timed_out,
            },
            None => {
                let retries = self.counters.insisted.load(Ordering::Relaxed);
                GatewayCounts { retries, timed_out, ..GatewayCounts::default() }
            }
        }
    }
}

pub(crate) const TENANT: HeaderName = HeaderName::from_static("x-tenant");

/// The largest answer that is forwarded. It is read in full before it is passed
/// on, so that the timeouts cover all of it, and it can be asked for again.
const LARGEST_BODY: usize = 1 << 20;

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
        let path = incoming.uri().path_and_query().map_or("/", uri::PathAndQuery::as_str);
        Self {
            tenant: incoming.headers().get(TENANT).cloned(),
            path: path.to_owned(),
            repeatable: incoming.method().is_safe(),
        }
    }
}

/// What the upstream has answered: now, or so long ago.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) kind: Option<HeaderValue>,
    pub(crate) body: Bytes,
    pub(crate) age: Option<Duration>,
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

/// An attempt under way. One that is dropped before its end has timed out,
/// unless it had time left, and has merely lost against its hedge.
struct UnderWay<'a> {
    counters: &'a Counters,
    began: Instant,
    /// None at all waits for as long as the client does.
    limit: Option<Duration>,
    over: bool,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if !self.over && self.limit.is_none_or(|limit| self.began.elapsed() >= limit) {
            self.counters.timed_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Server;
    use axum::Router;
    use stanchion_retry::{Budget, RatioBudget};

    /// Answers 500 so many times, then 200; `/missing` isn't there.
    async fn upstream(failures: u64) -> (Server, Arc<AtomicU64>) {
        let asked = Arc::new(AtomicU64::new(0));
        let count = asked.clone();
        let answer = move |request: Request| async move {
            let before = count.fetch_add(1, Ordering::Relaxed);
            match request.uri().path() {
                "/missing" => StatusCode::NOT_FOUND,
                _ if before < failures => StatusCode::INTERNAL_SERVER_ERROR,
                _ => StatusCode::OK,
            }
        };
        (Server::start(Router::new().fallback(answer)).await.unwrap(), asked)
    }

    /// Without a hedge, which would come whenever this machine is slow, and with a
    /// budget that grants the few retries of a test at once.
    fn retrying() -> Option<Pipeline> {
        let retry = Retry::constant(Duration::from_millis(1));
        let budget = Budget::new(RatioBudget::finagle()).unwrap();
        Some(Pipeline::named("test").retry(retry).budget(budget).build().unwrap())
    }

    fn asked(path: &str) -> Asked {
        Asked { tenant: None, path: path.to_owned(), repeatable: true }
    }

    #[tokio::test]
    async fn what_passes_is_asked_again_and_what_does_not_is_not() {
        let (server, count) = upstream(1).await;
        let gateway = Gateway::to(server.address, retrying());
        let answer = gateway.call(&asked("/orders")).await.unwrap();
        assert_eq!((answer.status, answer.age, count.load(Ordering::Relaxed)), (StatusCode::OK, None, 2));
        let answer = gateway.call(&asked("/missing")).await.unwrap();
        assert_eq!((answer.status, count.load(Ordering::Relaxed)), (StatusCode::NOT_FOUND, 3));
        assert_eq!(gateway.counts(), GatewayCounts { retries: 1, ..GatewayCounts::default() });
    }

    #[tokio::test]
    async fn the_last_known_answer_comes_when_there_is_no_other_and_says_so() {
        let (server, _) = upstream(0).await;
        let mut gateway = Gateway::to(server.address, retrying());
        assert_eq!(gateway.call(&asked("/orders")).await.unwrap().age, None);
        // From now on it asks another upstream, which only fails.
        let (failing, _) = upstream(u64::MAX).await;
        gateway.upstream = failing.address;
        let answer = gateway.call(&asked("/orders")).await.unwrap();
        assert!(answer.status == StatusCode::OK && answer.age.is_some());
        let unknown = gateway.call(&asked("/bills")).await;
        assert!(matches!(unknown, Err(CallError::Inner { error: Fault::Answered(_), .. })), "{unknown:?}");
        assert_eq!(gateway.counts().fallbacks, 1);
    }

    #[test]
    fn the_pipeline_can_be_honoured() {
        assert!(pipeline().is_ok());
    }

    #[tokio::test]
    async fn without_stanchion_it_insists() {
        let (server, count) = upstream(u64::MAX).await;
        let failed = Gateway::to(server.address, None).call(&asked("/orders")).await;
        assert!(matches!(failed, Err(CallError::Inner { error: Fault::Answered(_), attempts: 4 })));
        assert_eq!(count.load(Ordering::Relaxed), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn only_an_attempt_without_time_left_has_timed_out() {
        let counters = Counters::default();
        let limit = Duration::from_millis(400);
        for (took, limit, over, timed_out) in [
            (399, Some(limit), false, 0),
            (400, Some(limit), false, 1),
            (400, Some(limit), true, 1),
            (1, None, false, 2),
        ] {
            let under_way = UnderWay { counters: &counters, began: Instant::now(), limit, over };
            tokio::time::advance(Duration::from_millis(took)).await;
            drop(under_way);
            assert_eq!(counters.timed_out.load(Ordering::Relaxed), timed_out);
        }
    }
}

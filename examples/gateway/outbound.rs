//! The way out, from the gateway to the upstream, and how Stanchion protects it.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use stanchion_breaker::Breaker;
use stanchion_cache::{Cache, Clock, LoadError, Loaded};
use stanchion_pipeline::{Attempt, Call, CallError, ConfigError, Hedge, Pipeline, Retry};
use tokio::time::{Instant, sleep};

use crate::exchange::{Answer, Asked, CALL, Fault, Kept, Origin, TENANT};

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

/// So long what the upstream says of a product is good for everybody who asks.
pub(crate) const FRESH: Duration = Duration::from_secs(1);

/// What many ask for, and may see a little later: one of them asks the upstream,
/// through the pipeline. What can't be had anew is given as it was, and
/// for a second (the default) nobody asks again.
fn products(clock: Clock) -> Result<Cache<String, Kept>, ConfigError> {
    Cache::builder()
        .name("products")
        .max_entries(10_000)
        .max_weight(64 << 20)
        .weigher(|_, kept: &Kept| kept.weight())
        .ttl(FRESH)
        .stale_if_error(Duration::from_secs(600))
        .clock(clock)
        .build()
}

/// What one tenant was told last, for when the upstream says nothing. What is a tenant's
/// own is always asked for anew, so nothing here is ever a hit.
fn last_known(clock: Clock) -> Result<Cache<Own, Kept>, ConfigError> {
    Cache::builder()
        .name("last known")
        .max_entries(1_000)
        .max_weight(64 << 20)
        .weigher(|_, kept: &Kept| kept.weight())
        .ttl(Duration::from_secs(600))
        .clock(clock)
        .build()
}

/// Who asked for what. What one tenant was told is never another's answer.
type Own = (Option<HeaderValue>, String);

/// All that protects the way out. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pipeline: Pipeline,
    products: Cache<String, Kept>,
    last_known: Cache<Own, Kept>,
    /// What is kept grows old by it.
    clock: Clock,
}

impl Outgoing {
    pub(crate) fn stanchion() -> Result<Self, ConfigError> {
        Self::of(pipeline()?, Clock::system())
    }

    fn of(pipeline: Pipeline, clock: Clock) -> Result<Self, ConfigError> {
        Ok(Self { pipeline, products: products(clock.clone())?, last_known: last_known(clock.clone())?, clock })
    }
}

/// A gateway to one upstream. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Gateway {
    upstream: SocketAddr,
    client: Client<HttpConnector, Body>,
    /// Without it, the retry loop that people write.
    stanchion: Option<Outgoing>,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    calls: AtomicU64,
    insisted: AtomicU64,
    timed_out: AtomicU64,
}

/// What a gateway has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct GatewayCounts {
    pub(crate) retries: u64,
    pub(crate) hedges: u64,
    /// Calls of tenants that were given the last known answer.
    pub(crate) fallbacks: u64,
    /// Attempts that were given up for want of time, the gateway's or its client's.
    pub(crate) timed_out: u64,
}

impl Gateway {
    pub(crate) fn to(upstream: SocketAddr, stanchion: Option<Outgoing>) -> Self {
        Self {
            upstream,
            client: Client::builder(TokioExecutor::new()).build_http(),
            stanchion,
            counters: Arc::default(),
        }
    }

    /// What is a tenant's own: one call of the upstream with all its policies, the
    /// last known answer included, which says that it is one.
    pub(crate) async fn own(&self, asked: &Asked) -> Result<Answer, CallError<Fault>> {
        let Some(Outgoing { pipeline, last_known, clock, .. }) = &self.stanchion else {
            return self.insist(asked).await;
        };
        let key = (asked.tenant.clone(), asked.path.clone());
        let (number, began) = (self.number(), clock.now());
        let instead = |reason| async { last_known.get(&key).map(|kept| kept.instead(clock.now())).ok_or(reason) };
        let answer = pipeline
            .call(Call::new().repeatable(asked.repeatable))
            .run_or_else(|attempt| self.attempt(asked, number, attempt), instead)
            .await?;
        if answer.status == StatusCode::OK && answer.origin == Origin::New {
            last_known.insert(key, Kept::new(answer.clone(), began, clock.now()));
        }
        Ok(answer)
    }

    /// What is everybody's: from the cache, and from the upstream where the cache has none.
    pub(crate) async fn product(&self, asked: &Asked) -> Result<Answer, LoadError<CallError<Fault>>> {
        let Some(stanchion) = &self.stanchion else {
            return self.insist(asked).await.map_err(|error| LoadError::Failed(Arc::new(error)));
        };
        let since = stanchion.clock.now();
        let load = || self.clone().load(stanchion.clone(), asked.clone());
        let kept = stanchion.products.get_or_load(asked.path.as_str(), load).await?;
        Ok(kept.given(since, stanchion.clock.now(), FRESH))
    }

    /// Brings a product into the cache. It becomes a task of its own, whoever waits for it.
    async fn load(self, stanchion: Outgoing, asked: Asked) -> Result<Loaded<Kept>, CallError<Fault>> {
        let Outgoing { pipeline, clock, .. } = stanchion;
        let (number, began) = (self.number(), clock.now());
        let answer = pipeline
            .call(Call::new().repeatable(asked.repeatable))
            .run(|attempt| self.attempt(&asked, number, attempt))
            .await?;
        let is_kept = answer.status == StatusCode::OK;
        let loaded = Loaded::new(Kept::new(answer, began, clock.now()));
        Ok(if is_kept { loaded } else { loaded.uncached() })
    }

    /// What stands in many a code base instead: up to three times more, almost at
    /// once, whatever the upstream's state, and however long it takes.
    async fn insist(&self, asked: &Asked) -> Result<Answer, CallError<Fault>> {
        let (number, mut attempts) = (self.number(), 1);
        loop {
            match self.attempt(asked, number, Attempt::first()).await {
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

    /// Of a call: each has another.
    fn number(&self) -> u64 {
        self.counters.calls.fetch_add(1, Ordering::Relaxed)
    }

    /// One request to the upstream, from the first byte to the last.
    async fn attempt(&self, asked: &Asked, call: u64, attempt: Attempt) -> Result<Answer, Fault> {
        let mut under_way =
            UnderWay { counters: &self.counters, began: Instant::now(), limit: attempt.remaining(), over: false };
        let answer = self.ask(asked, call).await;
        under_way.over = true;
        match answer {
            Ok(answer) if answer.status.is_server_error() => Err(Fault::Answered(answer)),
            Ok(answer) => Ok(answer),
            Err(error) => Err(Fault::Broken(error)),
        }
    }

    async fn ask(&self, asked: &Asked, call: u64) -> Result<Answer, Box<dyn Error + Send + Sync>> {
        let mut request = Request::get(format!("http://{}{}", self.upstream, asked.path)).header(CALL, call);
        if let Some(tenant) = &asked.tenant {
            request = request.header(TENANT, tenant);
        }
        let (mut head, body) = self.client.request(request.body(Body::empty())?).await?.into_parts();
        let body = to_bytes(Body::new(body), LARGEST_BODY).await?;
        Ok(Answer { status: head.status, kind: head.headers.remove(CONTENT_TYPE), body, origin: Origin::New })
    }

    pub(crate) fn counts(&self) -> GatewayCounts {
        // Relaxed, here and above: each number stands for itself.
        let timed_out = self.counters.timed_out.load(Ordering::Relaxed);
        match self.stanchion.as_ref().map(|stanchion| stanchion.pipeline.snapshot()) {
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

/// The largest answer that is forwarded. It is read in full before it is passed
/// on, so that the timeouts cover all of it, and it can be asked for again.
const LARGEST_BODY: usize = 1 << 20;

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
mod tests;

//! Pipelines for the common cases.

use std::time::Duration;

use stanchion_breaker::Breaker;
use stanchion_core::Name;
use stanchion_limit::Bulkhead;
use stanchion_retry::{Backoff, Hedge, Retry};

use crate::{Pipeline, PipelineBuilder};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Starting points: each is a builder, so that whatever doesn't fit is said
/// otherwise. All have the default budget, and all but the batch job a breaker with its
/// own defaults: half of the last 100 attempts, of at least 20.
impl Pipeline {
    /// For somebody else's HTTP API: 30 s in all, 10 s an attempt, three attempts from
    /// 500 ms on, 64 calls at a time and none in line.
    pub fn http_api(name: impl Into<Name>) -> PipelineBuilder {
        let name = name.into();
        Self::named(&name)
            .breaker(Breaker::builder(&name))
            .total_timeout(ms(30_000))
            .attempt_timeout(ms(10_000))
            .retry(Retry::new(Backoff::exponential(ms(500)).max_delay(ms(8_000))))
            .bulkhead(Bulkhead::new(64))
    }

    /// For a database of one's own: 5 s in all, 2 s an attempt, two attempts from 20
    /// ms on, 32 calls at a time and 64 in line for up to 500 ms.
    ///
    /// Only what says that it was not done is worth repeating there: classify
    /// accordingly, or declare the calls [not repeatable](PipelineBuilder::repeatable).
    pub fn database(name: impl Into<Name>) -> PipelineBuilder {
        let name = name.into();
        Self::named(&name)
            .breaker(Breaker::builder(&name))
            .total_timeout(ms(5_000))
            .attempt_timeout(ms(2_000))
            .retry(Retry::new(Backoff::exponential(ms(20)).max_delay(ms(200))).max_attempts(2))
            .bulkhead(Bulkhead::new(32).queue(64).max_wait(ms(500)))
    }

    /// For a service of one's own nearby: 1 s in all, 300 ms an attempt, three
    /// attempts from 10 ms on, a hedge after the 95th percentile for calls that are
    /// declared repeatable, 256 calls at a time.
    pub fn internal_rpc(name: impl Into<Name>) -> PipelineBuilder {
        let name = name.into();
        Self::named(&name)
            .breaker(Breaker::builder(&name))
            .total_timeout(ms(1_000))
            .attempt_timeout(ms(300))
            .retry(Retry::new(Backoff::exponential(ms(10)).max_delay(ms(100))))
            .hedge(Hedge::at_percentile(95.0))
            .bulkhead(Bulkhead::new(256))
    }

    /// For work that nobody waits for: an hour in all, a minute an attempt, eight
    /// attempts from 1 s to 60 s, refusals waited out, 8 calls at a time and any
    /// number of others in line for up to ten minutes.
    pub fn batch_job(name: impl Into<Name>) -> PipelineBuilder {
        Self::named(name)
            .total_timeout(ms(3_600_000))
            .attempt_timeout(ms(60_000))
            .retry(Retry::new(Backoff::exponential(ms(1_000)).max_delay(ms(60_000))).max_attempts(8).retry_rejections())
            .bulkhead(Bulkhead::new(8).queue(u32::MAX).max_wait(ms(600_000)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_can_be_built() {
        for preset in [Pipeline::http_api, Pipeline::database, Pipeline::internal_rpc, Pipeline::batch_job] {
            let preset: PipelineBuilder = preset("preset");
            assert!(preset.build().is_ok());
        }
    }
}

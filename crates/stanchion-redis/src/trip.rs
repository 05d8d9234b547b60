//! Trips on Redis.

use std::fmt;
use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager};
use stanchion_core::{Answer, ConfigError, FleetView, StoreError, StoreErrorKind, TripReport, TripStore};

use crate::client::Client;
use crate::key::Prefix;
use crate::link::Link;
use crate::script::{Call, Script};

/// A [`TripStore`] on Redis: each report is one script and one round trip, by the
/// server's clock.
///
/// For each fleet there is one Redis key, `prefix:trip:{name}:fleet`: a hash with a
/// field of some 50 bytes for each instance. It goes away by itself a second after the
/// last report has died. No call of a breaker waits for it.
///
/// # Failover
/// A server that has lost the key knows of no instance until each has reported
/// again; the breakers go their own way meanwhile. Since its generations begin anew
/// then, a fleet that is open on either side of that opens its closed instances once
/// more.
pub struct RedisTripStore<C = ConnectionManager> {
    client: Client<C>,
}

static REPORT: Script = Script::new(include_str!("trip.lua"));

impl RedisTripStore {
    /// A store on the server at `url`, such as `redis://127.0.0.1/`. It connects at the
    /// first report, in the background, and again whenever the connection is lost.
    ///
    /// # Errors
    /// A `url` that is none, or no tokio runtime around the call. Whether anybody
    /// answers there is not asked.
    pub fn connect(url: &str) -> Result<Self, StoreError> {
        Link::connect(url).map(Self::on)
    }
}

impl<C: Clone> RedisTripStore<C> {
    /// A store on a connection that can be shared by cloning; see
    /// [`RedisRateStore::new`](crate::RedisRateStore::new).
    pub fn new(connection: C) -> Self {
        Self::on(Link::fixed(connection))
    }

    pub(crate) fn on(link: Link<C>) -> Self {
        Self { client: Client::on(link) }
    }

    /// What its keys begin with. Default: `stanchion`.
    ///
    /// # Errors
    /// A prefix with braces.
    pub fn prefix(mut self, prefix: &str) -> Result<Self, ConfigError> {
        self.client.prefix = Prefix::new(prefix)?;
        Ok(self)
    }

    /// How long a report may take before it counts as failed. Default: 100 ms.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.client.deadline = deadline;
        self
    }

    /// Goes by `clock`, in whole microseconds, instead of the server's. For tests.
    #[cfg(feature = "test-util")]
    pub fn clock(mut self, clock: impl Into<stanchion_core::Clock>) -> Self {
        self.client.clock = Some(clock.into());
        self
    }
}

impl<C: ConnectionLike + Clone + Send + Sync> TripStore for RedisTripStore<C> {
    fn report(&self, report: TripReport<'_>) -> Answer<'_, Result<FleetView, StoreError>> {
        let mut arguments = Vec::with_capacity(11);
        arguments.extend(self.client.time());
        // A century at most, so that the script's sums stay below 2^53.
        let keep = report.keep.min(Duration::from_secs(3_155_760_000)).as_micros();
        let quorum = report.quorum;
        arguments.extend([
            // Only ever compared: which number stands for which doesn't matter.
            i64::from_ne_bytes(report.instance.to_ne_bytes()),
            i64::from(report.open),
            i64::from(report.calls),
            i64::from(report.failed),
            i64::try_from(keep).expect("a century is below 2^62 microseconds"),
            i64::from(quorum.instances()),
            i64::from(quorum.share()),
            i64::from(quorum.rate()),
            i64::from(quorum.failures()),
        ]);
        let call = Call::new(vec![self.client.prefix.key("trip", report.name, "fleet")], arguments);
        Answer::later(async move {
            let reply: Vec<i64> = self.client.ask(&REPORT, call).await?;
            view(&reply).ok_or_else(|| {
                StoreError::new(StoreErrorKind::Garbled, format!("redis: the trip script answered {reply:?}"))
            })
        })
    }
}

fn view(reply: &[i64]) -> Option<FleetView> {
    let &[live, open @ (0 | 1), generation] = reply else { return None };
    Some(FleetView { live: live.try_into().ok()?, open: open == 1, generation: generation.try_into().ok()? })
}

impl<C> fmt::Debug for RedisTripStore<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisTripStore").field(&self.client).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_garbled_reply_is_no_view_and_no_panic() {
        assert_eq!(view(&[3, 1, 7]), Some(FleetView { live: 3, open: true, generation: 7 }));
        for reply in [&[][..], &[1, 2, 3], &[1, 0], &[-1, 0, 3], &[1, 0, -3], &[1, 0, 3, 4], &[i64::MAX, 0, 1]] {
            assert_eq!(view(reply), None, "{reply:?}");
        }
    }
}

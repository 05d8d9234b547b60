//! The connection, and its replacement when it may be dead.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::IntoConnectionInfo;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::io::tcp::TcpSettings;
use stanchion_core::{StoreError, StoreErrorKind};

/// A connection that is replaced after a failure.
///
/// redis' connection manager replaces a connection that reports an error. One
/// that has died without a word, behind an address that now leads elsewhere,
/// reports nothing; nor does one to a server that has become a replica and
/// refuses to write. What they have in common is that decisions fail.
pub(crate) struct Link<C> {
    current: Mutex<Current<C>>,
    renew: Option<Box<dyn Fn() -> C + Send + Sync>>,
}

struct Current<C> {
    connection: C,
    number: u64,
    since: Instant,
}

/// A connection is given this long before it is replaced.
const PROBATION: Duration = Duration::from_secs(1);

impl Link<ConnectionManager> {
    /// A connection to the server at `url`, made when it is first used.
    pub(crate) fn connect(url: &str) -> Result<Self, StoreError> {
        if tokio::runtime::Handle::try_current().is_err() {
            let message = "redis: a store is to be connected inside a tokio runtime";
            return Err(StoreError::new(StoreErrorKind::Refused, message));
        }
        let unusable = |error: redis::RedisError| {
            let message =
                format!("redis: the URL can't be used, which should be like redis://127.0.0.1:6379/ : {error}");
            StoreError::new(StoreErrorKind::Refused, message).caused_by(error)
        };
        let tcp = TcpSettings::default().set_nodelay(true);
        let server = url.into_connection_info().map_err(unusable)?.set_tcp_settings(tcp);
        let client = redis::Client::open(server).map_err(unusable)?;
        let config = ConnectionManagerConfig::new()
            // Our own deadline is what ends a decision.
            .set_response_timeout(None)
            .set_connection_timeout(Some(Duration::from_secs(1)))
            // A refused connection is an answer. Whoever asks tries again after a pause.
            .set_number_of_retries(0);
        let connect = move || ConnectionManager::new_lazy_with_config(client.clone(), config.clone());
        // What can be wrong is wrong at the first time already: it connects only when it is used.
        connect().map_err(unusable)?;
        Ok(Self::renewable(move || connect().expect("the same settings made a connection before")))
    }
}

impl<C: Clone> Link<C> {
    /// A connection of the user's, whose replacement is the user's.
    pub(crate) fn fixed(connection: C) -> Self {
        Self { current: Mutex::new(Current { connection, number: 0, since: Instant::now() }), renew: None }
    }

    /// A connection that `renew` makes, at first and whenever it fails.
    pub(crate) fn renewable(renew: impl Fn() -> C + Send + Sync + 'static) -> Self {
        let first = Self::fixed(renew());
        Self { renew: Some(Box::new(renew)), ..first }
    }

    /// The connection, with its number.
    pub(crate) fn current(&self) -> (C, u64) {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        (current.connection.clone(), current.number)
    }

    /// A decision on the connection of this number has failed.
    pub(crate) fn failed(&self, number: u64) {
        let Some(renew) = &self.renew else { return };
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.number == number && current.since.elapsed() >= PROBATION {
            *current = Current { connection: renew(), number: number + 1, since: Instant::now() };
        }
    }
}

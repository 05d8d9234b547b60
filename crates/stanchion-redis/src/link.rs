//! The connection, and its replacement when it may be dead.

use std::sync::{Arc, Mutex, PoisonError};
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
    current: Arc<Mutex<Current<C>>>,
    renew: Renew<C>,
}

/// Where another connection comes from.
enum Renew<C> {
    /// From nowhere: it is the user's.
    Never,
    /// From this, at once: it connects when it is used.
    Now(Box<dyn Fn() -> C + Send + Sync>),
    /// From this, in the background, while the one of before is still used: a part of
    /// it may be well.
    #[cfg(feature = "cluster")]
    Later(Box<dyn Fn() + Send + Sync>),
}

struct Current<C> {
    connection: C,
    number: u64,
    since: Instant,
}

/// A connection is given this long before it is replaced.
pub(crate) const PROBATION: Duration = Duration::from_secs(1);

impl Link<ConnectionManager> {
    /// A connection to the server at `url`, made when it is first used.
    pub(crate) fn connect(url: &str) -> Result<Self, StoreError> {
        must_be_in_a_runtime()?;
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
        let current = Current { connection, number: 0, since: Instant::now() };
        Self { current: Arc::new(Mutex::new(current)), renew: Renew::Never }
    }

    /// A connection that `renew` makes, at first and whenever it fails.
    pub(crate) fn renewable(renew: impl Fn() -> C + Send + Sync + 'static) -> Self {
        let first = Self::fixed(renew());
        Self { renew: Renew::Now(Box::new(renew)), ..first }
    }

    /// This connection, and those that `renew` makes in the background when it fails, if
    /// there is one to be had.
    #[cfg(feature = "cluster")]
    pub(crate) fn renewable_later<F: Future<Output = Option<C>> + Send + 'static>(
        first: C,
        renew: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self
    where
        C: Send + 'static,
    {
        let first = Self::fixed(first);
        let current = Arc::downgrade(&first.current);
        let renew = move || {
            let (next, current) = (renew(), current.clone());
            tokio::spawn(async move {
                if let (Some(next), Some(current)) = (next.await, current.upgrade()) {
                    current.lock().unwrap_or_else(PoisonError::into_inner).replace(next);
                }
            });
        };
        Self { renew: Renew::Later(Box::new(renew)), ..first }
    }

    /// The connection, with its number.
    pub(crate) fn current(&self) -> (C, u64) {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        (current.connection.clone(), current.number)
    }

    /// A decision on the connection of this number has failed.
    pub(crate) fn failed(&self, number: u64) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.number != number || current.since.elapsed() < PROBATION {
            return;
        }
        match &self.renew {
            Renew::Never => {}
            Renew::Now(renew) => current.replace(renew()),
            #[cfg(feature = "cluster")]
            Renew::Later(renew) => {
                // Not again before this one has had its time.
                current.since = Instant::now();
                renew();
            }
        }
    }
}

impl<C> Current<C> {
    fn replace(&mut self, connection: C) {
        *self = Self { connection, number: self.number + 1, since: Instant::now() };
    }
}

/// The connection has a task of its own.
pub(crate) fn must_be_in_a_runtime() -> Result<(), StoreError> {
    if tokio::runtime::Handle::try_current().is_ok() {
        return Ok(());
    }
    let message = "redis: a store is to be connected inside a tokio runtime";
    Err(StoreError::new(StoreErrorKind::Refused, message))
}

/// The error for a URL that is none.
pub(crate) fn unusable(error: redis::RedisError) -> StoreError {
    let message = format!("redis: the URL can't be used, which should be like redis://127.0.0.1:6379/ : {error}");
    StoreError::new(StoreErrorKind::Refused, message).caused_by(error)
}

//! What every store here has: a connection, a prefix, a deadline and, in tests, a
//! clock.

use std::fmt;
use std::time::Duration;

use redis::FromRedisValue;
use redis::aio::ConnectionLike;
use stanchion_core::StoreError;

use crate::key::Prefix;
use crate::link::Link;
use crate::script::{Call, Script};

pub(crate) struct Client<C> {
    link: Link<C>,
    pub(crate) prefix: Prefix,
    pub(crate) deadline: Duration,
    #[cfg(feature = "test-util")]
    pub(crate) clock: Option<stanchion_core::Clock>,
}

/// How long a key outlives what it holds, in milliseconds: enough for a server's
/// clocks to disagree by.
const GRACE_MILLIS: i64 = 1_000;

impl<C> Client<C> {
    pub(crate) fn on(link: Link<C>) -> Self {
        Self {
            link,
            prefix: Prefix::new("stanchion").expect("there is no brace in it"),
            deadline: Duration::from_millis(100),
            #[cfg(feature = "test-util")]
            clock: None,
        }
    }

    /// A test's time, in microseconds, and a grace for keys that is long, since
    /// the time of the test has nothing to do with the server's.
    pub(crate) fn injected_time(&self) -> Option<[i64; 2]> {
        #[cfg(feature = "test-util")]
        if let Some(clock) = &self.clock {
            return Some([i64::try_from(clock.now().as_nanos() / 1_000).unwrap_or(i64::MAX).max(1), 3_600_000]);
        }
        None
    }

    /// The same, or 0 for the server's time and the grace that is usual.
    pub(crate) fn time(&self) -> [i64; 2] {
        self.injected_time().unwrap_or([0, GRACE_MILLIS])
    }
}

impl<C: ConnectionLike + Clone> Client<C> {
    /// The number of the database that it is connected to.
    pub(crate) fn database(&self) -> i64 {
        self.link.current().0.get_db()
    }
}

impl<C: ConnectionLike + Clone + Send + Sync> Client<C> {
    pub(crate) async fn ask<T: FromRedisValue>(&self, script: &Script, call: Call) -> Result<T, StoreError> {
        let (connection, number) = self.link.current();
        let reply = script.run(connection, call, self.deadline).await;
        if reply.as_ref().is_err_and(StoreError::is_temporary) {
            self.link.failed(number);
        }
        reply
    }
}

impl<C> fmt::Debug for Client<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("prefix", &self.prefix).field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

//! From Redis' errors to ours.

use redis::{ErrorKind, RedisError, ServerErrorKind};
use stanchion_core::{Classify, Outcome, StoreError, StoreErrorKind};

/// How an attempt that failed with a Redis error ended.
///
/// A function rather than `impl Classify for RedisError`, which only one of the
/// two crates could have.
///
/// ```
/// use stanchion_core::{Classifier, Outcome};
///
/// let by_redis = |result: &Result<(), redis::RedisError>| match result {
///     Ok(()) => Outcome::Success,
///     Err(error) => stanchion_redis::classify(error),
/// };
/// let reset = redis::RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
/// assert_eq!(by_redis.classify(&Err(reset)), Outcome::Transient);
/// ```
pub fn classify(error: &RedisError) -> Outcome {
    StoreError::new(kind(error), "").outcome()
}

/// A store's error for one of Redis'.
pub(crate) fn store_error(error: RedisError) -> StoreError {
    StoreError::new(kind(&error), format!("redis: {error}")).caused_by(error)
}

fn kind(error: &RedisError) -> StoreErrorKind {
    use StoreErrorKind as Kind;
    if error.is_timeout() {
        return Kind::TimedOut;
    }
    match error.kind() {
        ErrorKind::Io | ErrorKind::ClusterConnectionNotFound | ErrorKind::MasterNameNotFoundBySentinel => {
            Kind::Unavailable
        }
        ErrorKind::NoValidReplicasFoundBySentinel => Kind::Unavailable,
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => Kind::Garbled,
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::TryAgain
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown
            | ServerErrorKind::Moved
            | ServerErrorKind::Ask
            // A demoted master says so until the connection finds the new one.
            | ServerErrorKind::ReadOnly,
        ) => Kind::Unavailable,
        // A server at its `maxclients` says so in words only.
        _ if error.detail().is_some_and(|said| said.contains("max number of clients")) => Kind::Unavailable,
        // Full, or short of replicas: these pass, and have no kind of their own.
        _ if matches!(error.code(), Some("OOM" | "NOREPLICAS" | "BUSY" | "MISCONF")) => Kind::Unavailable,
        _ => Kind::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_connection_passes_and_a_missing_right_does_not() {
        let io = |kind| RedisError::from(std::io::Error::from(kind));
        assert_eq!(kind(&io(std::io::ErrorKind::ConnectionRefused)), StoreErrorKind::Unavailable);
        assert_eq!(kind(&io(std::io::ErrorKind::TimedOut)), StoreErrorKind::TimedOut);
        let said = |kind| RedisError::from((kind, "said the server"));
        assert_eq!(kind(&said(ErrorKind::Server(ServerErrorKind::NoPerm))), StoreErrorKind::Refused);
        assert_eq!(kind(&said(ErrorKind::Server(ServerErrorKind::ReadOnly))), StoreErrorKind::Unavailable);
        assert_eq!(kind(&said(ErrorKind::Parse)), StoreErrorKind::Garbled);
        assert_eq!(kind(&said(ErrorKind::AuthenticationFailed)), StoreErrorKind::Refused);
    }
}

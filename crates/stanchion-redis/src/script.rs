//! How a script is run: by its hash, and by its text only when the server
//! doesn't know it.

use std::sync::OnceLock;
use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind};
use stanchion_core::{StoreError, StoreErrorKind};

use crate::error::store_error;

/// A script with its SHA-1.
#[derive(Debug)]
pub(crate) struct Script {
    text: &'static str,
    hash: OnceLock<String>,
}

/// A call of a script, ready to be sent.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) arguments: Vec<i64>,
    /// The arguments that come after those.
    pub(crate) bytes: Vec<Vec<u8>>,
}

impl Script {
    pub(crate) const fn new(text: &'static str) -> Self {
        Self { text, hash: OnceLock::new() }
    }

    /// Runs it, to be answered within `deadline`.
    ///
    /// After `NOSCRIPT` the text is sent; nothing else is ever sent twice.
    pub(crate) async fn run<C: ConnectionLike, T: FromRedisValue>(
        &self,
        mut connection: C,
        call: Call,
        deadline: Duration,
    ) -> Result<T, StoreError> {
        let answer = async {
            match call.command("EVALSHA", self.hash()).query_async(&mut connection).await {
                Err(error) if is_unknown(&error) => call.command("EVAL", self.text).query_async(&mut connection).await,
                answer => answer,
            }
        };
        match tokio::time::timeout(deadline, answer).await {
            Ok(answer) => answer.map_err(store_error),
            Err(_) => {
                let message = format!("redis: no answer within {deadline:?}");
                Err(StoreError::new(StoreErrorKind::TimedOut, message))
            }
        }
    }

    fn hash(&self) -> &str {
        self.hash.get_or_init(|| redis::Script::new(self.text).get_hash().to_owned())
    }
}

impl Call {
    /// A call with numbers as its arguments.
    pub(crate) const fn new(keys: Vec<Vec<u8>>, arguments: Vec<i64>) -> Self {
        Self { keys, arguments, bytes: Vec::new() }
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(script).arg(self.keys.len());
        for key in &self.keys {
            command.arg(key.as_slice());
        }
        for argument in &self.arguments {
            command.arg(*argument);
        }
        for argument in &self.bytes {
            command.arg(argument.as_slice());
        }
        command
    }
}

fn is_unknown(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

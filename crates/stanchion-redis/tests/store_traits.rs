//! The store traits of core that have no implementation yet, tried against what
//! Redis can do: the hardest calls as scripts, one round trip each, so that the
//! traits are known to hold. The scripts are sketches, not shipped.

use redis::{RedisResult, Value};
use stanchion_conformance::RedisServer;

const CLAIM: &str = include_str!("sketches/claim.lua");
const COMPLETE: &str = include_str!("sketches/complete.lua");

struct Redis {
    connection: redis::aio::MultiplexedConnection,
    now: i64,
}

impl Redis {
    async fn claim(&mut self, fingerprint: &str) -> Vec<String> {
        let reply: RedisResult<Value> = redis::cmd("EVAL")
            .arg(CLAIM)
            .arg(&[2])
            .arg(&["r:{k}", "f:{k}"])
            .arg(fingerprint)
            .arg(&[30_000, 60_000, self.now])
            .query_async(&mut self.connection)
            .await;
        let Value::Array(parts) = reply.unwrap() else { unreachable!("the script returns a list") };
        parts.into_iter().map(|part| redis::from_redis_value(part).unwrap()).collect()
    }

    async fn complete(&mut self, fence: &str, response: &str) -> String {
        let mut complete = redis::cmd("EVAL");
        complete.arg(COMPLETE).arg(2).arg(&["r:{k}", "f:{k}"]).arg(fence).arg("response").arg(response).arg(86_400_000);
        complete.query_async(&mut self.connection).await.unwrap()
    }
}

async fn redis(server: &RedisServer) -> Redis {
    let client = redis::Client::open(server.url()).unwrap();
    Redis { connection: client.get_multiplexed_async_connection().await.unwrap(), now: 1_800_000_000_000 }
}

#[tokio::test]
async fn complete_compares_the_fence_in_one_step() {
    let server = RedisServer::start();
    let mut redis = redis(&server).await;
    assert_eq!(redis.claim("body-1").await, ["fresh", "1", "0"]);
    assert_eq!(redis.claim("body-2").await, ["mismatch"]);
    redis.now += 10_000;
    assert_eq!(redis.claim("body-1").await, ["in_flight", "20000"]);
    // The first worker is slow: its lease ends, a second one takes the claim.
    redis.now += 20_000;
    assert_eq!(redis.claim("body-1").await, ["fresh", "2", "1"]);
    assert_eq!(redis.complete("1", "late").await, "superseded");
    assert_eq!(redis.complete("2", "receipt").await, "done");
    // Nobody changes a completed record: not a late writer, not its own again.
    assert_eq!(redis.complete("1", "later").await, "superseded");
    assert_eq!(redis.complete("2", "other").await, "superseded");
    assert_eq!(redis.claim("body-1").await, ["replay", "response", "receipt"]);
    assert_eq!(redis.claim("body-2").await, ["mismatch"]);
}

#[tokio::test]
async fn a_late_completion_of_an_untaken_claim_counts_and_a_forgotten_one_is_expired() {
    let server = RedisServer::start();
    let mut redis = redis(&server).await;
    assert_eq!(redis.complete("1", "nobody asked").await, "expired");
    assert_eq!(redis.claim("body").await, ["fresh", "1", "0"]);
    redis.now += 31_000;
    assert_eq!(redis.complete("1", "receipt").await, "done");
    assert_eq!(redis.claim("body").await, ["replay", "response", "receipt"]);
    // Every key goes away by itself, the counter last.
    let left = ["r:{k}", "f:{k}"]
        .map(|key| -> i64 { server.command(&["PTTL", key]).trim().trim_start_matches(':').parse().unwrap() });
    assert!(left[0] > 86_000_000 && left[1] > left[0], "{left:?}");
}

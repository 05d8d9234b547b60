//! A connection to a cluster.

use std::fmt;

use redis::aio::ConnectionLike;
use redis::cluster::{ClusterClient, ClusterConfig};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::io::tcp::TcpSettings;
use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, ServerErrorKind, Value};
use stanchion_core::StoreError;

use crate::link::{Link, PROBATION, must_be_in_a_runtime, unusable};
use crate::{RedisCacheStore, RedisRateStore, RedisTripStore};

/// A connection to all nodes of a cluster, as
/// [`RedisRateStore::connect_cluster`](crate::RedisRateStore::connect_cluster) makes it.
///
/// It is redis' own cluster connection, but for what is sent again. That one sends a
/// command whose connection has broken up to sixteen times more, not knowing whether it
/// was carried out: a decision would be paid for twice. This one sends a command again
/// only to where a node has pointed it (`MOVED`, `ASK`), having done nothing.
#[derive(Clone)]
pub struct Cluster {
    nodes: ClusterConnection,
}

/// How often a command follows a redirection. Two are usual at most: a slot that
/// was moved, and is moved on.
const REDIRECTIONS: u32 = 5;

impl Link<Cluster> {
    /// A connection to the cluster of which some nodes are at `urls`, made when it is
    /// first used.
    pub(crate) fn connect_cluster(urls: &[&str]) -> Result<Self, StoreError> {
        must_be_in_a_runtime()?;
        let client = ClusterClient::builder(urls.iter().copied())
            .retries(0)
            .tcp_settings(TcpSettings::default().set_nodelay(true))
            // Not of decisions, which have a deadline of their own: a node that does not
            // answer when it is asked for the slots must not keep the others waiting.
            .connection_timeout(PROBATION / 2)
            .response_timeout(PROBATION / 2)
            .overall_response_timeout(None)
            .build()
            .map_err(unusable)?;
        let first = Cluster { nodes: client.get_pending_async_connection_with_config(ClusterConfig::default()) };
        Ok(Self::renewable_later(first, move || {
            let client = client.clone();
            // To each node at once, then for the slots, then to each that they name.
            let most = 4 * PROBATION;
            async move {
                let connection = tokio::time::timeout(most, client.get_async_connection()).await;
                connection.ok()?.ok().map(|nodes| Cluster { nodes })
            }
        }))
    }
}

impl RedisRateStore<Cluster> {
    /// A store on the cluster of which some nodes are at `urls`: name several, since one
    /// must be there to name the others.
    ///
    /// It connects at the first decision, in the background. All limits of a request are
    /// in one slot, whose master decides. A decision that is pointed elsewhere goes
    /// there; no other is sent again. When a decision fails, and at most once a second,
    /// all connections are made anew in the background, so that another master is found
    /// however the one of before went silent; the slots of the others go on meanwhile.
    ///
    /// While a slot is moved, a request of several limits on a key of which nothing is
    /// known yet is answered `TRYAGAIN` by the cluster: that is an outage of this key,
    /// for as long as its slot is on its way.
    ///
    /// # Errors
    /// As [`connect`](RedisRateStore::connect); and no URL at all.
    pub fn connect_cluster(urls: &[&str]) -> Result<Self, StoreError> {
        Link::connect_cluster(urls).map(Self::on)
    }
}

impl RedisTripStore<Cluster> {
    /// A store on the cluster of which some nodes are at `urls`: see
    /// [`RedisRateStore::connect_cluster`].
    ///
    /// # Errors
    /// As there.
    pub fn connect_cluster(urls: &[&str]) -> Result<Self, StoreError> {
        Link::connect_cluster(urls).map(Self::on)
    }
}

impl RedisCacheStore<Cluster> {
    /// The cache `name` on the cluster of which some nodes are at `urls`, spread over 64 [slots](Self::slots); see
    /// [`RedisRateStore::connect_cluster`]. Subscriptions are at one of `urls`, and at another one when it is gone.
    ///
    /// While a slot is moved, keys of it of which something is known, but not everything, are answered `TRYAGAIN`:
    /// that is an outage of these keys, for as long as their slot is on its way.
    ///
    /// # Errors
    /// As there.
    pub fn connect_cluster(urls: &[&str], name: &str) -> Result<Self, StoreError> {
        let link = Link::connect_cluster(urls)?;
        let nodes: Result<_, _> = urls.iter().map(|url| redis::Client::open(*url).map_err(unusable)).collect();
        Ok(Self::on(link, nodes?, name, 64))
    }
}

impl Cluster {
    /// Sends a command to the node that has its slot, and then to where it is pointed.
    async fn send(&mut self, command: &Cmd) -> RedisResult<Value> {
        let mut answer = self.nodes.req_packed_command(command).await.and_then(Value::extract_error);
        for _ in 0..REDIRECTIONS {
            let Some((node, asks)) = answer.as_ref().err().and_then(redirection) else { break };
            answer = if asks {
                // Only the command that follows `ASKING` in the same connection may.
                let mut both = Pipeline::with_capacity(2);
                both.cmd("ASKING").add_command(command.clone());
                let answers = self.nodes.route_pipeline(both, 1, 1, node).await;
                let only = |mut answers: Vec<Value>| answers.pop().unwrap_or(Value::Nil);
                answers.map(only).and_then(Value::extract_error)
            } else {
                let node = RoutingInfo::SingleNode(node);
                self.nodes.route_command(command.clone(), node).await.and_then(Value::extract_error)
            };
        }
        answer
    }
}

/// Where a node has pointed a command, and whether just this one.
fn redirection(error: &RedisError) -> Option<(SingleNodeRoutingInfo, bool)> {
    let asks = match error.kind() {
        ErrorKind::Server(ServerErrorKind::Ask) => true,
        ErrorKind::Server(ServerErrorKind::Moved) => false,
        _ => return None,
    };
    let (host, port) = error.redirect_node()?.0.rsplit_once(':')?;
    // A node that does not know its own name leaves it out: the slots are asked for anew.
    let node = SingleNodeRoutingInfo::ByAddress { host: host.to_owned(), port: port.parse().ok()? };
    (!host.is_empty()).then_some((node, asks))
}

impl ConnectionLike for Cluster {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(self.send(cmd))
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        cmd: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        self.nodes.req_packed_commands(cmd, offset, count)
    }

    fn get_db(&self) -> i64 {
        self.nodes.get_db()
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}

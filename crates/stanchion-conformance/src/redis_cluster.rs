//! A real Redis cluster of the test's own.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::redis_server::{PATIENCE, RedisServer, free_port};

/// A Redis cluster of three masters on free ports of this machine, each with a
/// replica if it is asked for. It ends with this value.
///
/// Its nodes are numbered: the masters are 0, 1 and 2, and share the 16,384 slots
/// evenly; their replicas are 3, 4 and 5, in this order. Nothing fails over by
/// itself, so that a test decides when: see [`promote`](Self::promote). While a
/// master is away, the others go on.
///
/// The binary is found as by [`RedisServer`]; a missing one fails the test.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

const MASTERS: usize = 3;
const SLOTS: u16 = 16_384;

impl RedisCluster {
    /// Starts three masters and waits until each says that the cluster is well.
    ///
    /// # Panics
    /// If there is no `redis-server`, or it makes no cluster in time.
    pub fn start() -> Self {
        Self::of(MASTERS)
    }

    /// The same with a replica of each master, which has copied it already.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_with_replicas() -> Self {
        let cluster = Self::of(2 * MASTERS);
        for master in 0..MASTERS {
            let id = cluster.id(master);
            cluster.ok(Self::replica_of(master), &["CLUSTER", "REPLICATE", &id]);
        }
        cluster.wait("the replicas copy their masters", || {
            (MASTERS..2 * MASTERS).all(|replica| cluster.says(replica, &["INFO", "replication"], "master_link_status:up"))
                // Who has not been told yet who is whose replica can't agree to its promotion.
                && (0..2 * MASTERS).all(|node| {
                    cluster.nodes_known_to(node).lines().filter(|line| is(line, "slave")).count() == MASTERS
                })
        });
        cluster
    }

    /// The cluster of three masters that tests of one process share while any of
    /// them holds it.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<RedisCluster>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let cluster = Arc::new(Self::start());
            *shared = Arc::downgrade(&cluster);
            cluster
        })
    }

    /// Where its nodes are, killed ones too.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(RedisServer::url).collect()
    }

    /// The node of this number.
    ///
    /// # Panics
    /// If there is none.
    pub fn node(&self, number: usize) -> &RedisServer {
        &self.nodes[number]
    }

    /// How often a command was called, on all nodes that run: see [`RedisServer::calls`].
    pub fn calls(&self, command: &str) -> u64 {
        self.nodes.iter().filter(|node| node.is_running()).map(|node| node.calls(command)).sum()
    }

    /// The number of the replica that a master began with.
    pub const fn replica_of(master: usize) -> usize {
        master + MASTERS
    }

    /// The slot of a key, as the cluster itself works it out.
    pub fn slot(&self, key: &str) -> u16 {
        let reply = self.running().command(&["CLUSTER", "KEYSLOT", key]);
        reply.trim().trim_start_matches(':').parse().expect("a slot is a number")
    }

    /// The number of the node that has a slot at present, as `asked` sees it.
    ///
    /// # Panics
    /// If none has it.
    pub fn owner(&self, asked: usize, slot: u16) -> usize {
        let known = self.nodes_known_to(asked);
        let line = known.lines().find(|line| owns(line, slot)).expect("somebody has the slot");
        let id = line.split(' ').next().expect("a line begins with an id");
        (0..self.nodes.len())
            .filter(|node| self.nodes[*node].is_running())
            .find(|node| self.id(*node) == id)
            .expect("the owner is one of these nodes")
    }

    /// Ends a node at once, as a crash would.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].kill();
    }

    /// Starts a node again, as the member that it was, with nothing in it.
    ///
    /// # Panics
    /// If it doesn't start.
    pub fn restart(&mut self, node: usize) {
        self.nodes[node].restart();
    }

    /// Makes a replica the master of its master's slots, with whatever it has
    /// copied (`CLUSTER FAILOVER TAKEOVER`), and waits until all running nodes agree.
    ///
    /// # Panics
    /// If they don't.
    pub fn promote(&self, replica: usize) {
        self.ok(replica, &["CLUSTER", "FAILOVER", "TAKEOVER"]);
        let id = self.id(replica);
        self.wait("all know the new master", || {
            self.running_numbers().all(|node| {
                let known = self.nodes_known_to(node);
                let line = known.lines().find(|line| line.starts_with(&id));
                line.is_some_and(|line| is(line, "master") && line.split_ascii_whitespace().count() > 8)
            }) && self.says(replica, &["CLUSTER", "INFO"], "cluster_state:ok")
        });
    }

    /// Begins to move a slot: from now on `from` answers `ASK` for keys that it
    /// does not have, and `to` has them.
    pub fn begin_move(&self, slot: u16, from: usize, to: usize) {
        let slot = slot.to_string();
        self.ok(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &self.id(from)]);
        self.ok(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &self.id(to)]);
    }

    /// Moves one key of a slot that is being moved.
    pub fn move_key(&self, key: &str, from: usize, to: usize) {
        self.ok(from, &["MIGRATE", "127.0.0.1", &self.nodes[to].port().to_string(), key, "0", "5000"]);
    }

    /// Ends the move: `from` answers `MOVED` from now on.
    ///
    /// # Panics
    /// If the nodes don't agree on that in time.
    pub fn end_move(&self, slot: u16, to: usize) {
        let (text, id) = (slot.to_string(), self.id(to));
        let others = (0..MASTERS).filter(|node| *node != to);
        for node in std::iter::once(to).chain(others) {
            self.ok(node, &["CLUSTER", "SETSLOT", &text, "NODE", &id]);
        }
        self.wait("the slot is moved", || self.running_numbers().all(|node| self.owner(node, slot) == to));
    }

    fn of(number: usize) -> Self {
        let options = || {
            let bus = free_port().to_string();
            let options = [
                ["--cluster-enabled", "yes"],
                ["--cluster-port", &bus],
                ["--cluster-config-file", "nodes.conf"],
                ["--cluster-node-timeout", "5000"],
                ["--cluster-require-full-coverage", "no"],
                ["--cluster-replica-no-failover", "yes"],
                ["--cluster-allow-replica-migration", "no"],
                // Else a replica's first copy begins 5 s after it asks.
                ["--repl-diskless-sync-delay", "0"],
            ];
            options.as_flattened().iter().map(|&word| word.to_owned()).collect()
        };
        let cluster = Self { nodes: (0..number).map(|_| RedisServer::start_with(options)).collect() };
        for node in 0..number {
            cluster.ok(node, &["CLUSTER", "SET-CONFIG-EPOCH", &(node + 1).to_string()]);
        }
        for master in 0..MASTERS {
            let Range { start, end } = share(master);
            cluster.ok(master, &["CLUSTER", "ADDSLOTSRANGE", &start.to_string(), &(end - 1).to_string()]);
        }
        for node in 1..number {
            let port = cluster.nodes[node].port().to_string();
            cluster.ok(0, &["CLUSTER", "MEET", "127.0.0.1", &port, &cluster.bus_port(node)]);
        }
        cluster.wait("the nodes make a cluster", || {
            (0..number).all(|node| {
                let said = cluster.nodes[node].command(&["CLUSTER", "INFO"]);
                let known = format!("cluster_known_nodes:{number}\r\n");
                said.contains("cluster_state:ok") && said.contains(&known) && said.contains("cluster_slots_ok:16384")
                    // What is published before a node has a link to another is not passed on to it.
                    && cluster.nodes_known_to(node).lines().filter(|line| line.contains(" connected")).count() == number
            })
        });
        cluster
    }

    fn bus_port(&self, node: usize) -> String {
        let reply = self.nodes[node].command(&["CONFIG", "GET", "cluster-port"]);
        reply.lines().nth(4).expect("a setting has a value").to_owned()
    }

    fn id(&self, node: usize) -> String {
        let reply = self.nodes[node].command(&["CLUSTER", "MYID"]);
        reply.lines().nth(1).expect("a node has an id").to_owned()
    }

    fn nodes_known_to(&self, node: usize) -> String {
        self.nodes[node].command(&["CLUSTER", "NODES"])
    }

    fn running_numbers(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].is_running())
    }

    fn running(&self) -> &RedisServer {
        self.nodes.iter().find(|node| node.is_running()).expect("a node runs")
    }

    fn says(&self, node: usize, words: &[&str], wanted: &str) -> bool {
        self.nodes[node].command(words).contains(wanted)
    }

    fn ok(&self, node: usize, words: &[&str]) {
        let reply = self.nodes[node].command(words);
        assert!(reply.starts_with("+OK"), "node {node} answers {words:?} with {reply}");
    }

    fn wait(&self, what: &str, done: impl Fn() -> bool) {
        let began = Instant::now();
        while !done() {
            assert!(began.elapsed() < 2 * PATIENCE, "not in time: {what}\n{}", self.nodes_known_to(0));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The slots with which a master begins.
fn share(master: usize) -> Range<u16> {
    let bound = |part: usize| u16::try_from(usize::from(SLOTS) * part / MASTERS).expect("at most 16,384");
    bound(master)..bound(master + 1)
}

/// Whether this line of `CLUSTER NODES` is of a node that has the slot.
fn owns(line: &str, slot: u16) -> bool {
    line.split_ascii_whitespace().skip(8).any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        match (first.parse::<u16>(), last.parse::<u16>()) {
            (Ok(first), Ok(last)) => (first..=last).contains(&slot),
            // `[slot->-node]`: on its way, but still here.
            _ => false,
        }
    })
}

/// Whether this line of `CLUSTER NODES` is of a node with this flag.
fn is(line: &str, flag: &str) -> bool {
    line.split(' ').nth(2).is_some_and(|flags| flags.split(',').any(|one| one == flag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_masters_share_all_slots() {
        assert_eq!(share(0), 0..5_461);
        assert_eq!(share(1), 5_461..10_922);
        assert_eq!(share(2), 10_922..16_384);
    }

    #[test]
    fn a_line_is_read() {
        let line = "07c3 127.0.0.1:1@2 myself,master - 0 0 1 connected 0-5460 7000 [93-<-292f]";
        assert!(is(line, "myself") && is(line, "master") && !is(line, "slave"));
        assert!([0, 5_460, 7_000].iter().all(|slot| owns(line, *slot)));
        assert!([5_461, 6_999, 93 + 8_000].iter().all(|slot| !owns(line, *slot)));
        assert!(!owns("07c3 127.0.0.1:1@2 slave 292f 0 0 1 connected", 292));
    }
}

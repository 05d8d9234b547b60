//! What becomes of decisions while a cluster moves slots, forgets scripts, and loses
//! nodes.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use stanchion_conformance::RedisCluster;
use stanchion_core::{Decision, RateLimit, RateRequest, RateStore, StoreError, StoreErrorKind};
use stanchion_limit::Quota;
use stanchion_redis::{Cluster, RedisRateStore};

/// For whatever must happen, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(20);

fn store(cluster: &RedisCluster) -> RedisRateStore<Cluster> {
    let urls = cluster.urls();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    RedisRateStore::connect_cluster(&urls).unwrap().deadline(PATIENCE)
}

/// Nine at once, and none for a long while.
fn limit(name: &'static str) -> RateLimit {
    RateLimit::new(name, Quota::per_day(9).bucket().unwrap())
}

async fn take(store: &RedisRateStore<Cluster>, key: &str) -> Result<Decision, StoreError> {
    store.decide(RateRequest::single(key.as_bytes(), 1, &limit("api"))).await
}

async fn left(store: &RedisRateStore<Cluster>, key: &str) -> u64 {
    let decision = take(store, key).await.unwrap();
    assert!(decision.allowed(), "{decision:?}");
    decision.remaining()
}

fn redis_key(key: &str, name: &str) -> String {
    format!("stanchion:rate:{{{key}}}:{name}")
}

/// A key of each master.
fn a_key_of_each(cluster: &RedisCluster) -> [String; 3] {
    std::array::from_fn(|master| {
        let mut keys = (0..).map(|number| format!("tenant-{number}"));
        keys.find(|key| cluster.owner(0, cluster.slot(key)) == master).unwrap()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_is_sent_once_to_each_node_and_again_when_it_is_flushed() {
    let cluster = RedisCluster::start();
    let store = store(&cluster);
    let keys = a_key_of_each(&cluster);
    for round in 1..=3 {
        for (node, key) in keys.iter().enumerate() {
            assert_eq!(left(&store, key).await, 10 - 2 * round, "{key}");
            assert_eq!(left(&store, key).await, 9 - 2 * round, "{key}");
            let calls = ["evalsha", "eval"].map(|command| cluster.node(node).calls(command));
            assert_eq!(calls, [2 * round, round], "an EVAL only after NOSCRIPT");
            cluster.node(node).command(&["SCRIPT", "FLUSH"]);
        }
    }
}

/// Limits of one key are in one slot, wherever that is: the script takes them all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_between_two_decisions_loses_nothing() {
    let cluster = RedisCluster::start();
    let store = store(&cluster);
    let limits = [limit("second"), limit("hour")];
    let both = async |key: &str| store.decide(RateRequest::new(key.as_bytes(), 1, &limits).unwrap()).await;
    let slot = cluster.slot("{alice}");
    for name in ["api", "second", "hour"] {
        assert_eq!(cluster.slot(&redis_key("alice", name)), slot);
    }
    assert_eq!(left(&store, "alice").await, 8);
    assert_eq!(both("alice").await.unwrap().remaining(), 8);

    let from = cluster.owner(0, slot);
    let to = (from + 1) % 3;
    cluster.begin_move(slot, from, to);
    // What has not been moved yet is decided where it is.
    assert_eq!(left(&store, "alice").await, 7);
    cluster.move_key(&redis_key("alice", "api"), from, to);
    // ASK: one trip more, and the script is unknown there.
    assert_eq!(left(&store, "alice").await, 6);
    assert_eq!(left(&store, "alice").await, 5);
    assert_eq!(cluster.node(to).calls("asking"), 3, "EVALSHA, EVAL; EVALSHA");

    // Of several limits all must be on one side.
    assert_eq!(both("alice").await.unwrap().remaining(), 7);
    cluster.move_key(&redis_key("alice", "second"), from, to);
    let error = both("alice").await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    cluster.move_key(&redis_key("alice", "hour"), from, to);
    assert_eq!(both("alice").await.unwrap().remaining(), 6);

    cluster.end_move(slot, to);
    // MOVED, and from then on directly.
    assert_eq!(left(&store, "alice").await, 4);
    assert_eq!(both("alice").await.unwrap().remaining(), 5);
    let asked = cluster.node(from).calls("evalsha");
    let began = Instant::now();
    let mut expected = 3;
    while expected > 0 {
        assert_eq!(left(&store, "alice").await, expected);
        expected -= 1;
    }
    assert!(began.elapsed() < PATIENCE);
    assert_eq!(cluster.node(from).calls("evalsha"), asked, "redirections are learnt");
}

/// The connection breaks while a decision is on its way. Nobody knows whether it was
/// carried out, so it fails: it is not sent again, as redis' own connection would.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_whose_connection_breaks_is_not_sent_again() {
    let cluster = RedisCluster::start();
    let store = store(&cluster);
    let key = &a_key_of_each(&cluster)[1];
    assert_eq!(left(&store, key).await, 8);
    let node = cluster.node(1);
    let mut killer = TcpStream::connect(("127.0.0.1", node.port())).unwrap();
    // Known to the server before it is frozen, so that its word comes first.
    killer.write_all(b"PING\r\n").unwrap();
    std::io::Read::read_exact(&mut killer, &mut [0; 7]).unwrap();
    node.freeze();
    killer.write_all(b"CLIENT KILL TYPE normal SKIPME yes\r\n").unwrap();
    let thaw = async {
        // The decision has been written by then; if it hasn't, it fails all the same.
        tokio::time::sleep(Duration::from_millis(100)).await;
        node.thaw();
    };
    let (decision, ()) = tokio::join!(take(&store, key), thaw);
    assert_eq!(decision.unwrap_err().kind(), StoreErrorKind::Unavailable);
    // The connection to this node is made again.
    let began = Instant::now();
    let next = loop {
        match take(&store, key).await {
            Ok(decision) => break decision.remaining(),
            Err(error) => assert!(error.is_temporary() && began.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(next, 7, "what was lost was not taken, or it was taken once");
}

/// Asks until the node's successor decides; each answer comes within the deadline, and
/// meanwhile the other nodes' keys are decided.
async fn a_successor_is_found(break_it: impl FnOnce(&mut RedisCluster)) {
    const DEADLINE: Duration = Duration::from_millis(300);
    let mut cluster = RedisCluster::start_with_replicas();
    let store = store(&cluster).deadline(DEADLINE);
    let keys = a_key_of_each(&cluster);
    for key in &keys {
        let began = Instant::now();
        while take(&store, key).await.is_err() {
            assert!(began.elapsed() < PATIENCE);
        }
    }
    assert_eq!(cluster.node(0).command(&["WAIT", "1", "5000"]), ":1\r\n");
    break_it(&mut cluster);
    let (mut well, mut asked) = (0, 0);
    for _ in 0..8 {
        let began = Instant::now();
        let error = take(&store, &keys[0]).await.unwrap_err();
        assert!(error.is_temporary(), "{error}");
        // A machine's hiccup on top.
        assert!(began.elapsed() < DEADLINE + Duration::from_secs(2), "{:?}", began.elapsed());
        for key in &keys[1..] {
            asked += 1;
            well += u32::from(take(&store, key).await.is_ok());
        }
    }
    assert!(4 * well >= 3 * asked, "of {asked} decisions of other nodes {well} were made");
    cluster.promote(RedisCluster::replica_of(0));
    let began = Instant::now();
    let found = loop {
        match take(&store, &keys[0]).await {
            Ok(decision) => break decision,
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
        }
    };
    println!("found after {:?}; {well} of {asked} of the others decided", began.elapsed());
    assert_eq!(found.limit(), 9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_successor_of_a_dead_master_is_found() {
    a_successor_is_found(|cluster| cluster.kill(0)).await;
}

/// It keeps its connections and says nothing, so no error tells of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_successor_of_a_frozen_master_is_found() {
    a_successor_is_found(|cluster| cluster.node(0).freeze()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_starts_while_its_cluster_is_away() {
    let mut cluster = RedisCluster::start();
    (0..3).for_each(|node| cluster.kill(node));
    let store = store(&cluster).deadline(Duration::from_millis(300));
    for _ in 0..3 {
        assert!(take(&store, "alice").await.unwrap_err().is_temporary());
    }
    (0..3).for_each(|node| cluster.restart(node));
    let began = Instant::now();
    let found = loop {
        match take(&store, "alice").await {
            Ok(decision) => break decision,
            Err(error) => assert!(error.is_temporary() && began.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(found.allowed());
}

#[tokio::test]
async fn urls_that_are_none_are_refused() {
    for urls in [&[][..], &["nonsense"], &["redis://127.0.0.1:1/", "http://x/"]] {
        let error = RedisRateStore::connect_cluster(urls).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Refused, "{urls:?}: {error}");
    }
}

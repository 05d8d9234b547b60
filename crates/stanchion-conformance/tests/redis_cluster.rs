//! The cluster for tests does what its docs say.
#![cfg(feature = "redis-server")]

use stanchion_conformance::RedisCluster;

#[test]
fn a_cluster_starts_moves_a_slot_and_promotes_a_replica() {
    let mut cluster = RedisCluster::start_with_replicas();
    let slot = cluster.slot("{alice}");
    let from = cluster.owner(0, slot);
    assert_eq!(cluster.slot("{alice}:any"), slot);
    let to = (from + 1) % 3;
    assert_eq!(cluster.node(from).command(&["SET", "{alice}", "1"]), "+OK\r\n");
    cluster.begin_move(slot, from, to);
    cluster.move_key("{alice}", from, to);
    cluster.end_move(slot, to);
    assert_eq!(cluster.node(to).command(&["GET", "{alice}"]), "$1\r\n1\r\n");

    assert_eq!(cluster.node(to).command(&["WAIT", "1", "5000"]), ":1\r\n");
    cluster.kill(to);
    let replica = RedisCluster::replica_of(to);
    cluster.promote(replica);
    assert_eq!(cluster.owner(from, slot), replica);
    assert_eq!(cluster.node(replica).command(&["GET", "{alice}"]), "$1\r\n1\r\n");
}

//! How much more is admitted when a replica is promoted without the last writes: as
//! much as those had admitted, and no more. Every window of random histories is checked.

use std::collections::HashMap;
use std::time::Duration;

use stanchion_conformance::{Admissions, RedisCluster};
use stanchion_core::{ManualClock, Moment, RateLimit, RateRequest, RateStore, TokenBucket};
use stanchion_redis::{Cluster, RedisRateStore};

const SECOND: Duration = Duration::from_secs(1);
const BURST: u64 = 10;

/// Ten at once, one more each second.
fn limit() -> RateLimit {
    RateLimit::new("api", TokenBucket::new(1, SECOND, BURST).unwrap())
}

struct Setting {
    cluster: RedisCluster,
    clock: ManualClock,
    /// A master, and keys of its.
    master: usize,
    keys: Vec<String>,
}

impl Setting {
    fn new(keys: usize) -> Self {
        let cluster = RedisCluster::start_with_replicas();
        let master = cluster.owner(0, cluster.slot("{key}"));
        // Of one slot, which is that of the braces: so they are of one master.
        let named = (0..keys * 40).map(|number| format!("tenant-{number}"));
        let mut slots: HashMap<u16, usize> = HashMap::new();
        let own = |key: &String| {
            let slot = cluster.slot(key);
            *slots.entry(slot).or_insert_with(|| cluster.owner(0, slot)) == master
        };
        let keys = named.filter(own).take(keys).collect();
        Self { cluster, clock: ManualClock::at(Moment::from_nanos(1_800_000_000_000_000_000)), master, keys }
    }

    fn store(&self, clock: &ManualClock) -> RedisRateStore<Cluster> {
        let urls = self.cluster.urls();
        let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
        RedisRateStore::connect_cluster(&urls).unwrap().deadline(Duration::from_secs(20)).clock(clock.clone())
    }

    /// All writes so far are on the replica, and none from now on.
    fn cut_replication(&self) {
        let master = self.cluster.node(self.master);
        assert_eq!(master.command(&["WAIT", "1", "10000"]), ":1\r\n");
        assert_eq!(master.command(&["ACL", "SETUSER", "default", "-psync", "-sync"]), "+OK\r\n");
        assert_eq!(master.command(&["CLIENT", "KILL", "TYPE", "replica"]), ":1\r\n");
        assert_eq!(master.command(&["WAIT", "1", "1"]), ":0\r\n");
    }

    fn fail_over(&mut self) {
        self.cluster.kill(self.master);
        self.cluster.promote(RedisCluster::replica_of(self.master));
    }
}

/// xorshift64 (Marsaglia 2003): the histories repeat exactly.
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

/// What a key was admitted, by its real time, and what of it the promoted server
/// doesn't know.
#[derive(Default)]
struct History {
    admitted: Admissions,
    lost: u64,
}

async fn ask(store: &RedisRateStore<Cluster>, key: &str, cost: u64) -> bool {
    store.decide(RateRequest::single(key.as_bytes(), cost, &limit())).await.unwrap().allowed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_write_admits_again_what_it_admitted_and_no_more() {
    let mut setting = Setting::new(24);
    let store = setting.store(&setting.clock);
    let mut random = Random(0x5eed);
    let mut histories: Vec<History> = setting.keys.iter().map(|_| History::default()).collect();
    let mut lag = Duration::ZERO;
    for phase in ["known", "lost", "after"] {
        // Each key has a demand of its own: some ask rarely, some hammer.
        for _ in 0..12 {
            let pause = Duration::from_micros(random.below(900_000));
            setting.clock.advance(pause);
            if phase == "lost" {
                lag += pause;
            }
            for (number, (key, history)) in setting.keys.iter().zip(&mut histories).enumerate() {
                for _ in 0..random.below(2 + number as u64 % 6) {
                    let cost = 1 + random.below(3);
                    if ask(&store, key, cost).await {
                        history.admitted.push(setting.clock.now().as_nanos(), cost);
                        history.lost += if phase == "lost" { cost } else { 0 };
                    }
                }
            }
        }
        match phase {
            "known" => setting.cut_replication(),
            "lost" => {
                setting.fail_over();
                // The connection has to find the new master.
                while store.decide(RateRequest::single(setting.keys[0].as_bytes(), 0, &limit())).await.is_err() {}
            }
            _ => {}
        }
    }
    let (mut most, mut broken) = (0, 0);
    for history in &histories {
        // The lost writes keep to the bound of a window as long as the lag ...
        assert!(history.lost <= BURST + lag.as_secs(), "{} in {lag:?}", history.lost);
        // ... and all else keeps to the usual one.
        history.admitted.assert_bound(1, SECOND, BURST + history.lost);
        most = most.max(history.lost);
        broken += u32::from(history.admitted.broken_window(1, SECOND, BURST).is_some());
    }
    println!("lag {lag:?}: at most {most} lost; of 24 keys {broken} had more than without failover");
    assert!(most > 5 && broken > 5, "a history in which little is lost shows little: {most}, {broken}");
}

/// A key that takes all it can get has the whole of what was lost; a clock that is
/// ahead gives what it is ahead by on top, one that is behind takes it away, at most a
/// bucket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_new_servers_clock_adds_what_it_is_ahead_by_and_withholds_a_bucket_at_most() {
    // The promoted server's clock is off by so many milliseconds; so many are admitted at once.
    let skews = [(0, 3), (2_000, 5), (60_000, 10), (-500, 2), (-3_000, 0), (-3_600_000, 0)];
    let mut setting = Setting::new(skews.len());
    let store = setting.store(&setting.clock);
    for key in &setting.keys {
        assert!(ask(&store, key, BURST).await);
    }
    setting.cut_replication();
    // Three seconds are lost, and with them three units of each key.
    for _ in 0..3 {
        setting.clock.advance(SECOND);
        for key in &setting.keys {
            assert!(ask(&store, key, 1).await && !ask(&store, key, 1).await);
        }
    }
    setting.fail_over();
    let now = setting.clock.now().as_nanos();
    for (key, (skew, expected)) in setting.keys.iter().zip(skews) {
        let clock = ManualClock::at(Moment::from_nanos(now.saturating_add_signed(skew * 1_000_000)));
        let store = setting.store(&clock);
        let mut extra = 0;
        while ask(&store, key, 1).await {
            extra += 1;
        }
        assert_eq!(extra, expected, "{skew} ms");
        let ahead = u64::try_from(skew.max(0)).unwrap().div_ceil(1_000);
        assert!(extra <= 3 + ahead.min(BURST), "lost, and the clock");
        // Whatever it was: empty now, and full after a refill.
        clock.advance(10 * SECOND);
        assert!(ask(&store, key, BURST).await, "{skew} ms");
    }
}

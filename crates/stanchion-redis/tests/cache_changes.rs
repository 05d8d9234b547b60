//! What a subscriber is told while its connection is killed, silent, or spoken nonsense on.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use stanchion_conformance::{RedisCluster, RedisServer};
use stanchion_core::{CacheStore, Change, Subscription};
use stanchion_redis::RedisCacheStore;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

const SECOND: Duration = Duration::from_secs(1);

fn store(url: &str) -> RedisCacheStore {
    RedisCacheStore::connect(url, "users").unwrap().deadline(20 * SECOND)
}

struct Heard {
    told: UnboundedReceiver<String>,
    subscription: Option<Subscription>,
}

impl Heard {
    fn by(store: &impl CacheStore) -> Self {
        let (tell, told) = unbounded_channel();
        let listener = move |change: Change<'_>| drop(tell.send(words(change)));
        Self { told, subscription: Some(store.subscribe(Arc::new(listener))) }
    }

    async fn next(&mut self) -> String {
        let told = tokio::time::timeout(20 * SECOND, self.told.recv()).await;
        told.expect("something is told in time").expect("a subscription lasts")
    }

    async fn expect(&mut self, expected: &[&str]) {
        for change in expected {
            assert_eq!(self.next().await, *change);
        }
    }
}

fn words(change: Change<'_>) -> String {
    match change {
        Change::Key(key) => format!("key {}", String::from_utf8_lossy(&key[..key.len().min(9)])),
        other => format!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_connection_is_told_and_replaced() {
    let server = RedisServer::start();
    let (one, other) = (store(&server.url()), store(&server.url()));
    let mut heard = Heard::by(&one);
    heard.expect(&["Resumed"]).await;
    for _ in 0..5 {
        other.invalidate(b"before").await.unwrap();
        assert_eq!(server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]), ":1\r\n");
        heard.expect(&["key before", "Interrupted", "Resumed"]).await;
        other.invalidate(b"after").await.unwrap();
        heard.expect(&["key after"]).await;
    }
    // The end of the subscription is the end of its connection.
    heard.subscription = None;
    assert_eq!(heard.told.recv().await, None);
    let began = Instant::now();
    while server.command(&["CLIENT", "LIST", "TYPE", "pubsub"]).contains("id=") {
        assert!(began.elapsed() < 10 * SECOND);
        tokio::time::sleep(SECOND / 100).await;
    }
}

/// It doesn't matter whether the server is there when the subscription begins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_away_and_comes_back_is_heard_again() {
    let mut server = RedisServer::start();
    let url = server.url();
    server.kill();
    let (one, other) = (store(&url), store(&url));
    let mut heard = Heard::by(&one);
    for round in 0..2 {
        server.restart();
        heard.expect(if round == 0 { &["Resumed"] } else { &["Interrupted", "Resumed"] }).await;
        // Its connection, too, has to be made again.
        while other.invalidate_tag("tag").await.is_err() {}
        while heard.next().await != "Tag(\"tag\")" {}
    }
}

/// Its connections stay open: nothing but its silence tells of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_is_noticed_within_three_seconds() {
    let server = RedisServer::start();
    let mut heard = Heard::by(&store(&server.url()));
    heard.expect(&["Resumed"]).await;
    let began = Instant::now();
    server.freeze();
    heard.expect(&["Interrupted"]).await;
    assert!(began.elapsed() < 3 * SECOND, "{:?}", began.elapsed());
    server.thaw();
    heard.expect(&["Resumed"]).await;
    // And one that speaks now and then is not silent.
    tokio::time::sleep(SECOND * 5 / 2).await;
    assert!(heard.told.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_no_sense_is_something_that_was_missed() {
    let server = RedisServer::start();
    let (one, other) = (store(&server.url()), store(&server.url()));
    let mut heard = Heard::by(&one);
    heard.expect(&["Resumed"]).await;
    let too_short = "0123456789abcdef";
    for garbage in ["", "hello", too_short, "0123456789abcdefx", "0123456789abcdefabc"] {
        assert_eq!(server.command(&["PUBLISH", "stanchion:cache1:0:users", garbage]), ":1\r\n");
        heard.expect(&["Interrupted", "Resumed"]).await;
    }
    other.clear().await.unwrap();
    heard.expect(&["All"]).await;
}

/// Neither prefix, nor database, nor name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_another_cache_is_not_heard() {
    let server = RedisServer::start();
    let mut heard = Heard::by(&store(&server.url()));
    heard.expect(&["Resumed"]).await;
    let another_database = store(&format!("{}1", server.url()));
    let another_prefix = store(&server.url()).prefix("app").unwrap();
    let another_name = RedisCacheStore::connect(&server.url(), "user").unwrap().deadline(20 * SECOND);
    for store in [&another_database, &another_prefix, &another_name] {
        store.clear().await.unwrap();
        store.invalidate(b"k").await.unwrap();
    }
    // A connection of the user's is as good as one of ours.
    let client = redis::Client::open(server.url()).unwrap();
    let connection = client.get_multiplexed_async_connection().await.unwrap();
    let own = RedisCacheStore::new(connection, client, "users").unwrap().deadline(20 * SECOND);
    let mut heard_by_own = Heard::by(&own);
    heard_by_own.expect(&["Resumed"]).await;
    own.invalidate(b"end").await.unwrap();
    heard.expect(&["key end"]).await;
    store(&server.url()).clear().await.unwrap();
    heard_by_own.expect(&["All"]).await;
    heard.expect(&["All"]).await;
}

/// It is told that it missed something, and memory has a bound.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_listener_that_lags_hears_less_and_one_that_panics_no_less() {
    let server = RedisServer::start();
    let (one, other) = (store(&server.url()), store(&server.url()));
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Mutex::new(released);
    let (tell, mut told) = unbounded_channel();
    let _slow = one.subscribe(Arc::new(move |change| {
        // Until the other end is dropped; and not at the expense of whoever shares the thread.
        tokio::task::block_in_place(|| released.lock().unwrap().recv_timeout(30 * SECOND).ok());
        tell.send(words(change)).ok();
        assert_ne!(change, Change::All, "the listener panics");
    }));
    let mut quick = Heard::by(&one);
    quick.expect(&["Resumed"]).await;
    // The slow one may begin a little later.
    while !server.command(&["PUBSUB", "NUMSUB", "stanchion:cache1:0:users"]).contains(":2") {}
    let large = vec![b'x'; 1 << 20];
    for _ in 0..12 {
        other.invalidate(&large).await.unwrap();
        quick.expect(&["key xxxxxxxxx"]).await;
    }
    drop(release);
    // Its reader may have been held up with it, and connect again: then it misses some of these.
    let mut all: Vec<String> = Vec::new();
    let began = Instant::now();
    while !all.windows(2).any(|two| two == ["All", "key end"]) {
        assert!(began.elapsed() < 20 * SECOND, "{all:?}");
        other.clear().await.unwrap();
        other.invalidate(b"end").await.unwrap();
        while let Ok(told) = tokio::time::timeout(SECOND / 10, told.recv()).await {
            all.extend(told);
        }
    }
    assert_eq!(all[0], "Resumed");
    assert!(all.windows(2).any(|two| two == ["Interrupted", "Resumed"]), "{all:?}");
    assert!(all.iter().filter(|told| told.starts_with("key x")).count() < 10, "{all:?}");
}

/// Whatever node it was at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_cluster_a_subscriber_finds_another_node() {
    let mut cluster = RedisCluster::start();
    let urls = cluster.urls();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let [one, other] = [(); 2]
        .map(|()| RedisCacheStore::connect_cluster(&urls, "users").unwrap().deadline(20 * SECOND).slots(64).unwrap());
    let mut heard = Heard::by(&one);
    heard.expect(&["Resumed"]).await;
    let listens = |node: &usize| cluster.node(*node).command(&["CLIENT", "LIST", "TYPE", "pubsub"]).contains("id=");
    let node = (0..3).find(listens).expect("it is at one of them");
    cluster.kill(node);
    heard.expect(&["Interrupted", "Resumed"]).await;
    // A key of another node's.
    let mut told = 0;
    for key in 0..6_u8 {
        told += usize::from(other.invalidate(&[b'a' + key]).await.is_ok());
    }
    assert!(told > 0);
    for _ in 0..told {
        assert!(heard.next().await.starts_with("key "));
    }
}

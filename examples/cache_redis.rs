//! One cache for all instances of a service, on Redis: two processes load once together, one changes a
//! value and the other sees it, and nobody notices that Redis dies.
//!
//! `cargo run --example cache_redis` starts a `redis-server` of its own, and itself once more as the second
//! process; with `REDIS_URL` set it uses that server, and leaves out its death.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use stanchion_cache::{Cache, Json, Spread, TieredCache};
use stanchion_conformance::RedisServer;
use stanchion_redis::RedisCacheStore;
use tokio::time::{Instant, sleep};

type Users = TieredCache<u64, String>;

/// What each instance of the service does when it starts.
fn users(url: &str, prefix: &str) -> Result<Users, Box<dyn Error>> {
    let store = RedisCacheStore::connect(url, "users")?.prefix(prefix)?;
    Ok(Cache::builder()
        .name("users")
        .max_entries(10_000)
        .ttl(Duration::from_secs(3600))
        .stale_if_error(Duration::from_secs(600))
        .over(store, Json)
        .max_local_age(Duration::from_secs(30))
        .build()?)
}

/// The database: it takes its time, and says who has asked.
async fn load(id: u64) -> Result<String, std::io::Error> {
    sleep(Duration::from_millis(50)).await;
    Ok(format!("user {id}, loaded by process {}", std::process::id()))
}

async fn user(users: &Users, id: u64) -> Result<String, Box<dyn Error>> {
    Ok(users.get_or_load(&id, move || load(id)).await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    if let (Ok(url), Ok(prefix)) = (std::env::var("EXAMPLE_SERVER"), std::env::var("EXAMPLE_PREFIX")) {
        return second_process(&users(&url, &prefix)?).await;
    }
    let own = std::env::var("REDIS_URL").is_err().then(RedisServer::start);
    let url = own.as_ref().map_or_else(|| std::env::var("REDIS_URL"), |server| Ok(server.url()))?;
    // So that a second run begins afresh on a server that was there before.
    let prefix = format!("example-{}", std::process::id());
    let users = users(&url, &prefix)?;
    let mut other = Other::start(&url, &prefix)?;

    // Until it hears of the others' changes, an instance forgets what it has once more.
    while !users.snapshot().is_listening {
        sleep(Duration::from_millis(1)).await;
    }

    // Whoever is first loads; the other finds it.
    let here = user(&users, 7).await?;
    let there = other.ask("user 7")?;
    println!("here: {here}\nthere: {there}");
    assert_eq!(here, there);

    // The other process changes the user. This one has the old value in memory, and is told.
    assert!(users.local().contains(&7));
    println!("there: renamed, {}", other.ask("rename 7")?);
    let began = Instant::now();
    while user(&users, 7).await? == here {
        assert!(began.elapsed() < Duration::from_secs(10), "it is told within the time of a message");
        sleep(Duration::from_millis(1)).await;
    }
    println!("here, {:?} later: {}", began.elapsed(), user(&users, 7).await?);

    if let Some(server) = own {
        drop(server);
        println!("without Redis: {}", user(&users, 8).await?);
        assert_eq!(users.invalidate(&7).await, Spread::Pending);
        let snapshot = users.snapshot();
        println!("{} loads here, {} invalidation to be sent again", snapshot.loads, snapshot.pending);
        assert_eq!(snapshot.pending, 1);
    }
    Ok(())
}

/// Does what it reads, a line each.
async fn second_process(users: &Users) -> Result<(), Box<dyn Error>> {
    for line in std::io::stdin().lines() {
        match line?.split_once(' ') {
            Some(("user", id)) => println!("{}", user(users, id.parse()?).await?),
            Some((_, id)) => {
                // First the database, which is left out here, and then the cache.
                let spread = users.insert(id.parse()?, format!("user {id}, renamed")).await;
                println!("{spread:?}");
            }
            None => return Ok(()),
        }
    }
    Ok(())
}

struct Other {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Other {
    fn start(url: &str, prefix: &str) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        command.env("EXAMPLE_SERVER", url).env("EXAMPLE_PREFIX", prefix);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let orders = child.stdin.take().ok_or("its input is a pipe")?;
        let answers = BufReader::new(child.stdout.take().ok_or("its output is a pipe")?);
        Ok(Self { child, orders, answers })
    }

    fn ask(&mut self, order: &str) -> Result<String, Box<dyn Error>> {
        writeln!(self.orders, "{order}")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        Ok(answer.trim_end().to_owned())
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

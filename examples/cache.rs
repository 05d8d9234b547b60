//! The cache on its own: a thousand ask at once, the database goes away, a value changes
//! while it is loaded.
//!
//! `cargo run --example cache`

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use stanchion_cache::{Cache, LoadError, Loaded};
use tokio::time::sleep;

/// A database that takes its time, and that can be down.
#[derive(Default)]
struct Database {
    version: AtomicU64,
    calls: AtomicU64,
    is_down: AtomicBool,
}

impl Database {
    async fn load_user(&self, id: u64) -> io::Result<Option<String>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let version = self.version.load(Ordering::Relaxed);
        sleep(Duration::from_millis(20)).await;
        if self.is_down.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        Ok((id < 1_000).then(|| format!("user {id}, version {version}")))
    }
}

type User = Arc<str>;

async fn user(users: &Cache<u64, User>, database: &Arc<Database>, id: u64) -> Result<User, LoadError<io::Error>> {
    let load = || {
        let database = database.clone();
        async move {
            let found = database.load_user(id).await?;
            // The tag lets a tenant's users be invalidated together.
            let tagged = |user: String| Loaded::new(user.into()).tag(format!("tenant:{}", id % 10));
            Ok(found.map_or_else(Loaded::absent, tagged))
        }
    };
    users.get_or_load(&id, load).await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let database = Arc::new(Database::default());
    let users: Cache<u64, User> = Cache::builder()
        .name("users")
        .max_entries(10_000)
        // Short, to be watched.
        .ttl(Duration::from_millis(100))
        .stale_if_error(Duration::from_secs(600))
        .negative_ttl(Duration::from_secs(5))
        .load_timeout(Duration::from_secs(5))
        .build()?;

    let all = (0..1_000).map(|_| {
        let (users, database) = (users.clone(), database.clone());
        tokio::spawn(async move { user(&users, &database, 7).await })
    });
    for task in all.collect::<Vec<_>>() {
        assert_eq!(&*task.await??, "user 7, version 0");
    }
    println!("a thousand ask at once:  {} call of the database", database.calls.load(Ordering::Relaxed));

    for _ in 0..10 {
        assert!(user(&users, &database, 5_000).await.unwrap_err().is_not_found());
    }
    println!("ten ask for nobody:      {} calls", database.calls.load(Ordering::Relaxed));

    sleep(Duration::from_millis(120)).await;
    database.is_down.store(true, Ordering::Relaxed);
    println!("the database is down:    {}", user(&users, &database, 7).await?);
    database.is_down.store(false, Ordering::Relaxed);

    users.clear();
    let old = tokio::spawn({
        let (users, database) = (users.clone(), database.clone());
        async move { user(&users, &database, 7).await }
    });
    sleep(Duration::from_millis(10)).await;
    database.version.store(1, Ordering::Relaxed);
    users.invalidate_tag("tenant:7");
    println!("invalidated while it is loaded:");
    println!("  who asked before gets  {}", old.await??);
    let new = user(&users, &database, 7).await?;
    println!("  who asks after gets    {new}");
    assert_eq!(&*new, "user 7, version 1");

    println!("{:#?}", users.snapshot());
    assert_eq!(database.calls.load(Ordering::Relaxed), 5);
    Ok(())
}

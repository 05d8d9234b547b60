//! One limit for all instances of a service, on Redis: shared exactly, leased in batches, and what
//! happens when Redis is gone.
//!
//! `cargo run --example limiter_redis` starts a `redis-server` of its own; with `REDIS_URL` set it uses
//! that one, and leaves out its death.

use std::error::Error;

use stanchion_conformance::RedisServer;
use stanchion_limit::{KeyedLimiter, LeaseConfig, Leased, Outage, Quota};
use stanchion_redis::RedisRateStore;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let own = std::env::var("REDIS_URL").is_err().then(RedisServer::start);
    let url = own.as_ref().map_or_else(|| std::env::var("REDIS_URL"), |server| Ok(server.url()))?;
    // So that a second run begins afresh on a server that was there before.
    let prefix = format!("example-{}", std::process::id());
    let store = || -> Result<RedisRateStore, Box<dyn Error>> { Ok(RedisRateStore::connect(&url)?.prefix(&prefix)?) };

    // Two instances of a service, which know nothing of each other but the name of the limit.
    let quotas = [("second", Quota::per_second(20).burst(10)), ("day", Quota::per_day(1_000).sliding_counter())];
    let instance = || -> Result<KeyedLimiter<str, RedisRateStore>, Box<dyn Error>> {
        let outage = Outage::LocalShare { instances: 2 };
        Ok(KeyedLimiter::builder(quotas).name("api").on(store()?, outage).build()?)
    };
    let (one, two) = (instance()?, instance()?);
    let mut allowed = [0, 0];
    for _ in 0..10 {
        allowed[0] += u32::from(one.check("alice").await?.allowed());
        allowed[1] += u32::from(two.check("alice").await?.allowed());
    }
    println!("20 requests at once by two instances: {allowed:?} allowed");
    // A slow machine may take so long that a unit or two come back meanwhile.
    assert!((10..15).contains(&allowed.iter().sum::<u32>()));

    // Where thousands are checked a second, each instance takes units in batches and decides by itself.
    let leased = Leased::new(store()?, LeaseConfig::default())?;
    let hot =
        KeyedLimiter::<str, _>::builder(Quota::per_second(50_000)).name("hot").on(leased, Outage::Admit).build()?;
    let mut admitted = 0;
    for _ in 0..20_000 {
        admitted += u32::from(hot.check("tenant").await?.allowed());
    }
    println!("20,000 checks with leases: {admitted} allowed");
    assert_eq!(admitted, 20_000);

    // Redis dies. Each instance goes on with its share, and says that it does.
    if let Some(server) = own {
        drop(server);
        let decision = one.check("bob").await?;
        println!("without Redis: allowed {}, degraded {}", decision.allowed(), decision.degraded());
        assert!(decision.allowed() && decision.degraded());
        let mut more = 0;
        while one.check("bob").await?.allowed() {
            more += 1;
        }
        println!("and {more} more at once, of a share of 5");
        assert!(more <= 6);
    }
    Ok(())
}

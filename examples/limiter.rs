//! A rate limiter on its own: one limit for everything, one for each tenant, several at once, and
//! the ways of asking.
//!
//! `cargo run --example limiter`

use std::error::Error;
use std::time::{Duration, Instant};

use stanchion_limit::{KeyedLimiter, Limiter, Quota};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // 5 a second, at most 2 at once.
    let quota = Quota::per_second(5).burst(2);

    let limiter = Limiter::new(quota)?;
    let allowed = [1, 2, 3].map(|_| limiter.check().allowed());
    println!("three requests at once: allowed {allowed:?}");
    assert_eq!(allowed, [true, true, false]);

    // A refusal says exactly when to come back. Who would rather wait does so in line, for half a second at most.
    println!("the next one fits in {:?}", limiter.check().retry_after().expect("the bucket is empty"));
    let began = Instant::now();
    limiter.acquire(Duration::from_millis(500)).await?;
    println!("waited for it: {:?}", began.elapsed());
    // What can't be had in time is refused at once.
    let refused = limiter.acquire_n(2, Duration::from_millis(10)).await.unwrap_err();
    println!("two more within 10 ms: {refused}");

    // The keys are of any type that can be hashed; what one takes, the others don't miss.
    let tenants = KeyedLimiter::<str>::new(quota)?;
    for (tenant, remaining) in [("alice", Some(1)), ("alice", Some(0)), ("alice", None), ("bob", Some(1))] {
        let decision = tenants.check(tenant);
        println!("{tenant}: allowed {}, {} left", decision.allowed(), decision.remaining());
        assert_eq!(decision.allowed().then(|| decision.remaining()), remaining);
    }

    // Several at once, and more for those who have paid. The decision names the limit that bit.
    let api = KeyedLimiter::<str>::builder([
        ("second", Quota::per_second(10)),
        ("day", Quota::per_day(15).sliding_counter()),
    ])
    .tier("paid", [("second", Quota::per_second(100)), ("day", Quota::per_day(100_000).sliding_counter())])
    .tier_by(|key: &str| if key.starts_with("paid-") { "paid" } else { "free" })
    .build()?;
    assert!(api.check_n("bob", 10).allowed() && api.check_n("paid-alice", 100).allowed());
    let refused = api.check_n("bob", 6);
    println!("bob's day: {:?}, limit {:?}", refused.verdict(), api.limit_name(&refused));
    assert_eq!(api.limit_name(&refused), Some("day".into()));

    // A cost that is known only afterwards: what was not used goes back.
    let tokens = Limiter::builder(Quota::per_minute(90_000)).build()?;
    let reservation = tokens.reserve(4_000).map_err(|refused| format!("{refused:?}"))?;
    let back = reservation.keep_only(3_100)?;
    println!("reserved 4,000, used 3,100: {back} came back, {} left", tokens.peek().remaining());
    Ok(())
}

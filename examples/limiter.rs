//! A rate limiter on its own: one limit for everything, then one for each tenant.
//!
//! `cargo run --example limiter`

use std::error::Error;
use std::thread::sleep;
use std::time::Duration;

use stanchion_limit::{KeyedLimiter, Limiter, Quota};

fn main() -> Result<(), Box<dyn Error>> {
    // 5 a second, at most 2 at once.
    let quota = Quota::per_second(5).burst(2);

    let limiter = Limiter::new(quota)?;
    let allowed = [1, 2, 3].map(|_| limiter.check().allowed());
    println!("three requests at once: allowed {allowed:?}");
    assert_eq!(allowed, [true, true, false]);

    // A refusal says exactly when to come back, and whoever does is let in.
    let wait = limiter.check().retry_after().expect("the bucket is empty");
    println!("the next one fits in {wait:?}");
    assert!(wait <= Duration::from_millis(200));
    sleep(wait);
    assert!(limiter.check().allowed());

    // The keys are of any type that can be hashed; what one takes, the others don't miss.
    let tenants = KeyedLimiter::<str>::new(quota)?;
    for (tenant, remaining) in [("alice", Some(1)), ("alice", Some(0)), ("alice", None), ("bob", Some(1))] {
        let decision = tenants.check(tenant);
        println!("{tenant}: allowed {}, {} left", decision.allowed(), decision.remaining());
        assert_eq!(decision.allowed().then(|| decision.remaining()), remaining);
    }
    Ok(())
}

//! A circuit breaker on its own: watch it trip and recover.
//!
//! `cargo run --example breaker`
//!
//! An upstream works, dies after a while, and works again later. Each mark is a call:
//! `.` it succeeded, `x` it failed, `-` the breaker refused it.

use std::cell::Cell;
use std::error::Error;
use std::io::{self, Write};
use std::thread::sleep;
use std::time::{Duration, Instant};

use stanchion_breaker::{Breaker, CallError, State, Window};

fn main() -> Result<(), Box<dyn Error>> {
    let breaker = Breaker::builder("upstream")
        // Half of the last 20 calls, once there were 10.
        .failure_rate(0.5)
        .window(Window::count(20))
        .minimum_calls(10)
        // Short, to be watched; the defaults are 5 s and 60 s.
        .open_for(Duration::from_millis(200), Duration::from_millis(800))
        .probes(3)
        .on_change(|change| {
            print!("\n{:>9} → {:<9} {:<18} ", change.from.as_str(), change.to.as_str(), change.cause.as_str())
        })
        .build()?;

    let began = Instant::now();
    let is_dead = || (Duration::from_millis(300)..Duration::from_millis(1_300)).contains(&began.elapsed());
    let reached = Cell::new(0);
    let (mut succeeded, mut failed, mut refused) = (0, 0, 0);
    print!("{:<42}", "closed at first");
    while began.elapsed() < Duration::from_millis(2_800) {
        let result = breaker.call(|| {
            reached.set(reached.get() + 1);
            if is_dead() { Err(io::Error::from(io::ErrorKind::ConnectionRefused)) } else { Ok(()) }
        });
        let (mark, count) = match result {
            Ok(()) => ('.', &mut succeeded),
            Err(CallError::Rejected(_)) => ('-', &mut refused),
            Err(_) => ('x', &mut failed),
        };
        *count += 1;
        print!("{mark}");
        io::stdout().flush()?;
        sleep(Duration::from_millis(10));
    }
    println!("\n\n{succeeded} calls succeeded, {failed} failed, {refused} were refused at once.");
    println!("{:#?}", breaker.snapshot());
    assert_eq!((breaker.state(), reached.get()), (State::Closed, succeeded + failed));
    assert!(refused > 0 && failed < 40, "{failed} of about a hundred calls reached the dead upstream");
    Ok(())
}

//! What a call allocates, nothing; and what a breaker takes of memory.

use allocation_counter::measure;
use stanchion_breaker::{Breaker, Gate, Outcome, State, Window};
use stanchion_core::{Admission, Call};

#[test]
fn a_closed_or_an_open_breaker_allocates_nothing() {
    let time = Window::time(std::time::Duration::from_secs(10));
    for window in [Window::count(100), time, Window::ewma(100)] {
        let breaker = Breaker::builder("b").window(window).failure_rate(0.9).build().unwrap();
        let counted = measure(|| {
            for call in 0..1_000 {
                let outcome = if call % 3 == 0 { Outcome::Transient } else { Outcome::Success };
                breaker.try_acquire().unwrap().settle(outcome);
            }
            assert!(breaker.call(|| Ok::<_, std::io::Error>(())).is_ok());
        });
        assert_eq!(counted.count_total, 0, "{window:?}");
        breaker.force(State::ForcedOpen);
        breaker.force(State::Open);
        assert_eq!(measure(|| assert!(breaker.try_acquire().is_err())).count_total, 0);
    }
}

#[test]
fn a_known_key_allocates_nothing_and_100_000_take_less_than_64_mib() {
    let keys: Vec<String> = (0..100_000).map(|key| format!("tenant-{key}")).collect();
    let mut kept = None;
    let call = |hosts: &dyn Gate, key: &str| match hosts.try_admit(&Call::new().key(key)) {
        Admission::Admitted(ticket) => hosts.settle(ticket, Outcome::Success, std::time::Duration::ZERO),
        other => panic!("{other:?}"),
    };
    let counted = measure(|| {
        let hosts = Breaker::builder("hosts").keyed().max_keys(100_000).build().unwrap();
        keys.iter().for_each(|key| call(&hosts, key));
        kept = Some(hosts);
    });
    let hosts = kept.unwrap();
    assert_eq!((hosts.snapshot().keys, hosts.snapshot().evicted), (100_000, 0));
    println!("{} bytes a key, {} at the peak", counted.bytes_current / 100_000, counted.bytes_max / 100_000);
    assert!(counted.bytes_max < 64 << 20, "{}", counted.bytes_max);
    // Stated in the docs: some 220 bytes.
    assert!((200..300).contains(&(counted.bytes_current / 100_000)), "{}", counted.bytes_current);
    assert_eq!(measure(|| keys.iter().for_each(|key| call(&hosts, key))).count_total, 0);
}

/// Stated in the docs.
#[test]
fn a_breaker_takes_about_a_kib_and_two_bits_a_call() {
    let bytes = |calls| Breaker::builder("b").window(Window::count(calls)).build().unwrap().snapshot().bytes;
    println!("{} bytes", bytes(100));
    assert!(bytes(100) <= 1_100, "{}", bytes(100));
    assert_eq!(bytes(1_000_064) - bytes(64), 250_000);
}

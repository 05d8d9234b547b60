//! What makes no sense, comes late, comes twice, or panics.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stanchion_breaker::{
    Breaker, BreakerConfig, Cause, Change, Clock, ConfigError, Gate, ManualClock, Moment, Outcome, Random, State,
    Window,
};
use stanchion_core::{Admission, Call};

const SECOND: Duration = Duration::from_secs(1);

fn error(change: impl FnOnce(&mut BreakerConfig)) -> ConfigError {
    let mut config = BreakerConfig::default();
    change(&mut config);
    let error = config.validate().unwrap_err();
    assert_eq!(Breaker::builder("b").config(config.clone()).build().unwrap_err(), error);
    assert_eq!(Breaker::builder("b").config(config.clone()).keyed().build().unwrap_err(), error);
    assert_eq!(Breaker::new("b").reconfigure(&config).unwrap_err(), error);
    error
}

#[test]
fn the_defaults_are_valid() {
    assert_eq!(BreakerConfig::default().validate(), Ok(()));
    assert_eq!(Breaker::new("b").state(), State::Closed);
}

#[test]
fn what_makes_no_sense_or_can_never_trip_is_named() {
    for rate in [0.0, -0.1, 1.000_001, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(error(|config| config.failure_rate = Some(rate)).field(), "failure_rate");
        assert_eq!(error(|config| config.slow_rate = Some(rate)).field(), "slow_rate");
        assert_eq!(error(|config| config.probe_failure_rate = rate).field(), "probe_failure_rate");
    }
    for window in [Window::count(0), Window::ewma(0), Window::time(Duration::ZERO), Window::time(Duration::MAX)] {
        assert_eq!(error(|config| config.window = window).field(), "window");
    }
    assert_eq!(error(|config| config.window = Window::count(10_000_001)).field(), "window");
    assert_eq!(error(|config| config.window = Window::time(SECOND / 10 - Duration::from_nanos(1))).field(), "window");
    let above = error(|config| config.minimum_calls = 101);
    assert!(above.field() == "minimum_calls" && above.limit().contains("at most 100"), "{above}");
    assert_eq!(error(|config| config.minimum_calls = 0).field(), "minimum_calls");
    let never = error(|config| config.failure_rate = None);
    assert!(never.limit().contains("could never trip"), "{never}");
    assert_eq!(error(|config| config.consecutive_failures = Some(0)).field(), "consecutive_failures");
    assert_eq!(
        error(|config| (config.slow_rate, config.slow_after) = (Some(1.0), Duration::ZERO)).field(),
        "slow_after"
    );
    assert_eq!(error(|config| config.probes = 0).field(), "probes");
    assert_eq!(error(|config| config.probes = 10_001).field(), "probes");
    assert_eq!(error(|config| config.probe_max_wait = Duration::ZERO).field(), "probe_max_wait");
    assert_eq!(error(|config| config.open_for = Duration::ZERO).field(), "open_for");
    assert_eq!(error(|config| config.open_for_max = SECOND).field(), "open_for_max");
    for growth in [0.5, f64::NAN, f64::INFINITY] {
        assert_eq!(error(|config| config.open_growth = growth).field(), "open_growth");
    }
    for jitter in [1.0, -0.1, f64::NAN] {
        assert_eq!(error(|config| config.open_jitter = jitter).field(), "open_jitter");
    }
    let keyed = |keys| Breaker::builder("b").keyed().max_keys(keys).build().unwrap_err();
    assert_eq!(keyed(0).field(), "max_keys");
    assert_eq!(keyed((1 << 24) + 1).field(), "max_keys");
}

/// The largest that may be, so that nothing overflows.
#[test]
fn extreme_settings_are_honoured() {
    let clock = ManualClock::new();
    let breaker = Breaker::builder("b")
        .consecutive_failures(1)
        .open_for(Duration::MAX, Duration::MAX)
        .open_growth(100.0, 0.0)
        .probe_max_wait(Duration::MAX)
        .slow_rate(1.0, Duration::MAX)
        .forgive_after(Duration::MAX)
        .clock(clock.clone())
        .build()
        .unwrap();
    for _ in 0..400 {
        breaker.force(State::Open);
    }
    assert!(breaker.try_acquire().unwrap_err().come_back_after() > Some(Duration::from_secs(1 << 33)));
    clock.advance(Duration::MAX);
    let probe = breaker.try_acquire().unwrap();
    probe.settle(Outcome::Success);
}

#[test]
fn a_clock_that_steps_back_neither_panics_nor_wedges() {
    let readings = Arc::new(Mutex::new(Moment::from_nanos(1_000_000_000_000)));
    let source = readings.clone();
    let breaker = Breaker::builder("b")
        .window(Window::time(SECOND))
        .minimum_calls(2)
        .open_for(SECOND, SECOND)
        .clock(Clock::custom(move || *source.lock().unwrap()))
        .build()
        .unwrap();
    breaker.record(Outcome::Transient);
    *readings.lock().unwrap() = Moment::from_nanos(5);
    breaker.record(Outcome::Transient);
    assert_eq!(breaker.state(), State::Open);
    assert!(breaker.try_acquire().is_err());
    *readings.lock().unwrap() = Moment::from_nanos(1_001_000_000_000);
    assert!(breaker.try_acquire().is_ok());
}

#[test]
fn a_ticket_settled_after_many_generations_changes_nothing() {
    let breaker = Breaker::builder("b").consecutive_failures(1).build().unwrap();
    let late: Vec<_> = (0..3).map(|_| breaker.try_acquire().unwrap()).collect();
    for _ in 0..50 {
        breaker.force(State::ForcedOpen);
        breaker.reset();
    }
    let before = breaker.snapshot();
    late.into_iter().for_each(|permit| permit.settle(Outcome::Transient));
    assert_eq!(breaker.snapshot(), before);
}

#[test]
fn a_panic_in_a_listener_is_its_own() {
    let told = Arc::new(AtomicU32::new(0));
    let counter = told.clone();
    let breaker = Arc::new(Mutex::new(None::<Arc<Breaker>>));
    let inside = breaker.clone();
    let built = Breaker::builder("b")
        .consecutive_failures(1)
        .on_change(|_| panic!("a listener fails"))
        .on_change(move |change: &Change| {
            assert_eq!(change.cause, Cause::ConsecutiveFailures);
            // Not under any lock: it may ask the breaker itself.
            let breaker = inside.lock().unwrap().clone().unwrap();
            assert_eq!((breaker.snapshot().state, breaker.snapshot().generation), (State::Open, change.generation));
            counter.fetch_add(1, SeqCst);
        })
        .build()
        .unwrap();
    let built = Arc::new(built);
    *breaker.lock().unwrap() = Some(built.clone());
    built.try_acquire().unwrap().settle(Outcome::Transient);
    assert_eq!(told.load(SeqCst), 1);
    assert!(built.try_acquire().is_err());
}

#[test]
fn a_panic_in_the_operation_counts_as_abandoned() {
    let breaker = Breaker::builder("b").consecutive_failures(1).build().unwrap();
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        breaker.call(|| -> Result<(), std::io::Error> { panic!("the operation fails") })
    }));
    assert!(unwound.is_err());
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn open_times_grow_are_drawn_within_their_bounds_and_begin_anew_after_health() {
    let clock = ManualClock::new();
    let breaker = Breaker::builder("b")
        .open_for(SECOND, 8 * SECOND)
        .open_growth(2.0, 0.5)
        .consecutive_failures(1)
        .probes(1)
        .forgive_after(60 * SECOND)
        .clock(clock.clone())
        .random(Random::seeded(3))
        .build()
        .unwrap();
    let mut drawn = Vec::new();
    breaker.record(Outcome::Transient);
    for most in [1, 2, 4, 8, 8, 8] {
        let rest = breaker.snapshot().retry_after.unwrap();
        assert!(rest <= most * SECOND && rest >= most * SECOND / 2, "{rest:?} of {most} s");
        drawn.push(rest / most);
        clock.advance(rest);
        breaker.try_acquire().unwrap().settle(Outcome::TimedOut);
    }
    drawn.sort();
    drawn.dedup();
    assert_eq!(drawn.len(), 6, "by chance");
    // Recovered for less than a minute it goes on growing; for a minute, it begins anew.
    for (healthy, most) in [(60 * SECOND - Duration::from_nanos(1), 8), (60 * SECOND, 1)] {
        clock.advance(8 * SECOND);
        breaker.try_acquire().unwrap().settle(Outcome::Success);
        assert_eq!(breaker.state(), State::Closed);
        clock.advance(healthy);
        breaker.record(Outcome::Transient);
        let rest = breaker.snapshot().retry_after.unwrap();
        assert!(rest <= most * SECOND && rest >= most * SECOND / 2, "{rest:?} of {most} s");
    }
}

#[test]
fn other_settings_hold_at_once_and_tickets_in_flight_are_of_the_past() {
    let breaker = Breaker::builder("b").window(Window::count(10)).minimum_calls(10).build().unwrap();
    let before = breaker.try_acquire().unwrap();
    (0..9).for_each(|_| breaker.record(Outcome::Transient));
    let config = BreakerConfig { window: Window::time(SECOND), minimum_calls: 2, ..BreakerConfig::default() };
    breaker.reconfigure(&config).unwrap();
    assert_eq!((breaker.state(), breaker.snapshot().calls), (State::Closed, 0));
    before.settle(Outcome::Transient);
    assert_eq!(breaker.snapshot().calls, 0);
    breaker.record(Outcome::Transient);
    assert_eq!(breaker.state(), State::Closed);
    let generation = breaker.snapshot().generation;
    breaker.reconfigure(&config).unwrap();
    assert_eq!(breaker.snapshot().generation, generation, "equal settings change nothing");
    breaker.record(Outcome::Transient);
    assert_eq!(breaker.state(), State::Open);
    // An open one stays open as long as it was told.
    let rest = breaker.snapshot().retry_after;
    breaker.reconfigure(&BreakerConfig { open_for: SECOND, ..BreakerConfig::default() }).unwrap();
    assert_eq!(breaker.state(), State::Open);
    assert!(breaker.snapshot().retry_after.unwrap() > 2 * SECOND && breaker.snapshot().retry_after <= rest);
}

#[test]
fn other_settings_begin_a_verdict_anew() {
    let breaker = Breaker::builder("b").probes(3).probe_failure_rate(0.6).build().unwrap();
    breaker.force(State::HalfOpen);
    let (late, failed) = (breaker.try_acquire().unwrap(), breaker.try_acquire().unwrap());
    failed.settle(Outcome::Transient);
    breaker.reconfigure(&BreakerConfig { probes: 2, probe_failure_rate: 1.0, ..BreakerConfig::default() }).unwrap();
    assert_eq!(breaker.state(), State::HalfOpen);
    late.settle(Outcome::Transient);
    // Two slots, and two failures wanted.
    let slots = [(); 2].map(|()| breaker.try_acquire().unwrap());
    assert!(breaker.try_acquire().is_err());
    for (slot, state) in slots.into_iter().zip([State::HalfOpen, State::Open]) {
        slot.settle(Outcome::Transient);
        assert_eq!(breaker.state(), state);
    }
}

#[test]
fn a_full_registry_forgets_the_unused_and_lets_pass_what_it_cannot_count() {
    let clock = ManualClock::new();
    let keyed = |max| {
        Breaker::builder("hosts")
            .consecutive_failures(1)
            .clock(clock.clone())
            .keyed()
            .max_keys(max)
            .idle_after(60 * SECOND)
    };
    let hosts = keyed(500).build().unwrap();
    for key in 0..10_000_u32 {
        hosts.try_acquire(key.to_be_bytes()).unwrap().settle(Outcome::Success);
        assert!(hosts.snapshot().keys <= 500);
    }
    let snapshot = hosts.snapshot();
    assert!(snapshot.evicted >= 9_000 && snapshot.keys > 400, "{snapshot:?}");
    // Open ones are not forgotten for room; what finds none passes, uncounted.
    let hosts = keyed(100).build().unwrap();
    for key in 0..10_000_u32 {
        hosts.try_acquire(key.to_be_bytes()).unwrap().settle(Outcome::Transient);
    }
    let full = hosts.snapshot();
    assert_eq!((full.keys, full.refusing, full.untracked), (100, 100, 9_900));
    // But nobody has asked for them in a minute: they go as new ones come.
    clock.advance(60 * SECOND);
    for key in 10_000..20_000_u32 {
        hosts.try_acquire(key.to_be_bytes()).unwrap().settle(Outcome::Success);
    }
    assert_eq!(hosts.snapshot().refusing, 0);
    // What somebody has forced stays.
    assert!(hosts.force("forced", State::ForcedOpen));
    clock.advance(600 * SECOND);
    for key in 0..10_000_u32 {
        drop(hosts.try_acquire(key.to_be_bytes()));
    }
    assert_eq!(hosts.state("forced"), State::ForcedOpen);
}

#[test]
fn a_registry_follows_other_settings_and_measures_only_where_it_matters() {
    let hosts = Breaker::builder("hosts").consecutive_failures(2).keyed().build().unwrap();
    hosts.try_acquire("a").unwrap().settle(Outcome::Transient);
    let late = hosts.try_acquire("a").unwrap();
    assert!(!hosts.needs_elapsed());
    let config = BreakerConfig { consecutive_failures: Some(1), slow_rate: Some(1.0), ..BreakerConfig::default() };
    hosts.reconfigure(&config).unwrap();
    assert!(hosts.needs_elapsed());
    late.settle(Outcome::Transient);
    assert_eq!(hosts.state("a"), State::Closed);
    hosts.try_acquire("a").unwrap().settle(Outcome::Transient);
    assert_eq!(hosts.state("a"), State::Open);
}

#[test]
fn a_ticket_of_a_key_that_was_forgotten_changes_nobody() {
    let clock = ManualClock::new();
    let hosts = Breaker::builder("hosts")
        .consecutive_failures(1)
        .clock(clock.clone())
        .keyed()
        .max_keys(1)
        .idle_after(SECOND)
        .build()
        .unwrap();
    let Admission::Admitted(late) = hosts.try_admit(&Call::new().key("a")) else { panic!("closed") };
    // Another key of the same shard takes the one place there is.
    let mut taken = None;
    for key in 0..1_000_u32 {
        clock.advance(SECOND);
        if let Ok(permit) = hosts.try_acquire(key.to_be_bytes()) {
            permit.settle(Outcome::Success);
        }
        if hosts.snapshot().evicted > 0 {
            taken = Some(key);
            break;
        }
    }
    let key = taken.expect("one in 64 has the same shard").to_be_bytes();
    hosts.settle(late, Outcome::Transient, Duration::ZERO);
    assert_eq!(hosts.state(key), State::Closed);
}

#[cfg(feature = "serde")]
#[test]
fn settings_are_data_and_unknown_ones_are_named() {
    let text = r#"{ "window": { "time": "30s" }, "slow_rate": 0.8, "slow_after": "2s", "failure_rate": null,
                    "abandoned": { "failure_if_older_than": "1s" } }"#;
    let config: BreakerConfig = serde_json::from_str(text).unwrap();
    assert_eq!(config.window, Window::time(30 * SECOND));
    assert_eq!((config.failure_rate, config.probes), (None, BreakerConfig::default().probes));
    let again: BreakerConfig = serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
    assert_eq!(again, config);
    let error = serde_json::from_str::<BreakerConfig>(r#"{ "windw": 1 }"#).unwrap_err().to_string();
    assert!(error.contains("unknown field `windw`"), "{error}");
    assert!(serde_json::to_string(&Breaker::new("b").snapshot()).unwrap().contains(r#""state":"closed""#));
}

#[cfg(feature = "watch")]
#[tokio::test]
async fn whoever_subscribes_always_has_the_latest_state() {
    let breaker = Breaker::builder("b").consecutive_failures(1).build().unwrap();
    let mut status = breaker.subscribe();
    assert_eq!(status.borrow().state, State::Closed);
    breaker.record(Outcome::Transient);
    status.changed().await.unwrap();
    assert_eq!(status.borrow_and_update().state, State::Open);
    breaker.reset();
    breaker.force(State::Shadow);
    status.changed().await.unwrap();
    let latest = *status.borrow_and_update();
    assert_eq!((latest.state, latest.generation), (State::Shadow, breaker.snapshot().generation));
}

#[test]
fn shadow_only_reports_what_would_trip() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let notes = told.clone();
    let breaker = Breaker::builder("b")
        .consecutive_failures(3)
        .on_change(move |change| notes.lock().unwrap().push((change.from, change.to, change.cause)))
        .build()
        .unwrap();
    breaker.force(State::Shadow);
    for _ in 0..7 {
        breaker.try_acquire().unwrap().settle(Outcome::Transient);
    }
    let would = (State::Shadow, State::Shadow, Cause::ConsecutiveFailures);
    assert_eq!(*told.lock().unwrap(), [(State::Closed, State::Shadow, Cause::Command), would, would]);
}

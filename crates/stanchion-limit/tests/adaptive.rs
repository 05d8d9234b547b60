//! An adaptive limiter as a gate.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use stanchion_core::{Admission, IntoGate, Outcome, Permit, Ticket};
use stanchion_limit::{
    AdaptiveConfig, AdaptiveLimiter, AdaptiveLimiterBuilder, Aimd, Algorithm, Call, Gate, Gradient2, RejectionKind,
    Vegas,
};

const MILLI: Duration = Duration::from_millis(1);

fn aimd() -> AdaptiveLimiterBuilder {
    AdaptiveLimiter::new(Aimd::default().timeout(100 * MILLI)).samples(1)
}

fn admit(limiter: &AdaptiveLimiter) -> Ticket {
    match limiter.try_admit(&Call::new()) {
        Admission::Admitted(ticket) => ticket,
        other => panic!("{other:?}"),
    }
}

#[test]
fn as_many_as_the_limit_are_under_way_and_no_more() {
    let limiter = aimd().build().unwrap();
    let held: Vec<Permit<'_>> = (0..20).map(|_| limiter.try_acquire().unwrap()).collect();
    let refused = limiter.try_acquire().unwrap_err();
    assert_eq!((refused.by(), refused.kind()), ("adaptive-limiter", RejectionKind::Saturated));
    let snapshot = limiter.snapshot();
    assert_eq!((snapshot.limit, snapshot.in_flight, snapshot.refused, snapshot.steps), (20, 20, 1, 0));
    drop(held);
    assert_eq!(limiter.snapshot().in_flight, 0);
}

/// In whatever order they end: the first to end sees all of them under way.
#[test]
fn the_limit_moves_once_per_round_trip() {
    let limiter = aimd().build().unwrap();
    let round: Vec<Ticket> = (0..20).map(|_| admit(&limiter)).collect();
    for ticket in round {
        limiter.settle(ticket, Outcome::Success, MILLI);
    }
    // The first of them made the step; the nineteen others were of before.
    assert_eq!((limiter.limit(), limiter.snapshot().steps), (21, 1));
    let round: Vec<Ticket> = (0..21).map(|_| admit(&limiter)).collect();
    for ticket in round {
        limiter.settle(ticket, Outcome::Success, MILLI);
    }
    assert_eq!(limiter.limit(), 22);
}

#[test]
fn a_hundred_timeouts_of_one_congestion_are_one_drop() {
    let limiter = AdaptiveLimiter::new(Aimd::default().initial(100)).build().unwrap();
    let calls: Vec<Ticket> = (0..100).map(|_| admit(&limiter)).collect();
    for ticket in calls {
        limiter.settle(ticket, Outcome::TimedOut, 1_000 * MILLI);
    }
    assert_eq!(limiter.limit(), 90);
}

#[test]
fn a_limit_that_shrank_cuts_nothing_off_and_lets_nobody_in() {
    let limiter = AdaptiveLimiter::new(Aimd::default().initial(100).min(10)).build().unwrap();
    let mut calls: Vec<Ticket> = (0..100).map(|_| admit(&limiter)).collect();
    limiter.settle(calls.pop().unwrap(), Outcome::Throttled { retry_after: None }, MILLI);
    assert_eq!((limiter.limit(), limiter.snapshot().in_flight), (90, 99));
    while calls.len() > 90 {
        assert!(limiter.try_acquire().is_err());
        limiter.settle(calls.pop().unwrap(), Outcome::Ignored, MILLI);
    }
    assert!(limiter.try_acquire().is_err());
    limiter.settle(calls.pop().unwrap(), Outcome::Ignored, MILLI);
    assert!(limiter.try_acquire().is_ok());
}

#[test]
fn each_outcome_counts_as_the_table_says() {
    let limit_after = |outcome: Outcome, elapsed: Duration| {
        let limiter =
            AdaptiveLimiter::new(Aimd::default().initial(40).timeout(100 * MILLI)).samples(1).build().unwrap();
        let calls: Vec<Ticket> = (0..30).map(|_| admit(&limiter)).collect();
        calls.into_iter().take(1).for_each(|ticket| limiter.settle(ticket, outcome, elapsed));
        limiter.limit()
    };
    assert_eq!(limit_after(Outcome::Success, MILLI), 41);
    assert_eq!(limit_after(Outcome::Success, 101 * MILLI), 36);
    for dropped in [Outcome::Throttled { retry_after: None }, Outcome::TimedOut] {
        assert_eq!(limit_after(dropped, MILLI), 36);
    }
    assert_eq!(limit_after(Outcome::Abandoned, 99 * MILLI), 40);
    assert_eq!(limit_after(Outcome::Abandoned, 100 * MILLI), 36);
    for silent in [Outcome::Ignored, Outcome::Transient, Outcome::Permanent, Outcome::Unauthenticated] {
        assert_eq!(limit_after(silent, 1_000 * MILLI), 40);
    }
}

#[test]
fn a_heavy_call_takes_its_units_and_waits_for_no_smaller_limit() {
    let limiter = aimd().build().unwrap();
    let heavy = |units| Permit::try_new(&limiter, &Call::new().cost(units));
    let held = heavy(15).unwrap();
    assert_eq!(heavy(6).unwrap_err().kind(), RejectionKind::Saturated);
    assert_eq!(limiter.snapshot().in_flight, 15);
    drop(heavy(5).unwrap());
    drop(held);
    // More than the limit of now, and more than it can ever be.
    assert_eq!(heavy(21).unwrap_err().kind(), RejectionKind::Saturated);
    assert_eq!(heavy(200).unwrap_err().kind(), RejectionKind::Saturated);
    for units in [201, u64::from(u32::MAX), u64::MAX] {
        assert_eq!(heavy(units).unwrap_err().kind(), RejectionKind::NeverFits);
    }
    assert!(heavy(0).is_ok());
    assert_eq!(limiter.snapshot().in_flight, 0);
}

#[test]
fn a_fixed_limit_stays_and_needs_no_clock() {
    let limiter = AdaptiveLimiter::new(Algorithm::Fixed(3)).build().unwrap();
    assert!(!limiter.needs_elapsed());
    for outcome in [Outcome::Success, Outcome::TimedOut] {
        limiter.try_acquire().unwrap().settle(outcome);
    }
    assert_eq!((limiter.limit(), limiter.snapshot().steps, limiter.snapshot().baseline), (3, 0, None));
}

/// A permit measures the time that the gate needs, in tokio's paused time.
#[cfg(feature = "test-util")]
#[tokio::test(start_paused = true)]
async fn a_permit_measures_the_latency() {
    let limiter = AdaptiveLimiter::new(Vegas::default()).samples(1).build().unwrap();
    assert!(limiter.needs_elapsed());
    let permit = limiter.try_acquire().unwrap();
    tokio::time::advance(70 * MILLI).await;
    permit.settle(Outcome::Success);
    assert_eq!(limiter.snapshot().baseline, Some(70 * MILLI));
    // Given up after half as long: nothing. After twice as long: a drop.
    let permit = limiter.try_acquire().unwrap();
    tokio::time::advance(35 * MILLI).await;
    drop(permit);
    assert_eq!(limiter.limit(), 20);
    let permit = limiter.try_acquire().unwrap();
    tokio::time::advance(141 * MILLI).await;
    drop(permit);
    assert_eq!(limiter.limit(), 19);
}

#[test]
fn it_can_be_changed_while_running() {
    let limiter = AdaptiveLimiter::new(Aimd::default().initial(100)).build().unwrap();
    let under_way: Vec<Ticket> = (0..50).map(|_| admit(&limiter)).collect();
    limiter.reconfigure(AdaptiveConfig::new(Vegas::default().max(70)).samples(1)).unwrap();
    assert_eq!((limiter.limit(), limiter.snapshot().in_flight), (70, 50));
    // What was admitted before gives its units back, and that is all.
    for ticket in under_way {
        limiter.settle(ticket, Outcome::TimedOut, MILLI);
    }
    assert_eq!((limiter.limit(), limiter.snapshot().in_flight, limiter.snapshot().baseline), (70, 0, None));
    let ticket = admit(&limiter);
    limiter.settle(ticket, Outcome::Success, MILLI);
    assert_eq!(limiter.snapshot().baseline, Some(MILLI));
    assert_eq!(Permit::try_new(&limiter, &Call::new().cost(71)).unwrap_err().kind(), RejectionKind::NeverFits);
    // Within the new bounds, whichever the algorithm; and pinned.
    limiter.reconfigure(AdaptiveConfig::new(Gradient2::default().min(80).initial(90))).unwrap();
    assert_eq!(limiter.limit(), 80);
    limiter.reconfigure(AdaptiveConfig::new(Aimd::default().max(30))).unwrap();
    assert_eq!(limiter.limit(), 30);
    limiter.reconfigure(AdaptiveConfig::new(Algorithm::Fixed(5))).unwrap();
    assert_eq!((limiter.limit(), limiter.needs_elapsed()), (5, false));
    // What can't be honoured changes nothing.
    assert_eq!(limiter.reconfigure(AdaptiveConfig::new(Vegas::default()).samples(0)).unwrap_err().field(), "samples");
    assert_eq!(limiter.limit(), 5);
}

/// Four threads, the limit fixed: each call counted by itself while it runs.
#[test]
fn never_more_than_the_limit_are_under_way() {
    let limiter = AdaptiveLimiter::new(Algorithm::Fixed(5)).build().unwrap();
    let running = AtomicU32::new(0);
    let admitted = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for units in [1, 2, 3, 1] {
            let (limiter, running, admitted) = (&limiter, &running, &admitted);
            scope.spawn(move || {
                for _ in 0..50_000 {
                    if let Ok(permit) = Permit::try_new(limiter, &Call::new().cost(u64::from(units))) {
                        assert!(running.fetch_add(units, SeqCst) + units <= 5);
                        admitted.fetch_add(1, SeqCst);
                        running.fetch_sub(units, SeqCst);
                        drop(permit);
                    }
                }
            });
        }
    });
    let snapshot = limiter.snapshot();
    assert_eq!(snapshot.in_flight, 0);
    assert_eq!(u64::from(admitted.into_inner()) + snapshot.refused, 200_000);
}

/// Four threads that learn: the numbers stay together whatever the order.
#[test]
fn the_limit_is_the_last_steps_under_contention() {
    let limiter = AdaptiveLimiter::new(Aimd::default().min(1).max(100_000).backoff(0.99)).samples(1).build().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let limiter = &limiter;
            scope.spawn(move || {
                for _ in 0..20_000 {
                    // So many units that half of the limit is in use, though it has grown since it was read.
                    let units = u64::from(limiter.limit()) * 3 / 4 + 1;
                    if let Ok(permit) = Permit::try_new(limiter, &Call::new().cost(units)) {
                        permit.settle(Outcome::Success);
                    }
                }
            });
        }
    });
    let snapshot = limiter.snapshot();
    // Each step was one more, and none was lost.
    assert_eq!((u64::from(snapshot.limit), snapshot.in_flight), (20 + snapshot.steps, 0));
    assert!(snapshot.steps > 1_000, "{snapshot:?}");
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    fn error(algorithm: impl Into<Algorithm>) -> String {
        AdaptiveLimiter::new(algorithm).build().unwrap_err().to_string()
    }
    assert_eq!(error(Algorithm::Fixed(0)), "fixed is 0: must be at least 1");
    assert_eq!(error(Aimd::default().min(0)), "min is 0: must be at least 1");
    assert_eq!(error(Vegas::default().min(0)), "min is 0: must be at least 1");
    assert_eq!(error(Gradient2::default().min(0)), "min is 0: must be at least 1");
    assert_eq!(error(Aimd::default().max(19)), "max is 19: must be `min` (20) to 16777216");
    assert_eq!(error(Vegas::default().max(u32::MAX)), "max is 4294967295: must be `min` (1) to 16777216");
    assert_eq!(error(Aimd::default().initial(19)), "initial is 19: must be `min` to `max` (20 to 200)");
    assert_eq!(error(Gradient2::default().initial(201)), "initial is 201: must be `min` to `max` (20 to 200)");
    assert_eq!(error(Aimd::default().backoff(1.0)), "backoff is 1: must be 0.5 to 0.99");
    assert_eq!(error(Aimd::default().backoff(f64::NAN)), "backoff is NaN: must be 0.5 to 0.99");
    assert_eq!(error(Aimd::default().timeout(Duration::ZERO)), "timeout is 0ns: must be longer than zero");
    assert_eq!(error(Vegas::default().queue(0, 6)), "alpha is 0: must be 1 to 1000");
    assert_eq!(error(Vegas::default().queue(4, 3)), "beta is 3: must be `alpha` to 1000");
    assert_eq!(error(Vegas::default().probe_every(9)), "probe_every is 9: must be at least 10");
    assert_eq!(error(Gradient2::default().smoothing(0.0)), "smoothing is 0: must be 0.01 to 1");
    assert_eq!(error(Gradient2::default().tolerance(0.9)), "tolerance is 0.9: must be 1 to 100");
    assert_eq!(error(Gradient2::default().long_window(9)), "long_window is 9: must be at least 10");
    let samples = |samples| AdaptiveLimiter::new(Vegas::default()).samples(samples).build();
    assert_eq!(samples(0).unwrap_err().to_string(), "samples is 0: must be 1 to 10000");
    assert!(samples(10_001).is_err() && samples(10_000).is_ok());
    assert_eq!(AdaptiveLimiter::new(Algorithm::Fixed(0)).into_gate().err().unwrap().field(), "fixed");
}

/// Any time and outcome, in any order: the limit stays within its bounds.
#[test]
fn whatever_comes_the_limit_stays_within_its_bounds() {
    let algorithms: [Algorithm; 3] = [
        Aimd::default().min(2).initial(2).max(7).into(),
        Vegas::default().min(2).initial(2).max(7).into(),
        Gradient2::default().min(2).initial(2).max(7).into(),
    ];
    let outcomes =
        [Outcome::Success, Outcome::Success, Outcome::TimedOut, Outcome::Abandoned, Outcome::Success, Outcome::Ignored];
    let times = [Duration::ZERO, Duration::MAX, MILLI, Duration::from_nanos(1), 1_000 * MILLI];
    for algorithm in algorithms {
        let limiter: Arc<AdaptiveLimiter> = AdaptiveLimiter::new(algorithm).samples(1).build().unwrap().into();
        let mut seen = [false; 8];
        for step in 0..10_000_usize {
            let ticket = admit(&limiter);
            limiter.settle(ticket, outcomes[step * 7 % 6], times[step * 3 % 5]);
            let limit = usize::try_from(limiter.limit()).unwrap();
            assert!((1..=7).contains(&limit), "{algorithm:?}: {limit}");
            seen[limit] = true;
        }
        assert_eq!(limiter.snapshot().in_flight, 0);
        assert!(seen.iter().filter(|seen| **seen).count() > 1, "{algorithm:?} never moved");
    }
}

#[cfg(feature = "serde")]
#[test]
fn a_configuration_is_checked_like_a_builder() {
    let read = |text: &str| serde_json::from_str::<AdaptiveConfig>(text);
    assert_eq!(read(r#"{"algorithm": {"vegas": {}}}"#).unwrap(), AdaptiveConfig::new(Vegas::default()));
    assert_eq!(read(r#"{"algorithm": {"fixed": 64}}"#).unwrap(), AdaptiveConfig::new(Algorithm::Fixed(64)));
    let config = read(r#"{"algorithm": {"aimd": {"max": 500, "timeout": "200ms"}}, "samples": 5}"#).unwrap();
    assert_eq!(read(&serde_json::to_string(&config).unwrap()).unwrap(), config);
    let gradient2 = AdaptiveConfig::new(Gradient2::default().queue(5));
    assert_eq!(read(&serde_json::to_string(&gradient2).unwrap()).unwrap(), gradient2);
    let wrong = read(r#"{"algorithm": {"gradient2": {"tolerance": 0.5}}}"#).unwrap();
    assert_eq!(AdaptiveLimiterBuilder::from(wrong).build().unwrap_err().field(), "tolerance");
    assert!(read(r#"{"algorithm": {"vegas": {"alhpa": 1}}}"#).unwrap_err().to_string().contains("alhpa"));
    assert!(read(r#"{"algorithm": {"tcp": {}}}"#).unwrap_err().to_string().contains("unknown variant `tcp`"));
    let limiter = AdaptiveLimiterBuilder::from(config).build().unwrap();
    assert_eq!(serde_json::to_value(limiter.snapshot()).unwrap()["limit"], 20);
}

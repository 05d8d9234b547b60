//! Which endpoints are ejected, how many at most, and for how long.

use std::time::Duration;

use stanchion_breaker::{ConfigError, ManualClock, Outcome, OutlierConfig, Outliers};

const SECOND: Duration = Duration::from_secs(1);
const NANO: Duration = Duration::from_nanos(1);

fn outliers(endpoints: usize, clock: &ManualClock, config: OutlierConfig) -> Outliers {
    Outliers::with_clock(endpoints, config, clock.clone()).unwrap()
}

fn fail(set: &Outliers, endpoint: usize, times: u32) {
    (0..times).for_each(|_| set.record(endpoint, Outcome::TimedOut));
}

/// So many calls each, of which these fail.
fn traffic(set: &Outliers, calls: u32, failed: &[u32]) {
    for (endpoint, &failed) in failed.iter().enumerate() {
        for call in 0..calls {
            // Spread, so that none come in a row.
            let fails = u64::from(call) * u64::from(failed) % u64::from(calls) + u64::from(failed) >= u64::from(calls);
            set.record(endpoint, if fails { Outcome::Transient } else { Outcome::Success });
        }
    }
}

#[test]
fn five_failures_in_a_row_eject_for_thirty_seconds_and_then_for_longer() {
    let clock = ManualClock::new();
    let set = outliers(10, &clock, OutlierConfig::default());
    fail(&set, 3, 4);
    set.record(3, Outcome::Success);
    fail(&set, 3, 4);
    set.record(3, Outcome::Ignored);
    set.record(3, Outcome::Permanent);
    assert_eq!(set.ejected(), []);
    set.record(3, Outcome::Abandoned);
    assert_eq!(set.ejected(), [3]);
    for times in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10] {
        let time = 30 * SECOND * times;
        assert_eq!(set.comes_back_after(3), Some(time));
        clock.advance(time - NANO);
        assert!(set.is_ejected(3));
        clock.advance(NANO);
        assert!(!set.is_ejected(3));
        fail(&set, 3, 5);
    }
    // The thirteenth. Of these, three are forgiven in less than four intervals; and all in time.
    clock.advance(300 * SECOND + 40 * SECOND - NANO);
    fail(&set, 3, 5);
    assert_eq!(set.comes_back_after(3), Some(300 * SECOND));
    clock.advance(300 * SECOND + 40 * SECOND);
    fail(&set, 3, 5);
    assert_eq!(set.comes_back_after(3), Some(240 * SECOND));
    clock.advance(3_600 * SECOND);
    fail(&set, 3, 5);
    assert_eq!(set.comes_back_after(3), Some(30 * SECOND));
}

#[test]
fn at_most_the_share_is_ejected_and_one_always_may_be() {
    let clock = ManualClock::new();
    for (endpoints, share, most) in
        [(10, 0.1, 1), (20, 0.1, 2), (29, 0.1, 2), (3, 0.1, 1), (4, 0.5, 2), (3, 1.0, 3), (5, 0.0, 1)]
    {
        let set = outliers(endpoints, &clock, OutlierConfig { max_ejected: share, ..OutlierConfig::default() });
        (0..endpoints).for_each(|endpoint| fail(&set, endpoint, 50));
        assert_eq!(set.ejected().len(), most, "{share} of {endpoints}");
    }
    // Nobody's.
    let set = outliers(0, &clock, OutlierConfig::default());
    fail(&set, 7, 10);
    assert_eq!((set.ejected(), set.is_ejected(7)), (vec![], false));
}

#[test]
fn who_lies_far_below_the_others_is_ejected_after_the_interval() {
    let clock = ManualClock::new();
    let set = outliers(10, &clock, OutlierConfig::default());
    let failed = [1, 0, 2, 1, 0, 30, 1, 0, 2, 1];
    traffic(&set, 100, &failed);
    clock.advance(10 * SECOND - NANO);
    set.record(0, Outcome::Success);
    assert_eq!(set.ejected(), []);
    clock.advance(NANO);
    set.record(0, Outcome::Success);
    assert_eq!(set.ejected(), [5]);
}

#[test]
fn too_few_calls_or_endpoints_make_no_outlier() {
    let clock = ManualClock::new();
    for (calls, endpoints, ejected) in [(99, 5, 0), (100, 4, 0), (100, 5, 1)] {
        // Of five, one that differs lies two deviations below.
        let set = outliers(endpoints, &clock, OutlierConfig::default());
        let mut failed = vec![0; endpoints];
        failed[2] = 50;
        traffic(&set, calls, &failed);
        clock.advance(10 * SECOND);
        set.record(0, Outcome::Success);
        assert_eq!(set.ejected().len(), ejected, "{calls} calls, {endpoints} endpoints");
    }
}

#[test]
fn the_sickest_by_failure_rate_goes_first() {
    let clock = ManualClock::new();
    let config = OutlierConfig { deviations: None, failure_rate: Some(0.6), ..OutlierConfig::default() };
    let set = outliers(10, &clock, config);
    traffic(&set, 100, &[0, 60, 70, 65, 0, 0, 0, 0, 0, 0]);
    clock.advance(10 * SECOND);
    set.record(0, Outcome::Success);
    assert_eq!(set.ejected(), [2]);
}

#[test]
fn what_makes_no_sense_is_named() {
    let field = |change: fn(&mut OutlierConfig)| -> String {
        let mut config = OutlierConfig::default();
        change(&mut config);
        let error: ConfigError = Outliers::new(3, config).unwrap_err();
        error.field().to_owned()
    };
    assert_eq!(OutlierConfig::default().validate(), Ok(()));
    assert_eq!(field(|config| config.interval = Duration::ZERO), "interval");
    assert_eq!(field(|config| config.ejection_time = Duration::ZERO), "ejection_time");
    assert_eq!(field(|config| config.ejection_time_max = SECOND), "ejection_time_max");
    assert_eq!(field(|config| config.max_ejected = f64::NAN), "max_ejected");
    assert_eq!(field(|config| config.max_ejected = 1.1), "max_ejected");
    assert_eq!(field(|config| config.minimum_calls = 0), "minimum_calls");
    assert_eq!(field(|config| config.minimum_endpoints = 0), "minimum_endpoints");
    assert_eq!(field(|config| config.deviations = Some(f64::INFINITY)), "deviations");
    assert_eq!(field(|config| config.failure_rate = Some(0.0)), "failure_rate");
    assert_eq!(field(|config| (config.consecutive_failures, config.deviations) = (0, None)), "consecutive_failures");
}

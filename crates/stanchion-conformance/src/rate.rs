//! The laws of a [`RateStore`].
//!
//! Each law uses keys of its own, so that all can run on one store. Times are
//! in whole microseconds, the finest that a remote store may have.

mod back;
mod bucket;
mod counter;
mod every;
mod fixed;
mod log;
mod several;
mod time;

use std::sync::Arc;
use std::time::Duration;

use stanchion_core::{
    Ask, Decision, FixedWindow, ManualClock, RateLimit, RateRequest, RateRule, RateStore, Receipt, SlidingCounter,
    SlidingLog, TokenBucket,
};

pub use back::*;
pub use bucket::*;
pub use counter::*;
pub use every::*;
pub use fixed::*;
pub use log::*;
pub use several::*;
pub use time::*;

/// A store to be judged, and the clock by which it decides.
#[derive(Clone)]
pub struct Subject {
    /// The store.
    pub store: Arc<dyn RateStore>,
    /// The clock, which the laws advance.
    pub clock: ManualClock,
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subject").field("clock", &self.clock).finish_non_exhaustive()
    }
}

impl Subject {
    /// Asks the store, in this way.
    ///
    /// # Panics
    /// As [`ask`](Self::ask).
    pub async fn ask_as(&self, key: &[u8], cost: u64, limits: &[RateLimit], ask: Ask) -> Decision {
        let request = RateRequest::new(key, cost, limits).expect("the laws ask what can be asked");
        self.store.decide(request.ask(ask)).await.expect("a store under test answers")
    }

    /// Takes units, to be given back perhaps.
    ///
    /// # Panics
    /// As [`ask`](Self::ask).
    pub async fn reserve(&self, key: &[u8], cost: u64, limits: &[RateLimit]) -> (Decision, Receipt) {
        let request = RateRequest::new(key, cost, limits).expect("the laws ask what can be asked");
        self.store.reserve(request).await.expect("a store under test answers")
    }

    /// Gives units back.
    ///
    /// # Panics
    /// As [`ask`](Self::ask).
    pub async fn give_back(&self, key: &[u8], units: u64, limits: &[RateLimit], receipt: &Receipt) -> u64 {
        let request = RateRequest::new(key, units, limits).expect("the laws ask what can be asked");
        self.store.give_back(request, receipt).await.expect("a store under test answers")
    }

    /// Asks the store.
    ///
    /// # Panics
    /// If the store gives no answer: the laws are for one that works.
    pub async fn ask(&self, key: &[u8], cost: u64, limits: &[RateLimit]) -> Decision {
        let request = RateRequest::new(key, cost, limits).expect("the laws ask what can be asked");
        self.store.decide(request).await.expect("a store under test answers")
    }
}

/// Makes a `#[tokio::test]` of each law, on the [`Subject`] that the async
/// function `$subject` makes for it.
#[macro_export]
macro_rules! rate_laws {
    ($subject:path) => {
        $crate::rate_laws!($subject:
            the_burst_is_admitted_at_once_and_no_more
            a_token_is_back_exactly_after_its_interval
            a_weighted_request_takes_all_or_nothing
            what_never_fits_is_told_apart_and_takes_nothing
            to_look_takes_nothing
            a_refusal_changes_nothing
            keys_and_names_do_not_meet
            any_bytes_are_a_key
            fractions_of_a_microsecond_are_kept
            the_debt_of_a_larger_quota_is_cut
            a_debt_is_the_same_to_a_quota_with_other_ticks
            tokens_are_never_shared_by_concurrent_requests
            no_window_of_a_random_history_exceeds_the_bound
            several_limits_are_taken_together_or_not_at_all
            the_strictest_limit_is_named
            limits_of_all_algorithms_are_taken_together_or_not_at_all
            up_to_takes_what_all_limits_have
            limits_that_requests_share_are_taken_with_the_others_or_not_at_all
            a_fixed_window_begins_with_an_admission_and_ends_on_time
            a_calendar_window_ends_with_its_unit
            a_calendar_waits_for_a_clock_that_is_a_little_behind
            no_fixed_window_exceeds_its_limit_nor_any_other_twice_that
            the_counter_is_the_estimate_of_the_paper
            no_admission_exceeds_the_estimate_nor_any_window_twice_the_limit
            the_counts_of_another_length_begin_with_their_estimate
            a_log_forgets_an_admission_exactly_when_it_is_a_window_old
            two_at_one_instant_are_two
            no_window_of_a_log_exceeds_its_limit
            an_empty_limit_of_each_rule_gives_its_count
            a_refusal_of_each_rule_is_over_exactly_when_it_says
            up_to_takes_what_is_there
            to_overdraw_goes_into_debt_and_no_further
            a_clock_that_is_a_little_behind_is_waited_for
            a_state_of_the_far_future_is_cut
            a_look_cuts_nothing
            after_a_day_all_is_there
            another_algorithm_begins_afresh
            what_was_taken_counts_under_a_changed_limit
            what_is_given_back_is_there_again
            nothing_comes_back_twice
            a_receipt_in_parts_is_worth_as_much_as_in_one
            a_stale_receipt_lifts_nothing
            a_receipt_from_before_a_cut_lifts_nothing
            no_window_exceeds_the_bound_whatever_is_given_back
        );
    };
    ($subject:path: $($law:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $law() {
            $crate::rate::$law(&$subject().await).await;
        })*
    };
}

fn limit(name: &'static str, count: u64, period: Duration, burst: u64) -> RateLimit {
    RateLimit::new(name, TokenBucket::new(count, period, burst).expect("the laws use what can be kept"))
}

/// `burst` at once, one more each second.
fn per_second(name: &'static str, burst: u64) -> [RateLimit; 1] {
    [limit(name, 1, SECOND, burst)]
}

const SECOND: Duration = Duration::from_secs(1);
const MICRO: Duration = Duration::from_micros(1);

const DAY: Duration = Duration::from_secs(86_400);

/// `count` units in `window`, by each of the algorithms. A bucket gives them back one by one.
fn of_all_rules(count: u64, window: Duration) -> [RateRule; 4] {
    let kept = "the laws use what can be kept";
    [
        TokenBucket::new(count, window, count).expect(kept).into(),
        FixedWindow::new(count, window).expect(kept).into(),
        SlidingCounter::new(count, window).expect(kept).into(),
        SlidingLog::new(count, window).expect(kept).into(),
    ]
}

/// The same as limits of one name, each to be asked by itself, with a key of a law's own.
fn each_rule(law: &str, count: u64, window: Duration) -> [(Vec<u8>, [RateLimit; 1]); 4] {
    let mut place = 0;
    of_all_rules(count, window).map(|rule| {
        place += 1;
        (format!("{law}-{place}").into_bytes(), [RateLimit::new("each", rule)])
    })
}

/// Numbers below a bound, the same in each run: xorshift64 (Marsaglia 2003).
fn random() -> impl FnMut(u64) -> u64 {
    let mut random = 0x5eed_u64;
    move |most| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % most
    }
}

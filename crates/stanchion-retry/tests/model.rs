//! The decision core against a naive model that works out each decision anew from
//! everything that has happened, over random policies and histories.

use std::time::Duration;

use proptest::prelude::*;
use stanchion_retry::{Backoff, Call, Jitter, Moment, Next, Outcome, Progress, Retry, Stop};

#[derive(Debug, Clone)]
struct Policy {
    max_attempts: u32,
    first: u64,
    cap: u64,
    throttled: Option<u64>,
    max_elapsed: Option<u64>,
    deadline: Option<u64>,
    max_retry_after: u64,
    refresh: bool,
    repeatable: Option<bool>,
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap()
}

const BEGAN: u64 = 5_000;

fn at(millis: u64) -> Moment {
    Moment::from_nanos(millis * 1_000_000)
}

impl Policy {
    fn retry(&self) -> Retry {
        let mut retry = Retry::new(Backoff::exponential(ms(self.first)).max_delay(ms(self.cap)))
            .max_attempts(self.max_attempts)
            .max_retry_after(ms(self.max_retry_after));
        if let Some(delay) = self.throttled {
            retry = retry.throttled_backoff(Backoff::linear(ms(delay)).max_delay(ms(self.cap)));
        }
        if let Some(limit) = self.max_elapsed {
            retry = retry.max_elapsed(ms(limit));
        }
        if self.refresh {
            retry = retry.again_after_refresh();
        }
        retry.jitter(Jitter::None).validated().unwrap()
    }

    fn call(&self) -> Call<'static> {
        let mut call = Call::new();
        if let Some(deadline) = self.deadline {
            call = call.deadline(at(BEGAN + deadline));
        }
        if let Some(repeatable) = self.repeatable {
            call = call.repeatable(repeatable);
        }
        call
    }

    /// What comes after the last of these outcomes, at `now`.
    fn expected(&self, outcomes: &[Outcome], now: u64) -> Next {
        let last = *outcomes.last().unwrap();
        let is = |wanted: fn(&Outcome) -> bool| count(outcomes.iter().filter(|outcome| wanted(outcome)).count());
        let throttled = |outcome: &Outcome| matches!(outcome, Outcome::Throttled { .. });
        let refreshes = |outcome: &Outcome| *outcome == Outcome::Unauthenticated;
        match last {
            Outcome::Success | Outcome::Ignored => return Next::Stop(Stop::Done),
            Outcome::Unauthenticated if self.refresh && is(refreshes) == 1 => {}
            Outcome::Transient | Outcome::TimedOut | Outcome::Throttled { .. } => {}
            _ => return Next::Stop(Stop::Final),
        }
        if self.repeatable == Some(false) {
            return Next::Stop(Stop::NotRepeatable);
        }
        if count(outcomes.len()) >= self.max_attempts {
            return Next::Stop(Stop::Attempts);
        }
        let doubled = |drawn: u32| (self.first << (drawn - 1)).min(self.cap);
        let retryable = is(Outcome::is_retryable);
        let (own, told) = match (last, self.throttled) {
            (Outcome::Unauthenticated, _) => (0, None),
            (Outcome::Throttled { retry_after }, Some(step)) => {
                ((step * u64::from(is(throttled))).min(self.cap), retry_after)
            }
            (Outcome::Throttled { retry_after }, None) => (doubled(retryable), retry_after),
            (_, Some(_)) => (doubled(retryable - is(throttled)), None),
            (_, None) => (doubled(retryable), None),
        };
        if told.is_some_and(|told| told > ms(self.max_retry_after)) {
            return Next::Stop(Stop::ToldTooLong);
        }
        let delay = ms(own) + told.unwrap_or_default();
        let fits = |limit: Option<u64>| limit.is_none_or(|limit| at(now) + delay < at(BEGAN + limit));
        if fits(self.max_elapsed) && fits(self.deadline) { Next::Retry { delay } } else { Next::Stop(Stop::Time) }
    }
}

fn policy() -> impl Strategy<Value = Policy> {
    let limit = || prop::option::weighted(0.3, 1..5_000_u64);
    (
        1..12_u32,
        1..300_u64,
        1..2_000_u64,
        prop::option::of(1..500_u64),
        limit(),
        limit(),
        0..1_000_u64,
        any::<bool>(),
        prop::option::weighted(0.2, any::<bool>()),
    )
        .prop_map(
            |(max_attempts, first, cap, throttled, max_elapsed, deadline, max_retry_after, refresh, repeatable)| {
                Policy {
                    max_attempts,
                    first,
                    cap,
                    throttled,
                    max_elapsed,
                    deadline,
                    max_retry_after,
                    refresh,
                    repeatable,
                }
            },
        )
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        6 => Just(Outcome::Transient),
        3 => Just(Outcome::TimedOut),
        4 => prop::option::of((0..1_100_u64).prop_map(ms)).prop_map(|retry_after| Outcome::Throttled { retry_after }),
        2 => Just(Outcome::Unauthenticated),
        1 => prop_oneof![Just(Outcome::Success), Just(Outcome::Ignored), Just(Outcome::Permanent), Just(Outcome::Abandoned)],
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn it_agrees_with_a_model_that_knows_the_whole_history(
        policy in policy(), history in prop::collection::vec((outcome(), 0..400_u64), 1..15),
    ) {
        let (retry, call) = (policy.retry(), policy.call());
        let mut progress = Progress::begin(&retry, &call, || at(BEGAN)).unwrap();
        let (mut now, mut outcomes) = (BEGAN, Vec::new());
        for (outcome, took) in history {
            let attempt = progress.attempt(|| at(now));
            prop_assert_eq!(attempt.number(), count(outcomes.len()) + 1);
            prop_assert_eq!(attempt.last(), outcomes.last().copied());
            let left = policy.deadline.map(|deadline| at(BEGAN + deadline) - at(now));
            prop_assert_eq!(attempt.remaining(), left);
            now += took;
            outcomes.push(outcome);
            let next = progress.after(outcome, || at(now));
            prop_assert_eq!(next, policy.expected(&outcomes, now), "after {:?}", outcomes);
            match next {
                Next::Retry { delay } => now += u64::try_from(delay.as_millis()).unwrap(),
                Next::Stop(_) => break,
            }
        }
    }
}

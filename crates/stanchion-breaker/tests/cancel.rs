//! What dropping does: of a run at each of its await points, of a permit, of a probe.

use std::future::poll_fn;
use std::task::Poll;

use stanchion_breaker::{Breaker, Outcome, State};

#[tokio::test]
async fn a_run_dropped_before_its_first_poll_asks_nothing_and_later_counts_as_abandoned() {
    let breaker = Breaker::new("b");
    drop(breaker.run(|| async { Ok::<(), std::io::Error>(()) }));
    assert_eq!(breaker.snapshot().calls, 0);
    for polls in 1..=3 {
        let operation = || async {
            for _ in 0..5 {
                tokio::task::yield_now().await;
            }
            Ok::<(), std::io::Error>(())
        };
        let mut run = Box::pin(breaker.run(operation));
        for _ in 0..polls {
            poll_fn(|cx| Poll::Ready(run.as_mut().poll(cx).is_pending())).await;
        }
        assert_eq!(breaker.snapshot().calls, polls - 1);
        drop(run);
        assert_eq!((breaker.snapshot().calls, breaker.snapshot().failure_rate), (polls, 1.0));
    }
}

#[tokio::test]
async fn probes_that_are_dropped_leave_their_slots_and_in_the_end_the_verdict() {
    let breaker = Breaker::builder("b").probes(4).probe_failure_rate(1.0).build().unwrap();
    breaker.force(State::HalfOpen);
    for dropped in 1..=4 {
        let mut slots: Vec<_> = (0..4).map(|_| breaker.try_acquire().unwrap()).collect();
        assert!(breaker.try_acquire().is_err());
        drop(slots.pop());
        // The others say nothing, and leave their slots, too.
        slots.into_iter().for_each(|slot| slot.settle(Outcome::Ignored));
        assert_eq!(breaker.state(), if dropped < 4 { State::HalfOpen } else { State::Open });
    }
}

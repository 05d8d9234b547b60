//! The loop that shares trips: what it reports, what it does with the answer, and
//! what happens while the store gives none.
#![cfg(feature = "fleet")]

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stanchion_breaker::{Breaker, Clock, MemoryTripStore, Moment, Outcome, Sharing, State};
use stanchion_core::{Answer, FleetView, StoreError, StoreErrorKind, TripReport, TripStore};
use tokio::time::{Instant, sleep};

/// tokio's clock, which is paused here.
fn clock() -> Clock {
    let start = Instant::now();
    Clock::custom(move || Moment::from_nanos(u64::try_from(start.elapsed().as_nanos()).unwrap()))
}

fn breaker(clock: &Clock) -> Arc<Breaker> {
    Arc::new(Breaker::builder("upstream").clock(clock.clone()).build().unwrap())
}

#[tokio::test(start_paused = true)]
async fn failures_of_three_open_all_before_any_has_its_own_threshold() {
    let clock = clock();
    let store = Arc::new(MemoryTripStore::with_clock(clock.clone()));
    let fleet: Vec<_> = (0..3).map(|_| breaker(&clock)).collect();
    let loops: Vec<_> =
        fleet.iter().map(|each| tokio::spawn(each.clone().share(store.clone(), Sharing::default()).unwrap())).collect();
    sleep(Duration::from_millis(300)).await;
    // One alone, however sick: nobody else.
    (0..20).for_each(|_| fleet[0].record(Outcome::TimedOut));
    assert_eq!(fleet[0].state(), State::Open);
    sleep(Duration::from_secs(2)).await;
    assert_eq!([fleet[1].state(), fleet[2].state()], [State::Closed; 2]);
    fleet[0].reset();
    sleep(Duration::from_secs(2)).await;
    // Ten together.
    for (each, failures) in fleet.iter().zip([4, 3, 3]) {
        (0..failures).for_each(|_| each.record(Outcome::TimedOut));
    }
    sleep(Duration::from_millis(250)).await;
    assert_eq!(fleet.iter().map(|each| each.state()).collect::<Vec<_>>(), [State::Open; 3]);
    // Once, not again and again: after a reset it stays closed.
    fleet.iter().for_each(|each| each.reset());
    sleep(Duration::from_secs(2)).await;
    assert_eq!(fleet.iter().map(|each| each.state()).collect::<Vec<_>>(), [State::Closed; 3]);
    // Dropped, it is an ordinary breaker.
    loops.iter().for_each(|each| each.abort());
    (0..20).for_each(|_| fleet[0].record(Outcome::TimedOut));
    (0..20).for_each(|_| fleet[1].record(Outcome::TimedOut));
    sleep(Duration::from_secs(2)).await;
    assert_eq!([fleet[0].state(), fleet[2].state()], [State::Open, State::Closed]);
}

/// What an instance was told by the fleet it doesn't say itself.
#[tokio::test(start_paused = true)]
async fn the_fleets_word_is_not_reported_back() {
    struct Says(Arc<Mutex<Vec<bool>>>);
    impl TripStore for Says {
        fn report(&self, report: TripReport<'_>) -> Answer<'_, Result<FleetView, StoreError>> {
            self.0.lock().unwrap().push(report.open);
            Answer::Ready(Ok(FleetView { live: 5, open: true, generation: 1 }))
        }
    }
    let said = Arc::new(Mutex::new(Vec::new()));
    let breaker = breaker(&clock());
    let _loop = tokio::spawn(breaker.clone().share(Says(said.clone()), Sharing::default()).unwrap());
    sleep(Duration::from_secs(1)).await;
    assert_eq!((breaker.state(), breaker.snapshot().opened), (State::Open, 1));
    assert!(said.lock().unwrap().len() > 5 && !said.lock().unwrap().contains(&true));
    // Its own probes are its own experience.
    sleep(Duration::from_secs(5)).await;
    for _ in 0..3 {
        breaker.try_acquire().unwrap().settle(Outcome::Transient);
    }
    assert_eq!(breaker.snapshot().opened, 2);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(said.lock().unwrap().last(), Some(&true));
    // And its word is news once.
    breaker.reset();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(breaker.state(), State::Closed);
}

/// A store that hangs, or fails at once: the loop goes on, less often, and the breaker
/// is an ordinary one.
#[tokio::test(start_paused = true)]
async fn a_store_that_gives_no_answer_is_asked_less_often_and_changes_nothing() {
    struct Away(Arc<AtomicU32>, bool);
    impl TripStore for Away {
        fn report(&self, _: TripReport<'_>) -> Answer<'_, Result<FleetView, StoreError>> {
            self.0.fetch_add(1, SeqCst);
            let hangs = self.1;
            Answer::later(async move {
                if hangs {
                    std::future::pending::<()>().await;
                }
                Err(StoreError::new(StoreErrorKind::Unavailable, "gone fishing"))
            })
        }
    }
    for hangs in [false, true] {
        let asked = Arc::new(AtomicU32::new(0));
        let breaker = breaker(&clock());
        let _loop = tokio::spawn(breaker.clone().share(Away(asked.clone(), hangs), Sharing::default()).unwrap());
        sleep(Duration::from_secs(60)).await;
        // Once a second, after the first few.
        let times = asked.load(SeqCst);
        assert!((45..=75).contains(&times), "{times}");
        assert_eq!(breaker.state(), State::Closed);
        (0..20).for_each(|_| breaker.record(Outcome::TimedOut));
        assert_eq!(breaker.state(), State::Open);
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_named() {
    let field = |change: fn(&mut Sharing)| {
        let mut sharing = Sharing::default();
        change(&mut sharing);
        Arc::new(Breaker::new("b")).share(MemoryTripStore::new(), sharing).err().unwrap().field().to_owned()
    };
    assert_eq!(field(|sharing| sharing.interval = Duration::ZERO), "interval");
    assert_eq!(field(|sharing| sharing.recent = Duration::from_millis(99)), "recent");
    assert_eq!(field(|sharing| sharing.deadline = Duration::MAX), "deadline");
    assert_eq!(field(|sharing| sharing.instances = 1), "instances");
    assert_eq!(field(|sharing| sharing.share = f64::NAN), "share");
    assert_eq!(field(|sharing| sharing.rate = 0.0), "rate");
    assert_eq!(field(|sharing| sharing.failures = Some(0)), "failures");
}

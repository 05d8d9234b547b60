//! The laws of a [`TripStore`].
//!
//! Each law uses fleets of its own, so that all can run on one store. Times are in
//! whole milliseconds.

use std::sync::Arc;
use std::time::Duration;

use stanchion_core::{FleetView, ManualClock, TripQuorum, TripReport, TripStore};

/// A store to be judged, and the clock by which it goes.
#[derive(Clone)]
pub struct Subject {
    /// The store.
    pub store: Arc<dyn TripStore>,
    /// The clock, which the laws advance.
    pub clock: ManualClock,
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subject").field("clock", &self.clock).finish_non_exhaustive()
    }
}

/// A second.
const KEEP: Duration = Duration::from_secs(1);

impl Subject {
    async fn ask(&self, name: &[u8], instance: u64, open: bool, calls: u32, failed: u32) -> FleetView {
        // Two instances and half of the live ones, a rate of a half, ten failures.
        let quorum = TripQuorum::new(2, 0.5, 0.5, 10).expect("it makes sense");
        let report = TripReport { name, instance, open, calls, failed, keep: KEEP, quorum };
        self.store.report(report).await.expect("a store under test answers")
    }

    /// As [`ask`](Self::ask): how many live, whether it is open, the generation.
    async fn tell(&self, name: &[u8], instance: u64, open: bool, calls: u32, failed: u32) -> (u32, bool, u64) {
        let FleetView { live, open, generation } = self.ask(name, instance, open, calls, failed).await;
        (live, open, generation)
    }
}

/// Makes a `#[tokio::test]` of each law, on the [`Subject`] that the async
/// function `$subject` makes for it.
#[macro_export]
macro_rules! trip_laws {
    ($subject:path) => {
        $crate::trip_laws!($subject:
            one_sick_instance_never_opens_the_fleet
            two_open_ones_of_four_do_and_two_of_five_do_not
            failures_of_many_count_together
            the_last_word_of_an_instance_counts
            a_report_dies_exactly_when_its_time_is_over
            generations_count_the_openings
            names_do_not_meet_and_any_bytes_are_one
            reports_at_once_are_all_counted
            random_histories_are_those_of_the_definition
        );
    };
    ($subject:path: $($law:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $law() {
            $crate::trip::$law(&$subject().await).await;
        })*
    };
}

/// However sick it is, and whether alone or among others.
pub async fn one_sick_instance_never_opens_the_fleet(subject: &Subject) {
    assert_eq!(subject.tell(b"sick", 1, true, 1_000, 1_000).await, (1, false, 0));
    assert_eq!(subject.tell(b"sick", 2, false, 100, 0).await, (2, false, 0));
    assert_eq!(subject.tell(b"sick", 1, true, 9_000, 9_000).await, (2, false, 0));
}

/// The share is of the live ones, and it is enough to reach it.
pub async fn two_open_ones_of_four_do_and_two_of_five_do_not(subject: &Subject) {
    for instance in 1..=3 {
        subject.tell(b"share", instance, false, 10, 0).await;
    }
    assert_eq!(subject.tell(b"share", 4, true, 10, 10).await, (4, false, 0));
    assert_eq!(subject.tell(b"share", 3, true, 0, 0).await, (4, true, 1));
    assert_eq!(subject.tell(b"share", 5, false, 0, 0).await, (5, false, 1));
}

/// Instances that fail at the rate open the fleet before any is open by itself.
pub async fn failures_of_many_count_together(subject: &Subject) {
    assert_eq!(subject.tell(b"many", 1, false, 4, 4).await, (1, false, 0));
    assert_eq!(subject.tell(b"many", 2, false, 5, 5).await, (2, false, 0));
    // Its failures don't count: it fails at less than the rate.
    assert_eq!(subject.tell(b"many", 3, false, 100, 49).await, (3, false, 0));
    assert_eq!(subject.tell(b"many", 3, false, 100, 50).await, (3, true, 1));
    assert_eq!(subject.tell(b"many", 3, false, 3, 0).await, (3, false, 1));
    assert_eq!(subject.tell(b"many", 1, false, 5, 5).await, (3, true, 2));
}

/// Of an instance the latest report, and only that.
pub async fn the_last_word_of_an_instance_counts(subject: &Subject) {
    subject.tell(b"last", 1, true, 0, 0).await;
    assert_eq!(subject.tell(b"last", 2, true, 0, 0).await, (2, true, 1));
    assert_eq!(subject.tell(b"last", 2, false, 0, 0).await, (2, false, 1));
    assert_eq!(subject.tell(b"last", u64::MAX, true, 0, 0).await, (3, true, 2));
}

/// A millisecond before its time is over it counts; then not.
pub async fn a_report_dies_exactly_when_its_time_is_over(subject: &Subject) {
    subject.tell(b"mortal", 1, true, 0, 0).await;
    subject.clock.advance(KEEP - Duration::from_millis(1));
    assert_eq!(subject.tell(b"mortal", 2, true, 0, 0).await, (2, true, 1));
    subject.clock.advance(Duration::from_millis(1));
    assert_eq!(subject.tell(b"mortal", 2, true, 0, 0).await, (1, false, 1));
    // With the last of them goes the state.
    subject.clock.advance(KEEP);
    subject.tell(b"mortal", 3, true, 0, 0).await;
    assert_eq!(subject.tell(b"mortal", 4, true, 0, 0).await, (2, true, 1));
}

/// One more each time that the fleet becomes open.
pub async fn generations_count_the_openings(subject: &Subject) {
    subject.tell(b"openings", 1, true, 0, 0).await;
    for opening in 1..=5 {
        for _ in 0..3 {
            assert_eq!(subject.tell(b"openings", 2, true, 0, 0).await, (2, true, opening));
        }
        assert_eq!(subject.tell(b"openings", 2, false, 0, 0).await, (2, false, opening));
    }
}

/// Each fleet by itself, whatever its name.
pub async fn names_do_not_meet_and_any_bytes_are_one(subject: &Subject) {
    let long = vec![b'x'; 1 << 16];
    for name in [&b""[..], b"\0", b"{", b"}", b"{}", b"\xff\r\n", b"a", b"ab", &long] {
        assert_eq!(subject.tell(name, 1, true, 0, 0).await, (1, false, 0));
        assert_eq!(subject.tell(name, 2, true, 0, 0).await, (2, true, 1));
    }
}

/// Forty instances at once.
pub async fn reports_at_once_are_all_counted(subject: &Subject) {
    let reports: Vec<_> = (0..40)
        .map(|instance| {
            let subject = subject.clone();
            tokio::spawn(async move { subject.tell(b"at once", instance, instance % 2 == 0, 0, 0).await })
        })
        .collect();
    for report in reports {
        report.await.expect("a report ends");
    }
    let (live, open, generation) = subject.tell(b"at once", 0, true, 0, 0).await;
    assert!(live == 40 && open && generation >= 1, "{live} {open} {generation}");
}

/// Random reports of eight instances, beside the definition by hand.
pub async fn random_histories_are_those_of_the_definition(subject: &Subject) {
    let quorum = TripQuorum::new(2, 0.5, 0.5, 10).expect("it makes sense");
    let mut random = 0x5eed_u64;
    let mut draw = move |most: u64| {
        // xorshift64 (Marsaglia 2003): the laws repeat exactly.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        u32::try_from(random % most).expect("small")
    };
    let mut last: Vec<Option<(Duration, bool, u32, u32)>> = vec![None; 8];
    let (mut now, mut was_open, mut generation, mut openings) = (Duration::ZERO, false, 0, 0);
    for _ in 0..400 {
        let pause = Duration::from_millis(u64::from(draw(300)));
        subject.clock.advance(pause);
        now += pause;
        let instance = draw(8);
        let (open, calls) = (draw(4) == 0, draw(12));
        let failed = draw(u64::from(calls) + 1);
        last.iter_mut().for_each(|report| *report = report.filter(|(at, ..)| now < *at + KEEP));
        if last.iter().all(Option::is_none) {
            (was_open, generation) = (false, 0);
        }
        last[instance as usize] = Some((now, open, calls, failed));
        let is_open = quorum.is_reached(last.iter().flatten().map(|(_, open, calls, failed)| (*open, *calls, *failed)));
        generation += u64::from(is_open && !was_open);
        openings += u32::from(is_open && !was_open);
        was_open = is_open;
        let live = u32::try_from(last.iter().flatten().count()).expect("eight");
        let view = subject.tell(b"random", instance.into(), open, calls, failed).await;
        assert_eq!(view, (live, is_open, generation));
    }
    assert!(openings > 20, "a history in which little happens shows little: {openings}");
}

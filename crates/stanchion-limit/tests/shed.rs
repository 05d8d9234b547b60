//! Who is let in when not all can be.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use stanchion_core::{Admission, IntoGate, Outcome, Permit, Ticket};
use stanchion_limit::{
    AdaptiveConfig, Aimd, Algorithm, Call, Gate, LoadShedder, LoadShedderBuilder, LoadShedderConfig, Priority,
    RejectionKind,
};

const PRIORITIES: [Priority; 3] = [Priority::Sheddable, Priority::Normal, Priority::Critical];

fn fixed(limit: u32) -> LoadShedderBuilder {
    LoadShedder::new(Algorithm::Fixed(limit))
}

/// How many calls of this priority are let in after `before` critical ones.
fn fill(shedder: &LoadShedder, before: u32, priority: Priority) -> (u32, RejectionKind) {
    let critical = Call::new().priority(Priority::Critical);
    let held: Vec<Permit<'_>> = (0..before).map(|_| shedder.try_acquire_for(&critical).unwrap()).collect();
    let call = Call::new().priority(priority);
    let mut more = Vec::new();
    let refused = loop {
        match shedder.try_acquire_for(&call) {
            Ok(permit) => more.push(permit),
            Err(refused) => break refused,
        }
    };
    drop(held);
    (u32::try_from(more.len()).unwrap(), refused.kind())
}

#[test]
fn each_priority_may_fill_its_share() {
    let shedder = fixed(100).build().unwrap();
    assert_eq!(fill(&shedder, 0, Priority::Sheddable), (50, RejectionKind::Shed));
    assert_eq!(fill(&shedder, 0, Priority::Normal), (90, RejectionKind::Shed));
    assert_eq!(fill(&shedder, 0, Priority::Critical), (100, RejectionKind::Saturated));
    // What is under way counts, of whatever priority.
    assert_eq!(fill(&shedder, 49, Priority::Sheddable), (1, RejectionKind::Shed));
    assert_eq!(fill(&shedder, 50, Priority::Sheddable), (0, RejectionKind::Shed));
    assert_eq!(fill(&shedder, 90, Priority::Normal), (0, RejectionKind::Shed));
    // Full is full, for all alike.
    assert_eq!(fill(&shedder, 100, Priority::Sheddable), (0, RejectionKind::Saturated));
}

#[test]
fn shares_are_rounded_down_but_to_one() {
    for (limit, sheddable, normal) in [(1, 1, 1), (2, 1, 1), (3, 1, 2), (10, 5, 9), (11, 5, 9), (19, 9, 17)] {
        let shedder = fixed(limit).build().unwrap();
        assert_eq!(fill(&shedder, 0, Priority::Sheddable).0, sheddable, "of {limit}");
        assert_eq!(fill(&shedder, 0, Priority::Normal).0, normal, "of {limit}");
        assert_eq!(fill(&shedder, 0, Priority::Critical).0, limit);
    }
    let none = fixed(100).sheddable(0).normal(1).build().unwrap();
    assert_eq!(fill(&none, 0, Priority::Sheddable), (0, RejectionKind::Shed));
    assert_eq!(fill(&none, 0, Priority::Normal), (1, RejectionKind::Shed));
    let all = fixed(100).sheddable(100).normal(100).build().unwrap();
    assert_eq!(fill(&all, 0, Priority::Sheddable), (100, RejectionKind::Saturated));
}

/// The largest limit there is: no share overflows.
#[test]
fn a_large_limit_has_large_shares() {
    let shedder = fixed(u32::MAX).build().unwrap();
    let heavy = |units: u64, priority| shedder.try_acquire_for(&Call::new().cost(units).priority(priority)).is_ok();
    assert!(!heavy(2_147_483_648, Priority::Sheddable) && heavy(2_147_483_647, Priority::Sheddable));
    assert!(!heavy(3_865_470_566, Priority::Normal) && heavy(3_865_470_565, Priority::Normal));
    assert!(heavy(u64::from(u32::MAX), Priority::Critical) && !heavy(1 << 32, Priority::Critical));
}

#[test]
fn the_shares_follow_a_limit_that_adapts() {
    let shedder = LoadShedder::new(Aimd::default().initial(100)).build().unwrap();
    shedder.try_acquire_for(&Call::new()).unwrap().settle(Outcome::TimedOut);
    assert_eq!(shedder.snapshot().limit.limit, 90);
    assert_eq!(fill(&shedder, 0, Priority::Normal), (81, RejectionKind::Shed));
    assert!(shedder.needs_elapsed() && !fixed(1).build().unwrap().needs_elapsed());
    let snapshot = shedder.snapshot();
    assert_eq!((snapshot.shed, snapshot.limit.refused, snapshot.limit.in_flight), (1, 1, 0));
}

#[test]
fn it_can_be_changed_while_running() {
    let shedder = fixed(100).build().unwrap();
    let config = |limit| LoadShedderConfig::new(AdaptiveConfig::new(Algorithm::Fixed(limit)));
    shedder.reconfigure(config(10).shares(20, 70)).unwrap();
    assert_eq!(fill(&shedder, 0, Priority::Sheddable).0, 2);
    assert_eq!(fill(&shedder, 0, Priority::Normal).0, 7);
    assert_eq!(shedder.reconfigure(config(10).shares(71, 70)).unwrap_err().field(), "sheddable");
    assert_eq!(shedder.reconfigure(config(0)).unwrap_err().field(), "fixed");
    assert_eq!(fill(&shedder, 0, Priority::Normal).0, 7);
}

/// Critical calls come through a flood of the others.
#[test]
fn a_flood_of_normal_calls_refuses_no_critical_one() {
    let shedder: Arc<dyn Gate> = fixed(20).name("front").into_gate().unwrap();
    let call = |priority| Call::new().priority(priority);
    let flood: Vec<_> = (0..1_000).filter_map(|_| Permit::try_new(&shedder, &call(Priority::Normal)).ok()).collect();
    assert_eq!(flood.len(), 18);
    for _ in 0..1_000 {
        let _two = [(); 2].map(|()| Permit::try_new(&shedder, &call(Priority::Critical)).unwrap());
        let refused = Permit::try_new(&shedder, &call(Priority::Critical)).unwrap_err();
        assert_eq!((refused.by(), refused.kind()), ("front", RejectionKind::Saturated));
    }
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    let error = |builder: LoadShedderBuilder| builder.build().unwrap_err().to_string();
    assert_eq!(error(fixed(0)), "fixed is 0: must be at least 1");
    assert_eq!(error(fixed(9).normal(0)), "normal is 0: must be 1 to 100 percent");
    assert_eq!(error(fixed(9).normal(101)), "normal is 101: must be 1 to 100 percent");
    assert_eq!(error(fixed(9).sheddable(91)), "sheddable is 91: must be at most `normal` (90) percent");
    assert_eq!(error(fixed(9).samples(0)), "samples is 0: must be 1 to 10000");
}

#[cfg(feature = "serde")]
#[test]
fn a_configuration_is_checked_like_a_builder() {
    let read = |text: &str| serde_json::from_str::<LoadShedderConfig>(text);
    let config = read(r#"{"limit": {"algorithm": {"fixed": 10}}, "normal": 80}"#).unwrap();
    assert_eq!(read(&serde_json::to_string(&config).unwrap()).unwrap(), config);
    let shedder = LoadShedderBuilder::from(config).build().unwrap();
    assert_eq!(fill(&shedder, 0, Priority::Normal).0, 8);
    assert_eq!(serde_json::to_value(shedder.snapshot()).unwrap()["limit"]["name"], "load-shedder");
    let zero = read(r#"{"limit": {"algorithm": {"aimd": {"min": 0}}}}"#).unwrap();
    assert_eq!(LoadShedderBuilder::from(zero).build().unwrap_err().field(), "min");
    assert!(read(r#"{"limit": {"algorithm": {"vegas": {}}}, "norml": 1}"#).is_err());
}

proptest! {
    /// Random arrivals of random weight and priority: each is let in exactly if the
    /// rule's own arithmetic says so.
    #[test]
    fn it_does_as_the_rule_says(
        limit in 1..40_u32,
        sheddable in 0..=60_u32,
        normal in 60..=100_u32,
        steps in prop::collection::vec((any::<bool>(), 0..5_u32, 0..3_usize, any::<usize>()), 1..200),
    ) {
        let shedder = fixed(limit).sheddable(sheddable).normal(normal).build().unwrap();
        let mut held: Vec<(u32, Ticket)> = Vec::new();
        for (arrives, units, priority, index) in steps {
            if arrives {
                let under_way: u32 = held.iter().map(|(units, _)| units).sum();
                let share = [sheddable, normal, 100][priority];
                let ceiling = if share == 0 { 0 } else { (limit * share / 100).max(1) };
                let fits = under_way + units <= ceiling;
                let call = Call::new().cost(u64::from(units)).priority(PRIORITIES[priority]);
                match shedder.try_admit(&call) {
                    Admission::Admitted(ticket) => {
                        prop_assert!(fits);
                        held.push((units, ticket));
                    }
                    Admission::Rejected(refused) => {
                        prop_assert!(!fits);
                        let kind = if units > limit {
                            RejectionKind::NeverFits
                        } else if under_way + units <= limit {
                            RejectionKind::Shed
                        } else {
                            RejectionKind::Saturated
                        };
                        prop_assert_eq!(refused.kind(), kind);
                    }
                    Admission::Wait => prop_assert!(false, "nobody waits"),
                }
            } else if !held.is_empty() {
                let (_, ticket) = held.swap_remove(index % held.len());
                shedder.settle(ticket, Outcome::Success, Duration::ZERO);
            }
        }
    }
}

//! Client-side throttling: the formula, over time, by a chance that is handed in.
#![cfg(feature = "random")]

use std::collections::VecDeque;
use std::time::Duration;

use stanchion_core::{Admission, IntoGate, Outcome, Permit, Random, Ticket};
use stanchion_limit::{
    Call, ClientThrottle, ClientThrottleBuilder, ClientThrottleConfig, Gate, ManualClock, RejectionKind,
};

const SECOND: Duration = Duration::from_secs(1);
const THROTTLED: Outcome = Outcome::Throttled { retry_after: None };

fn throttle(clock: &ManualClock) -> ClientThrottleBuilder {
    ClientThrottle::builder().clock(clock.clone()).random(Random::seeded(1))
}

/// One call that ends as said, at once; whether it was let through.
fn ask(throttle: &ClientThrottle, outcome: Outcome) -> bool {
    let permit = Permit::try_new(throttle, &Call::new());
    permit.map(|permit| permit.settle(outcome)).is_ok()
}

fn ask_many(throttle: &ClientThrottle, outcome: Outcome, calls: u32) -> u32 {
    (0..calls).map(|_| u32::from(ask(throttle, outcome))).sum()
}

#[test]
fn nothing_is_refused_while_half_is_accepted() {
    let throttle = throttle(&ManualClock::new()).build().unwrap();
    assert!(ask(&throttle, Outcome::Success) && ask(&throttle, THROTTLED));
    for _ in 0..10_000 {
        assert_eq!(throttle.snapshot().probability, 0.0);
        assert!(ask(&throttle, Outcome::Success) && ask(&throttle, THROTTLED));
    }
    // The one too many: (20,003 - 2 · 10,001) / 20,004.
    assert!(ask(&throttle, THROTTLED));
    assert_eq!(throttle.snapshot().probability, 1.0 / 20_004.0);
}

/// A thousand requests of which a quarter is accepted: (1,000 - 500) / 1,001.
#[test]
fn as_many_are_refused_as_the_formula_says() {
    let clock = ManualClock::new();
    let throttle = ClientThrottle::builder().clock(clock.clone()).k(2.0).random(Random::seeded(7)).build().unwrap();
    // All are sent before any is answered, so that none is refused.
    let tickets: Vec<Ticket> = (0..1_000)
        .map(|_| match throttle.try_admit(&Call::new()) {
            Admission::Admitted(ticket) => ticket,
            other => panic!("{other:?}"),
        })
        .collect();
    for (index, ticket) in tickets.into_iter().enumerate() {
        throttle.settle(ticket, if index % 4 == 0 { Outcome::Success } else { THROTTLED }, SECOND);
    }
    let snapshot = throttle.snapshot();
    assert_eq!((snapshot.requests, snapshot.accepts), (1_000, 250));
    assert_eq!(snapshot.probability, 500.0 / 1_001.0);
    // Each further one that is accepted when let through: p falls from 0.50 to 0.33.
    let mut expected = 0.0;
    let mut refused = 0.0;
    for _ in 0..1_000 {
        expected += throttle.snapshot().probability;
        refused += f64::from(u8::from(!ask(&throttle, Outcome::Success)));
    }
    // A standard deviation of about 15.
    assert!((refused - expected).abs() < 60.0, "{refused}, expected {expected}");
    assert!((200.0..450.0).contains(&expected), "{expected}");
}

#[test]
fn chance_is_handed_in() {
    let history = |seed| {
        let throttle =
            ClientThrottle::builder().clock(ManualClock::new()).random(Random::seeded(seed)).build().unwrap();
        (0..200).map(|_| ask(&throttle, THROTTLED)).collect::<Vec<_>>()
    };
    assert_eq!(history(3), history(3));
    assert_ne!(history(3), history(4));
}

/// A server that hangs is noticed when a second has passed, not when calls time
/// out; and calls that are merely on their way are no refusals.
#[test]
fn a_call_counts_at_its_sending_but_a_fresh_one_is_given_time() {
    let clock = ManualClock::new();
    let throttle = throttle(&clock).build().unwrap();
    let open: Vec<Ticket> = (0..500)
        .map(|_| match throttle.try_admit(&Call::new()) {
            Admission::Admitted(ticket) => ticket,
            other => panic!("a start is no overload: {other:?}"),
        })
        .collect();
    assert_eq!(throttle.snapshot().requests, 0);
    clock.advance(2 * SECOND - Duration::from_nanos(1));
    assert_eq!(throttle.snapshot().probability, 0.0);
    clock.advance(Duration::from_nanos(1));
    assert_eq!(throttle.snapshot().requests, 500);
    assert_eq!(throttle.snapshot().probability, 500.0 / 501.0);
    // Late answers count where the calls were sent, and are forgotten with them.
    for ticket in open {
        throttle.settle(ticket, Outcome::Success, 2 * SECOND);
    }
    assert_eq!(throttle.snapshot().probability, 0.0);
    assert_eq!(throttle.snapshot().accepts, 500);
    clock.advance(118 * SECOND - Duration::from_nanos(1));
    assert_eq!(throttle.snapshot().accepts, 500);
    clock.advance(Duration::from_nanos(1));
    assert_eq!((throttle.snapshot().requests, throttle.snapshot().accepts), (0, 0));
}

#[test]
fn what_is_answered_after_the_window_counts_no_more() {
    let clock = ManualClock::new();
    let throttle = throttle(&clock).build().unwrap();
    let Admission::Admitted(late) = throttle.try_admit(&Call::new()) else { panic!("the first is let through") };
    clock.advance(120 * SECOND);
    assert!(ask(&throttle, Outcome::Success));
    throttle.settle(late, Outcome::Success, 120 * SECOND);
    assert_eq!((throttle.snapshot().requests, throttle.snapshot().accepts), (1, 1));
}

#[test]
fn each_outcome_is_accepted_or_not() {
    let counts = |outcome: Outcome, wait: Duration| {
        let clock = ManualClock::new();
        let throttle = throttle(&clock).build().unwrap();
        let permit = Permit::try_new(&throttle, &Call::new()).unwrap();
        clock.advance(wait);
        permit.settle(outcome);
        clock.advance(2 * SECOND);
        (throttle.snapshot().requests, throttle.snapshot().accepts)
    };
    for accepted in [Outcome::Success, Outcome::Ignored, Outcome::Permanent, Outcome::Unauthenticated] {
        assert_eq!(counts(accepted, SECOND), (1, 1));
    }
    for refused in [THROTTLED, Outcome::TimedOut, Outcome::Transient] {
        assert_eq!(counts(refused, SECOND), (1, 0));
    }
    assert_eq!(counts(Outcome::Abandoned, Duration::ZERO), (0, 0));
    // The second after the one in which it was sent has begun: still fresh.
    assert_eq!(counts(Outcome::Abandoned, 2 * SECOND - Duration::from_nanos(1)), (0, 0));
    assert_eq!(counts(Outcome::Abandoned, 2 * SECOND), (1, 0));
}

/// The formula on a list of every call, beside the throttle, through an hour of
/// good and bad times.
#[test]
fn it_decides_as_a_list_of_all_calls_would() {
    let clock = ManualClock::new();
    let throttle = throttle(&clock).build().unwrap();
    let random = Random::seeded(1);
    let mut calls: VecDeque<(u64, bool)> = VecDeque::new();
    let (mut refused, mut let_through) = (0, 0);
    for step in 0..36_000_u64 {
        let second = clock.now().as_nanos() / 1_000_000_000;
        while calls.front().is_some_and(|(sent, _)| sent + 120 <= second) {
            calls.pop_front();
        }
        let requests = calls.len() as f64;
        let accepts = calls.iter().filter(|(_, accepted)| *accepted).count() as f64;
        let probability = ((requests - 2.0 * accepts) / (requests + 1.0)).max(0.0);
        let wanted = probability == 0.0 || random.run().unit() >= probability;
        // Five minutes each: well, overloaded, well, and dead for one of them.
        let accepts_this = match (step / 3_000) % 4 {
            1 => step % 4 == 0,
            3 => step % 3_000 >= 600,
            _ => true,
        };
        let ours = ask(&throttle, if accepts_this { Outcome::Success } else { Outcome::TimedOut });
        assert_eq!(ours, wanted, "step {step}");
        calls.push_back((second, ours && accepts_this));
        *(if ours { &mut let_through } else { &mut refused }) += 1;
        clock.advance(Duration::from_millis(100));
    }
    assert!(refused > 5_000 && let_through > 20_000, "{refused} {let_through}");
}

/// The seconds from the end of an outage of ten minutes until no call in a hundred
/// is refused, at 1,000 a second.
fn recovery(max_refused: f64) -> (u32, u32) {
    let clock = ManualClock::new();
    let throttle = throttle(&clock).max_refused(max_refused).build().unwrap();
    let second = |outcome: Outcome| {
        let mut passed = 0;
        for _ in 0..100 {
            passed += ask_many(&throttle, outcome, 10);
            clock.advance(Duration::from_millis(10));
        }
        passed
    };
    for _ in 0..480 {
        second(Outcome::TimedOut);
    }
    let during = (0..120).map(|_| second(Outcome::TimedOut)).sum();
    let until = (1..3_600).find(|_| second(Outcome::Success) >= 990).unwrap();
    (during, until)
}

#[test]
fn after_an_outage_it_comes_back_as_the_docs_say() {
    let (during, until) = recovery(1.0);
    println!("{during} in two minutes, back after {until} s");
    assert!(during <= 5);
    assert!((900..1_100).contains(&until));
    let (during, until) = recovery(0.9);
    println!("{during} in two minutes, back after {until} s");
    assert!((11_000..13_000).contains(&during));
    assert!((180..260).contains(&until));
}

#[test]
fn it_can_be_changed_while_running() {
    let throttle = throttle(&ManualClock::new()).build().unwrap();
    ask_many(&throttle, THROTTLED, 100);
    assert!(throttle.snapshot().probability > 0.99);
    throttle.reconfigure(ClientThrottleConfig::default().max_refused(0.5)).unwrap();
    assert_eq!((throttle.snapshot().requests, throttle.snapshot().probability), (100, 0.5));
    // Calls that are under way when the window changes count no more.
    let Some(open) = (0..1_000).find_map(|_| Permit::try_new(&throttle, &Call::new()).ok()) else {
        panic!("half pass")
    };
    throttle.reconfigure(ClientThrottleConfig::default().window(60 * SECOND)).unwrap();
    assert_eq!((throttle.snapshot().requests, throttle.snapshot().probability), (0, 0.0));
    open.settle(Outcome::Success);
    assert_eq!(throttle.snapshot().accepts, 0);
    assert_eq!(throttle.reconfigure(ClientThrottleConfig::default().k(0.0)).unwrap_err().field(), "k");
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    let error = |builder: ClientThrottleBuilder| builder.build().unwrap_err().to_string();
    let builder = ClientThrottle::builder;
    assert_eq!(error(builder().k(0.99)), "k is 0.99: must be 1 to 1000");
    assert_eq!(error(builder().k(f64::NAN)), "k is NaN: must be 1 to 1000");
    assert_eq!(error(builder().window(Duration::from_millis(999))), "window is 999ms: must be a second to a day");
    assert!(error(builder().window(Duration::MAX)).starts_with("window is "));
    assert_eq!(error(builder().max_refused(1.01)), "max_refused is 1.01: must be 0 to 1");
    assert_eq!(builder().k(0.0).into_gate().err().unwrap().field(), "k");
    let gate = builder().name("api").max_refused(0.0).into_gate().unwrap();
    assert!((0..100).all(|_| Permit::try_new(&gate, &Call::new()).map(|permit| permit.settle(THROTTLED)).is_ok()));
}

#[test]
fn a_refusal_says_who_and_why() {
    let throttle = throttle(&ManualClock::new()).name("api").build().unwrap();
    ask_many(&throttle, THROTTLED, 1_000);
    let refused = (0..100).find_map(|_| Permit::try_new(&throttle, &Call::new()).err()).unwrap();
    assert_eq!((refused.by(), refused.kind(), refused.come_back_after()), ("api", RejectionKind::Shed, None));
}

#[cfg(feature = "serde")]
#[test]
fn a_configuration_is_checked_like_a_builder() {
    let read = |text: &str| serde_json::from_str::<ClientThrottleConfig>(text);
    assert_eq!(read("{}").unwrap(), ClientThrottleConfig::default());
    let text = r#"{"k":1.5,"window":"10s","max_refused":0.9}"#;
    assert_eq!(serde_json::to_string(&read(text).unwrap()).unwrap(), text);
    let error = ClientThrottleBuilder::from(read(r#"{"k": 0.5}"#).unwrap()).build().unwrap_err();
    assert_eq!(error.field(), "k");
    assert!(read(r#"{"windw": "1s"}"#).unwrap_err().to_string().contains("unknown field `windw`"));
    let snapshot = serde_json::to_value(ClientThrottle::builder().build().unwrap().snapshot()).unwrap();
    assert_eq!(snapshot["probability"], 0.0);
}

//! Random histories, far longer than the window, through four breakers at once: a
//! naive one that keeps every call and works everything out anew, the pure machine,
//! the executor in atomics, and a key of a keyed one. They must agree at each step.

use std::time::Duration;

use proptest::prelude::*;
use stanchion_breaker::pure::{Event, Machine, Plan, Reply, Tally, Verdict};
use stanchion_breaker::{
    Abandoned, Breaker, BreakerConfig, Cause, Gate, KeyedBreaker, ManualClock, Moment, Outcome, Random, State, Window,
};
use stanchion_core::{Admission, Call, Ticket};

/// What a call is told: passes, or comes back after so long.
type Told = Result<(), Duration>;

/// The naive breaker.
struct Naive {
    config: BreakerConfig,
    state: State,
    generation: u64,
    /// Each call of this generation that counted: when, failed, slow.
    calls: Vec<(Duration, bool, bool)>,
    until: Duration,
    opened_in_a_row: u32,
    closed_at: Duration,
    /// Probes of this generation: admitted when, and how they ended.
    probes: Vec<(Duration, Option<Verdict>)>,
    tickets: Vec<Option<(u64, usize)>>,
}

impl Naive {
    fn new(config: &BreakerConfig) -> Self {
        Self {
            config: config.clone(),
            state: State::Closed,
            generation: 0,
            calls: Vec::new(),
            until: Duration::ZERO,
            opened_in_a_row: 0,
            closed_at: Duration::ZERO,
            probes: Vec::new(),
            tickets: Vec::new(),
        }
    }

    fn turn(&mut self, state: State) {
        self.state = state;
        self.generation += 1;
        self.calls.clear();
        self.probes.clear();
    }

    fn open(&mut self, now: Duration) -> Duration {
        let mut rest = self.config.open_for.as_secs_f64();
        for _ in 0..self.opened_in_a_row {
            rest = (rest * self.config.open_growth).min(self.config.open_for_max.as_secs_f64());
        }
        let rest = Duration::from_secs_f64(rest);
        self.opened_in_a_row += 1;
        self.until = now + rest;
        self.turn(State::Open);
        rest
    }

    /// The window's calls and the rates, worked out anew.
    fn rates(&self, now: Duration) -> (usize, f64, f64) {
        if let Window::Ewma(n) = self.config.window {
            let (mut failed, mut slow) = (0.0, 0.0);
            for (k, call) in self.calls.iter().enumerate() {
                let parts = (k + 1).min(n.div_ceil(2) as usize) as f64;
                failed += (f64::from(u8::from(call.1)) - failed) / parts;
                slow += (f64::from(u8::from(call.2)) - slow) / parts;
            }
            return (self.calls.len(), failed, slow);
        }
        let window: Vec<_> = match self.config.window {
            Window::Count(n) => self.calls.iter().rev().take(n as usize).collect(),
            Window::Time(length) => {
                let bucket = length.as_nanos() / 10;
                let number = |time: Duration| time.as_nanos() / bucket;
                self.calls.iter().filter(|call| number(now) - number(call.0) < 10).collect()
            }
            _ => unreachable!(),
        };
        let count = window.len();
        let share = |part: usize| if count == 0 { 0.0 } else { part as f64 / count as f64 };
        let failed = window.iter().filter(|call| call.1).count();
        let slow = window.iter().filter(|call| call.2).count();
        (count, share(failed), share(slow))
    }

    fn record(&mut self, now: Duration, failed: bool, slow: bool) {
        self.calls.push((now, failed, slow));
        let (count, failure_rate, slow_rate) = self.rates(now);
        let streak = self.calls.iter().rev().take_while(|call| call.1).count();
        let enough = count >= self.config.minimum_calls as usize;
        let reached = |rate: f64, wanted: Option<f64>| wanted.is_some_and(|wanted| rate >= wanted - 1e-8);
        let trips = failed && self.config.consecutive_failures.is_some_and(|most| streak >= most as usize)
            || enough && failed && reached(failure_rate, self.config.failure_rate)
            || enough && slow && reached(slow_rate, self.config.slow_rate);
        if trips && self.state == State::Shadow {
            self.turn(State::Shadow);
        } else if trips {
            if now - self.closed_at >= self.config.forgive_after {
                self.opened_in_a_row = 0;
            }
            self.open(now);
        }
    }

    /// Those that hung have failed; so have dropped ones, and neither takes a slot.
    fn probes_against(&self, now: Duration) -> usize {
        let against = |probe: &&(Duration, Option<Verdict>)| match probe.1 {
            None => now >= probe.0 + self.config.probe_max_wait,
            Some(verdict) => verdict.is_failure(),
        };
        self.probes.iter().filter(against).count()
    }

    fn probes_have_failed(&self, now: Duration) -> bool {
        self.probes_against(now) as f64 >= self.config.probe_failure_rate * f64::from(self.config.probes) - 1e-9
    }

    fn arrive(&mut self, now: Duration) -> Told {
        match self.state {
            State::Closed | State::Disabled | State::Shadow => {
                self.tickets.push(Some((self.generation, usize::MAX)));
                return Ok(());
            }
            State::ForcedOpen => return Err(self.config.open_for),
            State::Open if now < self.until => return Err(self.until - now),
            State::Open => self.turn(State::HalfOpen),
            _ => {}
        }
        if self.probes_have_failed(now) {
            return Err(self.open(now));
        }
        let hangs_at = |probe: &(Duration, Option<Verdict>)| probe.0 + self.config.probe_max_wait;
        let waiting = |probe: &&(Duration, Option<Verdict>)| probe.1.is_none() && now < hangs_at(probe);
        let answered =
            |probe: &&(Duration, Option<Verdict>)| matches!(probe.1, Some(Verdict::Success | Verdict::Failure));
        let taken = self.probes.iter().filter(|probe| waiting(probe) || answered(probe)).count();
        if taken >= self.config.probes as usize {
            let eldest = self.probes.iter().filter(waiting).map(hangs_at).min();
            return Err(eldest.map_or(self.config.open_for, |end| (end - now).min(self.config.open_for)));
        }
        self.probes.push((now, None));
        self.tickets.push(Some((self.generation, self.probes.len() - 1)));
        Ok(())
    }

    fn settle(&mut self, now: Duration, ticket: usize, outcome: Outcome, elapsed: Duration) {
        let Some((generation, probe)) = self.tickets[ticket].take() else { return };
        if generation != self.generation {
            return;
        }
        let slow = self.config.slow_rate.is_some() && elapsed >= self.config.slow_after;
        let verdict = match outcome {
            Outcome::Success => Verdict::Success,
            Outcome::Transient | Outcome::TimedOut | Outcome::Throttled { .. } => Verdict::Failure,
            Outcome::Abandoned => match self.config.abandoned {
                Abandoned::Failure => Verdict::Silent,
                Abandoned::FailureIfOlderThan(age) if elapsed >= age => Verdict::Silent,
                _ => Verdict::Nothing,
            },
            _ => Verdict::Nothing,
        };
        match self.state {
            State::Closed | State::Shadow if verdict != Verdict::Nothing => {
                self.record(now, verdict.is_failure(), slow);
            }
            State::HalfOpen => {
                let verdict = if slow && verdict == Verdict::Success { Verdict::Failure } else { verdict };
                let probe = &mut self.probes[probe];
                if now < probe.0 + self.config.probe_max_wait {
                    probe.1 = Some(verdict);
                }
                let succeeded = self.probes.iter().filter(|probe| probe.1 == Some(Verdict::Success)).count();
                let rest = self.config.probes as usize - succeeded;
                if self.probes_have_failed(now) {
                    self.open(now);
                } else if (rest as f64) < self.config.probe_failure_rate * f64::from(self.config.probes) - 1e-9 {
                    self.closed_at = now;
                    self.turn(State::Closed);
                }
            }
            _ => {}
        }
    }

    fn force(&mut self, now: Duration, state: State) {
        match state {
            State::Open => drop(self.open(now)),
            State::Closed => {
                self.opened_in_a_row = 0;
                self.closed_at = now;
                self.turn(State::Closed);
            }
            other => self.turn(other),
        }
    }
}

/// The pure machine with the pure window.
struct Pure {
    plan: Plan,
    machine: Machine,
    tally: Tally,
    tickets: Vec<Option<(u64, u32)>>,
}

impl Pure {
    fn new(config: &BreakerConfig) -> Self {
        let plan = Plan::new(config).unwrap();
        Self { plan, machine: Machine::new(0, Moment::default()), tally: Tally::new(&plan), tickets: Vec::new() }
    }

    fn step(&mut self, now: Moment, event: Event) -> Reply {
        let before = self.machine.generation();
        // The jitter is 0, so the chance is no matter.
        let (machine, reply, change) = self.machine.clone().step(&self.plan, now, 0.7, event);
        assert_eq!(change.is_some(), machine.generation() != before);
        if machine.generation() != before {
            self.tally = Tally::new(&self.plan);
        }
        self.machine = machine;
        reply
    }

    fn arrive(&mut self, now: Moment) -> Told {
        match self.step(now, Event::Arrive) {
            Reply::Admit { generation, probe } => {
                self.tickets.push(Some((generation, probe)));
                Ok(())
            }
            Reply::Reject { retry_after } => Err(retry_after),
            other => unreachable!("{other:?}"),
        }
    }

    fn settle(&mut self, now: Moment, ticket: usize, outcome: Outcome, elapsed: Duration) {
        let Some((generation, probe)) = self.tickets[ticket].take() else { return };
        let (mut verdict, slow) = (self.plan.verdict(outcome, elapsed), self.plan.is_slow(elapsed));
        let is_late = generation != self.machine.generation();
        match self.machine.state() {
            State::Closed | State::Shadow if is_late || verdict == Verdict::Nothing => {
                // Of another generation, or nothing at all: the machine itself ignores both.
                self.step(now, Event::Settle { generation, probe, verdict });
                self.step(now, Event::Trip { generation: generation + u64::from(!is_late), cause: Cause::FailureRate });
            }
            State::Closed | State::Shadow => {
                if let Some(cause) = self.tally.record(&self.plan, now, verdict.is_failure(), slow) {
                    self.step(now, Event::Trip { generation, cause });
                }
            }
            State::HalfOpen => {
                if slow && verdict == Verdict::Success {
                    verdict = Verdict::Failure;
                }
                self.step(now, Event::Settle { generation, probe, verdict });
            }
            // Whatever comes now is late.
            _ => drop(self.step(now, Event::Settle { generation, probe, verdict })),
        }
    }
}

/// A gate, with the tickets that it gave.
struct Executor<'a>(&'a dyn Gate, Vec<Option<Ticket>>);

impl Executor<'_> {
    fn arrive(&mut self) -> Told {
        match self.0.try_admit(&Call::new().key("k")) {
            Admission::Admitted(ticket) => {
                self.1.push(Some(ticket));
                Ok(())
            }
            Admission::Rejected(rejection) => Err(rejection.come_back_after().expect("a refusal says when")),
            Admission::Wait => unreachable!("a breaker never waits"),
        }
    }

    fn settle(&mut self, ticket: usize, outcome: Outcome, elapsed: Duration) {
        if let Some(ticket) = self.1[ticket].take() {
            self.0.settle(ticket, outcome, elapsed);
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Wait(Duration),
    Arrive,
    /// Of the tickets so far one from the end, how it ended, and after how long.
    Settle(usize, Outcome, Duration),
    Force(State),
}

fn steps(length: usize) -> impl Strategy<Value = Vec<Step>> {
    let millis = |range: std::ops::Range<u64>| range.prop_map(Duration::from_millis);
    let outcome = prop_oneof![
        6 => Just(Outcome::Success),
        4 => Just(Outcome::Transient),
        1 => Just(Outcome::TimedOut),
        1 => Just(Outcome::Throttled { retry_after: None }),
        1 => Just(Outcome::Ignored),
        1 => Just(Outcome::Permanent),
        2 => Just(Outcome::Abandoned),
    ];
    let state = prop_oneof![
        4 => Just(State::Closed),
        1 => Just(State::Open),
        1 => Just(State::HalfOpen),
        1 => Just(State::ForcedOpen),
        1 => Just(State::Disabled),
        2 => Just(State::Shadow),
    ];
    let step = prop_oneof![
        60 => Just(Step::Arrive),
        60 => (0..6_usize, outcome, millis(0..200)).prop_map(|(back, outcome, elapsed)| Step::Settle(back, outcome, elapsed)),
        20 => millis(0..30).prop_map(Step::Wait),
        8 => millis(30..3_000).prop_map(Step::Wait),
        1 => state.prop_map(Step::Force),
    ];
    prop::collection::vec(step, length)
}

fn config() -> impl Strategy<Value = BreakerConfig> {
    let window = prop_oneof![
        3 => (1..20_u32).prop_map(Window::Count),
        1 => (60..70_u32).prop_map(Window::Count),
        2 => (100..1_000_u64).prop_map(|millis| Window::Time(Duration::from_millis(millis))),
        2 => (1..20_u32).prop_map(Window::Ewma),
    ];
    let rate = || prop::option::of((1..=50_u32).prop_map(|part| f64::from(part) / 50.0));
    let abandoned = prop_oneof![
        Just(Abandoned::Ignore),
        Just(Abandoned::Failure),
        Just(Abandoned::FailureIfOlderThan(Duration::from_millis(100))),
    ];
    let rules = (window, 1..20_u32, rate(), rate(), prop::option::of(1..8_u32), abandoned);
    let rest = (1..6_u32, 1..=10_u32, 1..300_u64, 1..100_u64, 1..10_u64, 1..4_u32, 0..5_000_u64);
    (rules, rest).prop_map(|(rules, rest)| {
        let (window, minimum, failure_rate, slow_rate, consecutive, abandoned) = rules;
        let (probes, probe_rate, wait, open, most, growth, forgive) = rest;
        let minimum_calls = if let Window::Count(n) = window { minimum.min(n) } else { minimum };
        let none = failure_rate.is_none() && slow_rate.is_none() && consecutive.is_none();
        BreakerConfig {
            window,
            minimum_calls,
            failure_rate: if none { Some(0.5) } else { failure_rate },
            slow_rate,
            slow_after: Duration::from_millis(150),
            consecutive_failures: consecutive,
            abandoned,
            probes,
            probe_failure_rate: f64::from(probe_rate) / 10.0,
            probe_max_wait: Duration::from_millis(wait),
            open_for: Duration::from_millis(open),
            open_for_max: Duration::from_millis(open * most),
            open_growth: f64::from(growth),
            open_jitter: 0.0,
            forgive_after: Duration::from_millis(forgive),
            ..BreakerConfig::default()
        }
    })
}

fn follow(config: &BreakerConfig, steps: &[Step]) {
    let clock = ManualClock::new();
    let builder = || Breaker::builder("b").config(config.clone()).clock(clock.clone()).random(Random::seeded(1));
    let breaker = builder().build().unwrap();
    let keyed: KeyedBreaker = builder().keyed().build().unwrap();
    let mut naive = Naive::new(config);
    let mut pure = Pure::new(config);
    let (mut atomic, mut of_key) = (Executor(&breaker, Vec::new()), Executor(&keyed, Vec::new()));
    for (place, step) in steps.iter().enumerate() {
        let moment = clock.now();
        let now = Duration::from_nanos(moment.as_nanos());
        match step {
            Step::Wait(time) => clock.advance(*time),
            Step::Arrive => {
                let told = naive.arrive(now);
                assert_eq!(pure.arrive(moment), told, "pure, step {place}");
                assert_eq!(atomic.arrive(), told, "atomic, step {place}");
                assert_eq!(of_key.arrive(), told, "keyed, step {place}");
            }
            Step::Settle(back, outcome, elapsed) => {
                let Some(ticket) = naive.tickets.len().checked_sub(1 + back) else { continue };
                naive.settle(now, ticket, *outcome, *elapsed);
                pure.settle(moment, ticket, *outcome, *elapsed);
                atomic.settle(ticket, *outcome, *elapsed);
                of_key.settle(ticket, *outcome, *elapsed);
            }
            Step::Force(state) => {
                naive.force(now, *state);
                pure.step(moment, Event::Force(*state));
                breaker.force(*state);
                keyed.force("k", *state);
            }
        }
        let states = [pure.machine.state(), breaker.state(), keyed.state("k")];
        assert_eq!(states, [naive.state; 3], "step {place}: {step:?}");
        if matches!(naive.state, State::Closed | State::Shadow) {
            let now = clock.now();
            let (calls, failed, slow) = naive.rates(Duration::from_nanos(now.as_nanos()));
            let snapshot = breaker.snapshot();
            let counts = pure.tally.counts(&pure.plan, now);
            assert_eq!(counts.calls, snapshot.calls);
            if !matches!(config.window, Window::Ewma(_)) {
                assert_eq!(snapshot.calls, calls as u64, "step {place}");
            }
            if config.failure_rate.is_some() || !matches!(config.window, Window::Count(_)) {
                assert!((snapshot.failure_rate - failed).abs() < 1e-6, "{} {failed}", snapshot.failure_rate);
            }
            if config.slow_rate.is_some() {
                assert!((snapshot.slow_rate - slow).abs() < 1e-6, "{} {slow}", snapshot.slow_rate);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, max_shrink_iters: 3_000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn all_four_agree_on_any_history(config in config(), steps in steps(1_500)) {
        follow(&config, &steps);
    }
}

//! The state machine: (state, now, event) → (state, effect). It does nothing,
//! reads no clock and draws no number; every executor here is a way to run it.

mod probes;

use std::time::Duration;

use stanchion_core::Moment;

use probes::Probes;

use crate::plan::{Plan, Verdict};

/// The state of a breaker, but for the window of a closed one.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Grows with each transition.
    pub(crate) generation: u64,
    pub(crate) phase: Phase,
    /// How often it has opened without a recovery between.
    pub(crate) flaps: u32,
    /// When it was last closed.
    closed_at: Moment,
    /// How often it has opened.
    pub(crate) opened: u64,
}

#[derive(Debug, Clone)]
pub(crate) enum Phase {
    Closed,
    Open { until: Moment },
    HalfOpen(Box<Probes>),
    ForcedOpen,
    Disabled,
    Shadow,
}

/// The states of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum State {
    /// Calls pass and are counted.
    Closed,
    /// Calls are refused until a time.
    Open,
    /// A number of probes pass, to see how it is.
    HalfOpen,
    /// Calls are refused until somebody says otherwise.
    ForcedOpen,
    /// Calls pass and aren't counted, until somebody says otherwise.
    Disabled,
    /// Calls pass and are counted; what would trip is only reported.
    Shadow,
}

impl State {
    /// A short name for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::Disabled => "disabled",
            Self::Shadow => "shadow",
        }
    }
}

/// Why a breaker changed its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Cause {
    /// So many failures without a success between.
    ConsecutiveFailures,
    /// Too large a share of the window failed.
    FailureRate,
    /// Too large a share of the window was slow.
    SlowRate,
    /// The open time is over.
    RestOver,
    /// Enough probes failed, hung or were dropped.
    ProbesFailed,
    /// Enough probes succeeded.
    ProbesSucceeded,
    /// Somebody said so.
    Command,
    /// The settings changed.
    Reconfigured,
    /// The fleet has opened.
    Fleet,
}

impl Cause {
    /// A short name for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::FailureRate => "failure_rate",
            Self::SlowRate => "slow_rate",
            Self::RestOver => "rest_over",
            Self::ProbesFailed => "probes_failed",
            Self::ProbesSucceeded => "probes_succeeded",
            Self::Command => "command",
            Self::Reconfigured => "reconfigured",
            Self::Fleet => "fleet",
        }
    }
}

/// What happens to a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A call asks to pass.
    Arrive,
    /// A call of this generation ended. `probe` is what its admission said.
    Settle {
        /// The generation of its admission.
        generation: u64,
        /// The number of its admission.
        probe: u32,
        /// What it counts as.
        verdict: Verdict,
    },
    /// The window of this generation has tripped.
    Trip {
        /// The generation of the window.
        generation: u64,
        /// The rule.
        cause: Cause,
    },
    /// Somebody puts it into a state. `Closed` is a reset.
    Force(State),
    /// The fleet has opened. It opens a breaker that is closed or half-open.
    Fleet,
    /// The settings have changed.
    Reconfigure,
}

/// What a call is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply {
    /// Nothing was asked.
    Nothing,
    /// It passes, with this generation and number.
    Admit {
        /// The generation.
        generation: u64,
        /// The number of a probe; 0 for any other call.
        probe: u32,
    },
    /// It doesn't, and needn't come back before this time has passed.
    Reject {
        /// The wait.
        retry_after: Duration,
    },
}

/// A transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Change {
    /// The state before.
    pub from: State,
    /// The state after.
    pub to: State,
    /// Why.
    pub cause: Cause,
    /// The generation after. It grows with each transition, so that of two
    /// changes the later one is known.
    pub generation: u64,
}

impl Machine {
    /// A closed breaker. Its generations begin after `generation`.
    pub fn new(generation: u64, now: Moment) -> Self {
        Self { generation: generation + 1, phase: Phase::Closed, flaps: 0, closed_at: now, opened: 0 }
    }

    /// The state.
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Closed => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen(_) => State::HalfOpen,
            Phase::ForcedOpen => State::ForcedOpen,
            Phase::Disabled => State::Disabled,
            Phase::Shadow => State::Shadow,
        }
    }

    /// The generation.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// When an open breaker's rest is over.
    pub(crate) fn until(&self) -> Option<Moment> {
        match self.phase {
            Phase::Open { until } => Some(until),
            _ => None,
        }
    }

    /// One step. `chance`, from 0 to 1, decides how long it stays open, should it
    /// open.
    pub fn step(mut self, plan: &Plan, now: Moment, chance: f64, event: Event) -> (Self, Reply, Option<Change>) {
        let from = self.state();
        let (reply, cause) = match event {
            Event::Arrive => self.arrive(plan, now, chance),
            Event::Settle { generation, probe, verdict } if generation == self.generation => {
                (Reply::Nothing, self.settle(plan, now, chance, probe, verdict))
            }
            Event::Trip { generation, cause } if generation == self.generation => {
                (Reply::Nothing, self.trip(plan, now, chance, cause))
            }
            // Of an earlier generation: late.
            Event::Settle { .. } | Event::Trip { .. } => (Reply::Nothing, None),
            Event::Force(state) => (Reply::Nothing, self.force(plan, now, chance, state)),
            Event::Fleet => (Reply::Nothing, self.join_fleet(plan, now, chance)),
            Event::Reconfigure => {
                if let Phase::HalfOpen(probes) = &mut self.phase {
                    // The verdict's numbers are others: it begins anew.
                    **probes = Probes::default();
                }
                self.generation += 1;
                (Reply::Nothing, Some(Cause::Reconfigured))
            }
        };
        let change = cause.map(|cause| Change { from, to: self.state(), cause, generation: self.generation });
        (self, reply, change)
    }

    fn arrive(&mut self, plan: &Plan, now: Moment, chance: f64) -> (Reply, Option<Cause>) {
        match &mut self.phase {
            Phase::Closed | Phase::Disabled | Phase::Shadow => {
                (Reply::Admit { generation: self.generation, probe: 0 }, None)
            }
            Phase::ForcedOpen => (Reply::Reject { retry_after: plan.open_for }, None),
            Phase::Open { until } => {
                let left = *until - now;
                if !left.is_zero() {
                    return (Reply::Reject { retry_after: left }, None);
                }
                let mut probes = Probes::default();
                let probe = probes.admit(plan, now).expect("there is a slot at first");
                self.become_phase(Phase::HalfOpen(Box::new(probes)));
                (Reply::Admit { generation: self.generation, probe }, Some(Cause::RestOver))
            }
            Phase::HalfOpen(probes) => {
                probes.expire(now);
                if probes.has_failed(plan) {
                    let rest = self.open(plan, now, chance);
                    return (Reply::Reject { retry_after: rest }, Some(Cause::ProbesFailed));
                }
                match probes.admit(plan, now) {
                    Some(probe) => (Reply::Admit { generation: self.generation, probe }, None),
                    None => (Reply::Reject { retry_after: probes.wait(plan, now) }, None),
                }
            }
        }
    }

    fn settle(&mut self, plan: &Plan, now: Moment, chance: f64, probe: u32, verdict: Verdict) -> Option<Cause> {
        let Phase::HalfOpen(probes) = &mut self.phase else { return None };
        probes.expire(now);
        probes.settle(probe, verdict);
        if probes.has_failed(plan) {
            self.open(plan, now, chance);
            return Some(Cause::ProbesFailed);
        }
        if probes.have_succeeded(plan) {
            self.close(now);
            return Some(Cause::ProbesSucceeded);
        }
        None
    }

    fn trip(&mut self, plan: &Plan, now: Moment, chance: f64, cause: Cause) -> Option<Cause> {
        match self.phase {
            Phase::Closed => {
                if now - self.closed_at >= plan.forgive_after {
                    self.flaps = 0;
                }
                self.open(plan, now, chance);
                Some(cause)
            }
            // Reported, with a fresh window.
            Phase::Shadow => {
                self.become_phase(Phase::Shadow);
                Some(cause)
            }
            _ => None,
        }
    }

    fn join_fleet(&mut self, plan: &Plan, now: Moment, chance: f64) -> Option<Cause> {
        if !matches!(self.phase, Phase::Closed | Phase::HalfOpen(_)) {
            return None;
        }
        self.open(plan, now, chance);
        Some(Cause::Fleet)
    }

    fn force(&mut self, plan: &Plan, now: Moment, chance: f64, state: State) -> Option<Cause> {
        match state {
            State::Closed => {
                self.flaps = 0;
                self.close(now);
            }
            State::Open => drop(self.open(plan, now, chance)),
            State::HalfOpen => self.become_phase(Phase::HalfOpen(Box::default())),
            State::ForcedOpen => self.become_phase(Phase::ForcedOpen),
            State::Disabled => self.become_phase(Phase::Disabled),
            State::Shadow => self.become_phase(Phase::Shadow),
        }
        Some(Cause::Command)
    }

    /// Opens for a while; how long.
    fn open(&mut self, plan: &Plan, now: Moment, chance: f64) -> Duration {
        let rest = plan.open_time(self.flaps, chance);
        self.flaps = self.flaps.saturating_add(1);
        self.opened += 1;
        self.become_phase(Phase::Open { until: now + rest });
        rest
    }

    fn close(&mut self, now: Moment) {
        self.closed_at = now;
        self.become_phase(Phase::Closed);
    }

    fn become_phase(&mut self, phase: Phase) {
        self.generation += 1;
        self.phase = phase;
    }
}

//! A server in virtual time, with a gate in front of it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use stanchion_core::{Admission, Call, Gate, Outcome, Ticket};

/// How long a server works on a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Between the two, evenly.
    Uniform(Duration, Duration),
    /// The first at least, and the second on average beyond that, exponentially:
    /// a long tail.
    Exponential(Duration, Duration),
}

/// A server that works on so many calls at a time and queues the others, first
/// come first served, without a bound; and calls that arrive by chance,
/// independent of each other (Poisson), whatever becomes of them.
///
/// It runs in virtual time, so that hours take moments, and is determined by its
/// seed. What stands between calls and server is the gate under test: its
/// `try_admit` decides and its `settle` is told of success and the time it took.
///
/// ```
/// use std::time::Duration;
/// use stanchion_conformance::simulation::{Everything, Simulation, Work};
///
/// let millis = Duration::from_millis;
/// let simulation = Simulation {
///     seed: 1,
///     arrivals_per_second: 50.0,
///     work: Work::Uniform(millis(80), millis(120)),
///     // Ten places for a minute, then five for a minute.
///     phases: vec![(Duration::from_secs(60), 10), (Duration::from_secs(60), 5)],
/// };
/// let report = simulation.run(&Everything, |_| ());
/// assert!((report.throughput(0, 60) - 50.0).abs() < 5.0);
/// assert!(report.latency(0, 60, 0.5) < millis(110));
/// ```
#[derive(Debug, Clone)]
pub struct Simulation {
    /// Determines everything that is by chance.
    pub seed: u64,
    /// How many calls arrive in a second, on average.
    pub arrivals_per_second: f64,
    /// How long the server works on one.
    pub work: Work,
    /// How long, and on how many at a time. Work that has begun is finished.
    pub phases: Vec<(Duration, usize)>,
}

/// A gate that admits everything.
#[derive(Debug, Clone, Copy)]
pub struct Everything;

impl Gate for Everything {
    fn try_admit(&self, _call: &Call<'_>) -> Admission {
        Admission::Admitted(Ticket::new(0))
    }

    fn settle(&self, _ticket: Ticket, _outcome: Outcome, _elapsed: Duration) {}
}

/// What became of the calls.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// When each call was answered and how long it had taken, in nanoseconds, in
    /// order of the answers.
    answers: Vec<(u64, u64)>,
    /// How many calls the gate refused.
    pub refused: usize,
}

impl Report {
    /// Answers in a second, between these seconds.
    #[allow(clippy::cast_precision_loss, reason = "counts of answers")]
    pub fn throughput(&self, from: u64, to: u64) -> f64 {
        self.between(from, to).count() as f64 / (to - from) as f64
    }

    /// The latency that this share of the answers between these seconds kept.
    ///
    /// # Panics
    /// If there was no answer.
    pub fn latency(&self, from: u64, to: u64, share: f64) -> Duration {
        let mut took: Vec<u64> = self.between(from, to).collect();
        took.sort_unstable();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index"
        )]
        let index = (share * took.len() as f64) as usize;
        Duration::from_nanos(took[index.min(took.len() - 1)])
    }

    fn between(&self, from: u64, to: u64) -> impl Iterator<Item = u64> {
        let nanos = from * SECOND..to * SECOND;
        self.answers.iter().filter(move |(at, _)| nanos.contains(at)).map(|(_, took)| *took)
    }
}

const SECOND: u64 = 1_000_000_000;

/// What happens next. The order among things of one moment is that of this list.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Phase(usize),
    Answer(usize),
    Arrival,
    Observe,
}

impl Simulation {
    /// Runs all phases, and calls `observe` with the time at each tenth of a second.
    pub fn run(&self, gate: &dyn Gate, mut observe: impl FnMut(Duration)) -> Report {
        let mut chance = Chance(self.seed);
        let mut report = Report::default();
        let mut events: BinaryHeap<Reverse<(u64, Event)>> = BinaryHeap::new();
        let mut calls: Vec<(u64, Option<Ticket>)> = Vec::new();
        let mut queue: VecDeque<usize> = VecDeque::new();
        let (mut busy, mut places) = (0, 0);
        let mut end = 0;
        for (phase, (length, _)) in self.phases.iter().enumerate() {
            events.push(Reverse((end, Event::Phase(phase))));
            end += nanos(*length);
        }
        events.push(Reverse((0, Event::Arrival)));
        events.push(Reverse((0, Event::Observe)));
        while let Some(Reverse((now, event))) = events.pop().filter(|Reverse((now, _))| *now < end) {
            match event {
                Event::Phase(phase) => places = self.phases[phase].1,
                Event::Observe => {
                    observe(Duration::from_nanos(now));
                    events.push(Reverse((now + SECOND / 10, Event::Observe)));
                }
                Event::Arrival => {
                    let pause = Duration::from_secs_f64(chance.exponential() / self.arrivals_per_second);
                    events.push(Reverse((now + nanos(pause), Event::Arrival)));
                    match gate.try_admit(&Call::new()) {
                        Admission::Admitted(ticket) => {
                            queue.push_back(calls.len());
                            calls.push((now, Some(ticket)));
                        }
                        Admission::Wait | Admission::Rejected(_) => report.refused += 1,
                    }
                }
                Event::Answer(call) => {
                    busy -= 1;
                    let (began, ticket) = &mut calls[call];
                    let took = now - *began;
                    report.answers.push((now, took));
                    if let Some(ticket) = ticket.take() {
                        gate.settle(ticket, Outcome::Success, Duration::from_nanos(took));
                    }
                }
            }
            while busy < places {
                let Some(call) = queue.pop_front() else { break };
                busy += 1;
                events.push(Reverse((now + nanos(self.work.duration(&mut chance)), Event::Answer(call))));
            }
        }
        report
    }
}

impl Work {
    /// How long it takes on average.
    pub fn mean(&self) -> Duration {
        match self {
            Self::Uniform(least, most) => (*least + *most) / 2,
            Self::Exponential(least, more) => *least + *more,
        }
    }

    fn duration(&self, chance: &mut Chance) -> Duration {
        match self {
            Self::Uniform(least, most) => *least + (*most - *least).mul_f64(chance.unit()),
            Self::Exponential(least, more) => *least + more.mul_f64(chance.exponential()),
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Knuth's linear congruential generator; its upper bits are used.
struct Chance(u64);

impl Chance {
    /// A number in `0.0..1.0`.
    #[allow(clippy::cast_precision_loss, reason = "of 53 bits, which fit")]
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number with the mean of 1.
    fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn simulation(arrivals_per_second: f64, places: usize) -> Simulation {
        let phases = vec![(Duration::from_secs(100), places)];
        Simulation { seed: 5, arrivals_per_second, work: Work::Uniform(80 * MILLI, 120 * MILLI), phases }
    }

    /// Little's law: ten places of 100 ms are 100 a second, and not one more.
    #[test]
    fn an_overloaded_server_answers_at_its_capacity_and_its_queue_grows() {
        let report = simulation(150.0, 10).run(&Everything, |_| ());
        assert!((report.throughput(10, 100) - 100.0).abs() < 0.5);
        assert!(report.latency(90, 100, 0.01) > Duration::from_secs(25));
    }

    #[test]
    fn an_idle_server_takes_its_time_and_no_more() {
        let report = simulation(10.0, 10).run(&Everything, |_| ());
        assert!((report.throughput(0, 100) - 10.0).abs() < 1.0);
        assert!(report.latency(0, 100, 0.0) >= 80 * MILLI && report.latency(0, 100, 1.0) <= 120 * MILLI);
    }

    #[test]
    fn the_same_seed_is_the_same_history() {
        let run = |seed| Simulation { seed, ..simulation(90.0, 10) }.run(&Everything, |_| ()).answers;
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn exponential_work_has_its_mean() {
        let work = Work::Exponential(50 * MILLI, 50 * MILLI);
        let mut chance = Chance(3);
        let total: Duration = (0..10_000).map(|_| work.duration(&mut chance)).sum();
        // The mean of 10,000 has a standard deviation of 0.5 ms.
        assert!((total / 10_000).abs_diff(work.mean()) < 3 * MILLI);
    }
}

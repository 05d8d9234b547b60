//! Adaptive limits before a simulated server whose capacity halves and recovers.

use std::sync::Mutex;
use std::time::Duration;

use stanchion_conformance::simulation::{Everything, Report, Simulation, Work};
use stanchion_core::{Admission, Outcome, Rejection, RejectionKind, Ticket};
use stanchion_limit::{AdaptiveLimiter, Aimd, Algorithm, Call, Gate, Gradient2, Vegas};

const MILLI: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);

/// 100 places, then 50, then 100 again, a minute each.
const PLACES: [usize; 3] = [100, 50, 100];
/// By ±20 %, and with a tail of eight times the mean.
const WORKS: [Work; 2] = [
    Work::Uniform(Duration::from_millis(80), Duration::from_millis(120)),
    Work::Exponential(Duration::from_millis(50), Duration::from_millis(50)),
];

fn halving(arrivals_per_second: f64, work: Work, seed: u64) -> Simulation {
    Simulation { seed, arrivals_per_second, work, phases: PLACES.map(|places| (MINUTE, places)).to_vec() }
}

/// The 99th percentile where nobody queues.
fn unloaded(work: Work) -> f64 {
    halving(100.0, work, 1).run(&Everything, |_| ()).latency(0, 180, 0.99).as_secs_f64()
}

fn limiter(algorithm: impl Into<Algorithm>) -> AdaptiveLimiter {
    AdaptiveLimiter::new(algorithm).seed(7).build().unwrap()
}

/// What a run was, beside what could have been.
#[derive(Debug)]
struct Kept {
    /// Of the capacity, or of the demand where that is less, phase by phase.
    throughput: [f64; 3],
    /// The 99th percentile, as a multiple of the unloaded one.
    p99: f64,
    p99_by_phase: [f64; 3],
}

fn kept(report: &Report, arrivals_per_second: f64, work: Work) -> Kept {
    let unloaded = unloaded(work);
    let phases = [(0, 60), (60, 120), (120, 180)];
    let p99 = |(from, to)| report.latency(from, to, 0.99).as_secs_f64() / unloaded;
    let throughput = std::array::from_fn(|phase| {
        let capacity = f64::from(u32::try_from(PLACES[phase]).unwrap()) / work.mean().as_secs_f64();
        report.throughput(phases[phase].0, phases[phase].1) / capacity.min(arrivals_per_second)
    });
    Kept { throughput, p99: p99((0, 180)), p99_by_phase: phases.map(p99) }
}

fn run(gate: &dyn Gate, arrivals_per_second: f64, work: Work, seed: u64) -> Kept {
    kept(&halving(arrivals_per_second, work, seed).run(gate, |_| ()), arrivals_per_second, work)
}

/// Every demand, kind of work and seed: some of the demand is met before and
/// after the fall, some is never met, and some is a flood.
fn all_runs(algorithm: impl Into<Algorithm> + Copy, check: impl Fn(&Kept)) {
    for arrivals_per_second in [900.0, 1_200.0, 5_000.0] {
        for work in WORKS {
            for seed in 1..=3 {
                let kept = run(&limiter(algorithm), arrivals_per_second, work, seed);
                println!("{arrivals_per_second} {work:?} {seed}: {kept:.3?}");
                check(&kept);
            }
        }
    }
}

/// The start from 20, the fall and the recovery included.
#[test]
fn vegas_keeps_nine_tenths_of_the_throughput_and_twice_the_latency() {
    all_runs(Vegas::default(), |kept| {
        assert!(kept.throughput.iter().all(|share| *share >= 0.9), "{kept:?}");
        assert!(kept.p99 <= 1.2, "{kept:?}");
        assert!(kept.p99_by_phase.iter().all(|times| *times <= 2.0), "{kept:?}");
    });
}

/// Twice the latency of one call: 200 ms.
#[test]
fn aimd_keeps_both_where_it_is_told_the_latency() {
    all_runs(Aimd::default().timeout(200 * MILLI), |kept| {
        assert!(kept.throughput.iter().all(|share| *share >= 0.9), "{kept:?}");
        assert!(kept.p99 <= 2.0, "{kept:?}");
    });
}

/// Its fall takes ten round trips of the longest kind, which are more than one in
/// a hundred calls: where latencies are steady it doesn't keep twice.
#[test]
fn gradient2_keeps_the_throughput_and_thrice_the_latency() {
    all_runs(Gradient2::default(), |kept| {
        assert!(kept.throughput.iter().all(|share| *share >= 0.9), "{kept:?}");
        assert!(kept.p99 <= 3.0, "{kept:?}");
    });
}

/// Far more than the server can bear, for an hour. Vegas' probes find an empty
/// queue each time; Gradient2 takes for normal what lasts.
#[test]
fn a_lasting_overload_is_no_new_normal_to_vegas_but_is_to_gradient2() {
    let work = WORKS[0];
    let unloaded = unloaded(work);
    // Of the second half hour: the share of the capacity, the 99th percentile, the greatest limit.
    let run = |places: u32, arrivals_per_second, algorithm: Algorithm| {
        let limiter = limiter(algorithm);
        let phases = vec![(60 * MINUTE, usize::try_from(places).unwrap())];
        let mut most = 0;
        let report = Simulation { seed: 1, arrivals_per_second, work, phases }.run(&limiter, |time| {
            most = most.max(if time < 30 * MINUTE { 0 } else { limiter.limit() });
        });
        let p99 = report.latency(1_800, 3_600, 0.99).as_secs_f64() / unloaded;
        (report.throughput(1_800, 3_600) / f64::from(10 * places), p99, most)
    };
    let (throughput, p99, most) = run(50, 750.0, Vegas::default().into());
    assert!(throughput >= 0.95 && p99 <= 1.3 && most <= 75, "{throughput} {p99} {most}");
    // A small server, a flood, many probes. Six in the queue of five places are more than the work.
    let (throughput, p99, most) = run(5, 500.0, Vegas::default().probe_every(10).into());
    assert!(throughput >= 0.95 && p99 <= 2.5 && most <= 20, "{throughput} {p99} {most}");
    let (throughput, p99, most) = run(5, 500.0, Vegas::default().queue(1, 2).into());
    assert!(throughput >= 0.95 && p99 <= 2.0 && most <= 12, "{throughput} {p99} {most}");
    let (_, p99, most) = run(50, 750.0, Gradient2::default().into());
    assert!(p99 > 3.0 && most == 200, "{p99} {most}");
}

/// TCP Vegas' rule applied to each call as it ends, without round trips, with its
/// latency against the shortest one: what the peers do.
struct EachCall(Mutex<EachCallState>);

struct EachCallState {
    in_flight: f64,
    limit: f64,
    shortest: f64,
    calls: f64,
}

fn each_call() -> EachCall {
    EachCall(Mutex::new(EachCallState { in_flight: 0.0, limit: 20.0, shortest: 0.0, calls: 0.0 }))
}

impl Gate for EachCall {
    fn try_admit(&self, _: &Call<'_>) -> Admission {
        let mut state = self.0.lock().unwrap();
        if state.in_flight >= state.limit.floor() {
            return Admission::Rejected(Rejection::new("each-call", RejectionKind::Saturated));
        }
        state.in_flight += 1.0;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some hundreds")]
        let in_flight = state.in_flight as u64;
        Admission::Admitted(Ticket::new(0).with_note(in_flight))
    }

    fn settle(&self, ticket: Ticket, _: Outcome, elapsed: Duration) {
        let mut state = self.0.lock().unwrap();
        state.in_flight -= 1.0;
        state.calls += 1.0;
        let latency = elapsed.as_secs_f64();
        if state.calls >= 22.5 * state.limit || state.shortest == 0.0 || latency < state.shortest {
            if state.calls >= 22.5 * state.limit {
                state.calls = 0.0;
            }
            state.shortest = latency;
            return;
        }
        #[allow(clippy::cast_precision_loss, reason = "some hundreds")]
        let in_flight = ticket.note() as f64;
        if in_flight * 2.0 < state.limit {
            return;
        }
        let log = state.limit.log10().floor().max(1.0);
        let queue = (state.limit * (1.0 - state.shortest / latency)).ceil();
        let change = match queue {
            queue if queue <= log => 6.0 * log,
            queue if queue < 3.0 * log => log,
            queue if queue > 6.0 * log => -log,
            _ => 0.0,
        };
        state.limit = (state.limit + change).clamp(1.0, 1_000.0);
    }
}

/// Why a step is made once per round trip, of the shortest of ten latencies.
#[test]
fn a_step_for_each_call_leaves_most_of_the_server_idle() {
    for seed in 1..=3 {
        let kept = run(&each_call(), 1_200.0, WORKS[0], seed);
        println!("{kept:.3?}");
        assert!(kept.throughput[0] < 0.5, "{kept:?}");
    }
}

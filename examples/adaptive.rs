//! Adaptive concurrency limits before a simulated server whose capacity halves
//! and recovers: what each keeps of throughput and latency.
//!
//! `cargo run --example adaptive [FOLDER]`
//!
//! With a folder it writes `adaptive.md` and `adaptive.svg` there. All time is
//! virtual and all chance is seeded: each run says the same.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use stanchion_conformance::simulation::{Everything, Report, Simulation, Work};
use stanchion_limit::{AdaptiveLimiter, Aimd, Algorithm, Gate, Gradient2, Vegas};

/// How long a phase lasts, and how many calls the server works on at a time.
const PHASES: [(u64, u32); 3] = [(60, 100), (60, 50), (60, 100)];
const SECONDS: u64 = 180;
/// Three times what the server can do at its best.
const ARRIVALS_PER_SECOND: f64 = 3_000.0;

fn main() -> Result<(), Box<dyn Error>> {
    let runs = runs()?;
    let table = table(&runs);
    print!("{table}");
    // What is shown is what is promised.
    for run in runs.iter().filter(|run| run.promises) {
        assert!(run.phases().all(|(from, to, capacity)| run.report.throughput(from, to) >= 0.9 * capacity));
        assert!(run.p99(0, SECONDS) <= 2.0);
    }
    if let Some(folder) = std::env::args().nth(1) {
        let folder = Path::new(&folder);
        std::fs::write(folder.join("adaptive.svg"), plot(&runs))?;
        std::fs::write(folder.join("adaptive.md"), page(&table))?;
    }
    Ok(())
}

struct Run {
    name: &'static str,
    color: &'static str,
    /// Whether it keeps nine tenths of the throughput and twice the latency.
    promises: bool,
    report: Report,
    /// Second by second.
    limits: Vec<u32>,
    unloaded: Duration,
}

impl Run {
    /// Each phase: from, to, and how many calls a second the server can do.
    fn phases(&self) -> impl Iterator<Item = (u64, u64, f64)> {
        let capacity = |places: u32| f64::from(places) / work().mean().as_secs_f64();
        (0..).zip(PHASES).map(move |(phase, (length, places))| (phase * length, (phase + 1) * length, capacity(places)))
    }

    /// The 99th percentile, as a multiple of the unloaded one.
    fn p99(&self, from: u64, to: u64) -> f64 {
        self.report.latency(from, to, 0.99).as_secs_f64() / self.unloaded.as_secs_f64()
    }
}

fn work() -> Work {
    Work::Uniform(Duration::from_millis(80), Duration::from_millis(120))
}

fn simulation(arrivals_per_second: f64) -> Simulation {
    let phases = PHASES.iter().map(|(length, places)| (Duration::from_secs(*length), *places as usize)).collect();
    Simulation { seed: 1, arrivals_per_second, work: work(), phases }
}

fn runs() -> Result<Vec<Run>, Box<dyn Error>> {
    let unloaded = simulation(100.0).run(&Everything, |_| ()).latency(0, SECONDS, 0.99);
    let algorithms: [(&str, &str, bool, Algorithm); 4] = [
        ("Vegas", "#2f81f7", true, Vegas::default().into()),
        ("AIMD, told 200 ms", "#2da44e", true, Aimd::default().timeout(Duration::from_millis(200)).into()),
        ("Gradient2", "#bf8700", false, Gradient2::default().into()),
        ("fixed at 200", "#9a8c7c", false, Algorithm::Fixed(200)),
    ];
    let mut runs = Vec::new();
    for (name, color, promises, algorithm) in algorithms {
        let limiter = AdaptiveLimiter::new(algorithm).seed(1).build()?;
        let gate: &dyn Gate = &limiter;
        let mut limits = Vec::new();
        let report = simulation(ARRIVALS_PER_SECOND).run(gate, |time| {
            if time.subsec_nanos() == 0 {
                limits.push(limiter.limit());
            }
        });
        runs.push(Run { name, color, promises, report, limits, unloaded });
    }
    Ok(runs)
}

fn table(runs: &[Run]) -> String {
    let mut table = String::from(
        "| limit | throughput of 100 places | of 50 | of 100 again | p99 | with 50 places |\n|---|--:|--:|--:|--:|--:|\n",
    );
    for run in runs {
        let kept: Vec<String> = run
            .phases()
            .map(|(from, to, capacity)| format!("{:.1} %", 100.0 * run.report.throughput(from, to) / capacity))
            .collect();
        let (all, halved) = (run.p99(0, SECONDS), run.p99(60, 120));
        writeln!(table, "| {} | {} | {all:.2} × | {halved:.2} × |", run.name, kept.join(" | ")).ok();
    }
    table
}

fn page(table: &str) -> String {
    format!(
        "<!-- Written by `cargo run --example adaptive docs/performance`; changes here are lost. -->
# What adaptive concurrency limits keep

A simulated server works on 100 calls at a time, each for 80 to 120 ms, and queues the others without a bound. After a
minute it loses half of its places, and after another gets them back. All the time 3,000 calls arrive in a second, by
chance, three times what it can do. The limits start from 20; nothing is left out of the figures.

![The limits beside the capacity, and the 99th percentile of each second](adaptive.svg)

{table}
Throughput is told as a share of what so many places can do, latency as a multiple of what it is without load.
The assertions, over more demands, kinds of work and seeds: `crates/stanchion-limit/tests/adaptive_sim.rs`.

## What it says
- **Vegas** needs no number about the server, and keeps the queue short.
- **AIMD** keeps what it is told, 200 ms on average, with a saw's teeth. Where `max` calls keep it, too, it goes there.
- **Gradient2** cuts by a tenth at most in a round trip; when the capacity halves, more than one call in a hundred is
  late by then: it keeps the throughput, but not twice the latency. While an overload lasts, its average follows the
  latency, and the limit climbs towards its `max`.
- A **fixed** limit is right for one capacity.

## Why a step is made once per round trip
Netflix' limits step once per call, with that call's latency, unless they are wrapped in a `WindowedLimit`. TCP Vegas'
rule applied so leaves 71 % of this server idle: the shortest latency ever seen is 80 ms, an average call takes 100, and
the difference is taken for a queue, call by call (`a_step_for_each_call_leaves_most_of_the_server_idle`). The shortest
of ten calls, which TCP takes, has little of that noise. And a change takes a round trip to show: whoever steps sooner
judges by what was before.

## Why Vegas shrinks by all that is too much
One logarithm, which is 1 or 2 of a limit of some hundreds, is little in a round trip. With that alone the 99th
percentile of the run at 900 calls a second is 3.9 times the unloaded one, instead of 1.1 times.

## Why Vegas halves its limit to probe
A server of 5 places, 500 calls a second, an hour, with a probe every ten limits: a limit that takes the next latency
for the unloaded one, whatever the queue, reaches 65 to 76, and twelve times the latency. Halved for a round trip, it
stays below 20 (`a_lasting_overload_is_no_new_normal_to_vegas_but_is_to_gradient2`).
"
    )
}

/// Two panels: the limits, and the latencies.
fn plot(runs: &[Run]) -> String {
    const WIDTH: f64 = 880.0;
    let x = |second: f64| 60.0 + second * (WIDTH - 80.0) / 180.0;
    let line = |points: &[(f64, f64)], color: &str, width: f64| {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        format!(
            "<polyline fill=\"none\" stroke=\"{color}\" stroke-width=\"{width}\" points=\"{}\"/>\n",
            points.join(" ")
        )
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} 620\" width=\"{WIDTH}\" height=\"620\" font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"#7a7a7a\" role=\"img\">\n<title>Limits beside the capacity of a server, which halves and recovers, and the 99th percentile of each second</title>\n"
    );
    let axis = |title: &str, top: f64, marks: &[(String, f64)]| {
        let mut axis = format!("<text x=\"60\" y=\"{}\">{title}</text>\n", top - 10.0);
        for (mark, y) in marks {
            write!(
                axis,
                "<text x=\"52\" y=\"{:.1}\" text-anchor=\"end\">{mark}</text>\n<line x1=\"60\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#7a7a7a\" stroke-opacity=\"0.25\"/>\n",
                y + 4.0,
                WIDTH - 20.0
            )
            .ok();
        }
        axis
    };
    let limit_y = |limit: f64| 290.0 - limit;
    let marks: Vec<_> = [0.0, 50.0, 100.0, 150.0, 200.0].map(|limit| (limit.to_string(), limit_y(limit))).into();
    svg += &axis("calls under way: the limits, and in grey the server's places", 60.0, &marks);
    let places = [(0.0, 100.0), (60.0, 100.0), (60.0, 50.0), (120.0, 50.0), (120.0, 100.0), (180.0, 100.0)];
    svg += &line(&places.map(|(second, places)| (x(second), limit_y(places))), "#7a7a7a", 5.0);
    let latency_y = |times: f64| 580.0 - 50.0 * times;
    let marks: Vec<_> = [0.0, 1.0, 2.0, 3.0, 4.0].map(|times| (format!("{times} ×"), latency_y(times))).into();
    svg += &axis("99th percentile of each second, as a multiple of the unloaded one", 370.0, &marks);
    for (place, run) in runs.iter().enumerate() {
        let limits: Vec<_> =
            (0_u32..).zip(&run.limits).map(|(second, limit)| (x(second.into()), limit_y((*limit).into()))).collect();
        svg += &line(&limits, run.color, 1.6);
        let latencies: Vec<_> = (0..180_u32)
            .map(|second| {
                (x(f64::from(second) + 0.5), latency_y(run.p99(second.into(), u64::from(second) + 1).min(4.2)))
            })
            .collect();
        svg += &line(&latencies, run.color, 1.6);
        let legend = 60.0 + 200.0 * f64::from(u32::try_from(place).unwrap_or_default());
        write!(
            svg,
            "<rect x=\"{legend}\" y=\"12\" width=\"22\" height=\"4\" fill=\"{}\"/>\n<text x=\"{}\" y=\"19\">{}</text>\n",
            run.color,
            legend + 30.0,
            run.name
        )
        .ok();
    }
    for second in [0.0, 60.0, 120.0, 180.0] {
        writeln!(svg, "<text x=\"{:.1}\" y=\"606\" text-anchor=\"middle\">{second} s</text>", x(second)).ok();
    }
    svg + "</svg>\n"
}

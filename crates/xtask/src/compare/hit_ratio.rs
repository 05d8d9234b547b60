//! `cargo xtask hit-ratio`: how often caches have what they are asked for.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::machine::Machine;
use super::{Options, bench, report_named, write};
use crate::run::Outcome;

const USAGE: &str = "usage: cargo xtask hit-ratio [--traces DIR] [--json FILE] [--quick]

Plays generated streams to our policies and to the peers, and writes the report in docs/performance.
  --traces DIR  and all traces of this folder: text, ARC's .lis, binary numbers; packed with gzip, xz, zstd or not
  --json FILE   copies the figures there
  --quick       only sees whether it works, with small streams, and leaves the report as it is";

/// Below so many entries a cell counts for no mean: chance fills shards unevenly, and no service has such a cache.
const LEAST: u64 = 200;

/// Runs it with the arguments after `hit-ratio`.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    let (options, traces) = parse(arguments)?;
    let mut command = vec!["run"];
    if let Some(traces) = &traces {
        command.extend(["--traces", traces.to_str().ok_or("the folder of traces has no name in UTF-8")?]);
    }
    let written = bench("hit_ratio", &command, &["--json"], &options)?;
    let replay = Replay::parse(&written.concat())?;
    if options.quick {
        return Ok(());
    }
    write(&report_named("hit-ratio", "md"), &replay.markdown(&Machine::inspect()?))?;
    write(&report_named("hit-ratio", "svg"), &replay.svg())
}

fn parse(arguments: &[String]) -> Result<(Options, Option<PathBuf>), String> {
    let (mut options, mut traces) = (Options::default(), None);
    let mut arguments = arguments.iter().map(String::as_str);
    while let Some(argument) = arguments.next() {
        match argument {
            "--traces" => {
                let folder = arguments.next().ok_or(USAGE)?;
                // The bench runs in another folder.
                traces = Some(fs::canonicalize(folder).map_err(|error| format!("{folder}: {error}"))?);
            }
            "--json" => options.json = Some(arguments.next().ok_or(USAGE)?.into()),
            "--quick" => options.quick = true,
            other => return Err(format!("`{other}` is no option\n{USAGE}")),
        }
    }
    Ok((options, traces))
}

/// What the bench wrote.
struct Replay {
    /// The optimum first.
    contestants: Vec<String>,
    cells: Vec<Cell>,
}

/// A stream and a capacity.
struct Cell {
    trace: String,
    kind: String,
    requests: u64,
    capacity: u64,
    /// Of 100 requests, by contestant.
    hits: Vec<f64>,
}

/// The groups of which means are told, by what the bench calls them.
const GROUPS: [(&str, &str); 4] = [
    ("application", "application traces"),
    ("loop", "loops and scans (LIRS)"),
    ("shift", "shift of phase"),
    ("generated", "generated streams"),
];

impl Replay {
    fn parse(json: &str) -> Result<Self, String> {
        let json: Value = serde_json::from_str(json).map_err(|error| format!("the bench's figures: {error}"))?;
        let texts = json["contestants"].as_array().into_iter().flatten();
        let rows = json["rows"].as_array().ok_or("the bench has written no rows")?;
        Ok(Self {
            contestants: texts.filter_map(Value::as_str).map(str::to_owned).collect(),
            cells: rows.iter().map(Cell::parse).collect::<Result<_, _>>()?,
        })
    }

    /// How many cells of a kind count, and each contestant's mean share of the optimum's hits in them.
    fn means(&self, kind: &str) -> Option<(usize, Vec<f64>)> {
        let cells: Vec<&Cell> = self.cells.iter().filter(|cell| cell.kind == kind && cell.capacity >= LEAST).collect();
        let share = |cell: &Cell, place: usize| cell.hits[place] / cell.hits[0];
        let mean = |place| cells.iter().map(|cell| share(cell, place)).sum::<f64>() / cells.len() as f64;
        (!cells.is_empty()).then(|| (cells.len(), (0..self.contestants.len()).map(mean).collect()))
    }

    fn markdown(&self, machine: &Machine) -> String {
        let names: Vec<String> = self.contestants.iter().map(|name| versioned(machine, name)).collect();
        let line = "--:|".repeat(names.len());
        let means: String = GROUPS
            .iter()
            .filter_map(|(kind, title)| Some((title, self.means(kind)?)))
            .map(|(title, (count, means))| {
                let means: String = means[1..].iter().map(|mean| format!(" {mean:.3} |")).collect();
                format!("| {title} | {count} |{means}\n")
            })
            .collect();
        let cells: String = self.cells.iter().map(Cell::row).collect();
        format!(
            "\
<!-- Written by `cargo xtask hit-ratio`; changes here are lost. -->
# How often a cache has what it is asked for

![Mean share of the optimum's hits, by kind of stream and by cache](hit-ratio.svg)

## Mean share of the optimum
A cache's hits divided by the hits of one that knows the future (Belady's), cell by cell, and of that the mean. Cells
with fewer than {LEAST} entries don't count.

| streams | cells | {} |
|---|--:|{}
{means}
`stanchion` is our cache with its defaults, in eight shards; `hybrid` is its policy alone, as one shard would run it.
`s3_fifo` and `lru` are the two other policies, alone as well. The peers have their defaults; foyer is its cache in
memory with S3-FIFO and with its LFU (W-TinyLFU). One thread asks; on a miss it puts the key in.

## Hits of 100 requests
| stream, capacity | requests | {} |
|---|--:|{line}
{cells}
## The streams
Generated, by `benches/replay/streams.rs`, the same on each machine: **zipf-***s*: 100,000 keys by Zipf's law with
exponent *s*. **loop**: 10,000 keys again and again. **loop+zipf**: half of the requests of a loop, half of zipf-0.9.
**scan+zipf**: zipf-0.9, and after each 10,000 requests 5,000 keys that never come again. **shift**: keys of which each
second one is asked for twice, within 95 requests, and never again; then a loop of 1,011 keys; then such keys as before: an
LRU is perfect for the first and the last part and has nothing of the second, and policies that go by frequency the
other way round. At a tenth of their size, the counts of our policies are pinned by a test.

Traces, if a folder of them was given: OLTP from Megiddo and Modha, \"ARC: a self-tuning, low overhead replacement
cache\", FAST 2003; orm-busy and web12 from cache2k's benchmarks (headissue GmbH, Jens Wilke, CC BY 4.0); the others as
Caffeine's simulator has them. `corda+5loop+corda` is corda, loop five times, corda.

moka and quick_cache seed their hashes by chance: their figures differ by some hundredths from run to run. moka holds
more entries than it may until it gets round to evicting, and so can exceed the optimum where a cache is tiny.
",
            names[1..].join(" | "),
            "--:|".repeat(names.len() - 1),
            names.join(" | "),
        )
    }

    fn svg(&self) -> String {
        const WIDTH: f64 = 720.0;
        const LABELS: f64 = 130.0;
        const BARS: f64 = 500.0;
        const STEP: f64 = 17.0;
        let mut y = 24.0;
        let mut body = String::new();
        for (kind, title) in GROUPS {
            let Some((count, means)) = self.means(kind) else { continue };
            body += &format!("<text x=\"{LABELS}\" y=\"{y}\">{title}, {count} cells</text>\n");
            for (name, mean) in self.contestants.iter().zip(means).skip(1) {
                y += STEP;
                let colour = match &**name {
                    "stanchion" => "#2f81f7",
                    "hybrid" | "s3_fifo" | "lru" => "#8fb8ee",
                    _ => "#9a8c7c",
                };
                let length = BARS * mean;
                body += &format!(
                    "<text x=\"{}\" y=\"{y}\" text-anchor=\"end\">{name}</text>\n\
                     <rect x=\"{LABELS}\" y=\"{}\" width=\"{length:.1}\" height=\"13\" fill=\"{colour}\"/>\n\
                     <text x=\"{:.1}\" y=\"{y}\">{mean:.3}</text>\n",
                    LABELS - 10.0,
                    y - 11.0,
                    LABELS + length + 8.0,
                );
            }
            y += 2.0 * STEP;
        }
        format!(
            "\
<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" width=\"{WIDTH}\" height=\"{y}\" \
font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"#7a7a7a\" role=\"img\">
<title>Mean share of the optimum's hits, by kind of stream and by cache; more is better</title>
{body}</svg>
"
        )
    }
}

impl Cell {
    fn parse(row: &Value) -> Result<Self, String> {
        let text = |key: &str| row[key].as_str().map(str::to_owned).ok_or_else(|| format!("no text `{key}` in {row}"));
        let whole = |key: &str| row[key].as_u64().ok_or_else(|| format!("no whole number `{key}` in {row}"));
        let hits: Vec<f64> = row["hits"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
        Ok(Self {
            trace: text("trace")?,
            kind: text("kind")?,
            requests: whole("requests")?,
            capacity: whole("capacity")?,
            hits,
        })
    }

    fn row(&self) -> String {
        let hits: String = self.hits.iter().map(|hits| format!(" {hits:.2} |")).collect();
        format!("| {}, {} | {} |{hits}\n", self.trace, self.capacity, self.requests)
    }
}

/// With the version, if it is a peer's name.
fn versioned(machine: &Machine, name: &str) -> String {
    match name.split_once('-') {
        Some((krate, policy)) => format!("{} {policy}", machine.versioned(krate)),
        None => match name {
            "moka" | "quick_cache" => machine.versioned(name),
            ours => ours.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::machine;
    use super::*;

    fn some() -> Replay {
        let row = |kind: &str, capacity: u64, hits: [f64; 3]| json!({ "trace": "x", "kind": kind, "requests": 1000, "capacity": capacity, "hits": hits });
        let rows = [
            row("loop", 500, [40.0, 20.0, 10.0]),
            row("loop", 1000, [80.0, 80.0, 60.0]),
            row("loop", 100, [10.0, 0.0, 0.0]),
            row("shift", 512, [50.0, 40.0, 1.0]),
        ];
        Replay::parse(&json!({ "contestants": ["OPT", "stanchion", "moka"], "rows": rows }).to_string()).unwrap()
    }

    #[test]
    fn means_are_of_the_shares_in_large_enough_cells() {
        let (count, means) = some().means("loop").unwrap();
        assert_eq!((count, means), (2, vec![1.0, 0.75, 0.5]));
        assert!(some().means("application").is_none());
    }

    #[test]
    fn the_report_has_a_row_for_each_group_and_cell() {
        let report = some().markdown(&machine::tests::some());
        for row in [
            "| streams | cells | stanchion | moka |\n|---|--:|--:|--:|\n| loops and scans (LIRS) | 2 | 0.750 | 0.500 |\n",
            "| x, 100 | 1000 | 10.00 | 0.00 | 0.00 |\n",
        ] {
            assert!(report.contains(row), "{row} is not in\n{report}");
        }
    }

    #[test]
    fn a_bar_is_as_long_as_the_share() {
        let chart = some().svg();
        assert_eq!(chart.matches("<rect").count(), 4);
        assert!(chart.contains("width=\"375.0\"") && chart.contains("width=\"250.0\""), "{chart}");
    }

    #[test]
    fn the_command_line_is_read() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let (options, traces) = parse(&words("--quick --traces . --json out.json")).unwrap();
        assert!(options.quick && options.json.is_some() && traces.is_some_and(|folder| folder.is_absolute()));
        for wrong in ["--traces", "--traces /nowhere/at/all", "limit"] {
            assert!(parse(&words(wrong)).is_err(), "{wrong}");
        }
    }
}

//! `cargo xtask compare SUITE`: measures ours against its peers, and writes the
//! report of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

const USAGE: &str = "usage: cargo xtask compare SUITE [--json FILE] [--quick]

Runs the bench `compare`, and writes docs/performance/SUITE.md and SUITE.svg.
  --json FILE  copies the figures there
  --quick      only sees whether it works, and leaves the report as it is";

/// What a report says about a suite, beside the figures.
#[derive(Debug)]
pub(super) struct Prose {
    /// The suite's name, as the bench and the report's files have it.
    pub(super) suite: &'static str,
    /// The report's title.
    pub(super) title: &'static str,
    /// What it is that takes so many nanoseconds.
    pub(super) what: &'static str,
    /// What each case does, and how the peers are set up.
    pub(super) cases: &'static str,
    /// What is weighed; nothing where nothing is.
    pub(super) memory: &'static str,
}

/// Compares a suite; `args` are those after its name.
pub(super) fn run(prose: &Prose, args: &[String]) -> Result<(), String> {
    let options = Options::parse(args)?;
    let root = workspace_root()?;
    let results = Results::measure(&root, prose.suite, options.quick)?;
    if let Some(copy) = &options.json {
        write(copy, &results.json)?;
    }
    if options.quick {
        return Ok(());
    }
    let rows = rows(&parsed(&results.json)?)?;
    let facts = facts(&parsed(&results.facts)?)?;
    let machine = Machine::inspect(&root)?;
    let folder = root.join("docs/performance");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    write(&folder.join(format!("{}.md", prose.suite)), &markdown(prose, &rows, &facts, &machine))?;
    write(&folder.join(format!("{}.svg", prose.suite)), &svg(prose.what, &rows))
}

/// What the command line asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    json: Option<PathBuf>,
    quick: bool,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self, String> {
        let mut args = args.iter().map(String::as_str);
        let mut options = Self::default();
        while let Some(arg) = args.next() {
            match arg {
                "--json" => options.json = Some(args.next().ok_or(USAGE)?.into()),
                "--quick" => options.quick = true,
                other => return Err(format!("`{other}` is no option\n{USAGE}")),
            }
        }
        Ok(options)
    }
}

/// What the bench wrote.
struct Results {
    json: String,
    facts: String,
}

impl Results {
    /// Runs the bench. Its table goes straight to the reader.
    fn measure(root: &Path, suite: &str, quick: bool) -> Result<Self, String> {
        let folder = std::env::temp_dir().join(format!("stanchion-compare-{}", std::process::id()));
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let (json, facts) = (folder.join("figures.json"), folder.join("facts.json"));
        let mut bench = cargo();
        bench
            .current_dir(root)
            .args(["bench", "--quiet", "-p", "stanchion-benches", "--bench", "compare", "--", suite])
            .arg("--json")
            .arg(&json)
            .arg("--facts")
            .arg(&facts);
        if quick {
            bench.arg("--quick");
        }
        let results = match bench.status() {
            Ok(status) if status.success() => read(&json).and_then(|json| {
                let facts = read(&facts)?;
                Ok(Self { json, facts })
            }),
            Ok(status) => Err(format!("the bench ended with {status}")),
            Err(error) => Err(format!("cargo bench: {error}")),
        };
        // A folder that stays in the temporary directory does no harm.
        let _ = fs::remove_dir_all(&folder);
        results
    }
}

/// The figures of one case.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    case: String,
    ours_ns: f64,
    peer: String,
    peer_ns: f64,
    ratio: f64,
}

/// What the report says beside the figures.
#[derive(Debug, Clone, PartialEq)]
struct Facts {
    rounds: u64,
    round_ms: u64,
    memory: Vec<Memory>,
}

/// The bytes per key of two stores.
#[derive(Debug, Clone, PartialEq)]
struct Memory {
    case: String,
    keys: u64,
    ours_bytes: f64,
    peer: String,
    peer_bytes: f64,
}

fn rows(json: &Value) -> Result<Vec<Row>, String> {
    list(json)?
        .iter()
        .map(|row| {
            Ok(Row {
                case: text(row, "case")?,
                ours_ns: number(row, "ours_ns")?,
                peer: text(row, "peer")?,
                peer_ns: number(row, "peer_ns")?,
                ratio: number(row, "ratio")?,
            })
        })
        .collect()
}

fn facts(json: &Value) -> Result<Facts, String> {
    let memory = |row: &Value| {
        Ok(Memory {
            case: text(row, "case")?,
            keys: whole(row, "keys")?,
            ours_bytes: number(row, "ours_bytes")?,
            peer: text(row, "peer")?,
            peer_bytes: number(row, "peer_bytes")?,
        })
    };
    Ok(Facts {
        rounds: whole(json, "rounds")?,
        round_ms: whole(json, "round_ms")?,
        memory: list(&json["memory"])?.iter().map(memory).collect::<Result<_, String>>()?,
    })
}

fn list(json: &Value) -> Result<&Vec<Value>, String> {
    json.as_array().ok_or_else(|| format!("not a list: {json}"))
}

fn text(object: &Value, key: &str) -> Result<String, String> {
    let text = object[key].as_str().ok_or_else(|| format!("no text `{key}` in {object}"))?;
    Ok(text.to_owned())
}

fn number(object: &Value, key: &str) -> Result<f64, String> {
    object[key].as_f64().ok_or_else(|| format!("no number `{key}` in {object}"))
}

fn whole(object: &Value, key: &str) -> Result<u64, String> {
    object[key].as_u64().ok_or_else(|| format!("no whole number `{key}` in {object}"))
}

/// Where and with what it was measured.
#[derive(Debug, Clone, PartialEq)]
struct Machine {
    cpu: String,
    cores: String,
    system: String,
    rustc: String,
    date: String,
    /// `Cargo.lock`, which knows the peers' versions.
    lock: String,
}

impl Machine {
    fn inspect(root: &Path) -> Result<Self, String> {
        let cores = std::thread::available_parallelism().map_err(|error| format!("the number of cores: {error}"))?;
        Ok(Self {
            cpu: cpu_model(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            cores: cores.to_string(),
            system: format!("{} on {}", std::env::consts::OS, std::env::consts::ARCH),
            rustc: output(Command::new("rustc").arg("--version"))?,
            date: output(Command::new("date").args(["-u", "+%F"]))?,
            lock: read(&root.join("Cargo.lock"))?,
        })
    }

    /// The peer's name, and its version if it is a crate.
    fn versioned(&self, peer: &str) -> String {
        match locked_version(&self.lock, peer) {
            Some(version) => format!("{peer} {version}"),
            None => peer.to_owned(),
        }
    }
}

/// The model by `/proc/cpuinfo`, which is Linux's.
fn cpu_model(cpuinfo: &str) -> String {
    let model = cpuinfo.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == "model name").then(|| value.trim().to_owned())
    });
    model.unwrap_or_else(|| "unknown CPU".to_owned())
}

fn locked_version<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| **line != name);
    lines.nth(1)?.strip_prefix("version = \"")?.strip_suffix('"')
}

/// The report.
fn markdown(prose: &Prose, rows: &[Row], facts: &Facts, machine: &Machine) -> String {
    let Prose { suite, title, what, cases, memory: about_memory } = prose;
    let Facts { rounds, round_ms, memory } = facts;
    let Machine { cpu, cores, system, rustc, date, lock: _ } = machine;

    let timings: String = rows
        .iter()
        .map(|row| {
            let peer = machine.versioned(&row.peer);
            format!("| `{}` | {:.1} ns | {:.1} ns | {peer} | {:.2} |\n", row.case, row.ours_ns, row.peer_ns, row.ratio)
        })
        .collect();
    let weights: String = memory
        .iter()
        .map(|row| {
            let peer = machine.versioned(&row.peer);
            let ratio = row.ours_bytes / row.peer_bytes;
            format!(
                "| `{}`, {} keys | {:.1} B | {:.1} B | {peer} | {ratio:.2} |\n",
                row.case, row.keys, row.ours_bytes, row.peer_bytes
            )
        })
        .collect();

    let memory = if about_memory.is_empty() {
        String::new()
    } else {
        format!(
            "\
## Memory per key
| store | ours | peer | the peer | ours / peer |
|---|--:|--:|---|--:|
{weights}
{about_memory}

"
        )
    };

    format!(
        "\
<!-- Written by `cargo xtask compare {suite}`; changes here are lost. -->
# {title}

![Nanoseconds per {what}, ours and the peer's, case by case]({suite}.svg)

| case | ours | peer | the peer | ours / peer |
|---|--:|--:|---|--:|
{timings}
Measured on {date}: {cpu}, {cores} cores, {system}, {rustc}.

## The cases
{cases}

{memory}## How it was measured
`cargo xtask compare {suite}`. For each case the two run in turns, in {rounds} rounds of about {round_ms} ms a side,
and who is first changes with each round, so that what slows the machine for a while slows both. The figures are
the medians of the rounds and the quotient of the medians. Nothing is subtracted: they include the loop, and
with keys the fetching of the next one. The loops are in `benches/suites/`.
"
    )
}

/// The chart: two bars a case, on any background.
fn svg(what: &str, rows: &[Row]) -> String {
    const WIDTH: f64 = 880.0;
    const LABELS: f64 = 300.0;
    const BARS: f64 = 350.0;
    const STEP: f64 = 46.0;
    const TOP: f64 = 44.0;
    let longest = rows.iter().flat_map(|row| [row.ours_ns, row.peer_ns]).fold(1.0, f64::max);
    let height = TOP + STEP * rows.len() as f64 + 8.0;
    // One grey that reads on white and on black; the bars likewise.
    let mut svg = format!(
        "\
<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"#7a7a7a\" role=\"img\">
<title>Nanoseconds per {what}: ours and the peer's, case by case; less is better</title>
<text x=\"{LABELS}\" y=\"22\">nanoseconds per {what}; less is better</text>
"
    );
    for (place, row) in rows.iter().enumerate() {
        let y = TOP + STEP * place as f64;
        svg += &format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n",
            LABELS - 12.0,
            y + 22.0,
            escaped(&row.case)
        );
        let sides = [("stanchion", row.ours_ns, "#2f81f7"), (&*row.peer, row.peer_ns, "#9a8c7c")];
        for (line, (name, ns, colour)) in sides.into_iter().enumerate() {
            let y = y + 18.0 * line as f64;
            let length = BARS * ns / longest;
            svg += &format!(
                "<rect x=\"{LABELS}\" y=\"{y}\" width=\"{length:.1}\" height=\"15\" fill=\"{colour}\"/>\n\
                 <text x=\"{:.1}\" y=\"{}\">{ns:.1} ns, {}</text>\n",
                LABELS + length + 8.0,
                y + 12.0,
                escaped(name)
            );
        }
    }
    svg + "</svg>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The cargo that runs this.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn workspace_root() -> Result<PathBuf, String> {
    let manifest = output(cargo().args(["locate-project", "--workspace", "--message-format", "plain"]))?;
    let root = Path::new(&manifest).parent().ok_or("cargo names no workspace")?;
    Ok(root.to_owned())
}

/// What a command says, in one line.
fn output(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().display().to_string();
    let output = command.stderr(Stdio::inherit()).output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(format!("{name} ended with {}", output.status))
    }
}

fn parsed(json: &str) -> Result<Value, String> {
    serde_json::from_str(json).map_err(|error| format!("what the bench wrote is no JSON: {error}"))
}

fn read(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn two_rows() -> Vec<Row> {
        let json = json!([
            { "case": "limit/direct-allow", "ours_ns": 12.34, "peer": "governor", "peer_ns": 24.68, "ratio": 0.5 },
            { "case": "limit/floor", "ours_ns": 12.0, "peer": "clock+cas", "peer_ns": 10.0, "ratio": 1.2 },
        ]);
        rows(&json).unwrap()
    }

    fn some_facts() -> Facts {
        let memory = json!({
            "case": "limit/keyed-u64", "keys": 1000, "ours_bytes": 28.0, "peer": "governor", "peer_bytes": 56.0,
        });
        facts(&json!({ "rounds": 7, "round_ms": 3, "memory": [memory] })).unwrap()
    }

    fn a_machine() -> Machine {
        Machine {
            cpu: "Z80".into(),
            cores: "1".into(),
            system: "cpm on z80".into(),
            rustc: "rustc 0.1".into(),
            date: "1976-07-01".into(),
            lock: "[[package]]\nname = \"governor\"\nversion = \"9.8.7\"\nsource = \"x\"\n".into(),
        }
    }

    const PROSE: Prose =
        Prose { suite: "limit", title: "Costs", what: "check", cases: "- **floor**: the least.", memory: "Bytes." };

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_command_line_is_read() {
        let expected = Options { json: Some("out.json".into()), quick: true };
        assert_eq!(Options::parse(&words("--quick --json out.json")), Ok(expected));
        assert_eq!(Options::parse(&words("")), Ok(Options::default()));
        for wrong in ["retry", "--json", "--fast"] {
            assert!(Options::parse(&words(wrong)).unwrap_err().contains("usage"), "{wrong}");
        }
    }

    #[test]
    fn a_row_without_a_figure_is_an_error_that_names_it() {
        let error = rows(&json!([{ "case": "limit/floor", "peer": "x" }])).unwrap_err();
        assert!(error.contains("`ours_ns`"), "{error}");
        assert!(rows(&json!({})).is_err());
    }

    #[test]
    fn the_report_has_every_figure_and_the_machine() {
        let report = markdown(&PROSE, &two_rows(), &some_facts(), &a_machine());
        for expected in [
            "| `limit/direct-allow` | 12.3 ns | 24.7 ns | governor 9.8.7 | 0.50 |\n",
            "| `limit/floor` | 12.0 ns | 10.0 ns | clock+cas | 1.20 |\n",
            "| `limit/keyed-u64`, 1000 keys | 28.0 B | 56.0 B | governor 9.8.7 | 0.50 |\n",
            "Measured on 1976-07-01: Z80, 1 cores, cpm on z80, rustc 0.1.",
            "in 7 rounds of about 3 ms a side",
            "- **floor**: the least.\n",
            "Nanoseconds per check, ours",
        ] {
            assert!(report.contains(expected), "{expected} is not in\n{report}");
        }
    }

    #[test]
    fn the_longest_bar_fills_the_chart_and_the_others_are_in_proportion() {
        let chart = svg("check", &two_rows());
        assert_eq!(chart.matches("<rect").count(), 4);
        assert!(chart.contains("width=\"350.0\"") && chart.contains("width=\"175.0\""), "{chart}");
        assert!(chart.contains("12.3 ns, stanchion") && chart.contains("10.0 ns, clock+cas"), "{chart}");
    }

    #[test]
    fn names_are_escaped_in_the_chart() {
        let mut rows = two_rows();
        rows[0].peer = "a<b>&c".into();
        assert!(svg("check", &rows).contains("a&lt;b&gt;&amp;c"));
    }

    #[test]
    fn facts_of_the_machine_are_found_or_unknown() {
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: Z80 rev. 2\n"), "Z80 rev. 2");
        assert_eq!(cpu_model(""), "unknown CPU");
        assert_eq!(a_machine().versioned("governor"), "governor 9.8.7");
        assert_eq!(a_machine().versioned("clock+cas"), "clock+cas");
    }
}

//! `cargo xtask storm`: plays the retry storm of stanchion-pipeline's tests and
//! draws it for the docs.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::run::{Outcome, root, with_environment};

/// Plays it, and writes docs/performance/storm.svg and storm.md.
pub(crate) fn run() -> Outcome {
    let figures = std::env::temp_dir().join(format!("stanchion-storm-{}.json", std::process::id()));
    let path = figures.to_str().ok_or("the temporary folder has no name in UTF-8")?;
    let test = ["test", "--quiet", "-p", "stanchion-pipeline", "--test", "storm", "--", "--nocapture"];
    with_environment("cargo", &test, &[("STANCHION_STORM", path)])?;
    let text = fs::read_to_string(&figures).map_err(|error| format!("{path}: {error}"))?;
    // A file that stays in the temporary directory does no harm.
    let _ = fs::remove_file(&figures);
    let figures: Value = serde_json::from_str(&text).map_err(|error| format!("{path}: {error}"))?;
    let storm = Storm { ours: Series::read(&figures["default"])?, naive: Series::read(&figures["naive"])? };
    let folder = Path::new(root()).join("docs/performance");
    for (name, text) in [("storm.svg", storm.svg()), ("storm.md", storm.markdown())] {
        fs::write(folder.join(name), text).map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}

/// Both sides of the picture.
struct Storm {
    ours: Series,
    naive: Series,
}

/// What happened in each second.
struct Series {
    /// Requests, in normal loads.
    load: Vec<f64>,
    /// The share of the calls that succeeded.
    success: Vec<f64>,
}

/// When the upstream is short of breath.
const OUTAGE: std::ops::Range<usize> = 20..80;

impl Series {
    /// Of `[requests, calls, succeeded]` by second. The normal load is that of the
    /// seconds before the outage.
    fn read(json: &Value) -> Result<Self, String> {
        let rows = json.as_array().ok_or("the test has written no list of seconds")?;
        let number = |row: &Value, place: usize| row[place].as_f64().ok_or("a figure is missing");
        let requests = rows.iter().map(|row| number(row, 0)).collect::<Result<Vec<_>, _>>()?;
        let normal = mean(&requests[5..OUTAGE.start]);
        let success = rows.iter().map(|row| Ok(number(row, 2)? / number(row, 1)?.max(1.0)));
        Ok(Self {
            load: requests.iter().map(|requests| requests / normal).collect(),
            success: success.collect::<Result<_, &str>>()?,
        })
    }

    fn outage_load(&self) -> f64 {
        mean(&self.load[OUTAGE])
    }

    fn worst_load(&self) -> f64 {
        self.load.iter().copied().fold(0.0, f64::max)
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

impl Storm {
    fn markdown(&self) -> String {
        format!(
            "\
<!-- Written by `cargo xtask storm`; changes here are lost. -->
# A retry storm

![Requests to the upstream and the share of calls that succeed, second by second](storm.svg)

A thousand clients make ten calls a second each, six tenths of what the upstream can answer. From second {} to
second {} it has a fifth of its capacity. A request that finds its queue full is refused at once. Each client has a
`Pipeline` of its own: four attempts, exponential backoff from 100 ms on with full jitter, an attempt timeout of a second.

| | default budget | no budget |
|---|--:|--:|
| requests in the outage, in normal loads | {:.2} | {:.2} |
| the worst second | {:.2} | {:.2} |
| calls that succeed in the outage | {:.0} % | {:.0} % |

The default budget is a tenth of the calls of the last ten seconds and one retry a second, for each client, spread
over the ten seconds. Retries don't make an upstream that is short of capacity answer more calls: what they bring one
caller they take from another.

The simulation is `crates/stanchion-pipeline/tests/storm.rs`, in virtual time; a test asserts the first row and the
recovery.
",
            OUTAGE.start,
            OUTAGE.end,
            self.ours.outage_load(),
            self.naive.outage_load(),
            self.ours.worst_load(),
            self.naive.worst_load(),
            100.0 * mean(&self.ours.success[OUTAGE]),
            100.0 * mean(&self.naive.success[OUTAGE]),
        )
    }

    fn svg(&self) -> String {
        let most = self.naive.worst_load().max(self.ours.worst_load()).round();
        let load = Panel { top: 40.0, most, title: "requests to the upstream, in normal loads" };
        let success = Panel { top: 250.0, most: 1.0, title: "share of the calls that succeed" };
        let sides = |panel: &Panel, pick: fn(&Series) -> &Vec<f64>| {
            panel.line(pick(&self.naive), "#9a8c7c") + &panel.line(pick(&self.ours), "#2f81f7")
        };
        format!(
            "\
<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 446\" width=\"720\" height=\"446\" \
font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"#7a7a7a\" role=\"img\">
<title>A retry storm, with the default budget and without</title>
{}{}{}{}\
<text x=\"60\" y=\"436\" fill=\"#2f81f7\">default budget</text>
<text x=\"180\" y=\"436\" fill=\"#9a8c7c\">no budget</text>
<text x=\"680\" y=\"436\" text-anchor=\"end\">seconds; the upstream is ill in the grey ones</text>
</svg>
",
            load.frame(),
            sides(&load, |series| &series.load),
            success.frame(),
            sides(&success, |series| &series.success),
        )
    }
}

/// One of the two diagrams, 620 wide and 150 high.
struct Panel {
    top: f64,
    most: f64,
    title: &'static str,
}

impl Panel {
    const LEFT: f64 = 60.0;
    const WIDTH: f64 = 620.0;
    const HEIGHT: f64 = 150.0;
    const SECONDS: f64 = 110.0;

    fn x(second: f64) -> f64 {
        Self::LEFT + Self::WIDTH * second / Self::SECONDS
    }

    fn y(&self, value: f64) -> f64 {
        self.top + Self::HEIGHT * (1.0 - value / self.most)
    }

    fn frame(&self) -> String {
        let (ill, well) = (Self::x(OUTAGE.start as f64), Self::x(OUTAGE.end as f64));
        let mut svg = format!(
            "<rect x=\"{ill:.1}\" y=\"{}\" width=\"{:.1}\" height=\"{}\" fill=\"#808080\" fill-opacity=\"0.15\"/>\n\
             <text x=\"{}\" y=\"{}\">{}</text>\n",
            self.top,
            well - ill,
            Self::HEIGHT,
            Self::LEFT,
            self.top - 12.0,
            self.title,
        );
        for part in 0..=4 {
            let value = self.most * f64::from(part) / 4.0;
            let y = self.y(value);
            svg += &format!(
                "<line x1=\"{}\" y1=\"{y:.1}\" x2=\"{}\" y2=\"{y:.1}\" stroke=\"#7a7a7a\" stroke-opacity=\"0.3\"/>\n\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>\n",
                Self::LEFT,
                Self::LEFT + Self::WIDTH,
                Self::LEFT - 8.0,
                y + 4.0,
            );
        }
        for second in (0..=100).step_by(20) {
            svg += &format!(
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{second}</text>\n",
                Self::x(f64::from(second)),
                self.top + Self::HEIGHT + 18.0,
            );
        }
        svg
    }

    fn line(&self, values: &[f64], colour: &str) -> String {
        let points = values
            .iter()
            .enumerate()
            .map(|(second, value)| format!("{:.1},{:.1}", Self::x(second as f64 + 0.5), self.y(*value)));
        let points: Vec<String> = points.collect();
        format!("<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n", points.join(" "))
    }
}

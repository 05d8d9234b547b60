//! The passes side by side: for people, and as JSON.

use std::time::Duration;

use serde_json::{Value, json};

use crate::generator::PATIENCE;
use crate::outbound::{FRESH, GatewayCounts};
use crate::tally::{Recovery, Tally};
use crate::upstream::Counts;

/// What was measured in one pass.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pass {
    pub(crate) seconds: f64,
    pub(crate) tally: Tally,
    pub(crate) upstream: Counts,
    pub(crate) gateway: GatewayCounts,
}

/// The passes that were played.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    pub(crate) without: Pass,
    pub(crate) with: Pass,
    /// The quiet tenants without the noisy one, and without Stanchion.
    pub(crate) alone: Option<Pass>,
}

/// The rows of one pass. A new policy adds what it changes.
fn rows(pass: &Pass) -> Vec<Row> {
    let (quiet, noisy, upstream) = (&pass.tally.quiet, &pass.tally.noisy, &pass.upstream);
    let (in_outage, gateway) = (&pass.tally.quiet_in_outage, &pass.gateway);
    let per_second = |number: u64| number as f64 / pass.seconds;
    let number = |number: u64| number as f64;
    let unsuccessful = upstream.refused + upstream.failed + upstream.calls_while_dead + gateway.timed_out;
    let (sent, unsent) = (pass.tally.sent(), pass.tally.dropped());
    let (readers, products) = (&pass.tally.readers, &upstream.products);
    // So often an answer that is good for so long has to be had anew.
    let lives = pass.seconds / FRESH.as_secs_f64();
    // Answers that readers were given, less the calls by which the upstream was asked for them.
    let saved = readers.answered().saturating_sub(products.calls);
    vec![
        higher("quiet tenants: served", quiet.served_percent(), "%"),
        lower("quiet tenants: refused (429)", quiet.refused_percent(), "%"),
        lower("quiet tenants: p50 of the served", millis(quiet.percentile(50)), "ms"),
        lower("quiet tenants: p99 of the served", millis(quiet.percentile(99)), "ms"),
        lower("before the outage: quiet p99", millis(pass.tally.quiet_before.percentile(99)), "ms"),
        higher("outage: quiet served", in_outage.served_percent(), "%"),
        neutral("outage: quiet given the last answer", in_outage.fell_back_percent(), "%"),
        lower("outage: quiet p99 of the answered", millis(in_outage.answered_percentile(99)), "ms"),
        lower("outage: upstream calls", each(upstream.own_in_outage, pass.tally.let_in_in_outage), "calls each"),
        lower("dead upstream: upstream calls", number(upstream.calls_while_dead), "calls"),
        recovery("dead upstream: time to recovery", pass.tally.recovery()),
        higher("dead upstream: quiet served after it", pass.tally.served_after_death_percent(), "%"),
        neutral("noisy tenant: served", per_second(noisy.served()), "/s"),
        neutral("noisy tenant: refused (429)", per_second(noisy.refused), "/s"),
        higher("products: served", readers.served_percent(), "%"),
        neutral("products: given the last answer", readers.fell_back_percent(), "%"),
        higher("products: hit ratio", readers.hit_percent(), "%"),
        higher("products: upstream calls saved", number(saved), "calls"),
        lower("products: most calls for one at a time", number(products.at_once), "calls"),
        lower("hot product: calls for each TTL", products.hottest as f64 / lives, "calls each"),
        neutral("upstream: calls", number(upstream.calls), "calls"),
        lower("upstream: refused, failed, timed out", number(unsuccessful), "calls"),
        lower("upstream: calls for a request let in", each(upstream.own, pass.tally.let_in()), "calls each"),
        neutral("gateway: retries", number(gateway.retries), "calls"),
        neutral("gateway: hedges", number(gateway.hedges), "calls"),
        neutral("gateway: fallbacks", number(gateway.fallbacks), "requests"),
        neutral("gateway: requests in all", number(sent), "requests"),
        neutral("load generator: could not send", number(unsent), "requests"),
    ]
}

/// How many there are for each one of those; none for nobody.
fn each(number: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { number as f64 / of as f64 }
}

/// What a row says of one pass.
struct Row {
    name: &'static str,
    figure: f64,
    unit: &'static str,
    better: Better,
    /// It is more than that, but nobody knows by how much.
    at_least: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Better {
    Higher,
    Lower,
    Neither,
}

fn higher(name: &'static str, figure: f64, unit: &'static str) -> Row {
    Row::new(name, figure, unit, Better::Higher)
}

fn lower(name: &'static str, figure: f64, unit: &'static str) -> Row {
    Row::new(name, figure, unit, Better::Lower)
}

fn neutral(name: &'static str, figure: f64, unit: &'static str) -> Row {
    Row::new(name, figure, unit, Better::Neither)
}

/// Where there was none within the pass, its end is a bound.
fn recovery(name: &'static str, recovery: Recovery) -> Row {
    let (Recovery::After(time) | Recovery::NotWithin(time)) = recovery;
    let at_least = matches!(recovery, Recovery::NotWithin(_));
    Row { at_least, ..lower(name, time.as_secs_f64() * 1_000.0, "ms") }
}

impl Report {
    /// A table. The better one of each two figures has a star.
    pub(crate) fn table(&self) -> String {
        let mut text = line(["", "without  ", "with  ", self.alone.as_ref().map_or("", |_| "alone  "), "", "better"]);
        for (without, with, alone) in self.rows() {
            let better = with.better;
            text += &line([
                with.name,
                &without.shown(better.is(without.figure, with.figure)),
                &with.shown(better.is(with.figure, without.figure)),
                &alone.map_or(String::new(), |alone| alone.shown(false)),
                with.unit,
                better.name(),
            ]);
        }
        text + "\n* the better of without and with\n"
    }

    /// A list of `{"row", "without", "with", "unit", "better"}`, and `"alone"`
    /// where that was played. A time to recovery that is a bound is there as it is.
    pub(crate) fn json(&self) -> Value {
        let rows = self.rows().map(|(without, with, alone)| {
            let mut row = json!({
                "row": with.name,
                "without": without.figure,
                "with": with.figure,
                "unit": with.unit,
                "better": with.better.name(),
            });
            if let Some(alone) = alone {
                row["alone"] = json!(alone.figure);
            }
            row
        });
        rows.collect()
    }

    /// Each row without, with, and alone.
    fn rows(&self) -> impl Iterator<Item = (Row, Row, Option<Row>)> {
        let mut alone = self.alone.as_ref().map_or_else(Vec::new, rows).into_iter();
        let both = rows(&self.without).into_iter().zip(rows(&self.with));
        both.map(move |(without, with)| (without, with, alone.next()))
    }
}

impl Row {
    fn new(name: &'static str, figure: f64, unit: &'static str, better: Better) -> Self {
        // So that what is compared is what is shown.
        let scale = if digits(unit) == 2 { 100.0 } else { 10.0 };
        let figure = (figure * scale).round() / scale;
        Self { name, figure, unit, better, at_least: false }
    }

    fn shown(&self, better: bool) -> String {
        let mark = if better { '*' } else { ' ' };
        let bound = if self.at_least { ">" } else { "" };
        format!("{bound}{:.*} {mark}", digits(self.unit), self.figure)
    }
}

/// How many digits are shown behind the point.
fn digits(unit: &str) -> usize {
    match unit {
        "calls" | "requests" => 0,
        "calls each" => 2,
        _ => 1,
    }
}

impl Better {
    fn name(self) -> &'static str {
        match self {
            Self::Higher => "higher",
            Self::Lower => "lower",
            Self::Neither => "-",
        }
    }

    /// Whether `one` is the better one.
    fn is(self, one: f64, other: f64) -> bool {
        match self {
            Self::Higher => one > other,
            Self::Lower => one < other,
            Self::Neither => false,
        }
    }
}

fn line([name, without, with, alone, unit, better]: [&str; 6]) -> String {
    let alone_width = if alone.is_empty() { 0 } else { 12 };
    format!("{name:38}{without:>12}{with:>12}{alone:>alone_width$} {unit:12}{better}\n")
}

/// Where nobody was served, everybody would have waited at least as long as they are willing to.
fn millis(percentile: Option<Duration>) -> f64 {
    percentile.unwrap_or(PATIENCE).as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demand::Demanded;
    use crate::endings::Ending;
    use crate::traffic::{Arrival, Tenant, Wanted};

    fn report(alone: bool) -> Report {
        let pass = |ending| {
            let mut pass = Pass { seconds: 2.0, ..Pass::default() };
            let due = Duration::ZERO;
            let mut record = |tenant, wanted, ending| pass.tally.record(Arrival { due, tenant, wanted }, ending);
            record(Tenant::Quiet(0), Wanted::Orders, ending);
            record(Tenant::Noisy, Wanted::Orders, Ending::Refused);
            for ending in [Ending::Hit(due), Ending::Hit(due), Ending::FellBack(due), ending, Ending::Failed] {
                record(Tenant::Reader(0), Wanted::Product(0), ending);
            }
            pass.upstream.calls = 5;
            pass.upstream.own = 3;
            pass.upstream.products = Demanded { calls: 2, hottest: 5, at_once: 7 };
            pass
        };
        let served = pass(Ending::Served(Duration::from_micros(20_460)));
        Report { without: pass(Ending::Failed), with: served.clone(), alone: alone.then_some(served) }
    }

    #[test]
    fn each_row_has_exactly_its_keys_and_figures_are_numbers() {
        for (alone, keys) in [
            (false, &["better", "row", "unit", "with", "without"][..]),
            (true, &["alone", "better", "row", "unit", "with", "without"]),
        ] {
            let json = report(alone).json();
            let rows = json.as_array().unwrap();
            assert_eq!(rows.len(), super::rows(&Pass::default()).len());
            for row in rows {
                let row = row.as_object().unwrap();
                let mut present: Vec<&String> = row.keys().collect();
                present.sort();
                assert_eq!(present, keys);
                assert!(row["without"].is_number() && row["with"].is_number());
                assert!(["higher", "lower", "-"].contains(&row["better"].as_str().unwrap()));
            }
        }
    }

    #[test]
    fn the_figures_stand_where_they_belong() {
        let json = report(false).json();
        let row = |name: &str| {
            let rows = json.as_array().unwrap();
            rows.iter().find(|row| row["row"] == name).unwrap().clone()
        };
        let p99 = json!({ "row": "quiet tenants: p99 of the served", "without": 2000.0, "with": 20.5,
            "unit": "ms", "better": "lower" });
        assert_eq!(row("quiet tenants: p99 of the served"), p99);
        assert_eq!(row("noisy tenant: refused (429)")["with"], 0.5);
        // What the limit refused is not what the upstream was asked for.
        assert_eq!(row("upstream: calls for a request let in")["with"], 3.0);
        assert_eq!(row("upstream: calls")["with"], 5.0);
        let products = [("served", 40.0, 60.0), ("given the last answer", 20.0, 20.0), ("hit ratio", 40.0, 40.0)];
        for (name, without, with) in products {
            let row = row(&format!("products: {name}"));
            assert_eq!((&row["without"], &row["with"]), (&json!(without), &json!(with)));
        }
        assert_eq!(row("products: upstream calls saved")["with"], 2.0);
        assert_eq!(row("products: most calls for one at a time")["with"], 7.0);
        // Five in two seconds, of which each is a time to live.
        assert_eq!(row("hot product: calls for each TTL")["with"], 2.5);
    }

    #[test]
    fn what_is_counted_for_each_has_a_digit_more() {
        let row = lower("upstream", 1.256, "calls each");
        assert_eq!((row.figure, &*row.shown(true)), (1.26, "1.26 *"));
        assert_eq!(lower("upstream", 1.256, "ms").figure, 1.3);
        assert_eq!((each(5, 4), each(5, 0)), (1.25, 0.0));
    }

    #[test]
    fn a_recovery_that_was_not_seen_is_shown_as_a_bound() {
        let second = Duration::from_secs(1);
        let never = recovery("recovery", Recovery::NotWithin(second));
        let after = recovery("recovery", Recovery::After(second / 4));
        assert_eq!((&*never.shown(false), &*after.shown(true)), (">1000.0  ", "250.0 *"));
        assert!(after.better.is(after.figure, never.figure));
    }

    #[test]
    fn the_better_figure_is_marked_and_a_draw_is_not() {
        let table = report(true).table();
        let row = |name: &str| table.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(row("quiet tenants: served").contains(" 0.0       100.0 *     100.0 "));
        assert!(!row("noisy tenant: served").contains('*'));
        assert!(!row("quiet tenants: refused").contains('*'));
        assert!(row("").contains("alone"));
        assert!(!report(false).table().contains("alone"));
    }
}

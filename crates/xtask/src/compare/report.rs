//! The report: a suite's page with the figures in their places.

use super::Suite;
use super::figures::Figures;
use super::machine::Machine;

/// Where a page tells of allocations and instructions. Instructions are counted
/// for such a page only.
pub(super) const WORK: &str = "{work}";

/// The page, where `{timings}`, `{tails}`, `{work}`, `{memory}`, `{machine}` and `{method}`
/// are filled in.
pub(super) fn markdown(suite: &Suite, figures: &Figures, machine: &Machine) -> String {
    let page = suite
        .page
        .replace("{timings}", &timings(figures, machine))
        .replace("{tails}", &tails(figures, machine))
        .replace(WORK, &work(figures, machine))
        .replace("{memory}", &memory(figures, machine))
        .replace("{machine}", &machine.to_string())
        .replace("{method}", &method(suite, figures));
    format!("<!-- Written by `cargo xtask compare {}`; changes here are lost. -->\n{page}", suite.name)
}

fn timings(figures: &Figures, machine: &Machine) -> String {
    let rows = figures.rows.iter().map(|row| {
        let peer = machine.versioned(&row.peer);
        format!("| `{}` | {:.1} ns | {:.1} ns | {peer} | {:.2} |", row.case, row.ours_ns, row.peer_ns, row.ratio)
    });
    table("| case | ours | peer | the peer | ours / peer |\n|---|--:|--:|---|--:|", rows)
}

fn tails(figures: &Figures, machine: &Machine) -> String {
    let rows = figures.tails.iter().flat_map(|row| {
        let peer = machine.versioned(&row.peer);
        let ranks = ["p50", "p99", "p99.9"].into_iter().zip(row.ours).zip(row.theirs);
        ranks.map(move |((rank, ours), theirs)| {
            format!("| `{}`, {rank} | {ours:.0} ns | {theirs:.0} ns | {peer} | {:.2} |", row.case, ours / theirs)
        })
    });
    table("| case | ours | peer | the peer | ours / peer |\n|---|--:|--:|---|--:|", rows)
}

/// Allocations, and instructions where they were counted.
fn work(figures: &Figures, machine: &Machine) -> String {
    let counted = figures.rows.iter().all(|row| row.instructions.is_some());
    let rows = figures.rows.iter().map(|row| {
        let peer = machine.versioned(&row.peer);
        let (ours, peers) = row.allocations;
        let instructions = match row.instructions {
            Some((ours, peers)) if counted => format!(" {ours:.0} | {peers:.0} | {:.2} |", ours / peers),
            _ => String::new(),
        };
        format!("| `{}` | {peer} |{instructions} {ours:.1} | {peers:.1} |", row.case)
    });
    let (head, line) =
        if counted { (" instructions, ours | the peer's | ours / peer |", "--:|--:|--:|") } else { ("", "") };
    table(&format!("| case | the peer |{head} allocations, ours | the peer's |\n|---|---|{line}--:|--:|"), rows)
}

fn memory(figures: &Figures, machine: &Machine) -> String {
    let rows = figures.memory.iter().map(|row| {
        let peer = machine.versioned(&row.peer);
        let ratio = row.ours_bytes / row.peer_bytes;
        format!(
            "| `{}`, {} keys | {:.1} B | {:.1} B | {peer} | {ratio:.2} |",
            row.case, row.keys, row.ours_bytes, row.peer_bytes
        )
    });
    table("| store | ours | peer | the peer | ours / peer |\n|---|--:|--:|---|--:|", rows)
}

fn method(suite: &Suite, figures: &Figures) -> String {
    let Figures { rounds, round_ms, .. } = figures;
    let name = suite.name;
    format!(
        "\
`cargo xtask compare {name}`. For each case the two run in turns, in {rounds} rounds of about {round_ms} ms a side,
and who is first changes with each round, so that what slows the machine for a while slows both. The figures are
the medians of the rounds and the quotient of the medians. Nothing is subtracted."
    )
}

fn table(head: &str, rows: impl Iterator<Item = String>) -> String {
    let rows: Vec<String> = rows.collect();
    format!("{head}\n{}", rows.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::super::{SUITES, figures, machine};
    use super::*;

    #[test]
    fn the_report_has_every_figure_and_the_machine() {
        let report = markdown(&SUITES[0], &figures::tests::some(), &machine::tests::some());
        for expected in [
            "| `limit/direct-allow` | 12.3 ns | 24.7 ns | governor 9.8.7 | 0.50 |\n",
            "| `limit/floor` | 12.0 ns | 10.0 ns | clock+cas | 1.20 |\n",
            "| `limit/keyed-u64`, 1000 keys | 28.0 B | 56.0 B | governor 9.8.7 | 0.50 |\n",
            "Measured on 1976-07-01: Z80, 1 cores, cpm on z80, rustc 0.1.",
            "in 7 rounds of about 3 ms a side",
        ] {
            assert!(report.contains(expected), "{expected} is not in\n{report}");
        }
    }

    #[test]
    fn instructions_are_told_where_they_were_counted() {
        let (mut figures, machine) = (figures::tests::some(), machine::tests::some());
        assert!(work(&figures, &machine).contains("| `limit/direct-allow` | governor 9.8.7 | 0.0 | 2.0 |\n"));
        for row in &mut figures.rows {
            row.instructions = Some((120.4, 240.8));
        }
        let told = work(&figures, &machine);
        assert!(told.contains("| `limit/direct-allow` | governor 9.8.7 | 120 | 241 | 0.50 | 0.0 | 2.0 |\n"), "{told}");
    }

    #[test]
    fn the_slowest_operations_are_told() {
        let told = tails(&figures::tests::some(), &machine::tests::some());
        assert!(told.contains("| `limit/tail`, p99.9 | 300 ns | 600 ns | governor 9.8.7 | 0.50 |"), "{told}");
    }

    #[test]
    fn no_page_has_a_place_that_nothing_fills() {
        for suite in &SUITES {
            let report = markdown(suite, &figures::tests::some(), &machine::tests::some());
            assert!(!report.contains('{') && !report.contains('}'), "{report}");
        }
    }
}

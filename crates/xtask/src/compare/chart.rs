//! The figures as bars.

use super::figures::Row;

/// The chart: two bars a case, on any background.
pub(super) fn svg(unit: &str, rows: &[Row]) -> String {
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
<title>Nanoseconds per {unit}: ours and the peer's, case by case; less is better</title>
<text x=\"{LABELS}\" y=\"22\">nanoseconds per {unit}; less is better</text>
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

#[cfg(test)]
mod tests {
    use super::super::figures::tests::some;
    use super::*;

    #[test]
    fn the_longest_bar_fills_the_chart_and_the_others_are_in_proportion() {
        let chart = svg("check", &some().rows);
        assert_eq!(chart.matches("<rect").count(), 4);
        assert!(chart.contains("width=\"350.0\"") && chart.contains("width=\"175.0\""), "{chart}");
        assert!(chart.contains("12.3 ns, stanchion") && chart.contains("10.0 ns, clock+cas"), "{chart}");
        assert!(chart.contains(">nanoseconds per check; less is better<"), "{chart}");
    }

    #[test]
    fn names_are_escaped_in_the_chart() {
        let mut rows = some().rows;
        rows[0].peer = "a<b>&c".into();
        assert!(svg("check", &rows).contains("a&lt;b&gt;&amp;c"));
    }
}

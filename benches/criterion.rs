//! All contestants side by side, under criterion.
//!
//! `cargo bench -p stanchion-benches --bench criterion`. Contestants are measured one
//! after the other, so a machine that is busy for a while favours somebody; for
//! figures to quote there is the bench `compare`.

use criterion::Criterion;
use stanchion_benches::SUITES;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for case in SUITES.iter().flat_map(|suite| suite.cases) {
        let mut group = criterion.benchmark_group(case.name);
        for contestant in [&case.ours, &case.peer].into_iter().chain(case.others) {
            // Inside, so that only what the filter selects is made.
            group.bench_function(contestant.name, |bencher| {
                let mut run = (contestant.start)();
                bencher.iter_custom(&mut run);
            });
        }
        group.finish();
    }
    criterion.final_summary();
}

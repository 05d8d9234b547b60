//! Two loops, measured in turns.

use std::time::Duration;

use stanchion_benches::{Run, Samples};

/// How many rounds, and how long each side runs in each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rounds {
    /// Odd, so that there is a middle one.
    pub(crate) count: usize,
    pub(crate) length: Duration,
}

impl Rounds {
    pub(crate) const FULL: Self = Self { count: 41, length: Duration::from_millis(10) };

    pub(crate) const QUICK: Self = Self { count: 11, length: Duration::from_millis(2) };
}

/// The nanoseconds that an operation takes on either side: the medians of all rounds.
pub(crate) fn measure(rounds: Rounds, ours: &mut Run, peer: &mut Run) -> (f64, f64) {
    let counts = [calibrate(rounds.length, ours), calibrate(rounds.length, peer)];
    let mut times = [Vec::with_capacity(rounds.count), Vec::with_capacity(rounds.count)];
    for round in 0..rounds.count {
        // Who comes second finds the caches as the first has left them: in turns.
        for side in [round % 2, 1 - round % 2] {
            let run = if side == 0 { &mut *ours } else { &mut *peer };
            let time = run(counts[side]);
            times[side].push(time.as_nanos() as f64 / counts[side] as f64);
        }
    }
    let [ours, peer] = times.map(median);
    (ours, peer)
}

/// Operations of a round whose times are taken one by one: of so many the 20 slowest are beyond p99.9, and
/// somebody else gets the core at most once or twice meanwhile.
const SAMPLED: usize = 20_000;

/// The nanoseconds that half of the operations take at most on either side, and 99 %, and
/// 99.9 %: the medians of all rounds. What slows a whole round down, or a few operations in some, isn't seen.
pub(crate) fn sample(rounds: Rounds, mut sides: [Samples; 2]) -> [[f64; 3]; 2] {
    let mut times = vec![0; SAMPLED];
    let mut ranks = [(); 2].map(|()| [(); 3].map(|()| Vec::with_capacity(rounds.count)));
    for round in 0..rounds.count {
        for side in [round % 2, 1 - round % 2] {
            sides[side](&mut times);
            times.sort_unstable();
            for (share, rank) in [500, 990, 999].into_iter().zip(&mut ranks[side]) {
                rank.push(f64::from(times[SAMPLED * share / 1000]));
            }
        }
    }
    ranks.map(|side| side.map(median))
}

/// How many operations take about so long. Warms up on the way.
fn calibrate(length: Duration, run: &mut Run) -> u64 {
    let mut count = 1_000;
    loop {
        let time = run(count);
        if time >= length / 4 {
            let fitting = u128::from(count) * length.as_nanos() / time.as_nanos();
            return u64::try_from(fitting).expect("at most four times the count").max(1);
        }
        count *= 2;
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    let middle = times.len() / 2;
    *times.select_nth_unstable_by(middle, f64::total_cmp).1
}

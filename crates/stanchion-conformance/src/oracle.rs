//! Every window of a history.

use std::time::Duration;

/// What was admitted, and when, by one limit for one key.
///
/// It knows nothing of token buckets. It takes the promise at its word: any
/// window of length `W` admits at most `burst + ⌊W · count / period⌋`, in exact
/// arithmetic, for every window that begins and ends with an admission.
///
/// ```
/// use std::time::Duration;
/// use stanchion_conformance::Admissions;
///
/// let mut admissions = Admissions::default();
/// admissions.push(0, 1);
/// admissions.push(99, 1);
/// let second = Duration::from_nanos(100);
/// assert!(admissions.broken_window(1, second, 2).is_none());
/// // One at a time: the second came a nanosecond early.
/// assert!(admissions.broken_window(1, second, 1).is_some());
/// ```
#[derive(Debug, Clone, Default)]
pub struct Admissions(Vec<(u64, u64)>);

impl Admissions {
    /// `cost` units were admitted at a reading of `nanos`. The order is free.
    pub fn push(&mut self, nanos: u64, cost: u64) {
        self.0.push((nanos, cost));
    }

    /// How many admissions there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was admitted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A window that admits more than `burst + ⌊W · count / period⌋`, said in
    /// words; `None` if there is none.
    pub fn broken_window(&self, count: u64, period: Duration, burst: u64) -> Option<String> {
        self.broken_late_window(count, period, burst, Duration::ZERO)
    }

    /// The same where a unit may be admitted up to `late` after it was counted, as one
    /// that was leased: a window that admits more than
    /// `burst + ⌊(W + late) · count / period⌋`.
    pub fn broken_late_window(&self, count: u64, period: Duration, burst: u64, late: Duration) -> Option<String> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        for (first, &(begin, _)) in sorted.iter().enumerate() {
            let mut admitted = 0_u128;
            for &(end, cost) in &sorted[first..] {
                admitted += u128::from(cost);
                let window = u128::from(end - begin);
                let most = u128::from(burst) + (window + late.as_nanos()) * u128::from(count) / period.as_nanos();
                if admitted > most {
                    return Some(format!(
                        "{admitted} admitted in [{begin}, {end}], of {window} ns, where {most} may be"
                    ));
                }
            }
        }
        None
    }

    /// The most units in any window of this length that holds its end and not its beginning, as
    /// the promise of a log is: what was admitted a window ago counts no more.
    pub fn most_in_any(&self, window: Duration) -> u64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let in_window = |end: u64| {
            let counted = sorted.iter().filter(|(at, _)| *at <= end && u128::from(end - at) < window.as_nanos());
            counted.map(|(_, cost)| cost).sum()
        };
        sorted.iter().map(|(end, _)| in_window(*end)).max().unwrap_or(0)
    }

    /// Panics if there is such a window.
    ///
    /// # Panics
    /// With the window, in words.
    pub fn assert_bound(&self, count: u64, period: Duration, burst: u64) {
        if let Some(window) = self.broken_window(count, period, burst) {
            panic!("{window} ({count} per {period:?}, burst {burst})");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_closed_at_both_ends() {
        let mut admissions = Admissions::default();
        for nanos in [0, 0, 10, 20] {
            admissions.push(nanos, 1);
        }
        // Two at once and one each 10 ns: [0, 20] may have 2 + 2.
        admissions.assert_bound(1, Duration::from_nanos(10), 2);
        admissions.push(20, 1);
        let broken = admissions.broken_window(1, Duration::from_nanos(10), 2).unwrap();
        assert!(broken.starts_with("5 admitted in [0, 20]"), "{broken}");
    }

    #[test]
    fn what_may_be_late_lengthens_every_window() {
        let mut admissions = Admissions::default();
        for nanos in [0, 0, 5, 5] {
            admissions.push(nanos, 1);
        }
        let ten = Duration::from_nanos(10);
        assert!(admissions.broken_late_window(1, ten, 3, 4 * ten / 10).is_some());
        assert!(admissions.broken_late_window(1, ten, 3, 5 * ten / 10).is_none());
    }

    #[test]
    fn what_is_a_window_old_counts_no_more() {
        let mut admissions = Admissions::default();
        for (nanos, cost) in [(10, 3), (0, 1), (19, 1), (20, 2)] {
            admissions.push(nanos, cost);
        }
        assert_eq!(admissions.most_in_any(Duration::from_nanos(10)), 4);
        assert_eq!(admissions.most_in_any(Duration::from_nanos(11)), 6);
        assert_eq!(Admissions::default().most_in_any(Duration::from_nanos(1)), 0);
    }

    #[test]
    fn a_window_in_the_middle_is_looked_at_too() {
        let mut admissions = Admissions::default();
        for nanos in [0, 1_000, 1_001, 1_002] {
            admissions.push(nanos, 1);
        }
        let broken = admissions.broken_window(1, Duration::from_nanos(100), 2).unwrap();
        assert!(broken.starts_with("3 admitted in [1000, 1002]"), "{broken}");
    }
}

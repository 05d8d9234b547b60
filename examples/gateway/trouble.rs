//! When the upstream is in trouble: the same shares of each pass.

use std::ops::Range;
use std::time::Duration;

/// Two troubles of an upstream, counted from the start of a pass; both empty where it has none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trouble {
    /// It is slow, and many of its answers are errors.
    pub(crate) outage: Range<Duration>,
    /// It serves nobody.
    pub(crate) dead: Range<Duration>,
}

impl Trouble {
    /// Of a pass that takes so long: the outage is its third quarter, so that what
    /// was good before it is known. The upstream is dead from 80 % to 87.5 % of
    /// it: that is long enough after the outage for its queue to be empty, and
    /// leaves an eighth of the pass to recover in.
    pub(crate) fn of(length: Duration) -> Self {
        Self { outage: length / 2..length * 3 / 4, dead: length * 4 / 5..length * 7 / 8 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_trouble_ends_before_the_other_begins_and_both_before_the_pass_does() {
        let length = Duration::from_secs(8);
        let Trouble { outage, dead } = Trouble::of(length);
        let millis = [outage.start, outage.end, dead.start, dead.end].map(|time| time.as_millis());
        assert_eq!(millis, [4_000, 6_000, 6_400, 7_000]);
    }
}

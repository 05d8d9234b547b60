//! The memory of a sliding log.

use std::collections::VecDeque;

use stanchion_core::Usage;

use super::TOLERANCE;

/// The admissions of a sliding log, oldest first. What has expired is dropped by the next
/// admission only: a request that is refused, or looks, leaves no trace.
#[derive(Debug, Clone, Default)]
pub(super) struct Log {
    /// When each was, and the units of all from the first that there ever was up to it.
    entries: VecDeque<(u64, u64)>,
    /// The units of those that have been dropped.
    dropped: u64,
    /// The window by which the last admission was judged.
    pub(super) window: u64,
}

impl Log {
    /// The place of the first entry that counts, and the units of those before it.
    fn first(&self, window: u64, time: u64) -> (usize, u64) {
        let first = self.entries.partition_point(|(at, _)| at.saturating_add(window) <= time);
        (first, first.checked_sub(1).map_or(self.dropped, |last| self.entries[last].1))
    }

    /// The units that count.
    pub(super) fn used(&self, window: u64, time: u64) -> u64 {
        let (_, before) = self.first(window, time);
        self.entries.back().map_or(0, |(_, all)| all - before)
    }

    /// How it stands for a request of `units` of at most `most`, in a log of this limit.
    pub(super) fn usage(&self, limit: u64, window: u64, time: u64, units: u64, most: u64) -> Usage {
        let (_, before) = self.first(window, time);
        let used = self.used(window, time);
        // How long until the oldest so many units have expired.
        let until_gone = |gone: u64| {
            let place = self.entries.partition_point(|(_, all)| all.saturating_sub(before) < gone);
            let at = self.entries.get(place).filter(|_| gone > 0).map(|(at, _)| *at);
            at.map_or(0, |at| at.saturating_add(window).saturating_sub(time))
        };
        Usage::Log {
            used,
            wait: until_gone(used.saturating_add(units).saturating_sub(most)),
            next: until_gone((used + 1).saturating_sub(limit).max(1).min(used)),
            reset: until_gone(used),
        }
    }

    /// Whether the last entry lies further in the future than a clock may be behind.
    pub(super) fn is_beyond(&self, window: u64, time: u64) -> bool {
        self.used(window, time) > 0 && self.last().is_some_and(|at| at > time.saturating_add(TOLERANCE))
    }

    pub(super) fn cut(&mut self, window: u64, time: u64, limit: u64) {
        *self = Self { entries: VecDeque::from([(time, limit)]), dropped: 0, window };
    }

    pub(super) fn take(&mut self, window: u64, time: u64, units: u64) {
        let (first, before) = self.first(window, time);
        self.entries.drain(..first);
        (self.dropped, self.window) = (before, window);
        // Never before the last one: the clock may be a little behind.
        let (at, all) = self.entries.back().map_or((time, before), |(last, all)| (time.max(*last), *all));
        match self.entries.back_mut() {
            Some((last, all)) if *last == at => *all += units,
            _ => self.entries.push_back((at, all + units)),
        }
    }

    /// When the last admission was.
    pub(super) fn last(&self) -> Option<u64> {
        self.entries.back().map(|(at, _)| *at)
    }

    /// Gives back up to `units` of those taken at a time.
    pub(super) fn give_back(&mut self, at: u64, units: u64) -> u64 {
        let Ok(place) = self.entries.binary_search_by_key(&at, |(at, _)| *at) else { return 0 };
        let before = place.checked_sub(1).map_or(self.dropped, |last| self.entries[last].1);
        let counted = self.entries[place].1 - before;
        let back = units.min(counted);
        self.entries.range_mut(place..).for_each(|(_, all)| *all -= back);
        if back == counted {
            self.entries.remove(place);
        }
        back
    }
}

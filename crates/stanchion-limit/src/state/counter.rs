//! The memory of a sliding counter.

use stanchion_core::{SlidingCounter, Usage};

use super::TOLERANCE;

/// The counts of two windows of the clock.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counter {
    /// The windows' length.
    pub(super) window: u64,
    /// The number of the present one.
    pub(super) number: u64,
    pub(super) previous: u64,
    pub(super) current: u64,
    /// Units of windows before this one can't be given back: their counts were made of
    /// those of other windows.
    from: u64,
}

impl Counter {
    /// The counts at this time. In the future they stay as they are.
    pub(super) fn at(self, counter: &SlidingCounter, time: u64) -> Self {
        let window = counter.window();
        let mut now = self;
        if self.window != window && !self.is_empty() {
            // In the old windows' time: what the last of them counts for now.
            let (then, elapsed) = (time / self.window, time % self.window);
            let covered = |count| SlidingCounter::covered(self.window, count, elapsed);
            let current = match then.checked_sub(self.number) {
                None => self.previous.saturating_add(self.current),
                Some(0) => covered(self.previous).saturating_add(self.current),
                Some(1) => covered(self.current),
                Some(_) => 0,
            };
            let number = time / window;
            now = Self { window, number, previous: 0, current, from: number + 1 };
        }
        let present = time / window;
        match present.checked_sub(now.number) {
            Some(1) => (now.previous, now.current) = (now.current, 0),
            Some(2..) => (now.previous, now.current) = (0, 0),
            None | Some(0) => {}
        }
        now.number = now.number.max(present);
        // Of nothing it doesn't matter what was counted when.
        if now.is_empty() { Self { window, number: present, ..Self::default() } } else { now }
    }

    /// Whether nothing counts.
    pub(super) const fn is_empty(self) -> bool {
        self.previous == 0 && self.current == 0
    }

    pub(super) fn usage(self, time: u64) -> Usage {
        let begins = self.number.saturating_mul(self.window);
        let (ahead, elapsed) = (begins.saturating_sub(time), time.saturating_sub(begins));
        Usage::Counter { previous: self.previous, current: self.current, elapsed, ahead }
    }

    /// Whether the window begins further in the future than one that is just over and a clock
    /// that is a little behind explain.
    pub(super) fn is_beyond(self, time: u64) -> bool {
        self.number.saturating_mul(self.window).saturating_sub(time) > self.window.saturating_add(TOLERANCE)
    }

    pub(super) fn cut(counter: &SlidingCounter, time: u64) -> Self {
        let window = counter.window();
        Self { window, number: time / window, previous: 0, current: counter.limit(), from: 0 }
    }

    /// When the last of it has expired.
    pub(super) fn end(self) -> u64 {
        let windows = if self.current > 0 { 2 } else { 1 };
        self.number.saturating_add(windows).saturating_mul(self.window)
    }

    /// Gives back up to `units` of those taken in a window of this number and length.
    pub(super) fn give_back(&mut self, [number, window]: [u64; 2], units: u64) -> u64 {
        let count = match self.number.checked_sub(number) {
            _ if window != self.window || number < self.from => return 0,
            Some(0) => &mut self.current,
            Some(1) => &mut self.previous,
            _ => return 0,
        };
        let back = units.min(*count);
        *count -= back;
        back
    }
}

//! How good an entry still is: the ladder, as a pure function.

use std::time::Duration;

use stanchion_core::Moment;

/// The rungs that a cache is set to have.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct Ladder {
    /// After this share of its time to live an entry is refreshed while it is served.
    pub refresh_ahead: Option<f64>,
    /// XFetch's β: an entry is refreshed early by chance, the more likely the nearer its end
    /// and the longer its load took.
    pub early_refresh: Option<f64>,
    /// So long after its end it is served while it is refreshed.
    pub stale_while_revalidate: Duration,
    /// So long after its end it is served if it can't be loaded.
    pub stale_if_error: Duration,
}

/// An entry's times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Times {
    /// When its load started.
    pub born: Moment,
    /// When its time to live is over.
    pub expires: Moment,
    /// How long its load took: XFetch's δ.
    pub load_time: Duration,
    /// After a failed refresh, when the next one may be tried.
    pub retry_at: Moment,
}

impl Times {
    /// Of an entry that was loaded in no time.
    pub fn new(born: Moment, expires: Moment) -> Self {
        Self { born, expires, load_time: Duration::ZERO, retry_at: Moment::default() }
    }
}

/// How good an entry is, and what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rung {
    /// Serve it.
    Fresh,
    /// It is fresh: serve it, and refresh it in the background.
    RefreshAhead,
    /// It is stale: serve it, and refresh it in the background.
    Revalidate,
    /// It is stale: load it, and serve it only if that fails or takes too long.
    IfError,
    /// It is stale, and its last load failed a moment ago: serve it, and try later.
    Throttled,
    /// As if it weren't there.
    Gone,
}

impl Ladder {
    /// Where an entry stands now. `chance` is a number in `0.0..1.0`, for
    /// [`early_refresh`](Self::early_refresh).
    ///
    /// An entry is at its end exactly when its time to live has passed. Both stale
    /// windows begin there (RFC 5861). XFetch after Vattani, Chierichetti, Lowenstein:
    /// "Optimal probabilistic cache stampede prevention", VLDB 2015.
    pub fn rung(&self, times: &Times, now: Moment, chance: f64) -> Rung {
        let is_throttled = now < times.retry_at;
        if now < times.expires {
            let is_due = self.is_ahead(times, now) || self.is_early(times, now, chance);
            return if is_due && !is_throttled { Rung::RefreshAhead } else { Rung::Fresh };
        }
        let stale = now - times.expires;
        let revalidates = stale < self.stale_while_revalidate;
        if !revalidates && stale >= self.stale_if_error {
            return Rung::Gone;
        }
        match (is_throttled, revalidates) {
            (true, _) => Rung::Throttled,
            (false, true) => Rung::Revalidate,
            (false, false) => Rung::IfError,
        }
    }

    /// So long an entry is kept after its end.
    pub fn grace(&self) -> Duration {
        self.stale_while_revalidate.max(self.stale_if_error)
    }

    fn is_ahead(&self, times: &Times, now: Moment) -> bool {
        times.expires < Moment::MAX
            && self.refresh_ahead.is_some_and(|share| now - times.born >= (times.expires - times.born).mul_f64(share))
    }

    fn is_early(&self, times: &Times, now: Moment, chance: f64) -> bool {
        self.early_refresh.is_some_and(|beta| {
            // 1 - chance is above 0, so the logarithm is a number, and at most 0.
            let lead = -times.load_time.as_secs_f64() * beta * (1.0 - chance).ln();
            (times.expires - now).as_secs_f64() <= lead
        })
    }
}

//! What a breaker is told, in the user's words.

use std::time::Duration;

use stanchion_core::ConfigError;

use crate::plan::Plan;

/// All settings of a breaker, as data. What it says is checked when a breaker is
/// built of it, or told to follow it from now on.
///
/// Any rule that is set trips the breaker: they are combined with "or". A rule
/// that could never trip is an error.
///
/// # As configuration
/// With the feature `serde`, and every field may be left out:
///
/// ```json
/// { "window": { "time": "30s" }, "failure_rate": 0.5, "minimum_calls": 20,
///   "slow_rate": 0.8, "slow_after": "2s", "abandoned": { "failure_if_older_than": "1s" } }
/// ```
/// `"failure_rate": null` turns the rule off.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields, default))]
pub struct BreakerConfig {
    /// The calls that count for the two rates. Default: the last 100.
    pub window: Window,
    /// Fewer calls than this in the window trip neither rate. At most the
    /// window, if that is a count. Default: 20.
    pub minimum_calls: u32,
    /// Trips when so large a share of the window has failed: above 0, at most 1,
    /// in millionths. Default: 0.5.
    pub failure_rate: Option<f64>,
    /// Trips when so large a share of the window took longer than `slow_after`:
    /// above 0, at most 1. Default: none.
    pub slow_rate: Option<f64>,
    /// From this duration on a call is slow. Default: 5 s.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub slow_after: Duration,
    /// Trips after so many failures without a success between them. Default: none.
    pub consecutive_failures: Option<u32>,
    /// What a permanent failure counts as. Default: nothing.
    pub permanent: Permanent,
    /// What a dropped call counts as. Default: a failure.
    pub abandoned: Abandoned,
    /// How many probes a half-open breaker admits for its verdict: 1 to 10,000.
    /// Default: 5.
    pub probes: u32,
    /// The share of failed probes that opens it again: above 0, at most 1.
    /// Default: 0.5.
    pub probe_failure_rate: f64,
    /// A probe without an answer for so long has hung, and its slot is free
    /// again. At least 1 ms. Default: 30 s.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub probe_max_wait: Duration,
    /// How long it stays open at first. At least 1 ms. Default: 5 s.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub open_for: Duration,
    /// How long it stays open at most. At least `open_for`. Default: 60 s.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub open_for_max: Duration,
    /// By what the open time grows each time that it opens again: 1 to 100.
    /// Default: 2.
    pub open_growth: f64,
    /// The share of the open time that is left to chance, so that a fleet doesn't
    /// return all at once: 0 to 1, 1 excluded. An open time `t` is drawn from
    /// `t · (1 - jitter)` to `t`. Default: 0.2.
    pub open_jitter: f64,
    /// Closed for so long, a breaker has recovered, and its open time begins
    /// anew. Default: 60 s.
    #[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))]
    pub forgive_after: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            window: Window::Count(100),
            minimum_calls: 20,
            failure_rate: Some(0.5),
            slow_rate: None,
            slow_after: Duration::from_secs(5),
            consecutive_failures: None,
            permanent: Permanent::Ignore,
            abandoned: Abandoned::Failure,
            probes: 5,
            probe_failure_rate: 0.5,
            probe_max_wait: Duration::from_secs(30),
            open_for: Duration::from_secs(5),
            open_for_max: Duration::from_secs(60),
            open_growth: 2.0,
            open_jitter: 0.2,
            forgive_after: Duration::from_secs(60),
        }
    }
}

impl BreakerConfig {
    /// Whether a breaker can be built of it.
    ///
    /// # Errors
    /// Names the first field that can't be honoured, or that can never trip.
    pub fn validate(&self) -> Result<(), ConfigError> {
        Plan::new(self).map(drop)
    }
}

/// The calls that count for a rate.
///
/// As configuration: `{"count": 100}`, `{"time": "30s"}`, `{"ewma": 50}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Window {
    /// The last so many calls: 1 to 10,000,000. One bit each.
    Count(u32),
    /// The calls of so long: 100 ms to a day. It is kept in ten buckets, so that
    /// the window slides by tenths: it holds nine tenths of it and what has
    /// passed of the tenth.
    Time(#[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))] Duration),
    /// All calls, the later the heavier: each weighs `2 / (n + 1)`, which looks
    /// about as far back as the last `n`: 1 to 10,000,000. Until there have been
    /// half as many it is the plain mean.
    Ewma(u32),
}

impl Window {
    /// The last so many calls.
    pub const fn count(calls: u32) -> Self {
        Self::Count(calls)
    }

    /// The calls of so long.
    pub const fn time(length: Duration) -> Self {
        Self::Time(length)
    }

    /// All calls, the later the heavier; about the last so many count.
    pub const fn ewma(calls: u32) -> Self {
        Self::Ewma(calls)
    }
}

/// What [`Outcome::Permanent`](stanchion_core::Outcome::Permanent) counts as: the
/// caller's own mistake, that the other side was well enough to find.
///
/// As configuration: `"ignore"`, `"success"`, `"failure"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Permanent {
    /// As nothing.
    #[default]
    Ignore,
    /// As a success.
    Success,
    /// As a failure.
    Failure,
}

/// What [`Outcome::Abandoned`](stanchion_core::Outcome::Abandoned) counts as: a
/// call whose future was dropped.
///
/// The usual reason for a drop is a timeout further out, which is as bad a sign as
/// one further in; so a breaker that ignores drops never sees an upstream that
/// hangs. Where calls are also dropped for other reasons, such as clients that hang
/// up or hedges that lost, an age tells them apart.
///
/// As configuration: `"ignore"`, `"failure"`, `{"failure_if_older_than": "1s"}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Abandoned {
    /// As nothing.
    Ignore,
    /// As a failure.
    #[default]
    Failure,
    /// As a failure if it was at it for so long, else as nothing. Reads the clock
    /// twice a call.
    FailureIfOlderThan(#[cfg_attr(feature = "serde", serde(with = "stanchion_core::duration_text"))] Duration),
}

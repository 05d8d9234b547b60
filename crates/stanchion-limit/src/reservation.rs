//! Units that were taken, and may be given back.

use std::fmt;
use std::sync::Arc;

use stanchion_core::{ConfigError, Decision, RateLimit, Receipt};

/// What can take units back.
pub(crate) trait TakesBack {
    /// Gives back `units` of a receipt of the key with this hash; says how many are there again.
    fn take_back(&self, hash: u64, limits: &[RateLimit], receipt: &Receipt, units: u64) -> u64;
}

/// Units that were taken beforehand, for a cost that is known only afterwards: what was not
/// used goes back.
///
/// ```
/// use stanchion_limit::{Limiter, Quota};
///
/// # use stanchion_limit::ManualClock;
/// let tokens = Limiter::builder(Quota::per_minute(90_000)).name("model");
/// # let tokens = tokens.clock(ManualClock::new());
/// let tokens = tokens.build()?;
/// let reservation = tokens.reserve(4_000).expect("there are 90,000");
/// // The answer took 3,100.
/// assert_eq!(reservation.keep_only(3_100)?, 900);
/// assert_eq!(tokens.peek().remaining(), 86_900);
/// # Ok::<(), stanchion_limit::ConfigError>(())
/// ```
///
/// # What comes back
/// All that was not used; but of a token bucket no more than its refill has left to do. A
/// bucket that was full before drips into itself what it gave, and had nobody taken it, that
/// would have been lost: so what has dripped in since is not given back on top, nor what
/// earlier reservations have given back since. With nobody else about that makes no difference;
/// and where the bucket was low, which is when it matters, nearly all comes back. (Where states are
/// behind a lock or on a store, by several quotas or tiers, later ones count as earlier ones, and less
/// comes back among many.) Whatever is given back, when, and by how many, the bound holds.
///
/// # Dropping it
/// Gives all of it back, as after an error or a cancelled future. Who has used it says
/// so: [`keep`](Self::keep), [`keep_only`](Self::keep_only).
#[must_use = "a reservation that is dropped gives its units back"]
pub struct Reservation<'a> {
    of: &'a (dyn TakesBack + Sync),
    hash: u64,
    limits: Arc<[RateLimit]>,
    receipt: Receipt,
    decision: Decision,
    kept: bool,
}

impl<'a> Reservation<'a> {
    pub(crate) fn new(
        of: &'a (dyn TakesBack + Sync),
        hash: u64,
        limits: Arc<[RateLimit]>,
        receipt: Receipt,
        decision: Decision,
    ) -> Self {
        Self { of, hash, limits, receipt, decision, kept: false }
    }

    fn take_back(&self, units: u64) -> u64 {
        self.of.take_back(self.hash, &self.limits, &self.receipt, units)
    }

    /// The units that were taken.
    pub const fn units(&self) -> u64 {
        self.receipt.units()
    }

    /// What was said when they were.
    pub const fn decision(&self) -> Decision {
        self.decision
    }

    /// All were used.
    pub fn keep(mut self) {
        self.kept = true;
    }

    /// So many were used; the others go back. Says how many of them are there again.
    ///
    /// # Errors
    /// Names `used` when it is more than was taken; then all are taken for used. What is
    /// missing can be [charged](crate::Limiter::charge).
    pub fn keep_only(mut self, used: u64) -> Result<u64, ConfigError> {
        self.kept = true;
        match self.units().checked_sub(used) {
            Some(rest) => Ok(self.take_back(rest)),
            None => Err(ConfigError::new("used", used, format!("of a reservation of {}", self.units()))),
        }
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.take_back(self.units());
        }
    }
}

impl fmt::Debug for Reservation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("units", &self.units()).finish_non_exhaustive()
    }
}

//! What is known about a call before it is made.

use crate::Moment;

/// What a gate may know about a call before it is made.
///
/// Every part has a default, so that `Call::new()` is a call about which
/// nothing is known.
///
/// ```
/// use stanchion_core::{Call, Priority};
///
/// let call = Call::new().key("tenant-7").cost(3).priority(Priority::Critical);
/// assert_eq!(call.key_bytes(), b"tenant-7");
/// assert_eq!(call.units(), 3);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call<'a> {
    key: &'a [u8],
    cost: u64,
    priority: Priority,
    deadline: Option<Moment>,
    repeatable: Option<bool>,
}

impl<'a> Call<'a> {
    /// A call about which nothing is known.
    pub const fn new() -> Self {
        Self { key: &[], cost: 1, priority: Priority::Normal, deadline: None, repeatable: None }
    }

    /// Whom the call is for or where it goes: a tenant, a host. Default: empty,
    /// which all calls without a key share.
    pub fn key(mut self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.key = key.as_ref();
        self
    }

    /// How many units the call takes from a limit. Default: 1.
    pub const fn cost(mut self, units: u64) -> Self {
        self.cost = units;
        self
    }

    /// How much it matters when something must be shed. Default: [`Priority::Normal`].
    pub const fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// When the caller stops waiting. Default: never.
    pub const fn deadline(mut self, deadline: Moment) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Declares whether doing it twice does no harm. Default: not declared.
    ///
    /// What is declared not repeatable is never done twice; what isn't declared
    /// is retried where a policy says so, but never hedged.
    pub const fn repeatable(mut self, repeatable: bool) -> Self {
        self.repeatable = Some(repeatable);
        self
    }

    /// The key's bytes.
    pub const fn key_bytes(&self) -> &'a [u8] {
        self.key
    }

    /// The cost, in units of whatever limit reads it.
    pub const fn units(&self) -> u64 {
        self.cost
    }

    /// The priority.
    pub const fn importance(&self) -> Priority {
        self.priority
    }

    /// The deadline, if there is one.
    pub const fn ends_by(&self) -> Option<Moment> {
        self.deadline
    }

    /// Whether doing it twice does no harm, if that was declared.
    pub const fn is_repeatable(&self) -> Option<bool> {
        self.repeatable
    }
}

impl Default for Call<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// How much a call matters when something must be shed; the order is that of
/// importance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Priority {
    /// Shed first: prefetching, batch work.
    Sheddable,
    /// Everything that doesn't say otherwise.
    #[default]
    Normal,
    /// Shed last: what the service is there for.
    Critical,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_are_ordered_by_importance() {
        assert!(Priority::Sheddable < Priority::Normal && Priority::Normal < Priority::Critical);
    }

    #[test]
    fn a_key_is_any_bytes() {
        assert_eq!(Call::new().key(&[0xff, 0x00][..]).key_bytes(), [0xff, 0x00]);
        assert_eq!(Call::new().key("").key_bytes(), b"");
    }
}

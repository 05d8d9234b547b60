//! Quotas by the tier of a key, changed while running.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use stanchion_core::{ConfigError, Name, RateLimit};

use crate::Outage;
use crate::quota::Quotas;

/// The limits of one tier, and the share of them that an instance has in an outage.
#[derive(Debug, Clone)]
pub(super) struct Tier {
    pub(super) limits: Arc<[RateLimit]>,
    pub(super) shares: Option<Arc<[RateLimit]>>,
}

impl Tier {
    pub(super) fn new(quotas: &Quotas, limiter: &Name, outage: Option<Outage>) -> Result<Self, ConfigError> {
        let limits: Arc<[RateLimit]> = quotas.limits(limiter)?.into();
        let share = |limit: &RateLimit, instances| {
            limit.rule().share(instances).map(|rule| RateLimit::new(limit.name().to_owned(), rule))
        };
        let shares = match outage {
            Some(Outage::LocalShare { instances }) => {
                Some(limits.iter().map(|limit| share(limit, instances)).collect::<Result<Arc<[_]>, _>>()?)
            }
            _ => None,
        };
        Ok(Self { limits, shares })
    }

    /// Fails if the limits have other names than those of `other`, by which states go, or other
    /// algorithms, whose states they could not read.
    fn expect_kin_of(&self, other: &Self) -> Result<(), ConfigError> {
        let other_kind = |(ours, theirs): (&RateLimit, &RateLimit)| {
            std::mem::discriminant(ours.rule()) != std::mem::discriminant(theirs.rule())
        };
        if self.limits.len() == other.limits.len() && self.limits.iter().zip(&*other.limits).any(other_kind) {
            return Err(ConfigError::new(
                "algorithm",
                "another",
                "must be that of the first quota: what was used is kept by it",
            ));
        }
        let names = |tier: &Self| tier.limits.iter().map(|limit| limit.name().to_owned()).collect::<Vec<_>>();
        if names(self) == names(other) {
            return Ok(());
        }
        let limit = format!("must be named as the first ones are: {}", names(other).join(", "));
        Err(ConfigError::new("quotas", names(self).join(", "), limit))
    }
}

/// Says of which tier a key is: [`NoTiers`], or a function in a [`TierBy`].
pub trait TierOf<K: ?Sized>: Send + Sync {
    /// The tier of a key, by name; `None` for that of the limiter's first quota.
    fn tier_of(&self, key: &K) -> Option<Name>;
}

/// All keys have the limiter's first quota.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NoTiers;

impl<K: ?Sized> TierOf<K> for NoTiers {
    #[inline]
    fn tier_of(&self, _key: &K) -> Option<Name> {
        None
    }
}

/// Keys have the quota of the tier that a function of the user's names.
pub struct TierBy<K: ?Sized>(Box<dyn Fn(&K) -> Name + Send + Sync>);

impl<K: ?Sized> TierBy<K> {
    pub(super) fn new<N: Into<Name>>(tier_of: impl Fn(&K) -> N + Send + Sync + 'static) -> Self {
        Self(Box::new(move |key| tier_of(key).into()))
    }
}

impl<K: ?Sized> TierOf<K> for TierBy<K> {
    fn tier_of(&self, key: &K) -> Option<Name> {
        Some((self.0)(key))
    }
}

impl<K: ?Sized> std::fmt::Debug for TierBy<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TierBy(..)")
    }
}

/// The limits of all tiers. Consumption goes by key and limit, not by tier: a key that changes
/// its tier, or whose tier changes, keeps what it has used.
#[derive(Debug)]
pub(super) struct Tiers {
    tiers: RwLock<Known>,
    unknown: AtomicU64,
}

#[derive(Debug)]
struct Known {
    /// For keys of no tier, and of one that isn't there.
    default: Tier,
    named: HashMap<String, Tier>,
}

impl Tiers {
    pub(super) fn new(default: Tier, named: Vec<(Name, Tier)>) -> Result<Self, ConfigError> {
        for (name, tier) in &named {
            tier.expect_kin_of(&default).map_err(|error| error.inside(name.as_str()).inside("tiers"))?;
        }
        let named = named.into_iter().map(|(name, tier)| (name.as_str().to_owned(), tier)).collect();
        Ok(Self { tiers: RwLock::new(Known { default, named }), unknown: AtomicU64::new(0) })
    }

    /// The limits of a tier.
    pub(super) fn get(&self, name: Option<&Name>) -> Tier {
        let tiers = self.tiers.read().unwrap_or_else(PoisonError::into_inner);
        let Some(name) = name else { return tiers.default.clone() };
        tiers.named.get(name.as_str()).cloned().unwrap_or_else(|| {
            // Relaxed: a count for humans.
            self.unknown.fetch_add(1, Ordering::Relaxed);
            tiers.default.clone()
        })
    }

    /// Sets the limits of a tier, or of the default.
    pub(super) fn set(&self, name: Option<&str>, tier: Tier) -> Result<(), ConfigError> {
        let mut tiers = self.tiers.write().unwrap_or_else(PoisonError::into_inner);
        tier.expect_kin_of(&tiers.default)?;
        match name {
            Some(name) => drop(tiers.named.insert(name.to_owned(), tier)),
            None => tiers.default = tier,
        }
        Ok(())
    }

    /// How often a key was said to be of a tier that isn't there.
    pub(super) fn unknown(&self) -> u64 {
        self.unknown.load(Ordering::Relaxed)
    }
}

//! Several quotas at once.

use stanchion_core::{ConfigError, Name, RateLimit};

use super::Quota;

/// One quota, or several that all hold at once, each with a name.
///
/// ```
/// use stanchion_limit::{KeyedLimiter, Quota};
///
/// let limiter = KeyedLimiter::<str>::new([
///     ("second", Quota::per_second(10)),
///     ("hour", Quota::per_hour(1_000)),
///     ("day", Quota::per_day(20_000)),
/// ])?;
/// let decision = limiter.check_n("alice", 11);
/// assert_eq!(limiter.limit_name(&decision), Some("second".into()));
/// # Ok::<(), stanchion_limit::ConfigError>(())
/// ```
///
/// # Per tenant and per route
/// What a tenant has on all routes together, and what it has on each, are taken in one atomic step,
/// all or nothing, by a limiter for each route: on one store, under one name, with the tenant's
/// quotas [and](Self::and) the route's own. For a store knows a limit by the key, the limiter's name
/// and the quota's, so that all routes ask for the same limits of the tenant's. On Redis that is one
/// script on one hash slot; with one instance a [`MemoryRateStore`](crate::MemoryRateStore) does.
///
/// ```
/// use std::sync::Arc;
/// use stanchion_limit::{KeyedLimiter, MemoryRateStore, Outage, Quota, Quotas};
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let store = Arc::new(MemoryRateStore::new(100_000)); // or `RedisRateStore`
/// # let store = Arc::new(MemoryRateStore::with_clock(100, stanchion_limit::ManualClock::new()));
/// let tenant = Quotas::from([
///     ("second", Quota::per_second(10)),
///     ("hour", Quota::per_hour(1_000)),
///     ("day", Quota::per_day(20_000)),
/// ]);
/// let on_route = |own: Quotas| {
///     let quotas = tenant.clone().and(own);
///     KeyedLimiter::<str>::builder(quotas).name("api").on(store.clone(), Outage::Refuse).build()
/// };
/// let search = on_route([("search/second", Quota::per_second(9))].into())?;
/// let export = on_route([("export/hour", Quota::per_hour(2)), ("export/day", Quota::per_day(5))].into())?;
///
/// assert!(export.check_n("alice", 2).await?.allowed());
/// // No third one in this hour, for which nothing is taken of what she has on all routes:
/// let refused = export.check("alice").await?;
/// assert_eq!((refused.allowed(), export.limit_name(&refused)), (false, Some("export/hour".into())));
/// // eight are left for this second.
/// assert!(search.check_n("alice", 8).await?.allowed());
/// let refused = search.check("alice").await?;
/// assert_eq!((refused.allowed(), search.limit_name(&refused)), (false, Some("second".into())));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// What each limiter has for itself: the line of those who wait, and, while the store is away, the
/// share of [`Outage::LocalShare`](crate::Outage::LocalShare). And what all tenants together have on a route is a limit of
/// another key: asked for in a step of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quotas(Vec<(Option<Name>, Quota)>);

impl Quotas {
    /// Several quotas with their names.
    pub fn named<N: Into<Name>>(quotas: impl IntoIterator<Item = (N, Quota)>) -> Self {
        Self(quotas.into_iter().map(|(name, quota)| (Some(name.into()), quota)).collect())
    }

    /// These and `others`, all at once.
    ///
    /// Where there are several each needs a name of its own, which is checked when a limiter is built.
    pub fn and(mut self, others: impl Into<Self>) -> Self {
        self.0.extend(others.into().0);
        self
    }

    /// Changes the burst of the first.
    pub(crate) fn burst(&mut self, units: u64) {
        if let Some((_, quota)) = self.0.first_mut() {
            *quota = quota.burst(units);
        }
    }

    /// The name of each, where it has one.
    pub(crate) fn names(&self) -> impl Iterator<Item = Option<&Name>> {
        self.0.iter().map(|(name, _)| name.as_ref())
    }

    /// The limits, named after the limiter.
    pub(crate) fn limits(&self, limiter: &Name) -> Result<Box<[RateLimit]>, ConfigError> {
        if self.0.is_empty() || self.0.len() > 64 {
            return Err(ConfigError::new("quotas", self.0.len(), "must be 1 to 64"));
        }
        let mut limits = Vec::with_capacity(self.0.len());
        for (place, (name, quota)) in self.0.iter().enumerate() {
            let unnamed = name.is_none() && self.0.len() > 1;
            if unnamed || self.0[..place].iter().any(|(earlier, _)| earlier == name) {
                let name = name.as_ref().map_or("", Name::as_str);
                return Err(ConfigError::new("quotas", name, "each needs a name of its own"));
            }
            let rule = quota.rule();
            limits.push(match name {
                Some(name) => {
                    let rule = rule.map_err(|error| error.inside(name.as_str()))?;
                    RateLimit::new(format!("{limiter}/{name}"), rule)
                }
                None => RateLimit::new(limiter, rule?),
            });
        }
        Ok(limits.into())
    }
}

impl From<Quota> for Quotas {
    fn from(quota: Quota) -> Self {
        Self(vec![(None, quota)])
    }
}

impl<N: Into<Name>, const COUNT: usize> From<[(N, Quota); COUNT]> for Quotas {
    fn from(quotas: [(N, Quota); COUNT]) -> Self {
        Self::named(quotas)
    }
}

impl<N: Into<Name>> From<Vec<(N, Quota)>> for Quotas {
    fn from(quotas: Vec<(N, Quota)>) -> Self {
        Self::named(quotas)
    }
}

/// One quota is written as it is, several as a map of names.
#[cfg(feature = "serde")]
mod data {
    use std::fmt;

    use serde::de::value::MapAccessDeserializer;
    use serde::de::{DeserializeSeed, IntoDeserializer, MapAccess, Visitor};
    use serde::ser::SerializeMap;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Name, Quota, Quotas};

    impl Serialize for Quotas {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match &*self.0 {
                [(None, quota)] => quota.serialize(serializer),
                quotas => {
                    let mut map = serializer.serialize_map(Some(quotas.len()))?;
                    for (name, quota) in quotas {
                        map.serialize_entry(name.as_ref().map_or("", Name::as_str), quota)?;
                    }
                    map.end()
                }
            }
        }
    }

    impl<'de> Deserialize<'de> for Quotas {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_map(QuotasVisitor)
        }
    }

    struct QuotasVisitor;

    impl<'de> Visitor<'de> for QuotasVisitor {
        type Value = Quotas;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a quota, or quotas by name")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Quotas, A::Error> {
            const FIELDS: [&str; 6] = ["count", "period", "calendar", "algorithm", "burst", "overdraft"];
            let mut quotas = Vec::new();
            while let Some(name) = map.next_key::<String>()? {
                if quotas.is_empty() && FIELDS.contains(&&*name) {
                    let rest = MapAccessDeserializer::new(Pushed { first: Some(name), map });
                    return Quota::deserialize(rest).map(Quotas::from);
                }
                quotas.push((Some(Name::from(name)), map.next_value()?));
            }
            Ok(Quotas(quotas))
        }
    }

    /// A map whose first key has been read already.
    struct Pushed<A> {
        first: Option<String>,
        map: A,
    }

    impl<'de, A: MapAccess<'de>> MapAccess<'de> for Pushed<A> {
        type Error = A::Error;

        fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
            match self.first.take() {
                Some(first) => seed.deserialize(first.into_deserializer()).map(Some),
                None => self.map.next_key_seed(seed),
            }
        }

        fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
            self.map.next_value_seed(seed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_several_has_a_name_of_its_own() {
        let wrong = |quotas: Quotas| quotas.limits(&"x".into()).unwrap_err().field().to_owned();
        let [one, two] = [Quota::per_second(1), Quota::per_second(2)];
        assert_eq!(wrong([("a", one), ("a", two)].into()), "quotas");
        assert_eq!(wrong(Quotas::from([("a", one)]).and([("a", two)])), "quotas");
        assert_eq!(wrong(Quotas::from(one).and([("a", two)])), "quotas");
        assert_eq!(wrong(Quotas::from([("a", one)]).and(two)), "quotas");
        assert_eq!(wrong([("a", Quota::per_second(0))].into()), "a.count");
        assert_eq!(wrong(Quotas::named([("", one); 0])), "quotas");
    }

    #[test]
    fn these_come_before_the_others() {
        let [one, two] = [Quota::per_second(1), Quota::per_second(2)];
        let both = Quotas::from([("a", one)]).and([("b", two)]);
        assert_eq!(both, [("a", one), ("b", two)].into());
        let limits = both.limits(&"x".into()).unwrap();
        assert_eq!(limits.iter().map(RateLimit::name).collect::<Vec<_>>(), ["x/a", "x/b"]);
    }
}

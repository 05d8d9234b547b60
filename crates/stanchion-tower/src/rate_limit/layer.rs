//! The settings.

use std::fmt;
use std::sync::Arc;

use stanchion_limit::Limit;
use tower_layer::Layer;

use super::headers::Headers;
use super::service::RateLimit;
use crate::{KeyExtractor, RequestHead};

/// Limits requests by key: those beyond the limit are answered 429 with
/// `Retry-After`, and never reach the inner service.
///
/// The limiter is any [`Limit`]: a `Limiter` for all requests together, a
/// `KeyedLimiter` of `[u8]` in memory or on a store. Where the limiter's table
/// of keys is full, or its store is away and the policy is to refuse, the answer
/// is 503, since that is not the client's doing.
///
/// Clones share the limiter. Keep an [`Arc`] of it to read its `snapshot()`: an
/// `Arc` of a limiter is a limiter. So memory or Redis can be chosen while running:
///
/// ```
/// use std::sync::Arc;
/// use stanchion_limit::{KeyedLimiter, Limit, MemoryRateStore, Outage, Quota};
/// use stanchion_tower::{Header, MissingKey, RateLimitLayer};
///
/// # fn layer(shared: bool) -> Result<RateLimitLayer, stanchion_limit::ConfigError> {
/// let tenants = KeyedLimiter::<[u8]>::builder(Quota::per_second(30)).name("tenants");
/// let limiter: Arc<dyn Limit> = if shared {
///     let store = MemoryRateStore::new(10_000); // in earnest: `RedisRateStore::connect(url)?`
///     Arc::new(tenants.on(store, Outage::LocalShare { instances: 4 }).build()?)
/// } else {
///     Arc::new(tenants.build()?)
/// };
/// Ok(RateLimitLayer::new(limiter, Header::new("x-tenant")?).missing_key(MissingKey::Refuse))
/// # }
/// # layer(true).and(layer(false)).unwrap();
/// ```
///
/// # Defaults
/// A cost of 1; [`MissingKey::Share`]; [`Headers::Standard`].
#[derive(Clone)]
pub struct RateLimitLayer(pub(super) Arc<Settings>);

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) limiter: Arc<dyn Limit>,
    pub(super) extractor: Arc<dyn KeyExtractor>,
    pub(super) cost: Arc<Cost>,
    pub(super) missing_key: MissingKey,
    pub(super) headers: Headers,
    /// The limiter's name as it stands in headers.
    pub(super) policy_name: String,
}

type Cost = dyn Fn(&RequestHead<'_>) -> u64 + Send + Sync;

/// What becomes of a request without a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum MissingKey {
    /// All of them share one bucket, that of the empty key.
    #[default]
    Share,
    /// They are not limited.
    Skip,
    /// They are answered 400.
    Refuse,
}

impl RateLimitLayer {
    /// Limits requests by the key that `extractor` finds.
    pub fn new(limiter: impl Limit + 'static, extractor: impl KeyExtractor + 'static) -> Self {
        let policy_name = super::headers::quoted(limiter.name());
        Self(Arc::new(Settings {
            limiter: Arc::new(limiter),
            extractor: Arc::new(extractor),
            cost: Arc::new(|_: &RequestHead<'_>| 1),
            missing_key: MissingKey::default(),
            headers: Headers::default(),
            policy_name,
        }))
    }

    /// What a request costs, in units of the limit. Default: 1.
    pub fn cost(self, cost: impl Fn(&RequestHead<'_>) -> u64 + Send + Sync + 'static) -> Self {
        self.with(|settings| settings.cost = Arc::new(cost))
    }

    /// What becomes of a request without a key. Default: [`MissingKey::Share`].
    pub fn missing_key(self, missing_key: MissingKey) -> Self {
        self.with(|settings| settings.missing_key = missing_key)
    }

    /// Which headers tell the client how it stands. Default: [`Headers::Standard`].
    pub fn headers(self, headers: Headers) -> Self {
        self.with(|settings| settings.headers = headers)
    }

    fn with(self, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::clone(&self.0);
        change(&mut settings);
        Self(Arc::new(settings))
    }
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimit<S>;

    fn layer(&self, inner: S) -> RateLimit<S> {
        RateLimit { inner, settings: self.0.clone() }
    }
}

impl fmt::Debug for RateLimitLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitLayer")
            .field("limiter", &self.0.limiter.name())
            .field("missing_key", &self.0.missing_key)
            .field("headers", &self.0.headers)
            .finish_non_exhaustive()
    }
}

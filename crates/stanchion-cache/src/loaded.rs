//! What a loader returns.

use std::borrow::Cow;
use std::time::Duration;

/// A value with what the cache should know of it. A loader may return a plain
/// value, an `Option`, or this.
///
/// ```
/// use std::time::Duration;
/// use stanchion_cache::Loaded;
///
/// let user = Loaded::new("Alice").ttl(Duration::from_secs(60)).tag("tenant:7").weight(5);
/// let nobody: Loaded<&str> = Loaded::absent();
/// assert!(nobody.is_absent() && !user.is_absent());
/// ```
#[derive(Debug, Clone)]
#[must_use = "it is for a loader to return, or for `insert_loaded`"]
pub struct Loaded<V> {
    pub(crate) value: Option<V>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) weight: Option<u64>,
    pub(crate) version: u64,
    pub(crate) tags: Vec<Cow<'static, str>>,
    pub(crate) is_kept: bool,
    /// It has been stale for so long already, and stands in for what couldn't be loaded.
    #[cfg(feature = "tier")]
    pub(crate) stale_for: Option<Duration>,
    /// How long its load took, wherever that was.
    #[cfg(feature = "tier")]
    pub(crate) load_time: Option<Duration>,
}

impl<V> Loaded<V> {
    /// This value, with the cache's settings.
    pub fn new(value: V) -> Self {
        Self { value: Some(value), ..Self::absent() }
    }

    /// There is no such thing. It is remembered for the cache's `negative_ttl`, or for a
    /// [`ttl`](Self::ttl) that is shorter.
    pub fn absent() -> Self {
        Self {
            value: None,
            ttl: None,
            weight: None,
            version: 0,
            tags: Vec::new(),
            is_kept: true,
            #[cfg(feature = "tier")]
            stale_for: None,
            #[cfg(feature = "tier")]
            load_time: None,
        }
    }

    /// It is fresh for so long, counted from the start of the load. The cache's jitter
    /// shortens this, too. `Duration::MAX`: for ever.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// It has this tag: `invalidate_tag` of it makes the value go.
    pub fn tag(mut self, tag: impl Into<Cow<'static, str>>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// It has this weight, whatever the cache's weigher says.
    pub fn weight(mut self, weight: u64) -> Self {
        self.weight = Some(weight);
        self
    }

    /// It is this version of the thing: never kept in place of a newer one. Without, a value is of
    /// version 0, and the later one counts.
    pub fn version(mut self, version: u64) -> Self {
        self.version = version;
        self
    }

    /// It is for those who wait only; the cache doesn't keep it.
    pub fn uncached(mut self) -> Self {
        self.is_kept = false;
        self
    }

    /// How long its load took, if this one has only fetched it.
    pub(crate) fn load_time_or(&self, took: Duration) -> Duration {
        #[cfg(feature = "tier")]
        return self.load_time.unwrap_or(took);
        #[cfg(not(feature = "tier"))]
        took
    }

    /// Whether there is no such thing.
    pub fn is_absent(&self) -> bool {
        self.value.is_none()
    }
}

impl<V> From<V> for Loaded<V> {
    fn from(value: V) -> Self {
        Self::new(value)
    }
}

/// `None`: there is no such thing.
impl<V> From<Option<V>> for Loaded<V> {
    fn from(value: Option<V>) -> Self {
        Self { value, ..Self::absent() }
    }
}

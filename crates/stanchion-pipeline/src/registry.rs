//! Pipelines by name and by key.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use lru::LruCache;
use stanchion_core::ConfigError;

use crate::{Pipeline, PipelineBuilder, PipelineConfig, PipelineSnapshot};

/// Pipelines by name, and by key: one for each host, say, made when it is first
/// asked for. **At most `max_keys` of the latter are kept**; beyond that the one
/// that was asked for longest ago is let go.
///
/// One that is let go lives on for whoever holds it; asked for again, the key
/// begins anew, with nothing remembered. So let there be room for all keys that
/// are used at a time. With the feature `metrics` each name has counters of its own,
/// which the recorder keeps: mind that where strangers choose the keys.
///
/// ```
/// use stanchion_pipeline::{Pipeline, Registry};
///
/// let hosts = Registry::new(1_000, |host| Pipeline::http_api(host.to_owned()));
/// let one = hosts.get("api.example.org")?;
/// assert_eq!(one.name(), "api.example.org");
///
/// hosts.insert(Pipeline::database("orders").build()?);
/// assert_eq!(hosts.get("orders")?.name(), "orders");
/// # Ok::<(), stanchion_pipeline::ConfigError>(())
/// ```
pub struct Registry {
    make: Box<dyn Fn(&str) -> PipelineBuilder + Send + Sync>,
    all: Mutex<All>,
}

struct All {
    named: HashMap<String, Pipeline>,
    keyed: LruCache<String, Pipeline>,
}

impl Registry {
    /// An empty one that makes the pipeline of a new key with `make`, and keeps at
    /// most `max_keys` of those; 0 is taken for 1.
    pub fn new(max_keys: usize, make: impl Fn(&str) -> PipelineBuilder + Send + Sync + 'static) -> Self {
        let most = NonZeroUsize::new(max_keys).unwrap_or(NonZeroUsize::MIN);
        // Unbounded for the crate, so that it doesn't take all the room at once.
        let all = All { named: HashMap::new(), keyed: LruCache::unbounded() };
        let registry = Self { make: Box::new(make), all: Mutex::new(all) };
        registry.lock().keyed.resize(most);
        registry
    }

    /// The pipeline of this name or key.
    ///
    /// # Errors
    /// What the builder of a new key says.
    pub fn get(&self, key: &str) -> Result<Pipeline, ConfigError> {
        {
            let mut all = self.lock();
            let All { named, keyed } = &mut *all;
            if let Some(known) = named.get(key).or_else(|| keyed.get(key)) {
                return Ok(known.clone());
            }
        }
        // Made outside of the lock, since `make` is the user's; of two that are made at a time, the first stays.
        let made = (self.make)(key).build()?;
        let mut all = self.lock();
        if let Some(known) = all.named.get(key) {
            return Ok(known.clone());
        }
        let kept = all.keyed.get_or_insert(key.to_owned(), || made).clone();
        Ok(kept)
    }

    /// Keeps a pipeline under its own name, for good. Says which one had the name.
    pub fn insert(&self, pipeline: Pipeline) -> Option<Pipeline> {
        let mut all = self.lock();
        let keyed = all.keyed.pop(pipeline.name());
        all.named.insert(pipeline.name().to_owned(), pipeline).or(keyed)
    }

    /// Changes the configuration of those that `configs` names, if all of it can be
    /// honoured by those that are here. Says which names aren't here: misspelt, or
    /// keys that nobody has asked for. A key that is let go and asked for again
    /// begins with what `make` says.
    ///
    /// # Errors
    /// Names the pipeline and the field that can't be honoured; then none has changed.
    pub fn reload<'a>(
        &self,
        configs: impl IntoIterator<Item = (&'a str, &'a PipelineConfig)>,
    ) -> Result<Vec<&'a str>, ConfigError> {
        let (mut found, mut unknown) = (Vec::<(Pipeline, &PipelineConfig)>::new(), Vec::new());
        {
            let all = self.lock();
            for (name, config) in configs {
                match all.named.get(name).or_else(|| all.keyed.peek(name)) {
                    Some(pipeline) => found.push((pipeline.clone(), config)),
                    None => unknown.push(name),
                }
            }
        }
        for (pipeline, config) in &found {
            pipeline.would_reload(config).map_err(|error| error.inside(pipeline.name()))?;
        }
        for (pipeline, config) in &found {
            pipeline.reload(config)?;
        }
        Ok(unknown)
    }

    /// How all of them stand, by name.
    pub fn snapshot(&self) -> Vec<PipelineSnapshot> {
        let pipelines: Vec<Pipeline> = {
            let all = self.lock();
            all.named.values().chain(all.keyed.iter().map(|(_, pipeline)| pipeline)).cloned().collect()
        };
        let mut all: Vec<PipelineSnapshot> = pipelines.iter().map(Pipeline::snapshot).collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        let all = self.lock();
        all.named.len() + all.keyed.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_that_was_asked_for_longest_ago_is_let_go() {
        let registry = Registry::new(2, |key| Pipeline::named(key.to_owned()));
        registry.insert(Pipeline::named("kept").build().unwrap());
        let first = registry.get("a").unwrap();
        for key in ["b", "a", "c", "kept"] {
            registry.get(key).unwrap();
        }
        let names: Vec<String> = registry.snapshot().into_iter().map(|each| each.name).collect();
        assert_eq!(names, ["a", "c", "kept"]);
        assert!(std::sync::Arc::ptr_eq(&first.0, &registry.get("a").unwrap().0));
    }

    #[test]
    fn a_name_is_kept_for_good_and_takes_the_place_of_a_key() {
        let registry = Registry::new(2, |key| Pipeline::named(key.to_owned()));
        let keyed = registry.get("a").unwrap();
        let named = Pipeline::named("a").build().unwrap();
        let same = |one: &Pipeline, other: &Pipeline| std::sync::Arc::ptr_eq(&one.0, &other.0);
        assert!(same(&registry.insert(named.clone()).unwrap(), &keyed));
        assert!(same(&registry.get("a").unwrap(), &named) && registry.len() == 1);
    }

    #[test]
    fn a_reload_is_refused_whole() {
        let registry = Registry::new(2, |key| Pipeline::named(key.to_owned()));
        let (one, other) = (registry.get("one").unwrap(), registry.get("other").unwrap());
        let good = PipelineConfig { repeatable: Some(true), ..PipelineConfig::default() };
        let bad = PipelineConfig { total_timeout: Some(std::time::Duration::ZERO), ..PipelineConfig::default() };
        let error = registry.reload([("one", &good), ("other", &bad), ("unknown", &bad)]).unwrap_err();
        assert_eq!(error.to_string(), "other.total_timeout is 0ns: must be longer than zero");
        assert_eq!((one.config(), other.config()), Default::default());
        assert_eq!(registry.reload([("one", &good), ("unknown", &bad)]), Ok(vec!["unknown"]));
        assert_eq!((one.config(), other.config()), (good, PipelineConfig::default()));
    }
}

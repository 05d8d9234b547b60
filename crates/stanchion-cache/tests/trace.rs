//! What the feature `tracing` reports: loads that went wrong, and no hits.
#![cfg(feature = "tracing")]

use std::sync::{Arc, Mutex};

use stanchion_cache::Cache;

/// Remembers what is reported, a line each.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Notes {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Line(String);
        impl tracing::field::Visit for Line {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0 += &format!(" {}={value:?}", field.name());
            }
        }
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn a_load_that_goes_wrong_is_an_event_and_a_hit_is_none() {
    let notes = Notes::default();
    tracing::subscriber::with_default(notes.clone(), || {
        let cache: Cache<u64, u64> = Cache::builder().name("users").build().unwrap();
        assert_eq!(cache.get_or_load_blocking(&1, || Ok::<_, &str>(1)).unwrap(), 1);
        assert_eq!(cache.get(&1), Some(1));
        assert!(cache.get_or_load_blocking(&2, || Err::<u64, _>("down")).is_err());
        let load = || {
            cache.invalidate(&3);
            Ok::<_, &str>(3)
        };
        assert_eq!(cache.get_or_load_blocking(&3, load).unwrap(), 3);
    });
    let lines = notes.0.lock().unwrap();
    let expected = [["WARN", "cache=\"users\"", "reason=\"error\""], ["DEBUG", "cache=\"users\"", "invalidated"]];
    assert_eq!(lines.len(), expected.len(), "{lines:?}");
    for (line, words) in lines.iter().zip(expected) {
        assert!(words.iter().all(|word| line.contains(word)), "{line}");
    }
}

//! What the feature `tracing` reports: transitions, and no calls.
#![cfg(feature = "tracing")]

use std::sync::{Arc, Mutex};

use stanchion_breaker::{Breaker, Outcome, State};

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
fn each_transition_is_an_event_and_no_call_is() {
    let notes = Notes::default();
    tracing::subscriber::with_default(notes.clone(), || {
        let breaker = Breaker::builder("payments").consecutive_failures(2).probes(1).build().unwrap();
        for _ in 0..2 {
            breaker.try_acquire().unwrap().settle(Outcome::Transient);
        }
        assert!(breaker.try_acquire().is_err());
        breaker.force(State::HalfOpen);
        breaker.try_acquire().unwrap().settle(Outcome::Success);
    });
    let lines = notes.0.lock().unwrap();
    let expected = [
        ["WARN", "breaker=\"payments\"", "from=\"closed\"", "to=\"open\"", "cause=\"consecutive_failures\""],
        ["INFO", "breaker=\"payments\"", "from=\"open\"", "to=\"half_open\"", "cause=\"command\""],
        ["INFO", "breaker=\"payments\"", "from=\"half_open\"", "to=\"closed\"", "cause=\"probes_succeeded\""],
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:?}");
    for (line, words) in lines.iter().zip(expected) {
        assert!(words.iter().all(|word| line.contains(word)), "{line}");
    }
}

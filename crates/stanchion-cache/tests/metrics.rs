//! What the features `metrics` and `tracing` report of loads and writes: each of them once.
#![cfg(all(feature = "metrics", feature = "tracing"))]

use std::sync::{Arc, Mutex};

use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use stanchion_cache::Cache;

/// Remembers what is reported, a line each.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn add(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    fn count(&self, wanted: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|line| line.contains(wanted)).count()
    }
}

struct Noted(Notes, String);

impl CounterFn for Noted {
    fn increment(&self, value: u64) {
        (0..value).for_each(|_| self.0.add(self.1.clone()));
    }

    fn absolute(&self, _: u64) {}
}

impl HistogramFn for Noted {
    fn record(&self, value: f64) {
        self.0.add(format!("{} = {value}", self.1));
    }
}

fn named(key: &Key) -> String {
    let labels: Vec<String> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
    format!("{} {}", key.name(), labels.join(" "))
}

impl Recorder for Notes {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(Noted(self.clone(), named(key))))
    }
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(Noted(self.clone(), named(key))))
    }
}

#[test]
fn each_load_is_counted_by_its_ending_and_timed_and_a_hit_is_not() {
    let notes = Notes::default();
    let clock = stanchion_cache::ManualClock::new();
    let cache: Cache<u64, u64> =
        metrics::with_local_recorder(&notes, || Cache::builder().name("users").clock(clock.clone()).build().unwrap());
    for key in 0..3 {
        let load = || {
            clock.advance(std::time::Duration::from_millis(250));
            Ok::<_, &str>(key)
        };
        assert_eq!(cache.get_or_load_blocking(&key, load).unwrap(), key);
        assert_eq!(cache.get(&key), Some(key));
    }
    for key in 3..5 {
        assert!(cache.get_or_load_blocking(&key, || Err::<u64, _>("down")).is_err());
    }
    let voided = || {
        cache.invalidate(&9);
        Ok::<_, &str>(9)
    };
    assert_eq!(cache.get_or_load_blocking(&9, voided).unwrap(), 9);
    assert_eq!(notes.count("stanchion_cache_loads_total cache=users ending=loaded"), 3);
    assert_eq!(notes.count("stanchion_cache_loads_total cache=users ending=failed"), 2);
    assert_eq!(notes.count("stanchion_cache_loads_total cache=users ending=voided"), 1);
    assert_eq!(notes.count("stanchion_cache_load_seconds cache=users = 0.25"), 3);
    assert_eq!(notes.count("stanchion_cache_load_seconds"), 6);
    assert_eq!(notes.count(""), 12);
}

#[cfg(feature = "write-behind")]
mod writes {
    use std::time::Duration;

    use stanchion_cache::{Outcome, Sink, Write, WriteBehind};

    use super::*;

    /// Refuses odd keys.
    struct Even;

    impl Sink for Even {
        type Key = u64;
        type Value = u64;
        type Error = &'static str;

        async fn write(&self, writes: &[Write<u64, u64>]) -> Result<(), &'static str> {
            if writes.iter().all(|write| write.key() % 2 == 0) { Ok(()) } else { Err("odd") }
        }

        fn outcome(&self, _: &&'static str) -> Outcome {
            Outcome::Permanent
        }
    }

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
            self.add(line.0);
        }
        fn enter(&self, _: &tracing::span::Id) {}
        fn exit(&self, _: &tracing::span::Id) {}
    }

    #[test]
    fn each_write_is_counted_by_its_ending_and_what_is_lost_is_an_event() {
        let (counters, events) = (Notes::default(), Notes::default());
        let users = metrics::with_local_recorder(&counters, || {
            let cache = Cache::builder().name("users").build().unwrap();
            WriteBehind::builder(cache, Even).max_queued(4).max_wait(Duration::ZERO).build().unwrap()
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        tracing::subscriber::with_default(events.clone(), || {
            runtime.block_on(async {
                for key in [0, 0, 0, 2, 3, 4] {
                    users.insert(key, 1).await.unwrap();
                }
                assert!(users.insert(6, 1).await.is_err());
                assert!(users.flush().await.is_err());
            });
        });
        let count = |ending: &str| counters.count(&format!("stanchion_cache_writes_total cache=users ending={ending}"));
        assert_eq!((count("written"), count("coalesced"), count("given_up"), count("refused")), (3, 2, 1, 1));
        let lost = "ERROR message=writes were given up cache=\"users\" writes=1 reason=\"error\"";
        assert_eq!((events.count(lost), events.count("ERROR")), (1, 1), "{:?}", events.0);
        assert_eq!((events.count("queue of writes is full cache=\"users\""), events.count("WARN")), (1, 1));
    }
}

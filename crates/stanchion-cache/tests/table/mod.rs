//! A store for the tests: rows with a number for each change, that takes its time and fails by chance.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stanchion_cache::{Outcome, Random, Sink, Write};
use tokio::time::sleep;

/// What may go wrong with a write, in percent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Trouble {
    /// It fails, and nothing is written.
    pub(crate) before: u64,
    /// It fails, and all is written.
    pub(crate) after: u64,
    /// It takes longer than anybody waits.
    pub(crate) hangs: u64,
    /// It panics.
    pub(crate) panics: u64,
    /// Its longest time, in milliseconds.
    pub(crate) slowness: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    /// It may go better next time.
    Away,
    /// It won't.
    Refused,
}

#[derive(Clone)]
pub(crate) struct Table(pub Arc<Rows>);

pub(crate) struct Rows {
    /// The value of each key that was ever written, and which change of it that was, from 1 on.
    rows: Mutex<HashMap<u64, (Option<u64>, u64)>>,
    /// Which change of its key each value was.
    history: Mutex<HashMap<(u64, u64), u64>>,
    trouble: Mutex<Trouble>,
    random: Random,
    /// Each batch that came.
    pub(crate) batches: Mutex<Vec<Vec<Write<u64, u64>>>>,
    /// Keys whose writes are refused.
    pub(crate) refused: Mutex<Vec<u64>>,
    /// The most writes of one key that were under way at once.
    pub(crate) most_at_once: AtomicU64,
    under_way: Mutex<HashMap<u64, u64>>,
}

impl Table {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Rows {
            rows: Mutex::default(),
            history: Mutex::default(),
            trouble: Mutex::default(),
            random: Random::seeded(seed),
            batches: Mutex::default(),
            refused: Mutex::default(),
            most_at_once: AtomicU64::new(0),
            under_way: Mutex::default(),
        }))
    }

    pub(crate) fn trouble(&self, trouble: Trouble) {
        *self.0.trouble.lock().unwrap() = trouble;
    }

    /// The key's value.
    pub(crate) fn value(&self, key: u64) -> Option<u64> {
        self.0.rows.lock().unwrap().get(&key).and_then(|row| row.0)
    }

    /// How often the key was changed.
    pub(crate) fn changes(&self, key: u64) -> u64 {
        self.0.rows.lock().unwrap().get(&key).map_or(0, |row| row.1)
    }

    /// Which change of its key this value was, if it was ever there.
    pub(crate) fn change_of(&self, key: u64, value: u64) -> Option<u64> {
        self.0.history.lock().unwrap().get(&(key, value)).copied()
    }

    /// The keys of each batch that came.
    pub(crate) fn keys(&self) -> Vec<Vec<u64>> {
        self.0.batches.lock().unwrap().iter().map(|batch| batch.iter().map(|write| *write.key()).collect()).collect()
    }

    fn apply(&self, writes: &[Write<u64, u64>]) {
        let mut rows = self.0.rows.lock().unwrap();
        for write in writes {
            let row = rows.entry(*write.key()).or_default();
            *row = (write.value().copied(), row.1 + 1);
            if let Some(value) = write.value() {
                self.0.history.lock().unwrap().insert((*write.key(), *value), row.1);
            }
        }
    }

    /// Takes its time, as a reader does who got the value at the beginning or at the end.
    pub(crate) async fn load(&self, key: u64, before: Duration, after: Duration) -> Option<u64> {
        sleep(before).await;
        let value = self.value(key);
        sleep(after).await;
        value
    }
}

/// The keys of a batch, while it is under way.
struct UnderWay<'a>(&'a Rows, Vec<u64>);

impl<'a> UnderWay<'a> {
    fn new(rows: &'a Rows, writes: &[Write<u64, u64>]) -> Self {
        let keys: Vec<u64> = writes.iter().map(|write| *write.key()).collect();
        let mut under_way = rows.under_way.lock().unwrap();
        for key in &keys {
            let at_once = under_way.entry(*key).or_default();
            *at_once += 1;
            rows.most_at_once.fetch_max(*at_once, Ordering::Relaxed);
        }
        drop(under_way);
        Self(rows, keys)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut under_way = self.0.under_way.lock().unwrap();
        self.1.iter().for_each(|key| *under_way.get_mut(key).unwrap() -= 1);
    }
}

impl Sink for Table {
    type Key = u64;
    type Value = u64;
    type Error = Fault;

    async fn write(&self, writes: &[Write<u64, u64>]) -> Result<(), Fault> {
        let _under_way = UnderWay::new(&self.0, writes);
        self.0.batches.lock().unwrap().push(writes.to_vec());
        let trouble = *self.0.trouble.lock().unwrap();
        let mut random = self.0.random.run();
        let pause = |longest: u64, drawn: u64| sleep(Duration::from_millis(drawn % (longest + 1)));
        if trouble.slowness > 0 {
            pause(trouble.slowness, random.up_to(u64::from(u32::MAX))).await;
        }
        if writes.iter().any(|write| self.0.refused.lock().unwrap().contains(write.key())) {
            return Err(Fault::Refused);
        }
        let drawn = random.up_to(99);
        let mut edge = 0;
        let mut is_drawn = |percent: u64| {
            edge += percent;
            drawn < edge
        };
        if is_drawn(trouble.before) {
            return Err(Fault::Away);
        }
        if is_drawn(trouble.panics) {
            panic!("the table broke");
        }
        let (fails, hangs) = (is_drawn(trouble.after), is_drawn(trouble.hangs));
        self.apply(writes);
        if hangs && !fails {
            std::future::pending::<()>().await;
        }
        if trouble.slowness > 0 {
            pause(trouble.slowness, random.up_to(u64::from(u32::MAX))).await;
        }
        if fails { Err(Fault::Away) } else { Ok(()) }
    }

    fn outcome(&self, fault: &Fault) -> Outcome {
        match fault {
            Fault::Away => Outcome::Transient,
            Fault::Refused => Outcome::Permanent,
        }
    }
}

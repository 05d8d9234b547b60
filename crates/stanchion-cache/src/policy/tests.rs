//! Each policy beside a naive one that keeps whole keys in vectors, on the same random
//! histories of reads and removals.

use stanchion_core::Random;

use super::simulator::hash;
use super::sketch::Sketch;
use super::{Eviction, Simulator};

/// A policy by keys. Nothing in it is quick.
trait Naive {
    fn contains(&self, key: u64) -> bool;
    fn hit(&mut self, key: u64);
    fn insert(&mut self, key: u64, is_roomy: bool);
    fn remove(&mut self, key: u64);
    fn evict(&mut self);
}

fn compare(eviction: Eviction, capacity: usize, mut naive: impl Naive, seed: usize) {
    let mut random = Random::seeded(seed as u64).run();
    let mut ours = Simulator::new(eviction, capacity);
    for step in 0..4_000 {
        // Half of the requests are for a few keys, and the few shift with time.
        let few = step / 500;
        let key = if random.unit() < 0.5 { few + random.up_to(capacity as u64 / 2) } else { random.up_to(80) };
        if random.unit() < 0.03 {
            assert_eq!(ours.remove(key), naive.contains(key));
            naive.remove(key);
            continue;
        }
        if naive.contains(key) {
            naive.hit(key);
        } else {
            let is_roomy = ours.len() < capacity;
            if !is_roomy {
                naive.evict();
            }
            naive.insert(key, is_roomy);
        }
        ours.access(key);
        for key in 0..100 {
            assert_eq!(ours.contains(key), naive.contains(key), "seed {seed}, step {step}, key {key}");
        }
    }
}

/// The front is the least recently used.
struct NaiveLru(Vec<u64>);

impl Naive for NaiveLru {
    fn contains(&self, key: u64) -> bool {
        self.0.contains(&key)
    }

    fn hit(&mut self, key: u64) {
        self.remove(key);
        self.0.push(key);
    }

    fn insert(&mut self, key: u64, _: bool) {
        self.0.push(key);
    }

    fn remove(&mut self, key: u64) {
        self.0.retain(|&found| found != key);
    }

    fn evict(&mut self) {
        self.0.remove(0);
    }
}

#[test]
fn lru_is_the_least_recently_used_exactly() {
    (0..20).for_each(|seed| compare(Eviction::Lru, 1 + seed * 3, NaiveLru(Vec::new()), seed));
}

/// Two queues of keys with hits; the front is the oldest.
#[derive(Default)]
struct Queues {
    new: Vec<(u64, u8)>,
    main: Vec<(u64, u8)>,
}

impl Queues {
    fn len(&self) -> usize {
        self.new.len() + self.main.len()
    }

    fn find(&self, key: u64) -> bool {
        self.new.iter().chain(&self.main).any(|&(found, _)| found == key)
    }

    fn count(&mut self, key: u64) {
        for entry in self.new.iter_mut().chain(&mut self.main).filter(|entry| entry.0 == key) {
            entry.1 = (entry.1 + 1).min(3);
        }
    }

    fn drop(&mut self, key: u64) {
        self.new.retain(|entry| entry.0 != key);
        self.main.retain(|entry| entry.0 != key);
    }
}

#[derive(Default)]
struct NaiveS3Fifo {
    queues: Queues,
    /// The oldest first; what was forgotten in between leaves a gap.
    ghost: Vec<Option<u64>>,
}

impl NaiveS3Fifo {
    fn evict_new(&mut self) -> bool {
        while !self.queues.new.is_empty() {
            let (key, hits) = self.queues.new.remove(0);
            if hits <= 1 {
                for place in self.ghost.iter_mut().filter(|place| **place == Some(key)) {
                    *place = None;
                }
                self.ghost.push(Some(key));
                for _ in 0..2 {
                    if self.ghost.len() > self.queues.main.len().max(1) {
                        self.ghost.remove(0);
                    }
                }
                return true;
            }
            self.queues.main.push((key, 0));
            if self.queues.new.len() * 10 < self.queues.len() {
                return false;
            }
        }
        false
    }

    fn evict_main(&mut self) -> bool {
        while !self.queues.main.is_empty() {
            let (key, hits) = self.queues.main.remove(0);
            if hits == 0 {
                return true;
            }
            self.queues.main.push((key, hits - 1));
        }
        false
    }
}

impl Naive for NaiveS3Fifo {
    fn contains(&self, key: u64) -> bool {
        self.queues.find(key)
    }

    fn hit(&mut self, key: u64) {
        self.queues.count(key);
    }

    fn insert(&mut self, key: u64, _: bool) {
        let is_known = self.ghost.contains(&Some(key));
        self.ghost.iter_mut().filter(|place| **place == Some(key)).for_each(|place| *place = None);
        let queue = if is_known { &mut self.queues.main } else { &mut self.queues.new };
        queue.push((key, 0));
    }

    fn remove(&mut self, key: u64) {
        self.queues.drop(key);
    }

    fn evict(&mut self) {
        let is_full = self.queues.new.len() * 10 >= self.queues.len();
        assert!(is_full && self.evict_new() || self.evict_main() || self.evict_new());
    }
}

#[test]
fn s3_fifo_is_the_papers() {
    // Up to 16 entries, which no eviction can turn through more often than it may.
    (0..20).for_each(|seed| compare(Eviction::S3Fifo, 1 + seed % 16, NaiveS3Fifo::default(), seed));
}

/// With the real sketch: it is tested by itself.
struct NaiveHybrid {
    queues: Queues,
    sketch: Sketch,
}

impl NaiveHybrid {
    /// Who stands under the clock's hand when it stops.
    fn victim(&mut self) -> u64 {
        loop {
            let (key, hits) = self.queues.main[0];
            if hits == 0 {
                return key;
            }
            self.sketch.add(hash(key), 1);
            self.queues.main.remove(0);
            self.queues.main.push((key, hits - 1));
        }
    }
}

impl Naive for NaiveHybrid {
    fn contains(&self, key: u64) -> bool {
        self.queues.find(key)
    }

    fn hit(&mut self, key: u64) {
        self.queues.count(key);
    }

    fn insert(&mut self, key: u64, is_roomy: bool) {
        let queue = if is_roomy { &mut self.queues.main } else { &mut self.queues.new };
        queue.push((key, 0));
        self.sketch.fit(self.queues.len());
        self.sketch.add(hash(key), 1);
    }

    fn remove(&mut self, key: u64) {
        self.queues.drop(key);
    }

    fn evict(&mut self) {
        loop {
            let (window, all) = (self.queues.new.len(), self.queues.len());
            if self.queues.main.is_empty() && self.queues.new[0].1 < 2 {
                self.queues.new.remove(0);
                return;
            }
            if window == 0 || window * 10 < all && !self.queues.main.is_empty() {
                let victim = self.victim();
                self.queues.drop(victim);
                return;
            }
            let (candidate, hits) = self.queues.new.remove(0);
            self.sketch.add(hash(candidate), hits);
            if hits < 2 {
                let victim = self.victim();
                if self.sketch.estimate(hash(candidate)) > self.sketch.estimate(hash(victim)) {
                    self.queues.main.push((candidate, 0));
                    self.queues.drop(victim);
                }
                return;
            }
            self.queues.main.push((candidate, 0));
        }
    }
}

#[test]
fn the_hybrid_is_what_its_essay_says() {
    for seed in 0..20 {
        let naive = NaiveHybrid { queues: Queues::default(), sketch: Sketch::new() };
        compare(Eviction::Hybrid, 1 + seed % 20, naive, seed);
    }
}

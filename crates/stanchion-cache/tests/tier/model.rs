//! Random histories of several instances against what they may see.

use std::collections::HashMap;
use std::sync::Mutex;

use super::flaky::Line;
use super::*;
use stanchion_cache::{Loaded, Spread};
use stanchion_core::Random;

const KEYS: usize = 3;

/// The truth: what each key's value is, and how old a value a call may see.
#[derive(Default)]
struct Truth {
    versions: HashMap<u64, u64>,
    /// By instance and key: the least version that it may still serve.
    floors: HashMap<(usize, u64), u64>,
}

/// Writers of a key come one after the other, as in a database's transaction: who inserts what is
/// outdated already has nobody to blame.
#[derive(Clone, Default)]
struct World(Arc<Mutex<Truth>>, [Arc<tokio::sync::Mutex<()>>; KEYS]);

impl World {
    fn version(&self, key: u64) -> u64 {
        *self.0.lock().unwrap().versions.entry(key).or_default()
    }

    fn floor(&self, instance: usize, key: u64) -> u64 {
        self.0.lock().unwrap().floors.get(&(instance, key)).copied().unwrap_or(0)
    }

    fn write(&self, key: u64) -> u64 {
        *self.0.lock().unwrap().versions.entry(key).and_modify(|version| *version += 1).or_insert(1)
    }

    /// The change of this version was made known by `writer`.
    fn raise(&self, writer: usize, spread: Spread, key: u64, version: u64) {
        let mut truth = self.0.lock().unwrap();
        for instance in 0..3 {
            if instance == writer || spread == Spread::Everywhere {
                let floor = truth.floors.entry((instance, key)).or_default();
                *floor = version.max(*floor);
            }
        }
    }
}

/// Writes and reads at random; each write is first made where values are loaded from, then made
/// known.
async fn life(world: World, number: usize, cache: TieredCache<u64, Bytes>, flaky: Flaky, random: Random) -> u64 {
    let mut chance = random.run();
    let mut pick = move |below: u64| chance.up_to(below - 1);
    let mut reads = 0;
    for _ in 0..150 {
        tokio::time::sleep(millis(pick(300))).await;
        let key = pick(KEYS as u64);
        match pick(20) {
            0 => flaky.set([Line::Cut, Line::Hangs, Line::LosesAnswers][usize::try_from(pick(3)).unwrap()]),
            1..=3 => flaky.set(Line::Well),
            4 => flaky.delay(millis(pick(50))),
            5..=8 => {
                let _alone = world.1[usize::try_from(key).unwrap()].lock().await;
                let version = world.write(key);
                let spread = match pick(5) {
                    0 => cache.clear().await,
                    1 => cache.invalidate_tag(format!("key:{key}")).await,
                    2 => {
                        let loaded = Loaded::new(version.to_string().into_bytes());
                        cache.insert_loaded(key, loaded.tag(format!("key:{key}"))).await
                    }
                    _ => cache.invalidate(&key).await,
                };
                world.raise(number, spread, key, version);
            }
            _ => {
                let floor = world.floor(number, key);
                let (there, slow) = (world.clone(), millis(pick(100)));
                let load = move || async move {
                    let version = there.version(key);
                    tokio::time::sleep(slow).await;
                    let loaded = Loaded::new(version.to_string().into_bytes());
                    Ok::<_, String>(loaded.tag(format!("key:{key}")))
                };
                let read = if pick(4) == 0 {
                    cache.get(&key).await
                } else {
                    Some(cache.get_or_load(&key, load).await.unwrap())
                };
                if let Some(read) = read {
                    let version: u64 = String::from_utf8(read).unwrap().parse().unwrap();
                    assert!(version >= floor, "instance {number}, key {key}: {version}, though {floor} was known");
                    reads += 1;
                }
            }
        }
    }
    reads
}

#[tokio::test(start_paused = true)]
async fn nobody_sees_what_was_before_a_change_that_is_known() {
    let mut reads = 0;
    for seed in 0..60 {
        let store = MemoryCacheStore::new();
        let world = World::default();
        let lives: Vec<_> = (0..3)
            .map(|number| {
                let flaky = Flaky::new(&store);
                let cache = settings().max_entries(100).over(flaky.clone(), Raw).build().unwrap();
                let random = Random::seeded(seed * 3 + number as u64);
                tokio::spawn(life(world.clone(), number, cache, flaky, random))
            })
            .collect();
        for life in lives {
            reads += life.await.unwrap_or_else(|panic| panic!("seed {seed}: {panic}"));
        }
    }
    assert!(reads > 10_000, "{reads}");
}

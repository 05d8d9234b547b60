//! Random histories beside the definition.

use std::collections::BTreeMap;
use std::time::Duration;

use stanchion_core::{Fence, Found, Lease, NewValue};

use super::model::Model;
use super::{Instance, Subject};

/// What two instances do with a few keys and tags, in all orders, beside a model that remembers everything.
pub async fn random_histories_are_those_of_the_definition(subject: &Subject) {
    let mut run = Run {
        stores: [subject.store("random"), subject.store("random")],
        model: Model::default(),
        fences: vec![(0, Fence::new(1))],
        random: 0x5eed,
        begin: subject.clock.now().as_nanos(),
        seen: BTreeMap::new(),
    };
    for _ in 0..3_000 {
        if run.draw(3) == 0 {
            let pause = TICK * run.draw(6);
            subject.clock.advance(pause);
        }
        run.step(Duration::from_nanos(subject.clock.now().as_nanos() - run.begin)).await;
    }
    // A history in which little happens shows little.
    for what in ["fresh", "stale", "granted", "taken", "renewed", "released", "put", "void put"] {
        let times = run.seen.get(what).copied().unwrap_or(0);
        assert!(times > 20, "{what}: {times} times");
    }
}

/// All times are so many of these, so that ends are often met exactly.
const TICK: Duration = Duration::from_millis(20);

struct Run {
    stores: [Instance; 2],
    model: Model,
    /// The latest fences, each with its key.
    fences: Vec<(u8, Fence)>,
    random: u64,
    begin: u64,
    seen: BTreeMap<&'static str, u32>,
}

const TAGS: [&[&str]; 6] = [&[], &["a"], &["b"], &["a", "b"], &["c"], &["c", "a"]];

impl Run {
    /// xorshift64 (Marsaglia 2003): the laws repeat exactly.
    fn draw(&mut self, most: u32) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        u32::try_from(self.random % u64::from(most)).expect("small")
    }

    fn saw(&mut self, what: &'static str, times: bool) {
        *self.seen.entry(what).or_default() += u32::from(times);
    }

    async fn step(&mut self, now: Duration) {
        let store = self.stores[self.draw(2) as usize].clone();
        let mut key = u8::try_from(self.draw(3)).expect("small");
        let duration = TICK * (1 + self.draw(20));
        let action = self.draw(23);
        // Most often a fence of the last few, with its own key.
        let back = 1 + self.draw(3) as usize;
        let (of, mut fence) = self.fences[self.fences.len().saturating_sub(back)];
        if self.draw(8) > 0 {
            key = of;
        }
        if self.draw(20) == 0 {
            fence = Fence::new(fence.get() + 1_000);
        }
        let bytes = self.draw(1 << 20).to_le_bytes();
        let fresh_for = TICK * self.draw(15);
        let keep_for = fresh_for + TICK * self.draw(15);
        let value = NewValue { bytes: &bytes, fresh_for, keep_for, tags: TAGS[self.draw(6) as usize] };
        match action {
            0..=2 => {
                let found = store.get(&[key]).await;
                assert_eq!(found, self.model.get(&[key], now));
            }
            3..=8 => self.get_or_lease(&store, key, now, duration).await,
            9 => {
                let lease = store.acquire(&[key], duration).await;
                self.leased(key, lease, now, duration);
            }
            10 => {
                let renewed = store.renew(&[key], fence, duration).await;
                assert_eq!(renewed, self.model.renew(&[key], fence, now, duration));
                self.saw("renewed", renewed);
            }
            11 => {
                let released = store.release(&[key], fence).await;
                assert_eq!(released, self.model.release(&[key], fence, now));
                self.saw("released", released);
            }
            12..=15 => {
                let stands = self.model.standing(&[key], now).is_some_and(|standing| standing.fence == fence);
                let put = store.put(&[key], fence, value).await;
                assert_eq!(put, self.model.put(&[key], fence, value, now), "{value:?}");
                self.saw("put", put);
                self.saw("void put", stands && !put);
            }
            16 => {
                store.insert(&[key], value).await;
                self.model.insert(&[key], value, now);
            }
            17 => {
                store.invalidate(&[key]).await;
                self.model.invalidate(&[key]);
            }
            18..=21 => {
                let tag = ["a", "b", "c"][self.draw(3) as usize];
                store.invalidate_tag(tag).await;
                self.model.invalidate_tag(tag);
            }
            _ if self.draw(3) == 0 => {
                store.clear().await;
                self.model.clear();
            }
            _ => {}
        }
    }

    async fn get_or_lease(&mut self, store: &Instance, key: u8, now: Duration, duration: Duration) {
        let known = self.model.get(&[key], now);
        match store.get_or_lease(&[key], duration).await {
            Found::Fresh(value) => {
                assert!(value.is_fresh());
                assert_eq!(Some(value), known);
                self.saw("fresh", true);
            }
            Found::Stale { value, lease } => {
                assert_eq!(value, known);
                assert!(value.as_ref().is_none_or(|value| !value.is_fresh()), "{value:?}");
                self.saw("stale", value.is_some());
                self.leased(key, lease, now, duration);
            }
        }
    }

    fn leased(&mut self, key: u8, lease: Lease, now: Duration, duration: Duration) {
        match (lease, self.model.standing(&[key], now)) {
            (Lease::Held(fence), None) => {
                let greatest = self.fences.iter().filter(|(of, _)| *of == key).map(|(_, fence)| *fence).max();
                assert!(greatest.is_none_or(|greatest| fence > greatest), "{fence:?} after {greatest:?}");
                self.model.grant(&[key], fence, now, duration);
                self.fences.push((key, fence));
                self.saw("granted", true);
            }
            (Lease::Taken { retry_after }, Some(standing)) => {
                assert_eq!(retry_after, standing.until - now);
                self.saw("taken", true);
            }
            (lease, standing) => panic!("{lease:?}, where there is {standing:?}"),
        }
    }
}

//! The calls of a cache: what each asks its script, and makes of the answer.

use std::time::Duration;

use redis::Value;
use redis::aio::ConnectionLike;
use stanchion_core::{
    Answer, CacheStore, ChangeListener, Fence, Found, Lease, LeaseStore, NewValue, StoreError, StoreErrorKind,
    StoredValue, Subscription,
};

use super::RedisCacheStore;
use super::change::{self, Kind};
use super::slots::{slot, together};
use super::subscription;
use super::wire::{self, Looked, micros};
use crate::script::{Call, Script};

/// The scripts begin alike.
macro_rules! script {
    ($act:literal) => {
        Script::new(concat!(include_str!("begin.lua"), include_str!($act)))
    };
}

static LOOK: Script = script!("look.lua");
static HOLD: Script = script!("hold.lua");
static WRITE: Script = script!("write.lua");
static STAMP: Script = script!("stamp.lua");
static INVALIDATE: Script = Script::new(include_str!("invalidate.lua"));

/// What all its keys have after the prefix, with the number of the format.
const FAMILY: &str = "cache1";

/// Keys and tags that are told may not be longer: a server takes arguments of 512 MiB.
const MOST_TOLD: usize = 64 << 20;

impl<C: ConnectionLike + Clone + Send + Sync> LeaseStore for RedisCacheStore<C> {
    fn acquire(&self, key: &[u8], duration: Duration) -> Answer<'_, Result<Lease, StoreError>> {
        let call = self.look(key, -1, micros(duration));
        Answer::later(async move { self.looked(call).await?.lease.ok_or_else(|| garbled("it gave no lease")) })
    }

    fn renew(&self, key: &[u8], fence: Fence, duration: Duration) -> Answer<'_, Result<bool, StoreError>> {
        self.hold(key, fence, micros(duration))
    }

    fn release(&self, key: &[u8], fence: Fence) -> Answer<'_, Result<bool, StoreError>> {
        self.hold(key, fence, -1)
    }
}

impl<C: ConnectionLike + Clone + Send + Sync> CacheStore for RedisCacheStore<C> {
    fn get(&self, key: &[u8]) -> Answer<'_, Result<Option<StoredValue>, StoreError>> {
        let call = self.look(key, self.most(), -1);
        Answer::later(async move { Ok(self.looked(call).await?.value) })
    }

    fn get_or_lease(&self, key: &[u8], lease: Duration) -> Answer<'_, Result<Found, StoreError>> {
        let call = self.look(key, self.most(), micros(lease));
        Answer::later(async move {
            match self.looked(call).await? {
                Looked { value, lease: Some(lease) } => Ok(Found::Stale { value, lease }),
                Looked { value: Some(value), lease: None } if value.is_fresh() => Ok(Found::Fresh(value)),
                Looked { .. } => Err(garbled("it gave neither a fresh value nor a lease")),
            }
        })
    }

    fn put(&self, key: &[u8], fence: Fence, value: NewValue<'_>) -> Answer<'_, Result<bool, StoreError>> {
        match (number(fence), self.write(key, number(fence).unwrap_or(0), value)) {
            // Nobody was ever given it.
            (None, _) => Answer::Ready(Ok(false)),
            (_, Err(error)) => Answer::Ready(Err(error)),
            (_, Ok(call)) => self.yes_or_no(&WRITE, call),
        }
    }

    fn insert(&self, key: &[u8], value: NewValue<'_>) -> Answer<'_, Result<(), StoreError>> {
        match self.told(Kind::Key, key).and_then(|told| Ok((self.write(key, 0, value)?, told))) {
            Err(error) => Answer::Ready(Err(error)),
            Ok((mut call, told)) => {
                call.bytes.extend(told);
                self.done(&WRITE, call)
            }
        }
    }

    fn invalidate(&self, key: &[u8]) -> Answer<'_, Result<(), StoreError>> {
        match self.told(Kind::Key, key) {
            Err(error) => Answer::Ready(Err(error)),
            Ok(told) => {
                let [_, entry, lease] = self.keys(key);
                self.done(&INVALIDATE, Call { keys: vec![entry, lease], arguments: Vec::new(), bytes: told.into() })
            }
        }
    }

    fn invalidate_tag(&self, tag: &str) -> Answer<'_, Result<(), StoreError>> {
        match self.told(Kind::Tag, tag.as_bytes()) {
            Err(error) => Answer::Ready(Err(error)),
            Ok(told) => self.stamp(1, tag, told),
        }
    }

    fn clear(&self) -> Answer<'_, Result<(), StoreError>> {
        match self.told(Kind::All, b"") {
            Err(error) => Answer::Ready(Err(error)),
            Ok(told) => self.stamp(0, "", told),
        }
    }

    fn subscribe(&self, listener: ChangeListener) -> Subscription {
        subscription::listen(&self.runtime, self.nodes.clone(), self.channel(), self.identity, listener)
    }
}

impl<C: ConnectionLike + Clone + Send + Sync> RedisCacheStore<C> {
    async fn looked(&self, call: Call) -> Result<Looked, StoreError> {
        let reply: Value = self.client.ask(&LOOK, call).await?;
        Looked::of(reply).ok_or_else(|| garbled("it answered something else"))
    }

    fn hold(&self, key: &[u8], fence: Fence, duration: i64) -> Answer<'_, Result<bool, StoreError>> {
        let Some(fence) = number(fence) else { return Answer::Ready(Ok(false)) };
        let mut arguments = self.client.time().to_vec();
        arguments.extend([fence, duration]);
        self.yes_or_no(&HOLD, Call::new(self.keys(key).into(), arguments))
    }

    fn yes_or_no(&self, script: &'static Script, call: Call) -> Answer<'_, Result<bool, StoreError>> {
        Answer::later(async move {
            match self.client.ask::<i64>(script, call).await? {
                yes @ (0 | 1) => Ok(yes == 1),
                other => Err(garbled(&format!("it answered {other}"))),
            }
        })
    }

    fn done(&self, script: &'static Script, call: Call) -> Answer<'_, Result<(), StoreError>> {
        Answer::later(async move { self.client.ask::<i64>(script, call).await.map(drop) })
    }

    /// Puts a mark on each slot; then on the first, which tells it: whoever hears of it may come to any slot.
    fn stamp(&self, tagged: i64, tag: &str, told: [Vec<u8>; 2]) -> Answer<'_, Result<(), StoreError>> {
        let call = |slot, told: [Vec<u8>; 2]| {
            let mut arguments = self.client.time().to_vec();
            arguments.push(tagged);
            let [channel, message] = told;
            let bytes = vec![tag.as_bytes().to_vec(), channel, message];
            Call { keys: vec![self.key_in(slot, "s", None)], arguments, bytes }
        };
        let others: Vec<Call> = (1..self.slots).map(|slot| call(slot, [Vec::new(), Vec::new()])).collect();
        let first = call(0, told);
        Answer::later(async move {
            let ask = |call| self.client.ask::<i64>(&STAMP, call);
            let others = together(others.into_iter().map(ask).collect()).await;
            // Even where one of them has failed: what is gone is gone.
            let first = ask(first).await;
            others.into_iter().chain([first]).try_for_each(|answer| answer.map(drop))
        })
    }
}

impl<C: ConnectionLike + Clone> RedisCacheStore<C> {
    fn look(&self, key: &[u8], most: i64, duration: i64) -> Call {
        let mut arguments = self.client.time().to_vec();
        arguments.extend([most, duration]);
        Call::new(self.keys(key).into(), arguments)
    }

    /// A value to be stored under a fence, or under 0.
    fn write(&self, key: &[u8], fence: i64, value: NewValue<'_>) -> Result<Call, StoreError> {
        let tags = wire::packed(value.tags);
        let size = value.bytes.len().saturating_add(tags.len());
        if size > self.most_bytes {
            let most = self.most_bytes;
            let message = format!("redis: a value of {size} bytes is above the cache's max_value_bytes, {most}");
            return Err(StoreError::new(StoreErrorKind::Unsupported, message));
        }
        let mut arguments = self.client.time().to_vec();
        arguments.extend([fence, micros(value.fresh_for), micros(value.keep_for)]);
        Ok(Call { keys: self.keys(key).into(), arguments, bytes: vec![value.bytes.to_vec(), tags] })
    }

    /// The channel, and what is to be told there.
    fn told(&self, kind: Kind, what: &[u8]) -> Result<[Vec<u8>; 2], StoreError> {
        if what.len() > MOST_TOLD {
            let message = format!("redis: a key or tag of {} bytes is above {MOST_TOLD}", what.len());
            return Err(StoreError::new(StoreErrorKind::Unsupported, message));
        }
        Ok([self.channel(), change::message(self.identity, kind, what)])
    }

    fn channel(&self) -> Vec<u8> {
        self.client.prefix.channel(FAMILY, self.client.database(), self.name.as_bytes())
    }
}

impl<C> RedisCacheStore<C> {
    /// The ledger, the entry and the lease.
    fn keys(&self, key: &[u8]) -> [Vec<u8>; 3] {
        let slot = slot(key, self.slots);
        [self.key_in(slot, "s", None), self.key_in(slot, "e", Some(key)), self.key_in(slot, "l", Some(key))]
    }

    fn key_in(&self, slot: u32, kind: &str, key: Option<&[u8]>) -> Vec<u8> {
        self.client.prefix.key_in_part(FAMILY, self.name.as_bytes(), slot, kind, key)
    }

    fn most(&self) -> i64 {
        i64::try_from(self.most_bytes).unwrap_or(i64::MAX)
    }
}

/// A fence that the scripts can have given.
fn number(fence: Fence) -> Option<i64> {
    i64::try_from(fence.get()).ok().filter(|number| *number > 0)
}

fn garbled(what: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Garbled, format!("redis: a script on a cache made no sense: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_that_nobody_was_given_is_none() {
        assert_eq!(number(Fence::new(7)), Some(7));
        assert_eq!([0, 1 << 63, u64::MAX].map(|fence| number(Fence::new(fence))), [None; 3]);
    }
}

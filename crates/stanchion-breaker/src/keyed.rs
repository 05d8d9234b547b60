//! A breaker for each key.

mod builder;
mod shard;

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stanchion_core::{
    Admission, Call, Clock, ConfigError, Gate, Moment, Name, Outcome, Permit, Random, Rejection, RejectionKind, Ticket,
};

pub use builder::KeyedBreakerBuilder;
use shard::{Shard, Slot};

use crate::config::BreakerConfig;
use crate::machine::{Change, Event, Reply, State};
use crate::notices::Notices;
use crate::plan::{Plan, Verdict};

/// A circuit breaker for each key, of **at most
/// [`max_keys`](KeyedBreakerBuilder::max_keys)** keys: hosts, tenants, whatever
/// [`Call::key`] says.
///
/// A key has its breaker from its first call on, about 220 bytes with the default
/// window. One that nobody has asked for in a while is forgotten by itself; when
/// there is no room, of some closed ones the one that was longest unused. A key for
/// which there is no room still is let pass and not counted, since a breaker that
/// refuses for want of memory would be an outage of its own;
/// [`KeyedSnapshot::untracked`] tells.
///
/// Keys are hashed with a secret seed, not stored. A call takes one of up to 64 locks for
/// some dozen nanoseconds and reads the clock once; a breaker for one thing alone,
/// without a lock, is a [`Breaker`](crate::Breaker).
///
/// ```
/// use stanchion_breaker::{Breaker, Outcome, State};
///
/// let hosts = Breaker::builder("hosts").consecutive_failures(2).keyed().max_keys(1_000).build()?;
/// for _ in 0..2 {
///     hosts.try_acquire("db-1")?.settle(Outcome::Transient);
/// }
/// assert!(hosts.try_acquire("db-1").is_err());
/// assert!(hosts.try_acquire("db-2").is_ok());
/// assert_eq!(hosts.state("db-1"), State::Open);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct KeyedBreaker {
    name: Name,
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    clock: Clock,
    random: Random,
    notices: Notices,
    max_keys: usize,
    idle_after: Duration,
    keys: AtomicUsize,
    /// Whether it matters how long a call took.
    is_timed: AtomicBool,
    untracked: AtomicU64,
    evicted: AtomicU64,
}

/// Locks at most. A note has eight bits for the shard.
const SHARDS: usize = 64;
/// One for so many keys, so that in a full registry there is somebody to forget in
/// each.
const KEYS_PER_SHARD: usize = 128;
/// The note of a call that isn't counted.
const UNTRACKED: u64 = u64::MAX;

impl KeyedBreaker {
    /// The right to make one call for this key, if its breaker lets it pass.
    ///
    /// # Errors
    /// The refusal, with the time after which to come back.
    pub fn try_acquire(&self, key: impl AsRef<[u8]>) -> Result<Permit<'_>, Rejection> {
        Permit::try_new(self, &Call::new().key(&key))
    }

    /// The state of a key's breaker; closed if it has none.
    pub fn state(&self, key: impl AsRef<[u8]>) -> State {
        let (mut shard, _, hash) = self.shard(key.as_ref());
        shard.find(hash).map_or(State::Closed, |slot| slot.machine.state())
    }

    /// Puts a key's breaker into a state; see [`Breaker::force`](crate::Breaker::force).
    /// `false` if there is no room for it.
    pub fn force(&self, key: impl AsRef<[u8]>, state: State) -> bool {
        let now = self.clock.now();
        let (mut shard, _, hash) = self.shard(key.as_ref());
        let Some(place) = self.place(&mut shard, hash, now) else { return false };
        let (_, change) = shard.step(place, now, self.random.run().unit(), Event::Force(state));
        drop(shard);
        self.tell(change);
        true
    }

    /// Closes a key's breaker, with an empty window.
    pub fn reset(&self, key: impl AsRef<[u8]>) -> bool {
        self.force(key, State::Closed)
    }

    /// All keys follow other settings from now on; see
    /// [`Breaker::reconfigure`](crate::Breaker::reconfigure).
    ///
    /// # Errors
    /// Names the field that can't be honoured; the old settings stay.
    pub fn reconfigure(&self, config: &BreakerConfig) -> Result<(), ConfigError> {
        let plan = Plan::new(config)?;
        self.is_timed.store(plan.needs_elapsed(), Ordering::Relaxed);
        for shard in &self.shards {
            let mut shard = lock(shard);
            if shard.plan == plan {
                continue;
            }
            shard.plan = plan;
            let now = self.clock.now();
            for place in 0..shard.slots.len() {
                if shard.slots[place].tally.is_some() {
                    // A transition of each key would be too much to tell.
                    let _ = shard.step(place, now, 0.0, Event::Reconfigure);
                }
            }
        }
        Ok(())
    }

    /// What it is called in rejections and telemetry.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// How it stands now. Walks all keys, a lock at a time.
    pub fn snapshot(&self) -> KeyedSnapshot {
        let refusing = |shard: &Mutex<Shard>| {
            let refuses = |slot: &&Slot| {
                let state = slot.machine.state();
                slot.tally.is_some() && matches!(state, State::Open | State::HalfOpen | State::ForcedOpen)
            };
            lock(shard).slots.iter().filter(refuses).count()
        };
        KeyedSnapshot {
            name: self.name().to_owned(),
            // Relaxed: counts for humans.
            keys: self.keys.load(Ordering::Relaxed),
            max_keys: self.max_keys,
            refusing: self.shards.iter().map(refusing).sum(),
            evicted: self.evicted.load(Ordering::Relaxed),
            untracked: self.untracked.load(Ordering::Relaxed),
        }
    }

    fn shard(&self, key: &[u8]) -> (MutexGuard<'_, Shard>, usize, u64) {
        let hash = self.hasher.hash_one(key);
        // Scales the hash to the number of shards (Lemire 2019).
        let scaled = (u128::from(hash) * self.shards.len() as u128) >> 64;
        let number = usize::try_from(scaled).expect("below the number of shards");
        (lock(&self.shards[number]), number, hash)
    }

    /// Where the key lives; a new one moves in. `None` if there is no room.
    fn place(&self, shard: &mut Shard, hash: u64, now: Moment) -> Option<usize> {
        if let Some(place) = shard.index.get(&hash) {
            return Some(*place as usize);
        }
        for _ in 0..2 {
            // One at a time: in a small shard the second may be the first again.
            if let Some(place) = shard.idle(now, self.idle_after) {
                self.evict(shard, place);
            }
        }
        // Relaxed: the number guards nothing but itself.
        let room = |keys: usize| (keys < self.max_keys).then_some(keys + 1);
        while self.keys.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_err() {
            let place = shard.least_used()?;
            self.evict(shard, place);
        }
        Some(shard.move_in(hash, now))
    }

    fn evict(&self, shard: &mut Shard, place: usize) {
        shard.move_out(place);
        self.keys.fetch_sub(1, Ordering::Relaxed);
        self.evicted.fetch_add(1, Ordering::Relaxed);
    }

    fn tell(&self, change: Option<Change>) {
        if let Some(change) = change {
            self.notices.tell(&self.name, &change);
        }
    }
}

impl Gate for KeyedBreaker {
    fn try_admit(&self, call: &Call<'_>) -> Admission {
        let now = self.clock.now();
        let (mut shard, number, hash) = self.shard(call.key_bytes());
        let Some(place) = self.place(&mut shard, hash, now) else {
            self.untracked.fetch_add(1, Ordering::Relaxed);
            return Admission::Admitted(Ticket::new(0).with_note(UNTRACKED));
        };
        let slot = &mut shard.slots[place];
        slot.last = now;
        if matches!(slot.machine.state(), State::Closed | State::Shadow | State::Disabled) {
            let note = note(number, place, 0);
            return Admission::Admitted(Ticket::new(slot.machine.generation()).with_note(note));
        }
        let (reply, change) = shard.step(place, now, self.random.run().unit(), Event::Arrive);
        drop(shard);
        self.tell(change);
        match reply {
            Reply::Admit { generation, probe } => {
                Admission::Admitted(Ticket::new(generation).with_note(note(number, place, probe)))
            }
            Reply::Reject { retry_after } => Admission::Rejected(
                Rejection::new(self.name.clone(), RejectionKind::CircuitOpen).retry_after(retry_after),
            ),
            Reply::Nothing => Admission::Rejected(Rejection::new(self.name.clone(), RejectionKind::CircuitOpen)),
        }
    }

    fn settle(&self, ticket: Ticket, outcome: Outcome, elapsed: Duration) {
        if ticket.note() == UNTRACKED {
            return;
        }
        let (number, place, probe) = read(ticket.note());
        let Some(shard) = self.shards.get(number) else { return };
        let now = self.clock.now();
        let mut shard = lock(shard);
        let plan = shard.plan;
        let Some(slot) = shard.slots.get_mut(place) else { return };
        if slot.machine.generation() != ticket.generation() {
            return;
        }
        let Some(tally) = &mut slot.tally else { return };
        let (mut verdict, slow) = (plan.verdict(outcome, elapsed), plan.is_slow(elapsed));
        let generation = ticket.generation();
        let event = match slot.machine.state() {
            State::Closed | State::Shadow if verdict != Verdict::Nothing => {
                match tally.record(&plan, now, verdict.is_failure(), slow) {
                    Some(cause) => Event::Trip { generation, cause },
                    None => return,
                }
            }
            State::HalfOpen => {
                if verdict == Verdict::Success && slow {
                    verdict = Verdict::Failure;
                }
                Event::Settle { generation, probe, verdict }
            }
            _ => return,
        };
        let (_, change) = shard.step(place, now, self.random.run().unit(), event);
        drop(shard);
        self.tell(change);
    }

    fn needs_elapsed(&self) -> bool {
        // Relaxed: whoever sees it late measures one call more or less.
        self.is_timed.load(Ordering::Relaxed)
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // Nothing of the user's runs inside, and nothing of ours panics.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Probe, shard and place in one number: 32, 6 and 24 bits.
fn note(shard: usize, place: usize, probe: u32) -> u64 {
    u64::from(probe) << 32 | (shard as u64) << 24 | place as u64
}

fn read(note: u64) -> (usize, usize, u32) {
    let bits = |shift: u32, mask: u64| usize::try_from(note >> shift & mask).unwrap_or(usize::MAX);
    (bits(24, 0xff), bits(0, 0xff_ffff), u32::try_from(note >> 32).unwrap_or(u32::MAX))
}

impl fmt::Debug for KeyedBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedBreaker").field("name", &self.name).field("keys", &self.keys).finish_non_exhaustive()
    }
}

/// How a [`KeyedBreaker`] stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct KeyedSnapshot {
    /// The name.
    pub name: String,
    /// The keys that have a breaker.
    pub keys: usize,
    /// The most there can be.
    pub max_keys: usize,
    /// Those that refuse calls, all or some.
    pub refusing: usize,
    /// Keys that were forgotten.
    pub evicted: u64,
    /// Calls that passed uncounted for want of room.
    pub untracked: u64,
}

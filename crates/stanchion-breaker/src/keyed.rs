//! A breaker for each key.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stanchion_core::{
    Admission, Call, Clock, ConfigError, Gate, IntoGate, Moment, Name, Outcome, Permit, Random, Rejection,
    RejectionKind, Ticket,
};

use crate::config::BreakerConfig;
use crate::machine::{Change, Event, Machine, Reply, State};
use crate::notices::{Listener, Notices};
use crate::plan::{Plan, Verdict};
use crate::tally::Tally;

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
/// Keys are hashed with a secret seed, not stored. A call takes one of 64 locks for
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
    untracked: AtomicU64,
    evicted: AtomicU64,
}

struct Shard {
    plan: Plan,
    index: HashMap<u64, u32>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Where the search for somebody to forget goes on.
    hand: usize,
}

struct Slot {
    hash: u64,
    machine: Machine,
    /// `None` where nobody lives.
    tally: Option<Tally>,
    last: Moment,
}

/// Locks. A note has six bits for the shard.
const SHARDS: usize = 64;
/// A new key looks at so many others for one to forget.
const GLANCES: usize = 8;
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
        let number = usize::try_from(hash >> 58).expect("six bits");
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
        lock(&self.shards[0]).plan.needs_elapsed()
    }
}

impl Shard {
    fn find(&mut self, hash: u64) -> Option<&mut Slot> {
        let place = *self.index.get(&hash)?;
        self.slots.get_mut(place as usize)
    }

    fn step(&mut self, place: usize, now: Moment, chance: f64, event: Event) -> (Reply, Option<Change>) {
        let Slot { machine, tally, .. } = &mut self.slots[place];
        let before = machine.generation();
        let (next, reply, change) = machine.clone().step(&self.plan, now, chance, event);
        *machine = next;
        if machine.generation() != before {
            *tally = Some(Tally::new(&self.plan));
        }
        (reply, change)
    }

    fn move_in(&mut self, hash: u64, now: Moment) -> usize {
        let tally = Some(Tally::new(&self.plan));
        let place = match self.free.pop() {
            Some(place) => {
                let slot = &mut self.slots[place as usize];
                // Later than whatever the last one here has admitted.
                let machine = Machine::new(slot.machine.generation(), now);
                *slot = Slot { hash, machine, tally, last: now };
                place as usize
            }
            None => {
                self.slots.push(Slot { hash, machine: Machine::new(0, now), tally, last: now });
                self.slots.len() - 1
            }
        };
        self.index.insert(hash, u32::try_from(place).expect("at most 2^24 keys"));
        place
    }

    fn move_out(&mut self, place: usize) {
        let slot = &mut self.slots[place];
        slot.tally = None;
        self.index.remove(&slot.hash);
        self.free.push(u32::try_from(place).expect("at most 2^24 keys"));
    }

    /// The next one, if nobody has used it in a while.
    fn idle(&mut self, now: Moment, idle_after: Duration) -> Option<usize> {
        let place = self.turn()?;
        let slot = &self.slots[place];
        (slot.tally.is_some() && !is_forced(slot) && now - slot.last >= idle_after).then_some(place)
    }

    /// Of the next few closed ones, that which was longest unused.
    fn least_used(&mut self) -> Option<usize> {
        let mut found: Option<usize> = None;
        for _ in 0..GLANCES {
            let place = self.turn()?;
            let slot = &self.slots[place];
            let is_closed = slot.tally.is_some() && slot.machine.state() == State::Closed;
            if is_closed && found.is_none_or(|best| slot.last < self.slots[best].last) {
                found = Some(place);
            }
        }
        found
    }

    fn turn(&mut self) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        self.hand = (self.hand + 1) % self.slots.len();
        Some(self.hand)
    }
}

/// Somebody has put it there, and nobody but somebody may forget it.
fn is_forced(slot: &Slot) -> bool {
    matches!(slot.machine.state(), State::ForcedOpen | State::Disabled | State::Shadow)
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

/// Settings of a [`KeyedBreaker`], from [`BreakerBuilder::keyed`](crate::BreakerBuilder::keyed).
#[derive(Clone)]
#[must_use = "a builder builds nothing until it is told to"]
pub struct KeyedBreakerBuilder {
    name: Name,
    config: BreakerConfig,
    clock: Option<Clock>,
    random: Option<Random>,
    listeners: Vec<Listener>,
    max_keys: usize,
    idle_after: Duration,
}

impl KeyedBreakerBuilder {
    pub(crate) fn new(
        name: Name,
        config: BreakerConfig,
        clock: Option<Clock>,
        random: Option<Random>,
        listeners: Vec<Listener>,
    ) -> Self {
        Self { name, config, clock, random, listeners, max_keys: 10_000, idle_after: Duration::from_secs(600) }
    }

    /// The most keys at a time: 1 to 16,777,216. Default: 10,000.
    pub fn max_keys(mut self, keys: usize) -> Self {
        self.max_keys = keys;
        self
    }

    /// A key that nobody has asked for in so long may be forgotten, whatever the
    /// state of its breaker, unless somebody has forced that. Default: ten minutes.
    pub fn idle_after(mut self, idle: Duration) -> Self {
        self.idle_after = idle;
        self
    }

    /// The registry, without keys.
    ///
    /// # Errors
    /// Names the first field that can't be honoured.
    pub fn build(self) -> Result<KeyedBreaker, ConfigError> {
        let plan = Plan::new(&self.config)?;
        if !(1..=1 << 24).contains(&self.max_keys) {
            return Err(ConfigError::new("max_keys", self.max_keys, "must be 1 to 16777216"));
        }
        let shard = || Shard { plan, index: HashMap::new(), slots: Vec::new(), free: Vec::new(), hand: 0 };
        Ok(KeyedBreaker {
            name: self.name,
            shards: (0..SHARDS).map(|_| Mutex::new(shard())).collect(),
            hasher: RandomState::new(),
            clock: self.clock.unwrap_or_default(),
            random: self.random.unwrap_or_default(),
            notices: Notices::new(self.listeners),
            max_keys: self.max_keys,
            idle_after: self.idle_after,
            keys: AtomicUsize::new(0),
            untracked: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
        })
    }
}

impl IntoGate for KeyedBreakerBuilder {
    fn into_gate(self) -> Result<Arc<dyn Gate>, ConfigError> {
        self.build()?.into_gate()
    }
}

impl fmt::Debug for KeyedBreakerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedBreakerBuilder")
            .field("name", &self.name)
            .field("config", &self.config)
            .field("max_keys", &self.max_keys)
            .finish_non_exhaustive()
    }
}

//! A rate store in this process.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use stanchion_core::{Answer, Clock, Decision, Moment, RateRequest, RateStore, StoreError, TokenBucket};

use crate::gcra::{self, Step, debt, step};
use crate::hash::KeyHasher;

/// A [`RateStore`] in this process, for tests and for a service with one
/// instance; a [`KeyedLimiter`](crate::KeyedLimiter) without a store is several
/// times as fast.
///
/// Keys are hashed, not stored. There can be so many states in debt as it is
/// made for, one for each key and limit; a request that would need one more is
/// refused as [`KeysFull`](crate::Verdict::KeysFull).
///
/// ```
/// use std::time::Duration;
/// use stanchion_limit::{MemoryRateStore, RateLimit, RateRequest, RateStore, TokenBucket};
///
/// let store = MemoryRateStore::new(1_000);
/// let limits = [
///     RateLimit::new("second", TokenBucket::new(10, Duration::from_secs(1), 10)?),
///     RateLimit::new("hour", TokenBucket::new(1_000, Duration::from_secs(3_600), 15)?),
/// ];
/// let ask = |cost| store.decide(RateRequest::new(b"alice", cost, &limits).unwrap()).ready().unwrap().unwrap();
/// assert!(ask(10).allowed());
/// let refused = ask(6); // neither has six left, and the hour's six take longer
/// assert_eq!((refused.allowed(), refused.limit_index()), (false, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct MemoryRateStore {
    shards: Box<[Mutex<Shard>]>,
    hasher: KeyHasher,
    clock: Clock,
}

/// Enough that two cores seldom meet, few enough to leave each a fair number of keys.
const SHARDS: usize = 16;

#[derive(Default)]
struct Shard {
    states: HashMap<u64, State>,
    most: usize,
    /// How many states there may be before those out of debt are dropped.
    sweep_at: usize,
    /// No state is out of debt before this moment.
    earliest: Moment,
}

/// A state in the ticks of the quota that left it, and the moment from which it
/// is worth nothing: ticks wrap around in some years, moments in some centuries.
struct State {
    tat: u64,
    ticks_per_nano: u32,
    full_at: Moment,
}

impl State {
    fn new(bucket: &TokenBucket, now: Moment, tat: u64) -> Self {
        let debt = debt(tat, gcra::ticks(bucket, now));
        Self { tat, ticks_per_nano: bucket.ticks_per_nano(), full_at: now + bucket.duration(debt) }
    }

    /// The state in this quota's ticks; of another's, rounded up to a nanosecond.
    fn tat(&self, bucket: &TokenBucket) -> u64 {
        if self.ticks_per_nano == bucket.ticks_per_nano() { self.tat } else { gcra::ticks(bucket, self.full_at) }
    }
}

impl MemoryRateStore {
    /// A store for at most `max_keys` states in debt, rounded up to a multiple of
    /// 16 and divided evenly among as many shards, on the system's clock.
    pub fn new(max_keys: usize) -> Self {
        Self::with_clock(max_keys, Clock::system())
    }

    /// The same on a clock of the caller's.
    pub fn with_clock(max_keys: usize, clock: impl Into<Clock>) -> Self {
        let shard = |_| Mutex::new(Shard { most: max_keys.div_ceil(SHARDS).max(1), ..Shard::default() });
        Self { shards: (0..SHARDS).map(shard).collect(), hasher: KeyHasher::new(), clock: clock.into() }
    }

    /// How many states are held, in debt or not yet dropped.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).states.len()).sum()
    }

    /// Whether no state is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn decide_now(&self, request: RateRequest<'_>) -> Decision {
        let hash = self.hasher.hash(request.key());
        let index = usize::try_from(hash >> 60).expect("below 16");
        let mut shard = lock(&self.shards[index]);
        // Read inside, so that no state was dropped at a later reading than this.
        let now = self.clock.now();
        let limits = request.limits();
        let id = |place: usize| self.hasher.hash(&(hash, limits[place].name()));
        let cost = |bucket: &TokenBucket| bucket.cost(request.cost()).expect("a cost that never fits was turned away");
        // First what each would do; then, if all allow, what each becomes.
        let steps: Vec<Step> = limits
            .iter()
            .enumerate()
            .map(|(place, limit)| {
                let bucket = limit.bucket();
                let in_debt = shard.states.get(&id(place)).filter(|state| state.full_at > now);
                let now = gcra::ticks(bucket, now);
                step(bucket, in_debt.map_or(now, |state| state.tat(bucket)), now, cost(bucket))
            })
            .collect();
        let decisions =
            steps.iter().zip(limits).map(|(step, limit)| step.decision(limit.bucket(), cost(limit.bucket())));
        let decision = Decision::strictest(decisions).expect("a request has a limit");
        // Room is made for all before any is put in: all or nothing.
        let takes = decision.allowed() && steps.iter().any(|step| step.state().is_some());
        if takes && !shard.has_room_for((0..limits.len()).map(id), now) {
            return Decision::keys_full(limits[0].bucket(), limits[0].bucket().interval());
        }
        for (place, step) in steps.iter().enumerate() {
            // A cut is written in any case; what is taken, only if all is.
            let written = decision.allowed() || matches!(step, Step::Cut { .. });
            if let Some(tat) = step.state().filter(|_| written) {
                shard.put(id(place), State::new(limits[place].bucket(), now, tat));
            }
        }
        decision
    }
}

impl Shard {
    /// Whether states of these ids fit, if need be after dropping those out of
    /// debt: when they are twice as many as the last time, or when there is no
    /// room and one of them may be.
    fn has_room_for(&mut self, ids: impl Iterator<Item = u64> + Clone, now: Moment) -> bool {
        let new = |states: &HashMap<u64, State>| ids.clone().filter(|id| !states.contains_key(id)).count();
        let wanted = self.states.len() + new(&self.states);
        if wanted > self.sweep_at.min(self.most) && self.earliest <= now {
            self.states.retain(|_, state| state.full_at > now);
            self.sweep_at = (2 * self.states.len()).max(64);
            self.earliest = self.states.values().map(|state| state.full_at).min().unwrap_or(Moment::MAX);
        }
        self.states.len() + new(&self.states) <= self.most
    }

    fn put(&mut self, id: u64, state: State) {
        self.earliest = self.earliest.min(state.full_at);
        self.states.insert(id, state);
    }
}

impl RateStore for MemoryRateStore {
    fn decide(&self, request: RateRequest<'_>) -> Answer<'_, Result<Decision, StoreError>> {
        let decision = request.never_fits().unwrap_or_else(|| self.decide_now(request));
        Answer::Ready(Ok(decision))
    }
}

impl fmt::Debug for MemoryRateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryRateStore").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// A shard whose holder panicked holds whole states all the same.
fn lock(shard: &Mutex<Shard>) -> std::sync::MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

//! A rate store in this process.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use stanchion_core::{Answer, Ask, Clock, Decision, Moment, RateLimit, RateRequest, RateStore, Receipt, StoreError};

use crate::hash::KeyHasher;
use crate::ledger::{Asked, Ledger};
use crate::state::Now;
use crate::table::WhenFull;

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
    shards: Box<[Mutex<Ledger>]>,
    hasher: KeyHasher,
    clock: Clock,
}

/// Enough that two cores seldom meet,
const MOST_SHARDS: usize = 16;
/// few enough to leave each a fair number of keys, which then don't differ by much.
const KEYS_OF_A_SHARD: usize = 1_024;

impl MemoryRateStore {
    /// A store with room for `max_keys` states in debt, on the system's clock. From 2,048 on they
    /// are divided among up to 16 shards, each with some room more than its part, since keys don't fall evenly.
    pub fn new(max_keys: usize) -> Self {
        Self::with_clock(max_keys, Clock::system())
    }

    /// The same on a clock of the caller's.
    pub fn with_clock(max_keys: usize, clock: impl Into<Clock>) -> Self {
        Self::assemble(max_keys, 1, WhenFull::Refuse, clock.into(), KeyHasher::new())
    }

    /// The same for keys with so many states each.
    pub(crate) fn assemble(
        max_keys: usize,
        states: usize,
        when_full: WhenFull,
        clock: Clock,
        hasher: KeyHasher,
    ) -> Self {
        let shards = (max_keys / KEYS_OF_A_SHARD).clamp(1, MOST_SHARDS);
        // Rounded down to a power of two, so that some bits of a hash choose one.
        let shards = 1 << shards.ilog2();
        let part = max_keys.div_ceil(shards).max(1);
        // Six standard deviations of a part.
        let more = if shards == 1 { 0 } else { 6 * part.isqrt() };
        let most = (part + more).saturating_mul(states.max(1));
        let shard = |_| Mutex::new(Ledger::new(most, when_full));
        Self { shards: (0..shards).map(shard).collect(), hasher, clock }
    }

    /// How many new states were refused for want of room, and how many were forgotten for new ones.
    pub(crate) fn lost(&self) -> [u64; 2] {
        let lost = self.shards.iter().map(|shard| lock(shard).lost());
        lost.fold([0, 0], |[away, forgotten], [more, others]| [away + more, forgotten + others])
    }

    /// How many states are worth keeping now.
    pub(crate) fn worthy(&self) -> usize {
        let now = self.clock.now();
        self.shards.iter().map(|shard| lock(shard).worthy(now)).sum()
    }

    /// How many states are held, in debt or not yet dropped.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Whether no state is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Asks for what is known to fit an empty state.
    fn decide_now(&self, request: RateRequest<'_>) -> Decision {
        let hash = self.hasher.hash(request.key());
        self.decide_hashed(hash, request.limits(), request.cost(), request.how(), None).0
    }

    /// The same for a key that has been hashed, at a moment that may have been read; with a receipt.
    pub(crate) fn reserve_hashed(&self, hash: u64, limits: &[RateLimit], cost: u64, ask: Ask) -> (Decision, Receipt) {
        let (decision, shard) = self.decide_hashed(hash, limits, cost, ask, None);
        let marks = if decision.granted() > 0 { limits } else { &[] };
        let receipt = shard.receipt(self.asked(hash, marks), decision.granted());
        (decision, receipt)
    }

    /// The same without; and the shard, still locked.
    pub(crate) fn decide_hashed(
        &self,
        hash: u64,
        limits: &[RateLimit],
        cost: u64,
        ask: Ask,
        at: Option<Moment>,
    ) -> (Decision, MutexGuard<'_, Ledger>) {
        let mut shard = lock(self.shard(hash));
        // Read inside, so that no state was dropped at a later reading than this.
        let now = Now::read(&self.clock, limits.iter().map(RateLimit::rule));
        let now = at.map_or(now, |moment| now.given(moment));
        let decision = shard.decide(self.asked(hash, limits), now, cost, ask);
        (decision, shard)
    }

    /// Gives units back to a key that has been hashed.
    pub(crate) fn give_back_hashed(&self, hash: u64, limits: &[RateLimit], receipt: &Receipt, units: u64) -> u64 {
        let mut shard = lock(self.shard(hash));
        let now = Now::read(&self.clock, limits.iter().map(RateLimit::rule));
        shard.give_back(self.asked(hash, limits), now, receipt, units)
    }

    fn asked<'a>(&self, hash: u64, limits: &'a [RateLimit]) -> impl Iterator<Item = Asked<'a>> + Clone {
        limits.iter().map(move |limit| Asked { id: self.hasher.hash(&(hash, limit.name())), rule: limit.rule() })
    }

    fn shard(&self, hash: u64) -> &Mutex<Ledger> {
        let index = usize::try_from(hash >> 60).expect("below 16");
        &self.shards[index & (self.shards.len() - 1)]
    }
}

impl RateStore for MemoryRateStore {
    fn decide(&self, request: RateRequest<'_>) -> Answer<'_, Result<Decision, StoreError>> {
        let decision = request.never_fits().unwrap_or_else(|| self.decide_now(request));
        Answer::Ready(Ok(decision))
    }

    fn reserve(&self, request: RateRequest<'_>) -> Answer<'_, Result<(Decision, Receipt), StoreError>> {
        if let Some(never) = request.never_fits() {
            return Answer::Ready(Ok((never, Receipt::new(0, Vec::new()))));
        }
        let hash = self.hasher.hash(request.key());
        Answer::Ready(Ok(self.reserve_hashed(hash, request.limits(), request.cost(), request.how())))
    }

    fn give_back(&self, request: RateRequest<'_>, receipt: &Receipt) -> Answer<'_, Result<u64, StoreError>> {
        let hash = self.hasher.hash(request.key());
        Answer::Ready(Ok(self.give_back_hashed(hash, request.limits(), receipt, receipt.draw(request.cost()))))
    }
}

impl fmt::Debug for MemoryRateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryRateStore").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// A shard whose holder panicked holds whole states all the same.
fn lock(shard: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

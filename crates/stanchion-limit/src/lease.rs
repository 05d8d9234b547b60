//! Leasing: a store that is asked for many units at once, and decides most checks here.

mod config;
mod holding;
mod shelf;
mod turn;

use std::fmt;
use std::time::Duration;

use stanchion_core::{
    Answer, Ask, Clock, ConfigError, Decision, Moment, RateLimit, RateRequest, RateStore, Receipt, StoreError,
    TokenBucket,
};

pub use config::LeaseConfig;

use self::holding::{Answered, Course, Holding, Question};
use self::shelf::Shelves;
use self::turn::{Failure, Turn, Waiting};
use crate::hash::KeyHasher;

/// A [`RateStore`] in front of another, which leases units from it in batches and
/// decides by what it holds: **any window of length W admits at most
/// `burst + ⌊(W + ttl) / T⌋` units over all instances**, where `T = period / count`.
///
/// Put it where a limit on a remote store is checked thousands of times a second. A
/// check that finds its units here is decided at once, without a trip, and allocates
/// nothing. It is for single token buckets that are asked for all or nothing: a request of several
/// limits, of another algorithm, of no cost, or that asks otherwise, is the inner store's.
///
/// ```
/// use stanchion_limit::{KeyedLimiter, LeaseConfig, Leased, MemoryRateStore, Outage, Quota};
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let store = MemoryRateStore::new(10_000); // or `RedisRateStore`
/// # let clock = stanchion_limit::ManualClock::new();
/// # let store = MemoryRateStore::with_clock(10_000, clock.clone());
/// let leased = Leased::new(store, LeaseConfig::default())?;
/// # let leased = leased.clock(clock);
/// let limiter: KeyedLimiter<str, _> =
///     KeyedLimiter::builder(Quota::per_second(1_000)).name("api").on(leased, Outage::Admit).build()?;
/// for _ in 0..1_000 {
///     assert!(limiter.check("alice").await?.allowed());
/// }
/// assert!(!limiter.check("alice").await?.allowed());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # The bound
/// The store counts a unit when it is leased; it may be used up to `ttl` after the
/// store was *asked* for it, and then it is thrown away. So a unit that is admitted at
/// `x` was counted in `(x - ttl, x]`, and those admitted in a window `[x, x + W]` were
/// counted in `(x - ttl, x + W]`, a window shorter than `W + ttl`, for which the store's
/// own bound holds. Each unit is admitted once, wherever it was leased. (The instances'
/// clocks must run at the rate of the store's, not agree with it. What a check takes
/// from the very answer that it waited for is admitted when the store counts it, as
/// without leasing.)
///
/// Of the other instances, one that holds units which it does not use withholds at most
/// its last batch: they are lost to the others as if they had been used.
///
/// # How much is leased
/// As many units as the key was asked for in [`target`](LeaseConfig::target) of late, at
/// most a [`share`](LeaseConfig::share) of the burst. Where that is no more than a
/// check's cost, as for small bursts, or where the store takes longer to answer than a
/// lease lasts, each check is the store's. If a batch does not fit, what is left is taken;
/// a check makes at most three trips.
///
/// One question for a key is under way at a time. Other checks of the key wait for its
/// answer, and then decide by it; after eight answers that left them nothing a check asks for
/// itself. An error is everybody's who waited for it.
///
/// # Refusals
/// A refusal is remembered until there can be room by what the store said, at most
/// [`remember`](LeaseConfig::remember); no check of that key makes a trip meanwhile.
/// What others lease and don't use never comes back, so nobody is refused whom the store
/// would admit, but that a key in demand comes back for what is worth a trip, by chance
/// from half a `target` up to one and a half later, and says so in `retry_after`. Where
/// the store has forgotten what it counted, as after a failover, that is noticed at most
/// a `remember` later.
///
/// # Decisions
/// `remaining` and `reset_after` are as far as is known here: what the store had left at
/// its last answer, and since, and what is held. What other instances have taken since is
/// not in it.
///
/// # When the store fails
/// The error is the check's, so that the [`Outage`](crate::Outage) policy decides. What
/// is held may still be used. Units of a question whose answer was lost may be lost.
///
/// # Memory
/// At most [`max_keys`](LeaseConfig::max_keys) keys are kept, 250 to 500 bytes each, and only
/// while there is something to know of them. Of a key for which there is no room, each
/// check is the store's. Keys are hashed with a secret seed, not stored.
///
/// # Cancellation
/// Dropping a check that asks the store loses the units of its batch at most, and lets
/// the next one of those that wait ask. A check that is neither polled nor dropped holds
/// up the others of its key for at most a second: the next check that comes then asks.
pub struct Leased<S> {
    store: S,
    config: LeaseConfig,
    clock: Clock,
    hasher: KeyHasher,
    shelves: Shelves,
}

/// How often a check waits for another's answer before it asks for itself.
const ROUNDS: u32 = 8;
/// A question of this age is overtaken: whoever asked may never look at the answer.
const STALE: Duration = Duration::from_secs(1);

impl<S> Leased<S> {
    /// Leases from `store`, by the system's clock.
    ///
    /// # Errors
    /// Names the field that can't be honoured.
    pub fn new(store: S, config: LeaseConfig) -> Result<Self, ConfigError> {
        config.check()?;
        let shelves = Shelves::new(config.keys());
        Ok(Self { store, config, clock: Clock::system(), hasher: KeyHasher::new(), shelves })
    }

    /// Where it reads time. Default: [`Clock::system`].
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = clock.into();
        self
    }

    /// The store from which it leases.
    pub const fn inner(&self) -> &S {
        &self.store
    }

    /// How it stands now. Walks all keys.
    pub fn snapshot(&self) -> LeasedSnapshot {
        let mut snapshot = LeasedSnapshot::default();
        for shelf in self.shelves.all() {
            let now = self.clock.now();
            snapshot.keys += shelf.len();
            snapshot.held += shelf.holdings().map(|holding| holding.held(now)).sum::<u64>();
            snapshot.decided_here += shelf.decided_here;
            snapshot.trips += shelf.trips;
        }
        snapshot
    }
}

/// How a [`Leased`] stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LeasedSnapshot {
    /// How many keys are kept.
    pub keys: usize,
    /// How many units are held for them.
    pub held: u64,
    /// How many checks were decided without a trip.
    pub decided_here: u64,
    /// How often the store was asked for single limits.
    pub trips: u64,
}

impl<S: RateStore> RateStore for Leased<S> {
    fn decide(&self, request: RateRequest<'_>) -> Answer<'_, Result<Decision, StoreError>> {
        let [limit] = request.limits() else { return self.store.decide(request) };
        let Some(bucket) = limit.bucket().filter(|_| request.how() == Ask::Exactly && request.cost() > 0) else {
            return self.store.decide(request);
        };
        if let Some(never) = request.never_fits() {
            return Answer::Ready(Ok(never));
        }
        let id = self.hasher.hash(&(request.key(), limit.name()));
        let check = Check { id, bucket: *bucket, cost: request.cost() };
        let answer = match self.next(&check, true) {
            Next::Decided(decision) => Answer::Ready(Ok(decision)),
            Next::Ask(trip) => self.ask(trip, request.key(), limit),
            Next::Wait(waiting) => {
                let (key, limit) = (request.key().to_vec(), limit.clone());
                Answer::later(self.wait(check, waiting, key, limit))
            }
        };
        answer.map(move |result| result.map(|decision| decision.granting(check.cost)))
    }

    /// The inner store's: units that may go back are not leased.
    fn reserve(&self, request: RateRequest<'_>) -> Answer<'_, Result<(Decision, Receipt), StoreError>> {
        self.store.reserve(request)
    }

    /// The inner store's. What is remembered of a refusal may keep a check from what came back, for
    /// as long as it is [remembered](LeaseConfig::remember).
    fn give_back(&self, request: RateRequest<'_>, receipt: &Receipt) -> Answer<'_, Result<u64, StoreError>> {
        self.store.give_back(request, receipt)
    }
}

/// A request as it is known here.
#[derive(Clone, Copy)]
struct Check {
    id: u64,
    bucket: TokenBucket,
    cost: u64,
}

/// What a check does next.
enum Next<'a, S> {
    Decided(Decision),
    Ask(Trip<'a, S>),
    Wait(Waiting<'a>),
}

/// A check that asks the store.
struct Trip<'a, S> {
    leased: &'a Leased<S>,
    id: u64,
    question: Question,
    /// Others wait for the answer until this is dropped.
    turn: Option<Turn<'a>>,
}

impl<S: RateStore> Leased<S> {
    /// What a check does that has just come, or that has waited.
    fn next(&self, check: &Check, is_new: bool) -> Next<'_, S> {
        let Check { id, bucket, cost } = *check;
        let cell = self.shelves.of(id);
        let mut shelf = cell.lock();
        // Read inside: what is found here was leased before.
        let now = self.clock.now();
        shelf.read_at(now);
        let alone = self.alone(check, now);
        let Some(entry) = shelf.entry(check, now, &self.config) else {
            shelf.trips += 1;
            return Next::Ask(alone);
        };
        if is_new {
            entry.holding.note(&self.config, &bucket, now, cost);
        }
        let units = match entry.holding.course(&self.config, &bucket, now, cost, entry.queue.waiting()) {
            Course::Decided(decision) => {
                shelf.decided_here += 1;
                return Next::Decided(decision);
            }
            Course::Ask(units) => units,
        };
        if !entry.holding.has_batches(&self.config, &bucket, cost) {
            // The others could not use what it brings.
            shelf.trips += 1;
            return Next::Ask(alone);
        }
        if let Some(turn) = entry.queue.under_way(now, STALE) {
            return Next::Wait(Waiting::new(cell, id, turn, cost));
        }
        shelf.trips += 1;
        let turn = Some(Turn::begin(cell, id, &mut shelf, now));
        Next::Ask(Trip { question: Question { units, ..alone.question }, turn, ..alone })
    }

    /// Sends a trip's questions until the check is decided.
    fn ask<'a>(
        &'a self,
        mut trip: Trip<'a, S>,
        key: &[u8],
        limit: &RateLimit,
    ) -> Answer<'a, Result<Decision, StoreError>> {
        loop {
            match self.store.decide(RateRequest::single(key, trip.question.units, limit)) {
                Answer::Ready(answer) => {
                    if let Some(decided) = trip.answered(answer) {
                        return Answer::Ready(decided);
                    }
                }
                Answer::Later(future) => {
                    let (key, limit) = (key.to_vec(), limit.clone());
                    return Answer::later(async move {
                        let mut answer = future.await;
                        loop {
                            if let Some(decided) = trip.answered(answer) {
                                return decided;
                            }
                            answer = self.store.decide(RateRequest::single(&key, trip.question.units, &limit)).await;
                        }
                    });
                }
            }
        }
    }

    /// Waits for another check's answer, and decides by it.
    async fn wait(
        &self,
        check: Check,
        mut waiting: Waiting<'_>,
        key: Vec<u8>,
        limit: RateLimit,
    ) -> Result<Decision, StoreError> {
        for _ in 0..ROUNDS {
            if let Some(failure) = waiting.await {
                return Err(failure.error());
            }
            match self.next(&check, false) {
                Next::Decided(decision) => return Ok(decision),
                Next::Ask(trip) => return self.ask(trip, &key, &limit).await,
                Next::Wait(again) => waiting = again,
            }
        }
        drop(waiting);
        let trip = {
            let mut shelf = self.shelves.of(check.id).lock();
            shelf.trips += 1;
            self.alone(&check, self.clock.now())
        };
        self.ask(trip, &key, &limit).await
    }

    /// A trip that holds nobody up.
    fn alone(&self, check: &Check, asked: Moment) -> Trip<'_, S> {
        let Check { id, bucket, cost } = *check;
        Trip {
            leased: self,
            id,
            question: Question { bucket, cost, units: cost, asked, before: 0, salt: id },
            turn: None,
        }
    }
}

impl<S> Trip<'_, S> {
    /// The check's decision or error; `None` if there is another question to be sent.
    fn answered(&mut self, answer: Result<Decision, StoreError>) -> Option<Result<Decision, StoreError>> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                if let Some(turn) = self.turn.take() {
                    turn.failed(Failure::of(&error));
                }
                return Some(Err(error));
            }
        };
        let leased = self.leased;
        let mut shelf = leased.shelves.of(self.id).lock();
        let now = leased.clock.now();
        // An entry may have been dropped since, unless it waits for this very answer.
        let mut dropped = Holding::new(&self.question.bucket, now);
        let holding = shelf.known(self.id).map_or(&mut dropped, |entry| &mut entry.holding);
        match holding.answered(&leased.config, &self.question, now, answer) {
            Answered::Again(units) => {
                self.question = Question { units, asked: now, before: self.question.before + 1, ..self.question };
                shelf.trips += 1;
                None
            }
            Answered::Decided(decision) => Some(Ok(decision)),
        }
    }
}

impl<S> fmt::Debug for Leased<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leased").field("config", &self.config).field("snapshot", &self.snapshot()).finish()
    }
}

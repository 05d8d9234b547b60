//! One breaker.

mod snapshot;

use std::fmt;
use std::sync::{OnceLock, PoisonError};
use std::time::Duration;

use stanchion_core::{
    Admission, Call, Clock, ConfigError, Gate, Name, Outcome, Random, RandomRun, Rejection, RejectionKind, Ticket,
};

pub use snapshot::BreakerSnapshot;

use crate::builder::BreakerBuilder;
use crate::config::BreakerConfig;
use crate::machine::{Change, Event, Machine, Reply, State};
use crate::notices::Notices;
use crate::permit::BreakerPermit;
use crate::plan::{Plan, Verdict};
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering};
use crate::tape::Tape;

/// A circuit breaker: it opens when too many calls fail, refuses calls while it is
/// open, and closes again when **at most [`probes`](BreakerConfig::probes) at a
/// time** have shown that the other side is well.
///
/// Share it by reference or in an [`Arc`](std::sync::Arc). While it is closed a call
/// takes no lock and allocates nothing; it reads the clock only for a time window
/// and where a rule asks how long calls take.
///
/// ```
/// use stanchion_breaker::{Breaker, Outcome, State, Window};
///
/// let payments = Breaker::builder("payments").failure_rate(0.5).window(Window::count(10)).minimum_calls(4).build()?;
/// for _ in 0..4 {
///     payments.try_acquire()?.settle(Outcome::TimedOut);
/// }
/// assert_eq!(payments.state(), State::Open);
/// let refusal = payments.try_acquire().unwrap_err();
/// assert!(refusal.come_back_after().is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It is a [`Gate`], so it stands in a pipeline beside limiters and bulkheads; and
/// [`run`](Self::run) and [`call`](Self::call) do without one.
pub struct Breaker {
    /// The generation and the state, in one number: what a call looks at first.
    control: AtomicU64,
    /// When the rest is over, in nanoseconds of the clock.
    until: AtomicU64,
    rejected: AtomicU64,
    /// The settings, and those after them.
    first: Edition,
    core: Mutex<Core>,
    name: Name,
    clock: Clock,
    notices: Notices,
    /// What a fleet wants to know, once there is one.
    traffic: OnceLock<Traffic>,
}

/// The part that is changed under a lock, at transitions and for probes.
struct Core {
    machine: Machine,
    random: RandomRun,
}

/// Settings with their window. A breaker that is told others keeps these, so that
/// whoever is reading them can go on.
struct Edition {
    plan: Plan,
    tape: Tape,
    next: OnceLock<Box<Self>>,
}

/// All calls that counted since a fleet was joined.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) calls: std::sync::atomic::AtomicU64,
    pub(crate) failed: std::sync::atomic::AtomicU64,
}

impl Breaker {
    /// A breaker with the defaults of [`BreakerConfig`].
    pub fn new(name: impl Into<Name>) -> Self {
        let plan = Plan::new(&BreakerConfig::default()).expect("the defaults are valid, as a test shows");
        Self::of(name.into(), plan, Clock::system(), &Random::system(), Notices::new(Vec::new()))
    }

    /// Settings beyond the defaults.
    pub fn builder(name: impl Into<Name>) -> BreakerBuilder {
        BreakerBuilder::new(name.into())
    }

    pub(crate) fn of(name: Name, plan: Plan, clock: Clock, random: &Random, notices: Notices) -> Self {
        let machine = Machine::new(0, clock.now());
        let tape = Tape::new(&plan, machine.generation());
        Self {
            control: AtomicU64::new(control(&machine)),
            until: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            first: Edition { plan, tape, next: OnceLock::new() },
            core: Mutex::new(Core { machine, random: random.run() }),
            name,
            clock,
            notices,
            traffic: OnceLock::new(),
        }
    }

    /// What it is called in rejections and telemetry.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// The state now. A breaker whose rest is over is open until the next call.
    pub fn state(&self) -> State {
        // Relaxed: it says how it was; what comes of it is decided elsewhere.
        state_of(self.control.load(Ordering::Relaxed))
    }

    /// The right to make one call, if the breaker lets it pass. Settle it with the
    /// call's outcome; dropped, it settles [`Outcome::Abandoned`].
    ///
    /// # Errors
    /// The refusal, with the time after which to come back.
    #[inline]
    pub fn try_acquire(&self) -> Result<BreakerPermit<'_>, Rejection> {
        let ticket = self.admit()?;
        let began = self.needs_elapsed().then(|| self.clock.now());
        Ok(BreakerPermit::new(self, ticket, began))
    }

    /// Counts a call that somebody else let pass, if the breaker is closed.
    #[inline]
    pub fn record(&self, outcome: Outcome) {
        self.record_after(outcome, Duration::ZERO);
    }

    /// The same, of a call that took so long.
    #[inline]
    pub fn record_after(&self, outcome: Outcome, elapsed: Duration) {
        // Relaxed: as in `admit`.
        self.conclude(self.control.load(Ordering::Relaxed) >> 3, 0, outcome, elapsed);
    }

    /// Puts it into a state, whatever it is in. `Closed` is a [`reset`](Self::reset);
    /// `Open` opens it for its open time, and `HalfOpen` lets probes pass at once.
    /// `ForcedOpen`, `Disabled` and `Shadow` stay until somebody says otherwise.
    pub fn force(&self, state: State) {
        self.step(Event::Force(state));
    }

    /// Closes it, with an empty window and the first open time.
    pub fn reset(&self) {
        self.force(State::Closed);
    }

    /// Follows other settings from now on.
    ///
    /// The state stays; the window begins anew, and so does a half-open breaker's
    /// verdict. What was admitted before is of an earlier generation: it may be
    /// settled as ever, and counts for nothing. An open breaker's rest stays what it is.
    ///
    /// Equal settings change nothing. The settings before are kept until the breaker
    /// is dropped, about 1 KiB and their window, since calls may be reading them; so
    /// this is for people and config files, not for loops.
    ///
    /// # Errors
    /// Names the field that can't be honoured; the old settings stay.
    pub fn reconfigure(&self, config: &BreakerConfig) -> Result<(), ConfigError> {
        let plan = Plan::new(config)?;
        let mut core = self.lock();
        let last = self.edition();
        if last.plan == plan {
            return Ok(());
        }
        let tape = Tape::new(&plan, core.machine.generation() + 1);
        // Nobody else appends: the lock is held.
        let _ = last.next.set(Box::new(Edition { plan, tape, next: OnceLock::new() }));
        let (_, change) = self.step_locked(&mut core, Event::Reconfigure);
        drop(core);
        self.tell(change);
        Ok(())
    }

    /// Its state as a channel, which always has the latest one.
    #[cfg(feature = "watch")]
    pub fn subscribe(&self) -> tokio::sync::watch::Receiver<crate::Status> {
        self.notices.subscribe()
    }

    /// Opens it because the fleet has opened: which opening that is, or `None` if it
    /// was open already.
    #[cfg(feature = "fleet")]
    pub(crate) fn join_fleet_open(&self) -> Option<u64> {
        let mut core = self.lock();
        let (_, change) = self.step_locked(&mut core, Event::Fleet);
        let opened = core.machine.opened;
        drop(core);
        self.tell(change);
        change.map(|_| opened)
    }

    /// The state, and how often it has opened.
    #[cfg(feature = "fleet")]
    pub(crate) fn opening(&self) -> (State, u64) {
        let core = self.lock();
        (core.machine.state(), core.machine.opened)
    }

    /// Begins to count what a fleet wants to know.
    #[cfg(feature = "fleet")]
    pub(crate) fn traffic(&self) -> &Traffic {
        self.traffic.get_or_init(Traffic::default)
    }

    #[cfg(feature = "fleet")]
    pub(crate) fn plan(&self) -> &Plan {
        &self.edition().plan
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    #[inline]
    fn admit(&self) -> Result<Ticket, Rejection> {
        // Relaxed: its window is only looked at when the call is settled.
        let control = self.control.load(Ordering::Relaxed);
        match state_of(control) {
            State::Closed | State::Disabled | State::Shadow => Ok(Ticket::new(control >> 3)),
            State::Open => self.refuse_or_probe(),
            _ => self.arrive(),
        }
    }

    /// An open breaker: most calls need only the time.
    fn refuse_or_probe(&self) -> Result<Ticket, Rejection> {
        // Relaxed: a stale one is told from the truth under the lock.
        let until = stanchion_core::Moment::from_nanos(self.until.load(Ordering::Relaxed));
        let left = until - self.clock.now();
        if left.is_zero() { self.arrive() } else { Err(self.rejection(left)) }
    }

    #[cold]
    fn arrive(&self) -> Result<Ticket, Rejection> {
        match self.step(Event::Arrive) {
            Reply::Admit { generation, probe } => Ok(Ticket::new(generation).with_note(probe.into())),
            Reply::Reject { retry_after } => Err(self.rejection(retry_after)),
            Reply::Nothing => Err(self.rejection(Duration::ZERO)),
        }
    }

    fn rejection(&self, retry_after: Duration) -> Rejection {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        Rejection::new(self.name.clone(), RejectionKind::CircuitOpen).retry_after(retry_after)
    }

    #[inline]
    pub(crate) fn conclude(&self, generation: u64, note: u64, outcome: Outcome, elapsed: Duration) {
        // Acquire: whoever sees a generation sees its window begun, and its settings.
        let control = self.control.load(Ordering::Acquire);
        if control >> 3 != generation {
            return;
        }
        let Edition { plan, tape, .. } = self.edition();
        let verdict = plan.verdict(outcome, elapsed);
        match state_of(control) {
            State::Closed | State::Shadow => {
                if verdict == Verdict::Nothing {
                    return;
                }
                let failed = verdict.is_failure();
                self.count(failed);
                let slow = plan.is_slow(elapsed);
                if let Some(cause) = tape.record(plan, generation, || self.clock.now(), failed, slow) {
                    self.step(Event::Trip { generation, cause });
                }
            }
            State::HalfOpen => {
                let probe = u32::try_from(note).unwrap_or(0);
                // A slow probe is a failed one where slowness trips.
                let verdict =
                    if verdict == Verdict::Success && plan.is_slow(elapsed) { Verdict::Failure } else { verdict };
                self.count(verdict.is_failure());
                self.step(Event::Settle { generation, probe, verdict });
            }
            _ => {}
        }
    }

    #[inline]
    fn count(&self, failed: bool) {
        if let Some(traffic) = self.traffic.get() {
            // Relaxed: counts, read now and then.
            traffic.calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            traffic.failed.fetch_add(failed.into(), std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// The settings that hold.
    #[inline]
    fn edition(&self) -> &Edition {
        let mut edition = &self.first;
        while let Some(next) = edition.next.get() {
            edition = next;
        }
        edition
    }

    #[cold]
    fn step(&self, event: Event) -> Reply {
        let mut core = self.lock();
        let (reply, change) = self.step_locked(&mut core, event);
        drop(core);
        self.tell(change);
        reply
    }

    fn step_locked(&self, core: &mut Core, event: Event) -> (Reply, Option<Change>) {
        let Edition { plan, tape, .. } = self.edition();
        let now = self.clock.now();
        let machine = core.machine.clone();
        let before = machine.generation();
        let (machine, reply, change) = machine.step(plan, now, core.random.unit(), event);
        if machine.generation() != before {
            tape.begin(machine.generation());
            if let Some(until) = machine.until() {
                self.until.store(until.as_nanos(), Ordering::Relaxed);
            }
            // Release: whoever sees the generation sees the window begun.
            self.control.store(control(&machine), Ordering::Release);
        }
        core.machine = machine;
        (reply, change)
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        // A step is taken on a copy, so a poisoned lock guards nothing half done.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: Option<Change>) {
        if let Some(change) = change {
            self.notices.tell(&self.name, &change);
        }
    }
}

/// Whatever the call's key: a breaker for each key is a
/// [`KeyedBreaker`](crate::KeyedBreaker).
impl Gate for Breaker {
    #[inline]
    fn try_admit(&self, _call: &Call<'_>) -> Admission {
        match self.admit() {
            Ok(ticket) => Admission::Admitted(ticket),
            Err(rejection) => Admission::Rejected(rejection),
        }
    }

    #[inline]
    fn settle(&self, ticket: Ticket, outcome: Outcome, elapsed: Duration) {
        self.conclude(ticket.generation(), ticket.note(), outcome, elapsed);
    }

    #[inline]
    fn needs_elapsed(&self) -> bool {
        self.edition().plan.needs_elapsed()
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").field("name", &self.name).field("state", &self.state()).finish_non_exhaustive()
    }
}

/// The generation, above three bits for the state.
fn control(machine: &Machine) -> u64 {
    machine.generation() << 3 | machine.state() as u64
}

#[inline]
fn state_of(control: u64) -> State {
    match control & 7 {
        0 => State::Closed,
        1 => State::Open,
        2 => State::HalfOpen,
        3 => State::ForcedOpen,
        4 => State::Disabled,
        _ => State::Shadow,
    }
}

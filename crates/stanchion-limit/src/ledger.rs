//! The states of many keys and limits behind one lock: any rules, several at once.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use foldhash::fast::RandomState;
use indexmap::IndexMap;
use stanchion_core::{Ask, Decision, Moment, RateRule, Receipt, Usage};

use crate::state::{Now, State};
use crate::table::WhenFull;

/// So many states that have long been worth nothing are dropped for each that is put in.
const DROPPED_AT_ONCE: u32 = 4;
/// So long, while there is room: to a limit that has become a longer one they may be worth something.
const GRACE: Duration = Duration::from_secs(3_600);
/// So many states, or entries too many, are not worth putting right.
const FEW: usize = 64;

/// The states that are worth keeping, by an id for each key and limit.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    states: IndexMap<u64, Held, RandomState>,
    /// How many states there may be, and what becomes of one more.
    most: usize,
    when_full: WhenFull,
    /// When states may be worth nothing, soonest first. Each state has one here that is no later; one that
    /// is sooner than is so is put back when it is due.
    due: BinaryHeap<Reverse<(Moment, u64)>>,
    turned_away: u64,
    forgotten: u64,
    /// How many steps there have been: a number for each.
    serial: u64,
}

#[derive(Debug)]
struct Held {
    state: State,
    worthless_at: Moment,
}

/// A limit in a question to a ledger.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) id: u64,
    pub(crate) rule: &'a RateRule,
}

impl Ledger {
    /// A ledger for so many states that are worth keeping.
    pub(crate) fn new(most: usize, when_full: WhenFull) -> Self {
        Self { most, when_full, ..Self::default() }
    }

    /// How many new states were refused for want of room, and how many were forgotten for new ones.
    pub(crate) fn lost(&self) -> [u64; 2] {
        [self.turned_away, self.forgotten]
    }

    /// How many states are worth keeping.
    pub(crate) fn worthy(&self, now: Moment) -> usize {
        self.states.values().filter(|held| held.worthless_at > now).count()
    }

    /// How many states are held, worth keeping or not yet dropped.
    pub(crate) fn len(&self) -> usize {
        self.states.len()
    }

    /// Takes `cost` from all limits, or as the request says; which each of them can give,
    /// if it is empty. All or nothing: first what each has room for, then what each becomes.
    pub(crate) fn decide<'a>(
        &mut self,
        limits: impl Iterator<Item = Asked<'a>> + Clone,
        now: Now,
        cost: u64,
        ask: Ask,
    ) -> Decision {
        // A refusal of as much as is there waits for one unit.
        let units = if ask == Ask::UpTo { cost.min(1) } else { cost };
        let mut room = cost;
        // Those that were cut, by their places, of which there are 64 at most.
        let mut cut = 0_u64;
        let mut all_known = true;
        for (place, limit) in (0..).zip(limits.clone()) {
            let Some(state) = self.state(limit) else {
                let usage = State::fresh(limit.rule).usage(limit.rule, now, ask, units);
                room = room.min(usage.room(limit.rule, ask));
                all_known = false;
                continue;
            };
            room = room.min(state.usage(limit.rule, now, ask, units).room(limit.rule, ask));
            if cost > 0 && !now.given && state.is_beyond(limit.rule, now) {
                self.change(limit, now, |state, serial| state.cut(limit.rule, now, serial));
                cut |= bit(place);
                room = 0;
            }
        }
        let granted = if ask == Ask::UpTo || cost <= room { room } else { 0 };
        if granted > 0 {
            if !all_known && !self.has_room_for(limits.clone().map(|limit| limit.id), now.moment) {
                self.turned_away += 1;
                let rule = limits.map(|limit| limit.rule).next();
                let rule = rule.expect("a request has a limit");
                let earliest = self.due.peek().map_or(now.moment, |Reverse((at, _))| *at);
                return Decision::keys_full(rule, (earliest - now.moment).max(Duration::from_nanos(1)));
            }
            for limit in limits.clone() {
                self.change(limit, now, |state, serial| state.take(limit.rule, now, granted, serial));
            }
        }
        let after = (0..).zip(limits).map(|(place, limit)| {
            let usage = self.usage(limit, now, ask, units);
            (limit.rule, usage, cut & bit(place) != 0)
        });
        Decision::of_usages(ask, cost, granted, after).expect("a request has a limit")
    }

    /// What is needed to give back what was just taken: two pairs of numbers for each limit.
    pub(crate) fn receipt<'a>(&self, limits: impl Iterator<Item = Asked<'a>>, units: u64) -> Receipt {
        let mark = |limit: Asked<'_>| self.states.get(&limit.id).map_or([[0; 2]; 2], |held| held.state.mark());
        Receipt::new(units, limits.flat_map(mark).collect())
    }

    /// Gives back up to `units` of what was taken; says how many all of the limits have again.
    pub(crate) fn give_back<'a>(
        &mut self,
        limits: impl Iterator<Item = Asked<'a>>,
        now: Now,
        receipt: &Receipt,
        units: u64,
    ) -> u64 {
        let units = units.min(receipt.units());
        let (marks, []) = receipt.marks().as_chunks::<2>() else { return 0 };
        let mut least = if marks.is_empty() { 0 } else { units };
        for (limit, mark) in limits.zip(marks) {
            // Of a state that is not there nothing is used: all is there again.
            if self.state(limit).is_some() {
                let back = self.change(limit, now, |state, _| state.give_back(limit.rule, now, *mark, units));
                least = least.min(back);
            }
        }
        least
    }

    /// The state of a limit, if it has one.
    fn state(&self, limit: Asked<'_>) -> Option<&State> {
        self.states.get(&limit.id).map(|held| &held.state).filter(|state| state.is_of(limit.rule))
    }

    fn usage(&self, limit: Asked<'_>, now: Now, ask: Ask, units: u64) -> Usage {
        let usage = |state: &State| state.usage(limit.rule, now, ask, units);
        self.state(limit).map_or_else(|| usage(&State::fresh(limit.rule)), usage)
    }

    /// Changes the state of a limit, which may be a new one.
    fn change<T>(&mut self, limit: Asked<'_>, now: Now, change: impl FnOnce(&mut State, u64) -> T) -> T {
        self.serial = self.serial.wrapping_add(1);
        let fresh = || Held { state: State::fresh(limit.rule), worthless_at: Moment::MAX };
        let held = self.states.entry(limit.id).or_insert_with(fresh);
        if !held.state.is_of(limit.rule) {
            *held = fresh();
        }
        let result = change(&mut held.state, self.serial);
        let before = std::mem::replace(&mut held.worthless_at, held.state.worthless_at(limit.rule, now));
        if held.worthless_at < before {
            self.due.push(Reverse((held.worthless_at, limit.id)));
        }
        result
    }

    /// Whether states of these ids fit, after dropping some of those that are worth nothing, or as many
    /// as make room.
    fn has_room_for(&mut self, ids: impl Iterator<Item = u64> + Clone, now: Moment) -> bool {
        let new = |states: &IndexMap<u64, Held, RandomState>| ids.clone().filter(|id| !states.contains_key(id)).count();
        if new(&self.states) == 0 {
            return true;
        }
        let mut spared = 0;
        while let Some(&Reverse((at, id))) = self.due.peek()
            && at <= now
            && (self.is_worth_a_drop(spared, at, now) || self.states.len() + new(&self.states) > self.most)
        {
            self.due.pop();
            spared += 1;
            match self.states.get(&id).map(|held| held.worthless_at) {
                Some(later) if later > now => self.due.push(Reverse((later, id))),
                Some(_) => drop(self.states.swap_remove(&id)),
                // Forgotten before.
                None => {}
            }
        }
        if self.due.len() > 2 * self.states.len() + FEW {
            // Mostly of those that were forgotten.
            self.due = self.states.iter().map(|(id, held)| Reverse((held.worthless_at, *id))).collect();
        }
        let mut missing = (self.states.len() + new(&self.states)).saturating_sub(self.most);
        if missing == 0 || self.when_full == WhenFull::Refuse {
            return missing == 0;
        }
        while missing > 0 {
            if !self.forget_one(ids.clone()) {
                return false;
            }
            missing -= 1;
        }
        true
    }

    /// Whether a state that was worth nothing at `at` is dropped though there is room.
    fn is_worth_a_drop(&self, dropped: u32, at: Moment, now: Moment) -> bool {
        dropped < DROPPED_AT_ONCE && at + GRACE <= now && self.states.len() > FEW
    }

    /// Forgets, of sixteen states, the one that is worth something for the shortest time; none of those
    /// that are asked for.
    fn forget_one(&mut self, but: impl Iterator<Item = u64> + Clone) -> bool {
        let Some(first) = but.clone().next() else { return false };
        let length = self.states.len();
        // Which sixteen is up to the id, a keyed hash.
        let from = usize::try_from(first % (length.max(1) as u64)).unwrap_or(0);
        let candidates = (from..length).chain(0..from).filter(|place| {
            self.states.get_index(*place).is_some_and(|(id, _)| !but.clone().any(|wanted| wanted == *id))
        });
        let least = candidates.take(16).min_by_key(|place| self.states[*place].worthless_at);
        if let Some(place) = least {
            self.states.swap_remove_index(place);
            self.forgotten += 1;
        }
        least.is_some()
    }
}

/// The bit of the limit in this place.
const fn bit(place: u32) -> u64 {
    1_u64.wrapping_shl(place)
}

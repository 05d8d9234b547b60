//! What one instance holds of one limit for one key, and knows of it: the pure part.
//!
//! Moments are the instance's. What the store said is dated back to before it was
//! asked: so units are used up too early rather than too late, and a refusal is believed
//! too short rather than too long.

use std::time::Duration;

use stanchion_core::{Decision, Moment, TokenBucket, Verdict};

use super::LeaseConfig;

/// The units held, the debt known, the demand seen.
#[derive(Debug, Clone)]
pub(super) struct Holding {
    /// Leased and not used, to be used before `until`.
    units: u64,
    until: Moment,
    /// By what the store said last of this bucket, it is full then, and no earlier; perhaps
    /// later by `slack`. Believed before `known_until`.
    bucket: TokenBucket,
    full_at: Moment,
    slack: Duration,
    known_until: Moment,
    /// After a refusal the store isn't asked before, for so many units or more.
    rest_until: Moment,
    rest_cost: u64,
    /// The units asked for since, and those asked for in a target's time before.
    since: Moment,
    asked: u64,
    demand: u64,
}

/// What becomes of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    /// It is decided here.
    Decided(Decision),
    /// The store is to be asked for so many units: at least the cost.
    Ask(u64),
}

/// What becomes of a check whose question the store has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    /// It is decided.
    Decided(Decision),
    /// The store is to be asked for so many units instead.
    Again(u64),
}

/// A question to the store: for `units`, by a check that wants `cost` of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    pub(super) bucket: TokenBucket,
    pub(super) cost: u64,
    pub(super) units: u64,
    /// Read before it was sent.
    pub(super) asked: Moment,
    /// How many were sent before, for the same check.
    pub(super) before: u8,
    /// Makes the key's chances on this instance others than those of any other.
    pub(super) salt: u64,
}

impl Holding {
    pub(super) fn new(bucket: &TokenBucket, now: Moment) -> Self {
        Self {
            bucket: *bucket,
            units: 0,
            until: now,
            full_at: now,
            slack: Duration::ZERO,
            known_until: now,
            rest_until: now,
            rest_cost: 0,
            since: now,
            asked: 0,
            demand: 0,
        }
    }

    /// The numbers that it was last asked by.
    pub(super) const fn bucket(&self) -> &TokenBucket {
        &self.bucket
    }

    /// A check for `cost` units comes.
    pub(super) fn note(&mut self, config: &LeaseConfig, bucket: &TokenBucket, now: Moment, cost: u64) {
        if self.bucket != *bucket {
            // Another quota: what is held was counted, but what is known was of the one before.
            let Self { units, until, .. } = *self;
            *self = Self { units, until, ..Self::new(bucket, now) };
        }
        let elapsed = now - self.since;
        if elapsed >= config.lasting() {
            // Scaled to a target's time: a key that rested for long has little demand.
            let scaled = u128::from(self.asked) * config.lasting().as_nanos() / elapsed.as_nanos();
            self.demand = u64::try_from(scaled).unwrap_or(u64::MAX);
            (self.since, self.asked) = (now, 0);
        }
        self.asked = self.asked.saturating_add(cost);
    }

    /// Whether there is more to be had for such a check than its cost: a batch that would
    /// be out of time when it comes is none.
    pub(super) fn has_batches(&self, config: &LeaseConfig, bucket: &TokenBucket, cost: u64) -> bool {
        config.most(bucket) > cost && self.slack < config.lifetime()
    }

    /// What becomes of a check for `cost` units, while others for `waiting` units wait.
    pub(super) fn course(
        &mut self,
        config: &LeaseConfig,
        bucket: &TokenBucket,
        now: Moment,
        cost: u64,
        waiting: u64,
    ) -> Course {
        if self.held(now) >= cost {
            self.units -= cost;
            return Course::Decided(self.allowed(bucket, now));
        }
        let ticks = bucket.cost(cost).unwrap_or(u64::MAX);
        let debt = if now < self.known_until { self.least_debt(bucket, now) } else { 0 };
        let room = bucket.capacity().saturating_sub(debt);
        let rest = if cost >= self.rest_cost { self.rest_until - now } else { Duration::ZERO };
        if room < ticks || !rest.is_zero() {
            return Course::Decided(self.refused_here(bucket, now, ticks, rest));
        }
        if !self.has_batches(config, bucket, cost) {
            return Course::Ask(cost);
        }
        // There is room for the cost at least, and so there is for what is asked.
        Course::Ask(self.wanted(config, bucket, cost.saturating_add(waiting)).min(room / bucket.interval()))
    }

    /// What becomes of the check now that the store has answered.
    pub(super) fn answered(
        &mut self,
        config: &LeaseConfig,
        question: &Question,
        now: Moment,
        answer: Decision,
    ) -> Answered {
        let Question { bucket, cost, units, asked, before, .. } = *question;
        if answer.degraded() || !matches!(answer.verdict(), Verdict::Allowed | Verdict::Refused) {
            return Answered::Decided(answer);
        }
        // A nanosecond less: it was rounded up.
        self.full_at = asked + answer.reset_after().saturating_sub(NANO);
        self.slack = now - asked + NANO;
        self.known_until = asked + config.memory();
        let debt = ticks(&bucket, answer.reset_after());
        if answer.allowed() {
            self.put(cost, units, now, asked + config.lifetime());
            self.rest(config, question, debt);
            return Answered::Decided(if units == cost { answer } else { self.allowed(&bucket, now) });
        }
        if self.held(now) >= cost {
            // Another's batch has come meanwhile.
            self.units -= cost;
            return Answered::Decided(self.allowed(&bucket, now));
        }
        let left = answer.remaining();
        if units > cost && left >= cost {
            // What was left then; and if another was faster, what must be.
            return Answered::Again(if before == 0 { left.min(units - 1) } else { cost });
        }
        let refused = if units == cost { answer } else { refused(&bucket, debt, cost) };
        let rests_longer = self.rest(config, question, debt);
        Answered::Decided(if rests_longer {
            self.refused_here(&bucket, now, bucket.cost(cost).unwrap_or(u64::MAX), self.rest_until - now)
        } else {
            refused
        })
    }

    /// Where the store has no room for another such check, one of a key in demand rests
    /// until there is room for what is worth a trip, but no more than a target longer than
    /// it must, or half of that, or half as much again: by chance, or the instance that came
    /// first once would come first each time, and leave the others nothing. Whether it rests
    /// longer than it must.
    fn rest(&mut self, config: &LeaseConfig, question: &Question, debt: u64) -> bool {
        let Question { bucket, cost, asked, salt, .. } = *question;
        let wait = |units| refused(&bucket, debt, units).retry_after().unwrap_or_default();
        let exactly = wait(cost);
        let rest = if exactly.is_zero() {
            exactly
        } else {
            let longer = config.lasting() / 2 + config.lasting().mul_f64(chance(salt ^ asked.as_nanos()));
            wait(self.wanted(config, &bucket, cost)).clamp(exactly, exactly + longer)
        };
        self.rest_until = asked + rest.saturating_sub(NANO).min(config.memory());
        self.rest_cost = cost;
        rest > exactly
    }

    /// Whether forgetting it would change anything.
    pub(super) fn matters(&self, config: &LeaseConfig, now: Moment) -> bool {
        self.held(now) > 0
            // It rests no longer than that.
            || now < self.full_at.min(self.known_until)
            || now - self.since < 2 * config.lasting()
    }

    /// The units that can be used.
    pub(super) fn held(&self, now: Moment) -> u64 {
        if now < self.until { self.units } else { 0 }
    }

    /// Puts a batch in, of which `cost` is used at once.
    fn put(&mut self, cost: u64, units: u64, now: Moment, until: Moment) {
        if until <= now {
            // It came too late: the check has had its part of it, and nobody else may.
            return;
        }
        // What was held is used up first.
        let held = self.held(now);
        match held.checked_sub(cost) {
            // More than was needed has come meanwhile, with another batch: the greater stays.
            Some(left) if left >= units => self.units = left,
            Some(_) => (self.units, self.until) = (units, until),
            None => (self.units, self.until) = (units - (cost - held), until),
        }
    }

    fn wanted(&self, config: &LeaseConfig, bucket: &TokenBucket, at_least: u64) -> u64 {
        config.batch_for(bucket, self.demand.max(self.asked).max(at_least))
    }

    /// As far as is known here: what the store had left, what has come since, and what
    /// is held.
    fn allowed(&self, bucket: &TokenBucket, now: Moment) -> Decision {
        let held = u64::try_from(u128::from(self.held(now)) * u128::from(bucket.interval())).unwrap_or(u64::MAX);
        Decision::allowed_by(bucket, self.most_debt(bucket, now).saturating_sub(held))
    }

    fn refused_here(&self, bucket: &TokenBucket, now: Moment, cost: u64, rest: Duration) -> Decision {
        // As long as the store isn't asked there is no room here.
        let room = bucket.capacity().saturating_sub(cost);
        let resting = if rest.is_zero() { 0 } else { room.saturating_add(ticks(bucket, rest)) };
        Decision::refused_by(bucket, self.most_debt(bucket, now).max(resting), cost)
    }

    /// The store's bucket owes at least this.
    fn least_debt(&self, bucket: &TokenBucket, now: Moment) -> u64 {
        ticks(bucket, self.full_at - now)
    }

    /// It owed this at most, when it was asked; others may have asked since.
    fn most_debt(&self, bucket: &TokenBucket, now: Moment) -> u64 {
        ticks(bucket, self.full_at + self.slack - now)
    }
}

fn refused(bucket: &TokenBucket, debt: u64, cost: u64) -> Decision {
    Decision::refused_by(bucket, debt, bucket.cost(cost).unwrap_or(u64::MAX))
}

/// A number in `0.0..1.0` for this one: splitmix64 (Steele, Lea and Flood 2014).
fn chance(seed: u64) -> f64 {
    let mut bits = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    f64::from(u32::try_from((bits ^ (bits >> 31)) >> 32).expect("half of it")) / (f64::from(u32::MAX) + 1.0)
}

const NANO: Duration = Duration::from_nanos(1);

fn ticks(bucket: &TokenBucket, time: Duration) -> u64 {
    let ticks = time.as_nanos().saturating_mul(u128::from(bucket.ticks_per_nano()));
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

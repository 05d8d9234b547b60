//! A keyed limiter on a store.

use std::time::Duration;

#[cfg(feature = "tokio")]
use stanchion_core::Verdict;
use stanchion_core::{Answer, Ask, Decision, Key, RateRequest, RateStore, Receipt, StoreError};

use super::{KeyedLimiter, Tier, TierOf};
use crate::outage::{Course, Episode};

impl<K: Key + ?Sized, S: RateStore, T: TierOf<K>> KeyedLimiter<K, S, T> {
    /// Takes one unit of the key's, if it is there.
    ///
    /// # Errors
    /// Only those of the store that don't pass by themselves, such as a missing
    /// right: they want a person, not a policy. While the store can't be
    /// reached or doesn't answer in time, the [`Outage`](crate::Outage) policy decides.
    ///
    /// # Cancellation
    /// Dropping the answer leaves open whether the unit was taken.
    pub fn check(&self, key: &K) -> Answer<'_, Result<Decision, StoreError>> {
        self.check_n(key, 1)
    }

    /// Takes `cost` units of the key's, or none. A cost of 0 only looks.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    ///
    /// # Cancellation
    /// As [`check`](Self::check).
    pub fn check_n(&self, key: &K, cost: u64) -> Answer<'_, Result<Decision, StoreError>> {
        self.ask_store(key, cost, Ask::Exactly)
    }

    /// Takes as many of `units` of the key's as are there: [`Decision::granted`] says how many.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn take_up_to(&self, key: &K, units: u64) -> Answer<'_, Result<Decision, StoreError>> {
        self.ask_store(key, units, Ask::UpTo)
    }

    /// Takes `units` of the key's that have been used already, into debt if need be: see
    /// [`Limiter::charge`](crate::Limiter::charge).
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn charge(&self, key: &K, units: u64) -> Answer<'_, Result<Decision, StoreError>> {
        self.ask_store(key, units, Ask::Overdraw)
    }

    /// How the key's limit stands. Takes nothing.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn peek(&self, key: &K) -> Answer<'_, Result<Decision, StoreError>> {
        self.ask_store(key, 0, Ask::Exactly)
    }

    /// Takes `units` of the key's, or none, with a receipt by which those that were not used can
    /// be [given back](Self::give_back). Where the outage policy decides, the receipt is for nothing.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    ///
    /// # Cancellation
    /// As [`check`](Self::check).
    pub async fn reserve(&self, key: &K, units: u64) -> Result<(Decision, Receipt), StoreError> {
        let nothing = || Receipt::new(0, Vec::new());
        if let Some(refused) = self.behind_the_line(key, units, Ask::Exactly) {
            self.reporter.decided(&refused);
            return Ok((refused, nothing()));
        }
        let tier = self.tier(key);
        let bytes = key.with_bytes(<[u8]>::to_vec);
        let request = RateRequest::of(&bytes, units, &tier.limits);
        if let Some(never) = request.never_fits() {
            self.reporter.decided(&never);
            return Ok((never, nothing()));
        }
        let hash = self.hasher.hash(bytes.as_slice());
        match self.health.course(|| self.clock.now()) {
            Course::Bypass(retry) => Ok((self.without_store(hash, &tier, units, Ask::Exactly, retry), nothing())),
            Course::Ask(episode) => {
                let (result, receipt) = match self.store.reserve(request).await {
                    Ok((decision, receipt)) => (Ok(decision), receipt),
                    Err(error) => (Err(error), nothing()),
                };
                Ok((self.concluded(episode, hash, &tier, units, Ask::Exactly, result)?, receipt))
            }
        }
    }

    /// Gives back so many units of a receipt of the key's, which is used up by that; says how many of them are
    /// there again. What a bucket has refilled by itself meanwhile is not given back on top: see
    /// [`Reservation`](crate::Reservation).
    ///
    /// # Errors
    /// Those of the store, and then nothing is there again.
    pub async fn give_back(&self, key: &K, receipt: Receipt, units: u64) -> Result<u64, StoreError> {
        if receipt.units() == 0 || units == 0 {
            return Ok(0);
        }
        let tier = self.tier(key);
        let bytes = key.with_bytes(<[u8]>::to_vec);
        let units = units.min(receipt.units());
        let back = self.store.give_back(RateRequest::of(&bytes, units, &tier.limits), &receipt).await;
        #[cfg(feature = "tokio")]
        self.lines.changed(Some(self.hasher.hash(bytes.as_slice())));
        back
    }

    fn ask_store(&self, key: &K, cost: u64, ask: Ask) -> Answer<'_, Result<Decision, StoreError>> {
        match self.behind_the_line(key, cost, ask) {
            Some(refused) => {
                self.reporter.decided(&refused);
                Answer::Ready(Ok(refused))
            }
            None => self.ask_store_now(key, cost, ask),
        }
    }

    /// The refusal of those who come while others wait in this process.
    fn behind_the_line(&self, key: &K, cost: u64, ask: Ask) -> Option<Decision> {
        #[cfg(feature = "tokio")]
        if cost > 0 && ask != Ask::Overdraw {
            let line = self.lines.of(key.with_bytes(|bytes| self.hasher.hash(bytes)))?;
            let limits = self.tier(key).limits;
            if RateRequest::of(b"", cost, &limits).ask(ask).never_fits().is_some() {
                return None;
            }
            let wait = behind(&limits, line.length().1.saturating_add(cost)).max(Duration::from_nanos(1));
            return Some(Decision::keys_full(limits[0].rule(), wait).refused_for(wait));
        }
        let _ = (key, cost, ask);
        None
    }

    /// Asks, whoever waits.
    fn ask_store_now(&self, key: &K, cost: u64, ask: Ask) -> Answer<'_, Result<Decision, StoreError>> {
        let tier = self.tier(key);
        key.with_bytes(|bytes| {
            let request = RateRequest::of(bytes, cost, &tier.limits).ask(ask);
            if let Some(never) = request.never_fits() {
                self.reporter.decided(&never);
                return Answer::Ready(Ok(never));
            }
            let hash = self.hasher.hash(bytes);
            match self.health.course(|| self.clock.now()) {
                Course::Bypass(retry) => Answer::Ready(Ok(self.without_store(hash, &tier, cost, ask, retry))),
                Course::Ask(episode) => match self.store.decide(request) {
                    Answer::Ready(result) => Answer::Ready(self.concluded(episode, hash, &tier, cost, ask, result)),
                    Answer::Later(future) => {
                        let tier = tier.clone();
                        Answer::later(async move { self.concluded(episode, hash, &tier, cost, ask, future.await) })
                    }
                },
            }
        })
    }

    /// The store's answer, or the policy's in its place.
    fn concluded(
        &self,
        episode: Episode,
        hash: u64,
        tier: &Tier,
        cost: u64,
        ask: Ask,
        result: Result<Decision, StoreError>,
    ) -> Result<Decision, StoreError> {
        if let Err(error) = &result {
            self.reporter.store_failed(error);
            if error.is_temporary() {
                let retry = self.health.failed(episode, self.clock.now());
                return Ok(self.without_store(hash, tier, cost, ask, retry));
            }
        }
        if result.is_err() {
            self.health.count_failure();
        }
        // An error that wants a person is an answer, too: it is not hidden behind a policy.
        if self.health.answered(episode) {
            self.reporter.store_recovered();
        }
        if let Ok(decision) = &result {
            self.reporter.decided(decision);
        }
        result
    }

    fn without_store(&self, hash: u64, tier: &Tier, cost: u64, ask: Ask, retry: Duration) -> Decision {
        let decision = match &tier.shares {
            Some(shares) => {
                let never = RateRequest::of(b"", cost, shares).ask(ask).never_fits();
                // It fits the whole but not the share: not yet, rather than never.
                let not_yet = |never: Decision| never.refused_for(never.window());
                let taken = never.map(not_yet);
                taken.unwrap_or_else(|| self.local.ask(&self.clock, hash, shares, ask, cost, None)).as_degraded()
            }
            None => match self.outage {
                Some(outage) => outage.decide(tier.limits[0].rule(), cost, retry),
                None => Decision::store_unavailable(tier.limits[0].rule(), retry),
            },
        };
        self.reporter.decided(&decision);
        decision
    }

    /// The decision, if the store needn't be asked for it.
    pub(super) fn try_check(&self, key: &K, cost: u64) -> Option<Decision> {
        let tier = self.tier(key);
        if let Some(never) = RateRequest::of(b"", cost, &tier.limits).never_fits() {
            self.reporter.decided(&never);
            return Some(never);
        }
        let retry = self.health.rest(|| self.clock.now())?;
        let hash = key.with_bytes(|bytes| self.hasher.hash(bytes));
        Some(self.without_store(hash, &tier, cost, Ask::Exactly, retry))
    }

    /// As [`check_n`](Self::check_n), with the policy's decision in place of any error.
    pub(super) async fn check_anyway(&self, key: &K, cost: u64) -> Decision {
        match self.check_n(key, cost).await {
            Ok(decision) => decision,
            // The error has been reported.
            Err(_) => {
                let hash = key.with_bytes(|bytes| self.hasher.hash(bytes));
                self.without_store(hash, &self.tier(key), cost, Ask::Exactly, Duration::from_secs(1))
            }
        }
    }
}

#[cfg(feature = "tokio")]
impl<K: Key + Sync + ?Sized, S: RateStore, T: TierOf<K>> KeyedLimiter<K, S, T> {
    /// Takes one unit of the key's, and waits for it in the key's line, for `max_wait` at most: see
    /// [`Limiter::acquire`](crate::Limiter::acquire). The line is this process's: those of other
    /// processes that share the store come in between. While nobody waits each asks the store; then only
    /// the first in line does.
    ///
    /// # Errors
    /// As there. An error of the store that wants a person is reported, and the
    /// [`Outage`](crate::Outage) policy decides.
    ///
    /// # Cancellation
    /// Dropping the future gives up the place in line. Dropped while the store is asked, it leaves
    /// open whether the unit was taken.
    pub async fn acquire(&self, key: &K, max_wait: Duration) -> Result<(), stanchion_core::Rejection> {
        self.acquire_n(key, 1, max_wait).await
    }

    /// The same for `units` at once; in this process nobody overtakes within a key.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub async fn acquire_n(&self, key: &K, units: u64, max_wait: Duration) -> Result<(), stanchion_core::Rejection> {
        self.acquire_on_store(key, units, (max_wait, stanchion_core::RejectionKind::RateLimited)).await
    }

    pub(super) async fn acquire_on_store(
        &self,
        key: &K,
        units: u64,
        (most, too_long): (Duration, stanchion_core::RejectionKind),
    ) -> Result<(), stanchion_core::Rejection> {
        let hash = key.with_bytes(|bytes| self.hasher.hash(bytes));
        let limits = self.tier(key).limits;
        if units == 0 || RateRequest::of(b"", units, &limits).never_fits().is_some() || self.lines.of(hash).is_none() {
            let decision = self.check_anyway(key, units).await;
            if !matches!(decision.verdict(), Verdict::Refused | Verdict::KeysFull) {
                return crate::limiter::admitted(self.reporter.name(), &decision).map(drop);
            }
        }
        let place = self.lines.enter(hash);
        let wait = crate::line::Wait { name: self.name(), units, most, too_long, queue: self.waiting.1 };
        // How the limit stands is the store's to tell; what is known here is who is ahead.
        let ahead_alone = |ahead: u64| if ahead == 0 { Duration::ZERO } else { behind(&limits, ahead - 1) };
        let ask = || async {
            match self.ask_store_now(key, units, Ask::Exactly).await {
                Ok(decision) => decision,
                Err(_) => self.without_store(hash, &self.tier(key), units, Ask::Exactly, Duration::from_secs(1)),
            }
        };
        place.line().wait(wait, ahead_alone, ask).await.map(drop)
    }
}

/// How long it takes at least until so many units more have come by, of a limit that is used up.
#[cfg(feature = "tokio")]
fn behind(limits: &[stanchion_core::RateLimit], units: u64) -> Duration {
    let used_up = |rule: &stanchion_core::RateRule| (*rule, Decision::keys_full(rule, Duration::ZERO));
    let looks: Vec<_> = limits.iter().map(|limit| used_up(limit.rule())).collect();
    crate::line::least_wait(&looks, 0, units)
}

//! A keyed limiter among other limits and gates. What these ask is keyed by bytes.

use std::sync::Arc;
use std::time::Duration;

use stanchion_core::{
    Admission, BoxFuture, Call, ConfigError, Decision, Gate, IntoGate, Outcome, RateStore, Rejection, Ticket,
};

use super::{InMemory, KeyedLimiter, KeyedLimiterBuilder, TierOf};
use crate::limit::Limit;
use crate::limiter::{admission, admitted};

impl<T: TierOf<[u8]>> Limit for KeyedLimiter<[u8], InMemory, T> {
    fn try_decide(&self, key: &[u8], cost: u64) -> Option<Decision> {
        Some(self.check_n(key, cost))
    }

    fn decide<'a>(&'a self, key: &'a [u8], cost: u64) -> BoxFuture<'a, Decision> {
        Box::pin(async move { self.check_n(key, cost) })
    }

    fn name(&self) -> &str {
        self.name()
    }
}

/// Errors that want a person are reported, and the [`Outage`](crate::Outage) policy decides.
impl<S: RateStore, T: TierOf<[u8]>> Limit for KeyedLimiter<[u8], S, T> {
    fn try_decide(&self, key: &[u8], cost: u64) -> Option<Decision> {
        self.try_check(key, cost)
    }

    fn decide<'a>(&'a self, key: &'a [u8], cost: u64) -> BoxFuture<'a, Decision> {
        Box::pin(self.check_anyway(key, cost))
    }

    fn name(&self) -> &str {
        self.name()
    }
}

/// Takes the call's cost from the bucket of the call's key.
impl<T: TierOf<[u8]>> Gate for KeyedLimiter<[u8], InMemory, T> {
    fn try_admit(&self, call: &Call<'_>) -> Admission {
        let decision = self.check_n(call.key_bytes(), call.units());
        #[cfg(feature = "tokio")]
        if decision.verdict() == stanchion_core::Verdict::Refused && !self.waiting.0.is_zero() {
            return Admission::Wait;
        }
        admission(self.reporter.name(), &decision)
    }

    #[cfg(feature = "tokio")]
    fn admit<'a>(&'a self, call: &'a Call<'a>) -> BoxFuture<'a, Result<Ticket, Rejection>> {
        Box::pin(async move {
            let most = crate::limiter::longest(self.waiting.0, call, &self.clock);
            self.wait_in_line(call.key_bytes(), call.units(), most).await.map(|()| Ticket::new(0))
        })
    }

    fn settle(&self, _ticket: Ticket, _outcome: Outcome, _elapsed: Duration) {}
}

/// Takes the call's cost from the bucket of the call's key, which the store
/// has. Errors that want a person are reported, and the [`Outage`](crate::Outage) policy decides.
impl<S: RateStore, T: TierOf<[u8]>> Gate for KeyedLimiter<[u8], S, T> {
    fn try_admit(&self, call: &Call<'_>) -> Admission {
        match self.try_check(call.key_bytes(), call.units()) {
            Some(decision) => admission(self.reporter.name(), &decision),
            None => Admission::Wait,
        }
    }

    fn admit<'a>(&'a self, call: &'a Call<'a>) -> BoxFuture<'a, Result<Ticket, Rejection>> {
        Box::pin(async move {
            #[cfg(feature = "tokio")]
            if !self.waiting.0.is_zero() {
                let most = crate::limiter::longest(self.waiting.0, call, &self.clock);
                return self.acquire_on_store(call.key_bytes(), call.units(), most).await.map(|_| Ticket::new(0));
            }
            admitted(self.reporter.name(), &self.check_anyway(call.key_bytes(), call.units()).await)
        })
    }

    fn settle(&self, _ticket: Ticket, _outcome: Outcome, _elapsed: Duration) {}
}

impl<T: TierOf<[u8]> + 'static> IntoGate for KeyedLimiterBuilder<[u8], InMemory, T> {
    fn into_gate(self) -> Result<Arc<dyn Gate>, ConfigError> {
        self.build()?.into_gate()
    }
}

impl<S: RateStore + 'static, T: TierOf<[u8]> + 'static> IntoGate for KeyedLimiterBuilder<[u8], S, T> {
    fn into_gate(self) -> Result<Arc<dyn Gate>, ConfigError> {
        self.build()?.into_gate()
    }
}

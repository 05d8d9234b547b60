//! Limiters among other gates.

use std::sync::Arc;
use std::time::Duration;

use stanchion_core::{Admission, Call, Gate, IntoGate, Outcome, Permit, RejectionKind};
use stanchion_limit::{KeyedLimiter, Limiter, MemoryRateStore, Outage, Quota};

fn rejection(gate: &dyn Gate, call: &Call<'_>) -> stanchion_core::Rejection {
    Permit::try_new(gate, call).unwrap_err()
}

#[test]
fn a_limiter_refuses_in_the_words_of_a_gate() {
    let gate: Arc<dyn Gate> = Limiter::per_second(10).burst(2).name("search").into_gate().unwrap();
    Permit::try_new(&gate, &Call::new().cost(2)).unwrap().settle(Outcome::Success);
    let refused = rejection(&gate, &Call::new());
    assert_eq!((refused.by(), refused.kind()), ("search", RejectionKind::RateLimited));
    let wait = refused.come_back_after().unwrap();
    assert!(!wait.is_zero() && wait <= Duration::from_millis(100), "{wait:?}");
    let never = rejection(&gate, &Call::new().cost(3));
    assert_eq!((never.kind(), never.come_back_after()), (RejectionKind::NeverFits, None));
    assert_eq!(Limiter::per_second(0).into_gate().err().unwrap().field(), "count");
}

#[test]
fn a_keyed_limiter_reads_the_key_of_the_call() {
    let gate = KeyedLimiter::builder(Quota::per_hour(1)).into_gate().unwrap();
    let (alice, bob) = (Call::new().key("alice"), Call::new().key("bob"));
    assert!(Permit::try_new(&gate, &alice).is_ok());
    assert_eq!(rejection(&gate, &alice).kind(), RejectionKind::RateLimited);
    assert!(Permit::try_new(&gate, &bob).is_ok());
    assert!(Permit::try_new(&gate, &Call::new()).is_ok());
}

#[tokio::test]
async fn on_a_store_it_is_the_same_gate() {
    let store = MemoryRateStore::new(100);
    let gate = KeyedLimiter::builder(Quota::per_hour(1)).name("api").on(store, Outage::Refuse).into_gate().unwrap();
    let call = Call::new().key("alice");
    assert!(Permit::new(&gate, &call).await.is_ok());
    assert_eq!(Permit::new(&gate, &call).await.unwrap_err().kind(), RejectionKind::RateLimited);
}

/// An abandoned call has been made: it keeps its token.
#[test]
fn how_a_call_ends_gives_no_token_back() {
    let limiter = Limiter::new(Quota::per_hour(2)).unwrap();
    drop(Permit::try_new(&limiter, &Call::new()).unwrap());
    Permit::try_new(&limiter, &Call::new()).unwrap().settle(Outcome::Ignored);
    assert!(matches!(limiter.try_admit(&Call::new()), Admission::Rejected(_)));
}

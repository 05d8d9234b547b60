//! Those who wait: in order, no longer than they said, and leaving nothing behind.

#![cfg(all(feature = "tokio", feature = "test-util"))]

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use stanchion_core::Gate;
use stanchion_limit::{Call, KeyedLimiter, Limiter, MemoryRateStore, Outage, Quota, RejectionKind, Verdict};
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_is_there_is_not_waited_for() {
    let limiter = Limiter::per_second(10).burst(2).build().unwrap();
    let began = Instant::now();
    for _ in 0..2 {
        limiter.acquire(Duration::ZERO).await.unwrap();
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
    limiter.acquire(SECOND).await.unwrap();
    assert_eq!(began.elapsed(), millis(100));
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_too_long_is_refused_at_once() {
    let limiter = Limiter::per_second(10).burst(1).name("api").build().unwrap();
    assert!(limiter.check().allowed());
    let began = Instant::now();
    let refused = limiter.acquire(millis(99)).await.unwrap_err();
    assert_eq!((refused.by(), refused.kind()), ("api", RejectionKind::RateLimited));
    assert_eq!(refused.come_back_after(), Some(millis(100)));
    // Behind three that wait: 400 ms.
    let three: Vec<_> = (0..3).map(|_| limiter.acquire(SECOND)).collect();
    let mut three: Vec<_> = three.into_iter().map(Box::pin).collect();
    let mut context = Context::from_waker(Waker::noop());
    for waiter in &mut three {
        assert!(waiter.as_mut().poll(&mut context).is_pending());
    }
    let refused = limiter.acquire(millis(399)).await.unwrap_err();
    assert_eq!(refused.come_back_after(), Some(millis(400)));
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(limiter.snapshot().waiting, 3);
    let (_, last) = tokio::join!(futures_of(three), limiter.acquire(millis(400)));
    assert!(last.is_ok());
    assert_eq!(began.elapsed(), millis(400));
    assert_eq!(limiter.acquire_n(2, SECOND).await.unwrap_err().kind(), RejectionKind::NeverFits);
}

async fn futures_of<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut outputs = Vec::new();
    for future in futures {
        outputs.push(future.await);
    }
    outputs
}

#[tokio::test(start_paused = true)]
async fn a_heavy_request_is_not_starved_by_light_ones() {
    let limiter = Arc::new(Limiter::per_second(10).burst(10).build().unwrap());
    assert!(limiter.check_n(10).allowed());
    let heavy = tokio::spawn({
        let limiter = limiter.clone();
        async move { limiter.acquire_n(10, 10 * SECOND).await.map(|_| Instant::now()) }
    });
    tokio::task::yield_now().await;
    let began = Instant::now();
    // Every 10 ms somebody wants one, in line or not.
    let mut light = Vec::new();
    for _ in 0..99 {
        tokio::time::advance(millis(10)).await;
        let refused = limiter.check();
        assert_eq!(refused.verdict(), Verdict::Refused);
        assert!(refused.retry_after() > Some(Duration::ZERO));
        assert!(limiter.reserve(1).is_err() && limiter.take_up_to(1).granted() == 0);
        light.push(tokio::spawn({
            let limiter = limiter.clone();
            async move { limiter.acquire(20 * SECOND).await.map(|_| Instant::now()) }
        }));
    }
    let heavy = heavy.await.unwrap().unwrap();
    assert_eq!(heavy - began, SECOND);
    for waiter in light {
        assert!(waiter.await.unwrap().unwrap() > heavy);
    }
}

/// Ten thousand in line, a third of whom leave at some moment: the others come in the order in which
/// they came, at the limit's rate, and in the end every unit is accounted for.
#[tokio::test(start_paused = true)]
async fn ten_thousand_wait_in_order_and_many_leave() {
    const WAITERS: u64 = 10_000;
    let quota = Quota::per_second(1_000).burst(10);
    let limiter = Arc::new(Limiter::builder(quota).queue(20_000).build().unwrap());
    assert!(limiter.check_n(10).allowed());
    let began = Instant::now();
    let admitted = Arc::new(AtomicU64::new(0));
    let mut random = 0x5eed_u64;
    let mut draw = move |most: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % most
    };
    let mut waiters = Vec::new();
    for number in 0..WAITERS {
        let (limiter, admitted) = (limiter.clone(), admitted.clone());
        let leaves = (draw(3) == 0).then(|| millis(draw(9_000)));
        waiters.push(tokio::spawn(async move {
            let acquired = limiter.acquire(100 * SECOND);
            let decision = match leaves {
                Some(leaves) => tokio::time::timeout(leaves, acquired).await.ok(),
                None => Some(acquired.await),
            };
            decision.map(|acquired| {
                acquired.unwrap();
                (number, admitted.fetch_add(1, Ordering::SeqCst), Instant::now())
            })
        }));
        // In line before the next one comes.
        if number % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let mut served = Vec::new();
    for waiter in waiters {
        served.extend(waiter.await.unwrap());
    }
    assert!(served.len() > 6_500 && served.len() < 9_900, "{}", served.len());
    assert!(served.is_sorted_by_key(|(_, order, _)| *order), "first come, first served");
    // One each millisecond from the first on; a burst of ten was gone before.
    let last = served.iter().map(|(_, _, at)| *at).max().unwrap();
    let served = u32::try_from(served.len()).unwrap();
    assert!(last - began >= millis(1) * served, "{:?} for {served}", last - began);
    assert!(last - began <= millis(1) * served + millis(50), "{:?} for {served}", last - began);
    assert_eq!(limiter.snapshot().waiting, 0);
    tokio::time::advance(SECOND).await;
    assert_eq!(limiter.peek().remaining(), 10);
}

/// Dropped after any number of polls, a waiter leaves its place and has taken nothing.
#[tokio::test(start_paused = true)]
async fn a_waiter_may_be_dropped_anywhere() {
    let limiter = Limiter::per_second(10).burst(3).build().unwrap();
    let keyed = KeyedLimiter::<str>::builder(Quota::per_second(10).burst(3)).build().unwrap();
    let mut context = Context::from_waker(Waker::noop());
    for polls in 0..6 {
        assert!(limiter.check_n(3).allowed() && keyed.check_n("a", 3).allowed());
        {
            let mut waiters =
                pin!(async { tokio::join!(limiter.acquire_n(2, SECOND), keyed.acquire_n("a", 2, SECOND)) });
            for _ in 0..polls {
                if waiters.as_mut().poll(&mut context) != Poll::Pending {
                    break;
                }
                tokio::time::advance(millis(50)).await;
            }
        }
        assert_eq!((limiter.snapshot().waiting, keyed.snapshot().waiting), (0, 0));
        tokio::time::advance(SECOND).await;
        assert_eq!((limiter.peek().remaining(), keyed.peek("a").remaining()), (3, 3), "after {polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn a_line_has_an_end() {
    let limiter = Limiter::per_second(1).queue(2).build().unwrap();
    assert!(limiter.check().allowed());
    let mut context = Context::from_waker(Waker::noop());
    let mut two: Vec<_> = (0..2).map(|_| Box::pin(limiter.acquire(10 * SECOND))).collect();
    assert!(two.iter_mut().all(|waiter| waiter.as_mut().poll(&mut context).is_pending()));
    let refused = limiter.acquire(10 * SECOND).await.unwrap_err();
    assert_eq!((refused.kind(), refused.come_back_after()), (RejectionKind::Saturated, Some(3 * SECOND)));
    drop(two);
    assert!(limiter.acquire(10 * SECOND).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_key_waits_in_its_own_line() {
    let keyed = KeyedLimiter::<str>::builder(Quota::per_second(10).burst(1)).build().unwrap();
    assert!(keyed.check("a").allowed());
    let began = Instant::now();
    let (a, a_too, b) = tokio::join!(keyed.acquire("a", SECOND), keyed.acquire("a", SECOND), async {
        tokio::task::yield_now().await;
        assert_eq!(keyed.check("a").verdict(), Verdict::Refused);
        keyed.acquire("b", SECOND).await.map(|_| began.elapsed())
    });
    assert!(a.is_ok() && a_too.is_ok());
    assert_eq!(b.unwrap(), Duration::ZERO);
    assert_eq!(began.elapsed(), millis(200));
    assert_eq!(keyed.snapshot().waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn on_a_store_the_first_in_line_asks() {
    let store = MemoryRateStore::new(100);
    let quota = Quota::per_second(10).burst(1);
    let keyed = KeyedLimiter::<str>::builder(quota).name("x").on(store, Outage::Refuse).build().unwrap();
    let began = Instant::now();
    let (first, second, third) =
        tokio::join!(keyed.acquire("a", SECOND), keyed.acquire("a", SECOND), keyed.acquire("a", millis(100)));
    assert!(first.is_ok() && second.is_ok());
    assert_eq!(third.unwrap_err().kind(), RejectionKind::RateLimited);
    assert_eq!(began.elapsed(), millis(100));
    assert_eq!(keyed.acquire_n("a", 2, SECOND).await.unwrap_err().kind(), RejectionKind::NeverFits);
}

#[tokio::test(start_paused = true)]
async fn windows_are_waited_for_as_well() {
    for quota in [Quota::per_second(4).sliding_log(), Quota::per_second(4).fixed_window()] {
        let limiter = Limiter::new(quota).unwrap();
        let began = Instant::now();
        for _ in 0..9 {
            limiter.acquire(5 * SECOND).await.unwrap();
        }
        assert_eq!(began.elapsed(), 2 * SECOND, "{quota:?}");
        // Four windows for fifteen more: known at once.
        assert!(limiter.acquire(Duration::ZERO).await.is_err() || limiter.peek().remaining() > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_shaper_lets_out_evenly_and_holds_so_many() {
    let shaper = Arc::new(Limiter::shaper(100, 5).name("shaper").build().unwrap());
    let began = Instant::now();
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let shaper = shaper.clone();
            tokio::spawn(async move { shaper.acquire(SECOND).await.map(|_| Instant::now()) })
        })
        .collect();
    let mut out = Vec::new();
    let mut refused = 0;
    for call in calls {
        match call.await.unwrap() {
            Ok(at) => out.push((at - began).as_millis()),
            Err(rejection) => {
                assert_eq!(rejection.kind(), RejectionKind::Saturated);
                refused += 1;
            }
        }
    }
    assert_eq!((out, refused), (vec![0, 0, 10, 20, 30, 40, 50], 3));
}

#[tokio::test(start_paused = true)]
async fn a_gate_waits_as_long_as_it_may() {
    let gate = Limiter::per_second(10).burst(1).max_wait(millis(250)).build().unwrap();
    let call = Call::new();
    let began = Instant::now();
    for expected in [0, 100, 200] {
        assert!(stanchion_core::Permit::new(&gate, &call).await.is_ok());
        assert_eq!(began.elapsed(), millis(expected));
    }
    // A deadline that comes before is told apart.
    let soon = stanchion_core::Clock::system().now() + millis(50);
    let hurried = Call::new().deadline(soon);
    let rejection = gate.admit(&hurried).await.unwrap_err();
    assert_eq!(rejection.kind(), RejectionKind::DeadlineTooShort);
    assert_eq!(began.elapsed(), millis(200));
    // Without a wait limit a gate refuses.
    let never = Limiter::per_second(10).burst(1).build().unwrap();
    assert!(stanchion_core::Permit::new(&never, &call).await.is_ok());
    let Err(rejection) = stanchion_core::Permit::new(&never, &call).await else { panic!("it doesn't wait") };
    assert_eq!(rejection.kind(), RejectionKind::RateLimited);
}

/// What comes back, and a limit that is raised, are for the first in line, not for nobody.
#[tokio::test(start_paused = true)]
async fn the_first_in_line_hears_of_what_comes_back() {
    let limiter = Limiter::new(Quota::per_minute(10).fixed_window()).unwrap();
    let reservation = limiter.reserve(10).unwrap();
    let began = Instant::now();
    let (waited, ()) = tokio::join!(limiter.acquire(120 * SECOND), async {
        tokio::time::sleep(SECOND).await;
        drop(reservation);
    });
    assert!(waited.is_ok());
    assert_eq!(began.elapsed(), SECOND);

    let keyed = KeyedLimiter::<str>::builder(Quota::per_hour(1)).changeable().build().unwrap();
    assert!(keyed.check("a").allowed());
    let (waited, ()) = tokio::join!(keyed.acquire("a", 7_200 * SECOND), async {
        tokio::time::sleep(SECOND).await;
        keyed.set_quotas(Quota::per_second(10)).unwrap();
    });
    assert!(waited.is_ok());
    assert!(began.elapsed() < 4 * SECOND, "{:?}", began.elapsed());
}

/// With several limits the wait is that of the one which takes longest.
#[tokio::test(start_paused = true)]
async fn a_wait_is_told_of_every_limit() {
    let limiter = Limiter::new([("second", Quota::per_second(5)), ("hour", Quota::per_hour(5))]).unwrap();
    assert!(limiter.check_n(5).allowed());
    let mut first = pin!(limiter.acquire(10_000 * SECOND));
    assert!(first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let refused = limiter.acquire(10 * SECOND).await.unwrap_err();
    assert_eq!(refused.come_back_after(), Some(1_440 * SECOND));
}

/// What never fits is said at once, and is in nobody's way.
#[tokio::test(start_paused = true)]
async fn what_never_fits_does_not_stand_in_line() {
    let limiter = Limiter::per_second(10).build().unwrap();
    assert!(limiter.check_n(10).allowed());
    let mut context = Context::from_waker(Waker::noop());
    let mut first = pin!(limiter.acquire(10 * SECOND));
    assert!(first.as_mut().poll(&mut context).is_pending());
    let mut never = pin!(limiter.acquire_n(u64::MAX / 2, Duration::MAX));
    let Poll::Ready(Err(rejection)) = never.as_mut().poll(&mut context) else { panic!("it has nothing to wait for") };
    assert_eq!(rejection.kind(), RejectionKind::NeverFits);
    assert_eq!(limiter.snapshot().waiting, 1);
}

/// On a store, too, checks don't take each unit as it drips while a heavy request waits.
#[tokio::test(start_paused = true)]
async fn on_a_store_nobody_overtakes_either() {
    let quota = Quota::per_second(10).burst(10);
    let store = MemoryRateStore::new(100);
    let limiter = Arc::new(KeyedLimiter::<str>::builder(quota).name("x").on(store, Outage::Refuse).build().unwrap());
    assert!(limiter.check_n("a", 10).await.unwrap().allowed());
    let began = Instant::now();
    let heavy = tokio::spawn({
        let limiter = limiter.clone();
        async move { limiter.acquire_n("a", 10, 10 * SECOND).await }
    });
    tokio::task::yield_now().await;
    while !heavy.is_finished() {
        assert!(!limiter.check("a").await.unwrap().allowed());
        tokio::time::sleep(millis(50)).await;
        assert!(began.elapsed() < 2 * SECOND);
    }
    assert!(heavy.await.unwrap().is_ok());
}

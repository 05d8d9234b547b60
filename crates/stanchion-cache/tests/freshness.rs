//! The ladder: the pure function beside a naive one, and the cache that goes by it.
#![cfg(feature = "tokio")]

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use stanchion_cache::pure::{Ladder, Rung, Times};
use stanchion_cache::{Abandoned, Cache, CacheBuilder, LoadError, Loaded, ManualClock, Moment};
use tokio::task::yield_now;

const SECOND: Duration = Duration::from_secs(1);
const NANO: Duration = Duration::from_nanos(1);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn at(seconds: u64) -> Moment {
    Moment::default() + secs(seconds)
}

/// In whole units, by cases from the top down.
fn naive(ladder: [u64; 3], born: u64, ttl: u64, retry_at: u64, now: u64) -> Rung {
    let [ahead_percent, revalidate, if_error] = ladder;
    let (age, is_throttled) = (now - born, now < retry_at);
    if age < ttl {
        let is_due = ahead_percent > 0 && 100 * age >= ahead_percent * ttl;
        return if is_due && !is_throttled { Rung::RefreshAhead } else { Rung::Fresh };
    }
    match (age < ttl + revalidate, age < ttl + if_error) {
        (false, false) => Rung::Gone,
        _ if is_throttled => Rung::Throttled,
        (true, _) => Rung::Revalidate,
        (false, true) => Rung::IfError,
    }
}

proptest! {
    #[test]
    fn the_rung_is_the_naive_ones(
        ahead in prop_oneof![Just(0_u64), 1..100_u64], revalidate in 0..20_u64, if_error in 0..20_u64,
        born in 0..50_u64, ttl in 1..50_u64, retry_after in 0..30_u64, age in 0..120_u64, chance in 0.0..1.0_f64,
    ) {
        let mut ladder = Ladder::default();
        // A share of so many hundredths times so many hundred seconds is whole.
        ladder.refresh_ahead = (ahead > 0).then(|| ahead as f64 / 100.0);
        ladder.stale_while_revalidate = secs(100 * revalidate);
        ladder.stale_if_error = secs(100 * if_error);
        let mut times = Times::new(at(100 * born), at(100 * (born + ttl)));
        times.retry_at = at(100 * retry_after);
        let now = 100 * born + 100 * age + 50;
        let expected =
            naive([ahead, 100 * revalidate, 100 * if_error], 100 * born, 100 * ttl, 100 * retry_after, now);
        prop_assert_eq!(ladder.rung(&times, at(now), chance), expected);
    }
}

#[test]
fn each_rung_begins_exactly_at_its_boundary() {
    let mut ladder = Ladder::default();
    ladder.refresh_ahead = Some(0.75);
    ladder.stale_while_revalidate = secs(10);
    ladder.stale_if_error = secs(20);
    let times = Times::new(at(100), at(140));
    let rung = |now| ladder.rung(&times, now, 0.0);
    let before = |seconds| Moment::from_nanos(at(seconds).as_nanos() - 1);
    for (boundary, above, below) in [
        (130, Rung::Fresh, Rung::RefreshAhead),
        (140, Rung::RefreshAhead, Rung::Revalidate),
        (150, Rung::Revalidate, Rung::IfError),
        (160, Rung::IfError, Rung::Gone),
    ] {
        assert_eq!((rung(before(boundary)), rung(at(boundary))), (above, below), "at {boundary} s");
    }
}

/// `now - δ·β·ln(rand) >= expiry`: with 1 s of load and β = 1, at 1 s before the end a
/// share of e^-1 refreshes, at 2 s e^-2.
#[test]
fn early_refreshes_are_as_frequent_as_xfetch_says() {
    let mut ladder = Ladder::default();
    ladder.early_refresh = Some(1.0);
    let mut times = Times::new(at(0), at(100));
    times.load_time = SECOND;
    for (left, expected) in [(1, (-1.0_f64).exp()), (2, (-2.0_f64).exp()), (40, 0.0)] {
        let refreshes =
            |&step: &u32| ladder.rung(&times, at(100 - left), f64::from(step) / 100_000.0) == Rung::RefreshAhead;
        let share = (0..100_000).filter(refreshes).count() as f64 / 100_000.0;
        assert!((share - expected).abs() < 1e-3, "{share} at {left} s");
    }
}

struct Users {
    cache: Cache<u64, u64>,
    clock: ManualClock,
    loads: Arc<AtomicU64>,
}

impl Users {
    fn new(settings: impl FnOnce(CacheBuilder<u64, u64>) -> CacheBuilder<u64, u64>) -> Self {
        let clock = ManualClock::at(at(1_000));
        let builder = Cache::builder().max_entries(1_000).ttl(secs(100)).clock(clock.clone()).seed(7);
        Self { cache: settings(builder).build().unwrap(), clock, loads: Arc::default() }
    }

    /// Loads the number of the load.
    async fn get(&self) -> Result<u64, LoadError<io::Error>> {
        let loads = self.loads.clone();
        self.cache
            .get_or_load(&1, || async move { Ok::<_, io::Error>(loads.fetch_add(1, Ordering::Relaxed) + 1) })
            .await
    }

    async fn fail(&self) -> Result<u64, LoadError<io::Error>> {
        let loads = self.loads.clone();
        let load = || async move {
            loads.fetch_add(1, Ordering::Relaxed);
            Err::<u64, _>(io::Error::other("down"))
        };
        self.cache.get_or_load(&1, load).await
    }

    fn loads(&self) -> u64 {
        self.loads.load(Ordering::Relaxed)
    }
}

/// Lets tasks in the background run.
async fn settle() {
    for _ in 0..5 {
        yield_now().await;
    }
}

#[tokio::test]
async fn an_entry_is_gone_exactly_when_its_time_is_over() {
    let users = Users::new(|users| users);
    assert_eq!(users.get().await.unwrap(), 1);
    users.clock.advance(secs(100) - NANO);
    assert_eq!(users.cache.get(&1), Some(1));
    users.clock.advance(NANO);
    assert_eq!(users.cache.get(&1), None);
    assert_eq!(users.get().await.unwrap(), 2);
    // In the place of the one that has expired, though inserts sweep that away.
    assert_eq!((users.cache.get(&1), users.cache.len()), (Some(2), 1));
}

#[tokio::test]
async fn time_to_live_counts_from_the_loads_start() {
    let users = Users::new(|users| users);
    let clock = users.clock.clone();
    let slow = users.cache.get_or_load(&1, || async move {
        clock.advance(secs(10));
        Ok::<_, Infallible>(1_u64)
    });
    slow.await.unwrap();
    users.clock.advance(secs(90) - NANO);
    assert_eq!(users.cache.get(&1), Some(1));
    users.clock.advance(NANO);
    assert_eq!(users.cache.get(&1), None);
}

#[tokio::test]
async fn refresh_ahead_serves_the_old_value_and_loads_once() {
    let users = Users::new(|users| users.refresh_ahead(0.8));
    users.get().await.unwrap();
    users.clock.advance(secs(80) - NANO);
    users.get().await.unwrap();
    settle().await;
    assert_eq!(users.loads(), 1, "just before it is due");
    users.clock.advance(NANO);
    for _ in 0..10 {
        assert_eq!(users.get().await.unwrap(), 1, "nobody waits");
    }
    settle().await;
    assert_eq!((users.loads(), users.cache.get(&1)), (2, Some(2)));
    // A whole new time to live.
    users.clock.advance(secs(79));
    assert_eq!(users.get().await.unwrap(), 2);
    settle().await;
    assert_eq!(users.loads(), 2);
}

#[tokio::test]
async fn early_refresh_happens_before_the_end_and_by_chance() {
    let users = Users::new(|users| users.early_refresh(1.0));
    let clock = users.clock.clone();
    let load = || async move {
        clock.advance(secs(10));
        Ok::<_, Infallible>(100_u64)
    };
    users.cache.get_or_load(&1, load).await.unwrap();
    // 10 s before the end, with a load of 10 s: each call refreshes with a chance of e^-1.
    users.clock.advance(secs(80));
    let mut calls = 0;
    while users.loads() == 0 {
        assert_eq!(users.get().await.unwrap(), 100);
        settle().await;
        calls += 1;
        assert!(calls < 30, "a chance of a millionth");
    }
    assert_eq!(users.cache.get(&1), Some(1));
}

#[tokio::test]
async fn stale_while_revalidate_serves_and_refreshes() {
    let users = Users::new(|users| users.stale_while_revalidate(secs(60)));
    users.get().await.unwrap();
    users.clock.advance(secs(160) - NANO);
    assert_eq!(users.cache.get(&1), None, "who can't refresh it is not served it");
    assert_eq!(users.get().await.unwrap(), 1);
    settle().await;
    assert_eq!(users.get().await.unwrap(), 2);
    users.clock.advance(secs(160));
    assert_eq!(users.get().await.unwrap(), 3, "beyond the window it is waited for");
    assert_eq!(users.cache.snapshot().stale_served, 1);
}

#[tokio::test]
async fn stale_if_error_serves_what_is_left_when_the_load_fails() {
    let users = Users::new(|users| users.stale_if_error(secs(60)).failure_throttle(secs(5)));
    users.get().await.unwrap();
    users.clock.advance(secs(110));
    assert_eq!(users.fail().await.unwrap(), 1);
    assert_eq!(users.loads(), 2);
    // For 5 s nobody tries again.
    users.clock.advance(secs(5) - NANO);
    assert_eq!(users.fail().await.unwrap(), 1);
    assert_eq!(users.loads(), 2);
    users.clock.advance(NANO);
    assert_eq!(users.fail().await.unwrap(), 1);
    assert_eq!(users.loads(), 3);
    users.clock.advance(secs(45));
    assert!(matches!(users.fail().await, Err(LoadError::Failed(_))), "the window is over");
}

#[tokio::test]
async fn a_failed_refresh_ahead_is_not_repeated_at_once() {
    let users = Users::new(|users| users.refresh_ahead(0.5).failure_throttle(secs(5)));
    users.get().await.unwrap();
    users.clock.advance(secs(60));
    for _ in 0..10 {
        assert_eq!(users.fail().await.unwrap(), 1);
        settle().await;
    }
    assert_eq!(users.loads(), 2);
    users.clock.advance(secs(5));
    users.fail().await.unwrap();
    settle().await;
    assert_eq!(users.loads(), 3);
}

#[tokio::test]
async fn what_was_invalidated_stands_in_for_nothing() {
    let users = Users::new(|users| users.stale_if_error(secs(60)));
    users.get().await.unwrap();
    users.clock.advance(secs(110));
    users.cache.invalidate(&1);
    assert!(matches!(users.fail().await, Err(LoadError::Failed(_))));
}

#[tokio::test(start_paused = true)]
async fn the_soft_timeout_serves_the_stale_value_and_the_load_goes_on() {
    let users =
        Users::new(|users| users.stale_if_error(secs(60)).load_timeout_soft(secs(1)).abandoned(Abandoned::Abort));
    users.get().await.unwrap();
    users.clock.advance(secs(110));
    let began = tokio::time::Instant::now();
    let slow = || async {
        tokio::time::sleep(secs(3)).await;
        Ok::<_, Infallible>(9_u64)
    };
    assert_eq!(users.cache.get_or_load(&1, slow).await.unwrap(), 1);
    assert_eq!(began.elapsed(), SECOND);
    tokio::time::sleep(secs(3)).await;
    assert_eq!(users.cache.get(&1), Some(9));
}

#[tokio::test(start_paused = true)]
async fn the_hard_timeout_ends_the_load_for_all() {
    let users = Users::new(|users| users.load_timeout(secs(5)));
    let began = tokio::time::Instant::now();
    let hang = || std::future::pending::<Result<u64, Infallible>>();
    let (one, other) = tokio::join!(users.cache.get_or_load(&1, hang), users.cache.get_or_load(&1, hang));
    for result in [one, other] {
        assert!(matches!(result, Err(LoadError::TimedOut { after }) if after == secs(5)), "{result:?}");
    }
    assert_eq!(began.elapsed(), secs(5));
    assert_eq!(users.cache.snapshot().loads, 1);
    assert_eq!(users.get().await.unwrap(), 1, "the next one loads anew");
}

#[tokio::test(start_paused = true)]
async fn a_load_that_hangs_leaves_the_stale_value() {
    let users = Users::new(|users| users.stale_if_error(secs(60)).load_timeout(secs(5)));
    users.get().await.unwrap();
    users.clock.advance(secs(110));
    let hang = || std::future::pending::<Result<u64, Infallible>>();
    assert_eq!(users.cache.get_or_load(&1, hang).await.unwrap(), 1);
}

#[tokio::test]
async fn a_soft_timeout_without_a_stale_value_is_none() {
    let users = Users::new(|users| users.load_timeout_soft(Duration::from_millis(1)));
    let slow = || async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        Ok::<_, Infallible>(9_u64)
    };
    assert_eq!(users.cache.get_or_load(&1, slow).await.unwrap(), 9);
}

#[tokio::test]
async fn what_does_not_exist_is_remembered_for_its_own_time() {
    let users = Users::new(|users| users.negative_ttl(secs(5)));
    let loads = users.loads.clone();
    let nobody = || {
        let loads = loads.clone();
        async move {
            loads.fetch_add(1, Ordering::Relaxed);
            Ok::<Option<u64>, Infallible>(None)
        }
    };
    for _ in 0..3 {
        assert!(users.cache.get_or_load(&1, nobody).await.unwrap_err().is_not_found());
    }
    assert_eq!((users.loads(), users.cache.get(&1)), (1, None));
    assert!(users.cache.entry_info(&1).unwrap().is_absent);
    users.clock.advance(secs(5) - NANO);
    assert!(users.cache.get_or_load(&1, nobody).await.is_err());
    assert_eq!(users.loads(), 1);
    users.clock.advance(NANO);
    assert!(users.cache.get_or_load(&1, nobody).await.is_err());
    assert_eq!(users.loads(), 2);
    // Somebody is born.
    users.cache.insert(1, 7);
    assert_eq!(users.cache.get(&1), Some(7));
}

#[tokio::test]
async fn without_a_negative_ttl_nothing_is_remembered_and_what_was_there_goes() {
    let users = Users::new(|users| users.stale_if_error(secs(60)));
    users.get().await.unwrap();
    users.clock.advance(secs(110));
    let nobody = || async { Ok::<Option<u64>, Infallible>(None) };
    assert!(users.cache.get_or_load(&1, nobody).await.unwrap_err().is_not_found());
    assert_eq!(users.cache.entry_info(&1), None, "it is an answer, not an error");
}

#[tokio::test]
async fn jitter_only_shortens_and_spreads() {
    let users = Users::new(|users| users.ttl_jitter(0.1));
    (0..1_000).for_each(|key| users.cache.insert(key, key));
    users.clock.advance(secs(90) - NANO);
    assert_eq!((0..1_000).filter(|key| users.cache.contains(key)).count(), 1_000);
    users.clock.advance(secs(5));
    let left = (0..1_000).filter(|key| users.cache.contains(key)).count();
    assert!((400..600).contains(&left), "{left} at the middle");
    users.clock.advance(secs(5));
    assert_eq!((0..1_000).filter(|key| users.cache.contains(key)).count(), 0);
}

#[tokio::test]
async fn what_nobody_reads_is_gone_after_its_idle_time() {
    let users = Users::new(|users| users.idle_ttl(secs(10)));
    users.cache.insert(1, 1);
    users.cache.insert(2, 2);
    for _ in 0..5 {
        users.clock.advance(secs(10) - NANO);
        assert_eq!(users.cache.get(&1), Some(1));
    }
    assert_eq!(users.cache.get(&2), None);
    users.clock.advance(secs(10));
    assert_eq!(users.cache.get(&1), None);
}

#[tokio::test]
async fn the_loader_may_say_how_long_a_value_lives() {
    let users = Users::new(|users| users);
    let load = |ttl| move || async move { Ok::<_, Infallible>(Loaded::new(5_u64).ttl(ttl)) };
    users.cache.get_or_load(&1, load(secs(1))).await.unwrap();
    users.cache.get_or_load(&2, load(Duration::MAX)).await.unwrap();
    users.cache.get_or_load(&3, load(Duration::ZERO)).await.unwrap();
    assert_eq!(users.cache.get(&3), None, "zero: for those who wait only");
    users.clock.advance(SECOND);
    assert_eq!((users.cache.get(&1), users.cache.get(&2)), (None, Some(5)));
    users.clock.advance(secs(100 * 365 * 86_400));
    assert_eq!(users.cache.get(&2), Some(5));
}

/// The same ladder for threads: one refreshes, the others are served.
#[test]
fn a_blocking_caller_refreshes_by_itself() {
    let users = Users::new(|users| users.stale_while_revalidate(secs(60)).stale_if_error(secs(60)));
    let get = |value: Result<u64, &'static str>| users.cache.get_or_load_blocking(&1, || value);
    assert_eq!(get(Ok(1)).unwrap(), 1);
    users.clock.advance(secs(110));
    let refreshed = users.cache.get_or_load_blocking(&1, || {
        std::thread::scope(|scope| {
            let other = scope.spawn(|| get(Ok(77)));
            assert_eq!(other.join().unwrap().unwrap(), 1, "the old one, while this one loads");
        });
        Ok::<_, &'static str>(2)
    });
    assert_eq!(refreshed.unwrap(), 2);
    users.clock.advance(secs(110));
    assert_eq!(get(Err("down")).unwrap(), 2);
}

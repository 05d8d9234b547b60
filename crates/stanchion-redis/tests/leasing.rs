//! Four processes lease one limit on one real Redis: how much they admit together, and
//! how seldom they ask.
//!
//! Each process is this test binary once more, told so by its environment. It prints
//! each admission with the time before and after.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use stanchion_conformance::RedisServer;
use stanchion_limit::{KeyedLimiter, LeaseConfig, Leased, Outage, Quota};
use stanchion_redis::RedisRateStore;

const ORDERS: &str = "STANCHION_LEASING_ORDERS";
const PROCESSES: usize = 4;
const SECONDS: u64 = 2;
const TTL: Duration = Duration::from_millis(50);

/// What an instance does. As a test of its own it does nothing.
#[test]
fn an_instance() {
    let Ok(orders) = std::env::var(ORDERS) else { return };
    let orders: Vec<&str> = orders.split(' ').collect();
    let &[url, count, burst, demand] = &orders[..] else { panic!("{orders:?}") };
    let quota = Quota::per_second(count.parse().unwrap()).burst(burst.parse().unwrap());
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(instance(url, quota, demand));
}

type Shared = Arc<KeyedLimiter<str, Leased<RedisRateStore>>>;

async fn instance(url: &str, quota: Quota, demand: &str) {
    let store = RedisRateStore::connect(url).unwrap().deadline(Duration::from_secs(20));
    // Connects, and makes the scripts known.
    let probe: KeyedLimiter<str, _> =
        KeyedLimiter::builder(quota).name("probe").on(store, Outage::Refuse).build().unwrap();
    assert!(probe.check_n("k", 0).await.is_ok());
    let store = RedisRateStore::connect(url).unwrap().deadline(Duration::from_secs(20));
    let config = LeaseConfig::default().ttl(TTL);
    let leased = Leased::new(store, if demand == "hoard" { config.batch(50, 50).share(25) } else { config }).unwrap();
    let limiter = Arc::new(KeyedLimiter::builder(quota).name("api").on(leased, Outage::Refuse).build().unwrap());
    assert!(limiter.check_n("k", 0).await.is_ok());
    println!("\nready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let tasks: Vec<_> = (0..2)
        .map(|task| {
            let (limiter, demand) = (limiter.clone(), demand.to_owned());
            tokio::spawn(async move {
                match demand.as_str() {
                    "steady" => steadily(&limiter).await,
                    "bursts" => in_bursts(&limiter, task).await,
                    _ => hoarding(&limiter).await,
                }
            })
        })
        .collect();
    let mut lines = String::new();
    let mut checks = 0;
    for task in tasks {
        let (checked, admissions) = task.await.unwrap();
        checks += checked;
        admissions.iter().for_each(|(before, after)| lines += &format!("admitted {before} {after}\n"));
    }
    println!("{lines}checks {checks}\ndone");
}

/// How often it checked, and for each admission the time before and after.
type Course = (u64, Vec<(u64, u64)>);

/// Nanoseconds, by the clock that all processes share.
fn now() -> u64 {
    u64::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos()).unwrap()
}

async fn check(limiter: &Shared, course: &mut Course) {
    let before = now();
    let decision = limiter.check("k").await.unwrap();
    assert!(!decision.degraded());
    course.0 += 1;
    if decision.allowed() {
        course.1.push((before, now()));
    }
}

/// 1,250 checks a second: 10,000 of all tasks of all processes.
async fn steadily(limiter: &Shared) -> Course {
    let mut course = Course::default();
    let mut tick = tokio::time::interval(Duration::from_millis(4));
    for _ in 0..SECONDS * 250 {
        tick.tick().await;
        for _ in 0..5 {
            check(limiter, &mut course).await;
        }
    }
    course
}

/// Nothing for a while, so that what is held gets old; then as much as there is.
async fn in_bursts(limiter: &Shared, task: u64) -> Course {
    let mut course = Course::default();
    let mut random = u64::from(std::process::id()) * 2 + task + 1;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(SECONDS) {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        tokio::time::sleep(Duration::from_millis((random >> 33) % 70)).await;
        for _ in 0..(random >> 50) % 150 {
            check(limiter, &mut course).await;
        }
    }
    course
}

/// At each half second one check, which leases fifty; and when the bucket is full again,
/// as much as there is, in all processes at once.
async fn hoarding(limiter: &Shared) -> Course {
    const CYCLE: u64 = 500_000_000;
    let mut course = Course::default();
    for _ in 0..2 * SECONDS {
        tokio::time::sleep(Duration::from_nanos(CYCLE - now() % CYCLE)).await;
        check(limiter, &mut course).await;
        tokio::time::sleep(Duration::from_nanos((CYCLE * 9 / 10).saturating_sub(now() % CYCLE))).await;
        for _ in 0..200 {
            check(limiter, &mut course).await;
        }
    }
    course
}

struct Report {
    checks: u64,
    trips: u64,
    admissions: Vec<(u64, u64)>,
}

/// Runs four processes to their end.
fn run(count: u64, burst: u64, demand: &str) -> Report {
    struct Kill(Child);
    impl Drop for Kill {
        fn drop(&mut self) {
            self.0.kill().ok();
            self.0.wait().ok();
        }
    }
    let server = RedisServer::start();
    let mut fleet: Vec<_> = (0..PROCESSES)
        .map(|_| {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "an_instance", "--nocapture", "--test-threads", "1"])
                .env(ORDERS, format!("{} {count} {burst} {demand}", server.url()))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
            (Kill(child), lines)
        })
        .collect();
    for (_, lines) in &mut fleet {
        assert!(lines.any(|line| line == "ready"), "an instance did not start");
    }
    server.command(&["CONFIG", "RESETSTAT"]);
    for (child, _) in &mut fleet {
        child.0.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    }
    let mut report = Report { checks: 0, trips: 0, admissions: Vec::new() };
    for (_, lines) in &mut fleet {
        let mut done = false;
        for line in lines {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["admitted", before, after] => {
                    report.admissions.push((before.parse().unwrap(), after.parse().unwrap()));
                }
                ["checks", checks] => report.checks += checks.parse::<u64>().unwrap(),
                ["done"] => done = true,
                _ => {}
            }
        }
        assert!(done, "an instance came to no end");
    }
    report.trips = server.calls("evalsha") + server.calls("eval");
    println!(
        "{count} a second, burst {burst}, {demand}: {} checks, {} admitted, {} round trips: 1 for {} checks",
        report.checks,
        report.admissions.len(),
        report.trips,
        report.checks / report.trips.max(1),
    );
    report
}

/// Every window that begins before an admission and ends after one. What lies wholly in
/// it was admitted in it, whenever that was exactly.
fn assert_bound(report: &mut Report, count: u64, burst: u64) {
    report.admissions.sort_unstable_by_key(|(_, after)| *after);
    let begins: Vec<u64> = report.admissions.iter().map(|(before, _)| *before).collect();
    for begin in begins {
        let mut admitted = 0;
        for (_, after) in report.admissions.iter().filter(|(before, _)| *before >= begin) {
            admitted += 1;
            let window = Duration::from_nanos(after - begin);
            let most = u128::from(burst) + (window + TTL).as_nanos() * u128::from(count) / 1_000_000_000;
            assert!(admitted <= most, "{admitted} in {window:?}, where {most} may be");
        }
    }
}

#[test]
fn four_processes_in_bursts_never_exceed_the_bound() {
    let mut report = run(2_000, 300, "bursts");
    assert!(report.admissions.len() > 1_500, "too little was admitted to show anything");
    assert_bound(&mut report, 2_000, 300);
}

/// Without an end to leases each of the four would have fifty units more than there are.
#[test]
fn four_processes_that_hoard_have_nothing_of_it() {
    let mut report = run(500, 200, "hoard");
    assert!(report.admissions.len() > 500, "too little was admitted to show anything");
    assert_bound(&mut report, 500, 200);
}

#[test]
fn four_processes_that_want_five_times_the_quota_never_exceed_the_bound_and_seldom_ask() {
    let mut report = run(2_000, 1_000, "steady");
    assert!(report.admissions.len() > 3_000, "too little was admitted to show anything");
    assert_bound(&mut report, 2_000, 1_000);
    // Some 25 times fewer; mostly two each time, as the others have been there before.
    assert!(10 * report.trips <= report.checks, "{} trips for {} checks", report.trips, report.checks);
}

/// 10,000 checks a second, of which each would be a round trip.
#[test]
fn leasing_spares_nineteen_of_twenty_round_trips() {
    let report = run(20_000, 5_000, "steady");
    assert_eq!(report.admissions.len() as u64, report.checks);
    assert_eq!(report.checks, 10_000 * SECONDS);
    assert!(20 * report.trips <= report.checks, "{} trips for {} checks", report.trips, report.checks);
}

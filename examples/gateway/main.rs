//! A gateway that survives a noisy tenant: `cargo run --example gateway`.
//!
//! In one process, over real sockets: a load generator, a gateway, and an
//! upstream service that can do about 330 requests a second. 200 quiet tenants
//! ask for 100 a second together, and one noisy tenant for 600 by itself. Readers
//! look at 200 products, 60 times a second, three of five at the same one. A few
//! of the upstream's answers are late, for a quarter of the time it is in
//! trouble, and later it is dead for a while. The same traffic is played twice,
//! through the gateway without and then with Stanchion, and a table says what
//! difference it makes.
//!
//! Without, the gateway asks up to four times and waits for as long as it takes.
//! How Stanchion is wired stands at the top of `proxy.rs`, for what comes in, and
//! of `outbound.rs`, for what goes out.

mod demand;
mod endings;
mod exchange;
mod generator;
mod options;
mod outbound;
mod progress;
mod proxy;
mod report;
mod seeded;
mod server;
mod tally;
mod traffic;
mod trouble;
mod upstream;

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use crate::generator::DESCRIPTORS;
use crate::options::{Options, USAGE};
use crate::outbound::{FRESH, Gateway};
use crate::proxy::{BURST, PER_SECOND, Policies};
use crate::report::{Pass, Report};
use crate::server::Server;
use crate::tally::Tally;
use crate::traffic::{Crowd, NOISY_PER_SECOND, PRODUCTS, QUIET_PER_SECOND, QUIET_TENANTS, READERS, READERS_PER_SECOND};
use crate::trouble::Trouble;
use crate::upstream::{FAILING_IN_OUTAGE, MEAN_WORK, SLOWDOWN, Upstream, WORKERS};

#[tokio::main]
async fn main() -> ExitCode {
    let options = match Options::parse(std::env::args_os().skip(1)) {
        Ok(options) => options,
        Err(error) => return misused(&error),
    };
    // A URL or a file that won't do shows here, before anything is played.
    let stanchion = match Policies::stanchion(options.redis.as_deref()) {
        Ok(policies) => policies,
        Err(error) => return misused(&error.to_string()),
    };
    let json = match options.json.as_deref().map(create).transpose() {
        Ok(file) => file,
        Err(error) => return misused(&format!("`--json`: {error}")),
    };
    let done = match &options {
        Options { help: true, .. } => say(&format!("{USAGE}\n")),
        Options { serve: true, .. } => serve(&options, &stanchion).await,
        _ => compare(&options, &stanchion, json).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gateway: {error}");
            ExitCode::FAILURE
        }
    }
}

fn create(path: &Path) -> Result<File, String> {
    File::create(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn misused(error: &str) -> ExitCode {
    eprintln!("gateway: {error}\n\n{USAGE}");
    ExitCode::from(2)
}

/// Plays the passes and prints the report.
async fn compare(options: &Options, stanchion: &Policies, json: Option<File>) -> Result<(), Box<dyn Error>> {
    // A system that can't be asked may well have enough.
    let granted = rlimit::increase_nofile_limit(2_048).unwrap_or(u64::MAX);
    if granted < DESCRIPTORS {
        eprintln!("gateway: only {granted} file descriptors (ulimit -n), which are too few for true figures\n");
    }
    say(&introduction(options))?;
    let report = Report {
        without: play("without", options, &Policies::none(), Crowd::Everybody).await?,
        with: play("with", options, stanchion, Crowd::Everybody).await?,
        alone: match options.reference {
            true => Some(play("alone", options, &Policies::none(), Crowd::QuietAlone).await?),
            false => None,
        },
    };
    say(&report.table())?;
    let failures = stanchion.store_failures();
    if failures > 0 {
        eprintln!("\nRedis gave no answer {failures} times; the gateway limited by itself meanwhile.");
    }
    if let Some(mut file) = json {
        serde_json::to_writer_pretty(&mut file, &report.json())?;
        file.write_all(b"\n")?;
    }
    Ok(())
}

/// Plays one pass: an upstream, a gateway and clients of its own.
async fn play(name: &str, options: &Options, policies: &Policies, crowd: Crowd) -> Result<Pass, Box<dyn Error>> {
    let (began, trouble) = (Instant::now(), Trouble::of(options.length));
    let (upstream, gateway, servers) = start(Upstream::new(options.seed, began, trouble.clone()), policies).await?;
    let [_, front] = &servers;
    let schedule = traffic::schedule(options.seed, options.length, crowd);
    let tally = Arc::new(Mutex::new(Tally::new(trouble, options.length)));
    let playing = tokio::spawn(generator::play(schedule, began, front.address, tally.clone()));
    progress::watch(name, options.length, &tally, playing).await?;
    let tally = tally.lock().expect("nothing panics while it counts").clone();
    Ok(Pass { seconds: options.length.as_secs_f64(), tally, upstream: upstream.counts(), gateway: gateway.counts() })
}

/// Starts an upstream and a gateway to it, in this order.
async fn start(upstream: Upstream, policies: &Policies) -> std::io::Result<(Upstream, Gateway, [Server; 2])> {
    let back = Server::start(upstream.router()).await?;
    let gateway = Gateway::to(back.address, policies.upstream.clone());
    let front = Server::start(proxy::router(gateway.clone(), policies)).await?;
    Ok((upstream, gateway, [back, front]))
}

/// Stays up until Ctrl-C.
async fn serve(options: &Options, stanchion: &Policies) -> Result<(), Box<dyn Error>> {
    // Without any trouble: nobody could tell when it is.
    let upstream = Upstream::new(options.seed, Instant::now(), Trouble::default());
    let (_, _, [back, front]) = start(upstream, stanchion).await?;
    let (upstream, gateway) = (back.address, front.address);
    say(&format!(
        "\
upstream   http://{upstream}/   (without a limit)
gateway    http://{gateway}/   ({PER_SECOND} requests a second for each x-tenant, {BURST} at once)

One request, with the headers that say how the tenant stands:
  curl -i -H 'x-tenant: me' http://{gateway}/orders/1
The same for everybody, from a cache: how old it is
  curl -i -H 'x-tenant: me' http://{gateway}/products/1
Sixty at once, and how many of them were served:
  curl -sZ -H 'x-tenant: me' -o /dev/null -w '%{{http_code}}\\n' 'http://{gateway}/orders/[1-60]' | sort | uniq -c

Ctrl-C ends it.
"
    ))?;
    tokio::signal::ctrl_c().await?;
    Ok(())
}

fn introduction(options: &Options) -> String {
    let seconds = options.length.as_secs();
    let store = if options.redis.is_some() { "on Redis" } else { "in memory" };
    let capacity = WORKERS as f64 / MEAN_WORK.as_secs_f64();
    let Trouble { outage, dead } = Trouble::of(options.length);
    let failing = FAILING_IN_OUTAGE * 100.0;
    format!(
        "\
quiet      {QUIET_TENANTS} tenants, {QUIET_PER_SECOND} requests a second together
noisy      1 tenant, {NOISY_PER_SECOND} requests a second
readers    {READERS} tenants, {READERS_PER_SECOND} requests a second together for {PRODUCTS} products, three of five for one
upstream   {WORKERS} workers of {} ms: at most {capacity:.0} requests a second
outage     {outage:?}: work takes {SLOWDOWN} times as long, {failing:.0} % of the answers are errors
dead       {dead:?}: each answer is a 503
without    up to 4 attempts, no timeouts
Stanchion  {PER_SECOND} requests a second for each tenant, {BURST} at once, {store};
           timeouts, retry and hedge on a budget, a breaker, the last known answer where there is no other;
           products from a cache, fresh for {FRESH:?}
each pass  {seconds} s of the same traffic, seed {}

",
        MEAN_WORK.as_millis(),
        options.seed,
    )
}

/// Unlike `println!`, doesn't panic where nobody reads any more.
fn say(text: &str) -> Result<(), Box<dyn Error>> {
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn every_request_of_a_schedule_is_accounted_for() {
        let options = Options { length: Duration::from_secs(1), ..Options::default() };
        let due = traffic::schedule(options.seed, options.length, Crowd::Everybody).len() as u64;
        for policies in [Policies::none(), Policies::stanchion(None).unwrap()] {
            let pass = play("test", &options, &policies, Crowd::Everybody).await.unwrap();
            assert_eq!(pass.tally.sent() + pass.tally.dropped(), due);
            // Whatever reached the upstream was asked for by a client, a retry or a hedge.
            let (readers, products) = (&pass.tally.readers, pass.upstream.products);
            let asked = pass.tally.let_in() + readers.sent();
            assert!(pass.upstream.calls <= asked + pass.gateway.retries + pass.gateway.hedges);
            assert!(pass.upstream.own_in_outage > 0 && pass.upstream.calls_while_dead > 0);
            // Whoever was answered by the cache is none of whom the upstream has heard.
            assert!(products.calls > 0 && products.calls + readers.hits <= readers.sent());
            assert_eq!(readers.hits > 0, policies.upstream.is_some());
            let fell_back = pass.tally.quiet.fell_back() + pass.tally.noisy.fell_back();
            assert!(fell_back <= pass.gateway.fallbacks);
        }
    }
}

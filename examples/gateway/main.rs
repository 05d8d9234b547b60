//! A gateway that survives a noisy tenant: `cargo run --example gateway`.
//!
//! In one process, over real sockets: a load generator, a gateway, and an
//! upstream service that can do about 330 requests a second. 200 quiet tenants
//! ask for 100 a second together, and one noisy tenant for 600 by itself. The
//! same traffic is played twice, through the gateway without and then with
//! Stanchion, and a table says what difference it makes.
//!
//! How Stanchion is wired stands at the top of `proxy.rs`.

mod generator;
mod options;
mod progress;
mod proxy;
mod report;
mod seeded;
mod server;
mod tally;
mod traffic;
mod upstream;

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use crate::generator::DESCRIPTORS;
use crate::options::{Options, USAGE};
use crate::proxy::{BURST, Gateway, PER_SECOND, Policies};
use crate::report::{Pass, Report};
use crate::server::Server;
use crate::tally::Tally;
use crate::traffic::{Crowd, NOISY_PER_SECOND, QUIET_PER_SECOND, QUIET_TENANTS};
use crate::upstream::{MEAN_WORK, Upstream, WORKERS};

#[tokio::main]
async fn main() -> ExitCode {
    let options = match Options::parse(std::env::args_os().skip(1)) {
        Ok(options) => options,
        Err(error) => return misused(&error),
    };
    // A URL or a file that won't do shows here, before anything is played.
    let stanchion = match Policies::stanchion(options.redis.as_deref()) {
        Ok(policies) => policies,
        Err(error) => return misused(&format!("`--redis`: {error}")),
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
    let (upstream, gateway, servers) = start(options.seed, policies).await?;
    let [_, front] = &servers;
    let schedule = traffic::schedule(options.seed, options.length, crowd);
    let tally = Arc::new(Mutex::new(Tally::default()));
    let playing = tokio::spawn(generator::play(schedule, front.address, tally.clone()));
    progress::watch(name, options.length, &tally, playing).await?;
    let tally = tally.lock().expect("nothing panics while it counts").clone();
    Ok(Pass {
        seconds: options.length.as_secs_f64(),
        tally,
        upstream: upstream.counts(),
        timed_out: gateway.timed_out(),
    })
}

/// Starts an upstream and a gateway to it, in this order.
async fn start(seed: u64, policies: &Policies) -> std::io::Result<(Upstream, Gateway, [Server; 2])> {
    let upstream = Upstream::new(seed);
    let back = Server::start(upstream.router()).await?;
    let gateway = Gateway::to(back.address);
    let front = Server::start(proxy::router(gateway.clone(), policies)).await?;
    Ok((upstream, gateway, [back, front]))
}

/// Stays up until Ctrl-C.
async fn serve(options: &Options, stanchion: &Policies) -> Result<(), Box<dyn Error>> {
    let (_, _, [back, front]) = start(options.seed, stanchion).await?;
    let (upstream, gateway) = (back.address, front.address);
    say(&format!(
        "\
upstream   http://{upstream}/   (without a limit)
gateway    http://{gateway}/   ({PER_SECOND} requests a second for each x-tenant, {BURST} at once)

One request, with the headers that say how the tenant stands:
  curl -i -H 'x-tenant: me' http://{gateway}/orders/1
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
    format!(
        "\
quiet      {QUIET_TENANTS} tenants, {QUIET_PER_SECOND} requests a second together
noisy      1 tenant, {NOISY_PER_SECOND} requests a second
upstream   {WORKERS} workers of {} ms: at most {capacity:.0} requests a second
Stanchion  {PER_SECOND} requests a second for each tenant, {BURST} at once, {store}
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
            assert!(pass.upstream.calls <= pass.tally.sent());
        }
    }
}

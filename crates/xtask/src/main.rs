//! The project's own commands: `cargo xtask help` lists them.
//!
//! CI runs `cargo xtask ci` and nothing else, so that what passes there passes
//! for anybody.

mod compare;
mod fuzz;
mod redis;
mod run;
mod scratch;
mod storm;

use std::process::ExitCode;

use run::{Outcome, cargo, packages};

const HELP: &str = "\
cargo xtask COMMAND

  test [ARGS]        all tests, with a real redis-server (installed if there is none); ARGS go to `cargo test`
  ci                 everything that must pass: fmt, lint, features, doc, test, examples, scratch, loom, fuzz, compare
  fmt                is the code formatted?
  lint               clippy over each package by itself, with and without its features
  features           does each feature of each package compile alone?
  doc                the documentation, without warnings
  examples           runs every example
  scratch            a crate outside the workspace that uses stanchion-limit alone, written from its docs
  loom               every interleaving of the lock-free parts
  fuzz [SECONDS]     each fuzz target, without nightly: the same half million inputs each time, or new ones for so long
  storm              plays the retry storm of the pipeline's tests and draws it; writes docs/performance
  compare SUITE      ours beside its peers: limit, breaker, retry, cache; redis beside an empty script
                     [--quick] [--json FILE]; writes docs/performance
  hit-ratio          our cache's policies and the peers', beside the optimum, over generated streams
                     [--traces DIR] [--quick] [--json FILE]; writes docs/performance
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rest = arguments.get(1..).unwrap_or_default();
    let outcome = match arguments.first().map(String::as_str) {
        Some("test") => test(rest),
        Some("ci") => ci(),
        Some("fmt") => fmt(),
        Some("lint") => lint(),
        Some("features") => features(),
        Some("doc") => doc(),
        Some("examples") => examples(),
        Some("scratch") => scratch::run(),
        Some("loom") => loom(),
        Some("fuzz") => fuzz::run(rest),
        Some("storm") => storm::run(),
        Some("compare") => compare::run(rest),
        Some("hit-ratio") => compare::hit_ratio::run(rest),
        None | Some("help" | "--help" | "-h") => {
            print!("{HELP}");
            Ok(())
        }
        Some(other) => Err(format!("there is no command `{other}`; `cargo xtask help` lists them")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// A step of CI.
type Step = fn() -> Outcome;

/// Everything that must pass, the quickest answers first.
fn ci() -> Outcome {
    let began = std::time::Instant::now();
    let steps: [(&str, Step); 10] = [
        ("fmt", fmt),
        ("lint", lint),
        ("features", features),
        ("doc", doc),
        ("test", || test(&[])),
        ("examples", examples),
        ("scratch", scratch::run),
        ("loom", loom),
        ("fuzz", || fuzz::run(&[])),
        ("compare", || {
            ["limit", "breaker", "retry", "cache", "redis"]
                .into_iter()
                .try_for_each(|suite| compare::run(&[suite.into(), "--quick".into()]))?;
            compare::hit_ratio::run(&["--quick".into()])
        }),
    ];
    for (name, step) in steps {
        let step_began = std::time::Instant::now();
        println!("\n=== {name}");
        step().map_err(|message| format!("{name}: {message}"))?;
        println!("=== {name}: passed in {} s", step_began.elapsed().as_secs());
    }
    println!("\n=== all passed in {} s", began.elapsed().as_secs());
    Ok(())
}

fn fmt() -> Outcome {
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"])
}

/// Package by package: in a build of the whole workspace the features that one
/// package asks for are on for all.
fn lint() -> Outcome {
    for package in packages()? {
        for features in ["--no-default-features", "--all-features"] {
            cargo(&["clippy", "--quiet", "-p", &package.name, features, "--all-targets", "--", "-D", "warnings"])?;
        }
    }
    Ok(())
}

fn features() -> Outcome {
    for package in packages()? {
        for feature in &package.features {
            cargo(&["check", "--quiet", "-p", &package.name, "--no-default-features", "--features", feature])?;
        }
    }
    Ok(())
}

fn doc() -> Outcome {
    run::with_environment(
        "cargo",
        &["doc", "--quiet", "--workspace", "--no-deps", "--all-features", "--exclude", "xtask"],
        &[("RUSTDOCFLAGS", "-D warnings")],
    )
}

fn test(arguments: &[String]) -> Outcome {
    redis::provide()?;
    let mut command = vec!["test", "--workspace"];
    command.extend(arguments.iter().map(String::as_str));
    cargo(&command)?;
    if arguments.is_empty() {
        // Once more where features change what is compiled.
        for package in [
            "stanchion-core",
            "stanchion-limit",
            "stanchion-breaker",
            "stanchion-retry",
            "stanchion-cache",
            "stanchion-pipeline",
        ] {
            cargo(&["test", "--quiet", "-p", package, "--all-features"])?;
        }
    }
    Ok(())
}

fn examples() -> Outcome {
    redis::provide()?;
    let names = [
        "limiter",
        "limiter_redis",
        "breaker",
        "retry",
        "pipeline",
        "hedge",
        "batch",
        "adaptive",
        "cache",
        "cache_redis",
    ];
    for example in names {
        cargo(&["run", "--quiet", "--example", example])?;
    }
    cargo(&["run", "--quiet", "--example", "gateway", "--", "--seconds", "2", "--json", "target/gateway.json"])
}

fn loom() -> Outcome {
    for package in ["stanchion-limit", "stanchion-breaker", "stanchion-cache"] {
        run::with_environment(
            "cargo",
            &["test", "-p", package, "--release", "--lib", "--target-dir", "target/loom", "loom_"],
            &[("RUSTFLAGS", "--cfg stanchion_loom")],
        )?;
    }
    Ok(())
}

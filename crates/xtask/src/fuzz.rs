//! The fuzz targets, on the stable toolchain: libFuzzer with coverage, without
//! a sanitizer, which safe code needs least.

use std::fs;

use crate::run::{Outcome, root, with_environment};

/// What `cargo fuzz` passes for coverage.
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                        -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
                        -Ccodegen-units=1 -Cdebug-assertions=yes";

/// Without arguments a fixed number of inputs from a fixed seed, so that what
/// passes here passes elsewhere; to look for news, a number of seconds.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    let effort = match arguments.first() {
        None => ["-seed=1".to_owned(), "-runs=500000".to_owned()],
        Some(text) => {
            let seconds: u32 = text.parse().map_err(|_| format!("`fuzz {text}`: how many seconds is that?"))?;
            ["-seed=0".to_owned(), format!("-max_total_time={seconds}")]
        }
    };
    let folder = fs::canonicalize(root()).map_err(|error| error.to_string())?.join("fuzz");
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let manifest = folder.join("Cargo.toml");
    let manifest = manifest.to_str().ok_or("the workspace has no name in UTF-8")?;
    // The target is named so that the flags don't reach build scripts.
    let build = ["build", "--release", "--manifest-path", manifest, "--target", &target];
    with_environment("cargo", &build, &[("RUSTFLAGS", COVERAGE)])?;
    for name in targets(&folder)? {
        let program = folder.join("target").join(&target).join("release").join(&name);
        let corpus = folder.join("corpus").join(&name);
        let artifacts = folder.join("artifacts").join(&name);
        for made in [&corpus, &artifacts] {
            fs::create_dir_all(made).map_err(|error| format!("{}: {error}", made.display()))?;
        }
        let found = format!("-artifact_prefix={}/", artifacts.display());
        let program = program.to_str().ok_or("the workspace has no name in UTF-8")?;
        let corpus = corpus.to_str().ok_or("the workspace has no name in UTF-8")?;
        with_environment(
            program,
            &[corpus, &effort[0], &effort[1], &found, "-max_len=4096", "-print_final_stats=1", "-verbosity=0"],
            &[],
        )?;
    }
    Ok(())
}

/// The names of the targets: the files in `fuzz/targets`.
fn targets(folder: &std::path::Path) -> Result<Vec<String>, String> {
    let files = fs::read_dir(folder.join("targets")).map_err(|error| format!("fuzz/targets: {error}"))?;
    let mut names: Vec<String> = files
        .filter_map(|file| file.ok()?.path().file_stem().map(|name| name.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    if names.is_empty() { Err("fuzz/targets is empty".into()) } else { Ok(names) }
}

//! A redis-server for the tests.

use std::process::Command;

use crate::run::{Outcome, exists, with_environment};

const BY_HAND: &str = "install it by hand (Debian, Ubuntu: `sudo apt-get install redis-server`; Fedora: `sudo dnf \
                       install redis`; macOS: `brew install redis`), or name one in STANCHION_REDIS_SERVER";

/// Sees to it that there is a redis-server: the machine's, or Debian's, which
/// it installs as root or through sudo.
pub(crate) fn provide() -> Outcome {
    if let Ok(named) = std::env::var("STANCHION_REDIS_SERVER") {
        return if exists(&named) {
            Ok(())
        } else {
            Err(format!("STANCHION_REDIS_SERVER is {named}, which can't be run"))
        };
    }
    if exists("redis-server") {
        return Ok(());
    }
    if !exists("apt-get") {
        return Err(format!("the tests need redis-server, and there is neither that nor apt-get: {BY_HAND}"));
    }
    let as_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0");
    if !as_root && !exists("sudo") {
        return Err(format!("the tests need redis-server, and this is neither root nor is there sudo: {BY_HAND}"));
    }
    println!("The tests need redis-server: installing Debian's.");
    let apt = |arguments: &[&str]| {
        let quiet = [("DEBIAN_FRONTEND", "noninteractive")];
        if as_root {
            with_environment("apt-get", arguments, &quiet)
        } else {
            let arguments: Vec<&str> = ["-n", "apt-get"].into_iter().chain(arguments.iter().copied()).collect();
            with_environment("sudo", &arguments, &quiet)
        }
    };
    let installed = apt(&["update", "-qq"])
        .and_then(|()| apt(&["install", "-y", "-qq", "--no-install-recommends", "redis-server"]));
    match installed {
        Ok(()) if exists("redis-server") => Ok(()),
        Ok(()) => Err(format!("apt-get installed redis-server, and yet there is none: {BY_HAND}")),
        Err(error) => Err(format!("{error}; {BY_HAND}")),
    }
}

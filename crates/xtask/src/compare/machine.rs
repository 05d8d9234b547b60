//! Where and with what it was measured.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::run::root;

/// Where and with what it was measured.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Machine {
    cpu: String,
    cores: String,
    system: String,
    rustc: String,
    date: String,
    /// `Cargo.lock`, which knows the peers' versions.
    lock: String,
}

impl Machine {
    pub(super) fn inspect() -> Result<Self, String> {
        let cores = std::thread::available_parallelism().map_err(|error| format!("the number of cores: {error}"))?;
        Ok(Self {
            cpu: cpu_model(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            cores: cores.to_string(),
            system: format!("{} on {}", std::env::consts::OS, std::env::consts::ARCH),
            rustc: output(Command::new("rustc").arg("--version"))?,
            date: output(Command::new("date").args(["-u", "+%F"]))?,
            lock: super::read(&Path::new(root()).join("Cargo.lock"))?,
        })
    }

    /// The peer's name, and its version if it is a crate.
    pub(super) fn versioned(&self, peer: &str) -> String {
        match locked_version(&self.lock, peer) {
            Some(version) => format!("{peer} {version}"),
            None => peer.to_owned(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, cores, system, rustc, date, lock: _ } = self;
        write!(f, "{date}: {cpu}, {cores} cores, {system}, {rustc}")
    }
}

/// The model by `/proc/cpuinfo`, which is Linux's.
fn cpu_model(cpuinfo: &str) -> String {
    let model = cpuinfo.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == "model name").then(|| value.trim().to_owned())
    });
    model.unwrap_or_else(|| "unknown CPU".to_owned())
}

/// The version of the package, or of the first of a family by that name.
fn locked_version<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let version_of = |is_it: &dyn Fn(&str) -> bool| {
        let mut lines = lock.lines().skip_while(|line| !line.strip_prefix("name = \"").is_some_and(is_it));
        lines.nth(1)?.strip_prefix("version = \"")?.strip_suffix('"')
    };
    let (whole, family) = (format!("{package}\""), format!("{package}-"));
    version_of(&|name| name == whole).or_else(|| version_of(&|name| name.starts_with(&family)))
}

/// What a command says, in one line.
fn output(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().display().to_string();
    let output = command.stderr(Stdio::inherit()).output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(format!("{name} ended with {}", output.status))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn some() -> Machine {
        Machine {
            cpu: "Z80".into(),
            cores: "1".into(),
            system: "cpm on z80".into(),
            rustc: "rustc 0.1".into(),
            date: "1976-07-01".into(),
            lock: "[[package]]\nname = \"governor-x\"\nversion = \"0.0.1\"\n[[package]]\nname = \"governor\"\nversion = \"9.8.7\"\nsource = \"x\"\n".into(),
        }
    }

    #[test]
    fn a_family_has_the_version_of_its_crates() {
        let lock = "[[package]]\nname = \"tower\"\nversion = \"1.0.0\"\n\n\
                    [[package]]\nname = \"tower-resilience-retry\"\nversion = \"2.0.0\"\n";
        assert_eq!(locked_version(lock, "tower-resilience"), Some("2.0.0"));
        assert_eq!(locked_version(lock, "tower"), Some("1.0.0"));
        assert_eq!(locked_version(lock, "resilience"), None);
    }

    #[test]
    fn facts_of_the_machine_are_found_or_unknown() {
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: Z80 rev. 2\n"), "Z80 rev. 2");
        assert_eq!(cpu_model(""), "unknown CPU");
        assert_eq!(some().versioned("governor"), "governor 9.8.7");
        assert_eq!(some().versioned("clock+cas"), "clock+cas");
    }
}

//! Running other programs.

use std::process::Command;

use serde_json::Value;

/// How a step went; an error says what to look at.
pub(crate) type Outcome = Result<(), String>;

/// Runs cargo with these arguments, in the workspace's root.
pub(crate) fn cargo(arguments: &[&str]) -> Outcome {
    with_environment("cargo", arguments, &[])
}

/// Runs a program in the workspace's root, with these variables on top.
pub(crate) fn with_environment(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Outcome {
    let shown = format!("{program} {}", arguments.join(" "));
    println!("$ {shown}");
    let status = Command::new(program)
        .args(arguments)
        .envs(variables.iter().copied())
        .current_dir(root())
        .status()
        .map_err(|error| format!("`{shown}` can't be started: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{shown}` failed ({status})")) }
}

/// Whether a program is there and says its version.
pub(crate) fn exists(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// The workspace's root.
pub(crate) fn root() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../..")
}

/// A package of the workspace.
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) features: Vec<String>,
}

/// The packages of the workspace, by cargo's own word.
pub(crate) fn packages() -> Result<Vec<Package>, String> {
    let output = Command::new("cargo")
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root())
        .output()
        .map_err(|error| format!("`cargo metadata` can't be started: {error}"))?;
    let metadata: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| format!("`cargo metadata` makes no sense: {error}"))?;
    let packages = metadata["packages"].as_array().ok_or("`cargo metadata` lists no packages")?;
    Ok(packages
        .iter()
        .map(|package| Package {
            name: package["name"].as_str().unwrap_or_default().to_owned(),
            features: package["features"].as_object().map(|all| all.keys().cloned().collect()).unwrap_or_default(),
        })
        .collect())
}

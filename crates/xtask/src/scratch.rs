//! A crate outside the workspace, as a user would write it from the docs.

use std::fs;
use std::path::Path;

use crate::run::{Outcome, root, with_environment};

/// Builds and runs the first example of stanchion-limit's front page in a crate
/// that depends on it alone, and prints what came with it.
pub(crate) fn run() -> Outcome {
    let root = fs::canonicalize(root()).map_err(|error| format!("the workspace's root: {error}"))?;
    let page = fs::read_to_string(root.join("crates/stanchion-limit/src/lib.rs"))
        .map_err(|error| format!("the front page of stanchion-limit: {error}"))?;
    let example = first_example(&page).ok_or("the front page of stanchion-limit has no example")?;
    let folder = std::env::temp_dir().join(format!("stanchion-scratch-{}", std::process::id()));
    let outcome = build(&folder, &root, &example);
    fs::remove_dir_all(&folder).ok();
    outcome
}

fn build(folder: &Path, root: &Path, example: &str) -> Outcome {
    let write = |path: &str, text: String| {
        let path = folder.join(path);
        path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, text))
    };
    let manifest = format!(
        "[package]\nname = \"scratch\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[dependencies]\nstanchion-limit = {{ path = {:?} }}\n\n[workspace]\n",
        root.join("crates/stanchion-limit")
    );
    let main = format!("fn main() -> Result<(), Box<dyn std::error::Error>> {{\n{example}\nOk(())\n}}\n");
    write("Cargo.toml", manifest)
        .and_then(|()| write("src/main.rs", main))
        .map_err(|error| format!("{}: {error}", folder.display()))?;
    let manifest = folder.join("Cargo.toml");
    let manifest = manifest.to_str().ok_or("the temporary folder has no name in UTF-8")?;
    with_environment("cargo", &["run", "--quiet", "--manifest-path", manifest], &[])?;
    with_environment("cargo", &["tree", "--edges", "normal", "--manifest-path", manifest], &[])
}

/// The code of the first fenced block in a file's front page, without the lines
/// that only rustdoc needs.
fn first_example(page: &str) -> Option<String> {
    let lines =
        page.lines().map_while(|line| line.strip_prefix("//!")).map(|line| line.strip_prefix(' ').unwrap_or(line));
    let mut block = lines.skip_while(|line| !line.starts_with("```"));
    block.next()?;
    let code: Vec<&str> =
        block.take_while(|line| !line.starts_with("```")).filter(|line| !line.starts_with("# ")).collect();
    (!code.is_empty()).then(|| code.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_example_is_what_a_reader_would_copy() {
        let page = "//! Words.\n//!\n//! ```\n//! let a = 1;\n//! # hidden();\n//!\n//! use_it(a);\n//! ```\n//! ```\n//! other();\n//! ```\nmod x;\n";
        assert_eq!(first_example(page).unwrap(), "let a = 1;\n\nuse_it(a);");
        assert_eq!(first_example("//! No code.\n"), None);
    }
}

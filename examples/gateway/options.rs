//! What the command line asks for.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) const USAGE: &str = "\
Plays the same traffic through a gateway without and with Stanchion.

usage: cargo run --example gateway -- [OPTIONS]

  --seconds N   how long each pass takes, 1 to 3600; 8 if not given
  --seed N      other traffic; 1 if not given
  --reference   plays a third pass: the quiet tenants alone, without Stanchion
  --json FILE   writes the figures as JSON, too
  --redis URL   keeps the limits on this Redis instead of in memory
  --serve       plays nothing: starts the gateway with Stanchion, to try by hand
  --help        shows this";

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) length: Duration,
    pub(crate) seed: u64,
    pub(crate) reference: bool,
    pub(crate) json: Option<PathBuf>,
    pub(crate) redis: Option<String>,
    pub(crate) serve: bool,
    pub(crate) help: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            length: Duration::from_secs(8),
            seed: 1,
            reference: false,
            json: None,
            redis: None,
            serve: false,
            help: false,
        }
    }
}

impl Options {
    /// # Errors
    /// Says what is wrong with which option.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut arguments = arguments.into_iter();
        let mut options = Self::default();
        while let Some(argument) = arguments.next() {
            let argument = argument.to_string_lossy();
            let mut value = |what: &str| match arguments.next() {
                Some(value) if !value.to_string_lossy().starts_with("--") => Ok(value),
                _ => Err(format!("`{argument}` needs {what}")),
            };
            match &*argument {
                "--seconds" => options.length = Duration::from_secs(number(&argument, value("a number")?, 1, 3_600)?),
                "--seed" => options.seed = number(&argument, value("a number")?, 0, u64::MAX)?,
                "--reference" => options.reference = true,
                "--json" => options.json = Some(value("a file")?.into()),
                "--redis" => options.redis = Some(value("a URL")?.to_string_lossy().into_owned()),
                "--serve" => options.serve = true,
                // Whoever asks for help wants nothing else.
                "--help" | "-h" => {
                    return Ok(Self { help: true, ..Self::default() });
                }
                other => return Err(format!("`{other}` is no option")),
            }
        }
        if options.serve && (options.json.is_some() || options.reference) {
            return Err("`--serve` plays nothing, so `--json` and `--reference` make no sense with it".to_owned());
        }
        Ok(options)
    }
}

fn number(option: &str, value: OsString, least: u64, most: u64) -> Result<u64, String> {
    let text = value.to_string_lossy();
    match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("`{option}` is `{text}`: must be a whole number, {least} to {most}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        assert_eq!(parse(""), Ok(Options::default()));
        let all = parse("--seconds 3600 --seed 0 --reference --json out.json --redis redis://localhost/").unwrap();
        let expected = Options {
            length: Duration::from_secs(3_600),
            seed: 0,
            reference: true,
            json: Some("out.json".into()),
            redis: Some("redis://localhost/".to_owned()),
            serve: false,
            help: false,
        };
        assert_eq!(all, expected);
        assert!(parse("--serve --redis redis://localhost/").unwrap().serve);
        assert!(parse("-h").unwrap().help);
    }

    #[test]
    fn an_error_says_which_option_is_wrong_and_why() {
        for (line, error) in [
            ("--sconds 3", "`--sconds` is no option"),
            ("fast", "`fast` is no option"),
            ("--seconds", "`--seconds` needs a number"),
            ("--json --reference", "`--json` needs a file"),
            ("--seconds 0", "`--seconds` is `0`: must be a whole number, 1 to 3600"),
            ("--seconds 3601", "`--seconds` is `3601`: must be a whole number, 1 to 3600"),
            ("--seconds -5", "`--seconds` is `-5`: must be a whole number, 1 to 3600"),
            ("--seed x", "`--seed` is `x`: must be a whole number, 0 to 18446744073709551615"),
        ] {
            assert_eq!(parse(line).unwrap_err(), error);
        }
        assert!(parse("--serve --json out.json").is_err());
        assert!(parse("--reference --serve").is_err());
    }
}

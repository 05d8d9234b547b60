//! Durations in configuration, as people write them.
//!
//! For `#[serde(with = "stanchion_core::duration_text")]`, and
//! [`duration_text::option`](option) for an `Option<Duration>`. Written as in
//! `humantime`: "250ms", "1s", "1m 30s", "1day"; mind that "1M" is a month.
//!
//! ```
//! # use std::time::Duration;
//! #[derive(serde::Deserialize)]
//! struct Config {
//!     #[serde(with = "stanchion_core::duration_text")]
//!     timeout: Duration,
//! }
//!
//! let config: Config = serde_json::from_str(r#"{ "timeout": "250ms" }"#)?;
//! assert_eq!(config.timeout, Duration::from_millis(250));
//! # Ok::<(), serde_json::Error>(())
//! ```

use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

/// Writes a duration so that [`deserialize`] reads the same.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

/// Reads a duration.
///
/// # Errors
/// Says what was read where that is no duration.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(|error| {
        D::Error::custom(format_args!("{text:?} is no duration, such as \"250ms\" or \"1m 30s\": {error}"))
    })
}

/// The same for a duration that may be left out.
pub mod option {
    use super::{Deserialize, Deserializer, Duration, Serializer};

    /// Writes a duration, or nothing.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Reads a duration, or nothing. With `#[serde(default)]` the field may be
    /// missing.
    ///
    /// # Errors
    /// Says what was read where that is no duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        #[derive(Deserialize)]
        struct Written(#[serde(with = "super")] Duration);
        Ok(Option::<Written>::deserialize(deserializer)?.map(|written| written.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Config {
        #[serde(with = "super")]
        always: Duration,
        #[serde(with = "super::option", default)]
        perhaps: Option<Duration>,
    }

    #[test]
    fn what_is_written_is_read() {
        for perhaps in [None, Some(Duration::from_nanos(1_000_000_007)), Some(Duration::ZERO)] {
            let config = Config { always: Duration::from_secs(90), perhaps };
            let text = serde_json::to_string(&config).unwrap();
            assert!(text.starts_with(r#"{"always":"1m 30s","perhaps":"#), "{text}");
            assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), config);
        }
    }

    #[test]
    fn what_is_no_duration_is_named() {
        let error = serde_json::from_str::<Config>(r#"{"always": "soon"}"#).unwrap_err().to_string();
        assert!(error.starts_with(r#""soon" is no duration, such as "250ms" or "1m 30s": "#), "{error}");
        let error = serde_json::from_str::<Config>(r#"{"always": "1s", "perhaps": "-1s"}"#).unwrap_err().to_string();
        assert!(error.starts_with(r#""-1s" is no duration"#), "{error}");
        assert!(serde_json::from_str::<Config>(r#"{"always": 5}"#).is_err());
    }
}

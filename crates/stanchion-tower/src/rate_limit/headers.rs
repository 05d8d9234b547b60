//! What a response says of the limit.

use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use stanchion_core::Decision;

/// Which headers tell a client how it stands. A refusal has `Retry-After` in
/// any case, in whole seconds, rounded up (RFC 9110, section 10.2.3), unless it is
/// for good: a cost above the burst.
///
/// Whole seconds are all that these headers can say. A quota of 30 a second with
/// a burst of 20 becomes `q=20;w=1`, and each of its refusals `Retry-After: 1`,
/// though a unit is back in 33 ms: a client that keeps to them is polite rather
/// than fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Headers {
    /// `RateLimit-Policy` and `RateLimit`, as in
    /// draft-ietf-httpapi-ratelimit-headers-10: `"api";q=20;w=12` for a burst of
    /// 20 that fills in 12 seconds, and `"api";r=3;t=1` for 3 units left and one
    /// more within a second.
    #[default]
    Standard,
    /// `X-RateLimit-Limit`, `-Remaining` and `-Reset`: the burst, the units left,
    /// and the seconds until all are back.
    Legacy,
    /// All five.
    Both,
    /// None of them.
    None,
}

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const LEGACY_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const LEGACY_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const LEGACY_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

impl Headers {
    /// Writes what `decision` has to say. A decision that the limiter made
    /// without its store says nothing of the units left, which it doesn't know.
    pub(super) fn write(self, policy_name: &str, decision: &Decision, headers: &mut HeaderMap) {
        if let Some(wait) = decision.retry_after() {
            headers.insert(RETRY_AFTER, seconds(wait).max(1).into());
        }
        if decision.degraded() {
            return;
        }
        if matches!(self, Self::Standard | Self::Both) {
            let window = seconds(decision.window()).max(1);
            append_text(headers, POLICY, &format!("{policy_name};q={};w={window}", integer(decision.limit())));
            let remaining = integer(decision.remaining());
            let text = match seconds(decision.next_token_after()) {
                // Full: there is no more to come.
                0 => format!("{policy_name};r={remaining}"),
                next => format!("{policy_name};r={remaining};t={next}"),
            };
            append_text(headers, RATE_LIMIT, &text);
        }
        if matches!(self, Self::Legacy | Self::Both) {
            headers.insert(LEGACY_LIMIT, decision.limit().into());
            headers.insert(LEGACY_REMAINING, decision.remaining().into());
            headers.insert(LEGACY_RESET, seconds(decision.reset_after()).into());
        }
    }
}

/// A name as a structured field's string (RFC 9651, section 3.3.3): quoted, and
/// without what such a string can't have.
pub(super) fn quoted(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 2);
    text.push('"');
    for character in name.chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            ' '..='~' => text.push(character),
            _ => text.push('?'),
        }
    }
    text.push('"');
    text
}

/// Whole seconds, rounded up.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// Adds an item to a header that is a list: a limit further in may have said its own.
fn append_text(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    let value = HeaderValue::from_str(text).expect("a quoted name and numbers are visible ASCII");
    headers.append(name, value);
}

/// A number as a structured field's integer can be: 15 digits at most.
fn integer(number: u64) -> u64 {
    number.min(999_999_999_999_999)
}

#[cfg(test)]
mod tests {
    use super::*;
    use stanchion_core::TokenBucket;

    /// 2 a second, 5 at once.
    fn bucket() -> TokenBucket {
        TokenBucket::new(2, Duration::from_secs(1), 5).unwrap()
    }

    fn written(headers: Headers, decision: &Decision) -> Vec<String> {
        let mut map = HeaderMap::new();
        headers.write(&quoted("api"), decision, &mut map);
        map.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
    }

    #[test]
    fn the_standard_headers_are_those_of_the_draft() {
        let decision = Decision::allowed_by(&bucket(), 2 * bucket().interval());
        assert_eq!(
            written(Headers::Standard, &decision),
            [r#"ratelimit-policy: "api";q=5;w=3"#, r#"ratelimit: "api";r=3;t=1"#]
        );
        let full = Decision::allowed_by(&bucket(), 0);
        assert_eq!(written(Headers::Standard, &full)[1], r#"ratelimit: "api";r=5"#);
    }

    #[test]
    fn a_refusal_rounds_its_wait_up_and_never_to_zero() {
        let interval = bucket().interval();
        let wait = |debt| written(Headers::None, &Decision::refused_by(&bucket(), debt, interval));
        assert_eq!(wait(bucket().capacity()), ["retry-after: 1"]);
        assert_eq!(wait(bucket().capacity() - interval + 1), ["retry-after: 1"]);
        assert_eq!(wait(bucket().capacity() + interval), ["retry-after: 1"]);
        assert_eq!(wait(bucket().capacity() + interval + 1), ["retry-after: 2"]);
        assert!(written(Headers::None, &Decision::never_fits(bucket())).is_empty());
    }

    #[test]
    fn retry_after_never_precedes_the_next_unit() {
        for debt in 0..=bucket().capacity() / 100_000_000 {
            let decision = Decision::refused_by(&bucket(), debt * 100_000_000, bucket().capacity());
            assert!(decision.retry_after().unwrap() >= decision.next_token_after());
        }
    }

    #[test]
    fn the_legacy_headers_are_three_numbers() {
        let decision = Decision::allowed_by(&bucket(), 3 * bucket().interval());
        assert_eq!(
            written(Headers::Legacy, &decision),
            ["x-ratelimit-limit: 5", "x-ratelimit-remaining: 2", "x-ratelimit-reset: 2"]
        );
        assert_eq!(written(Headers::Both, &decision).len(), 5);
        assert!(written(Headers::Both, &decision.as_degraded()).is_empty());
    }

    #[test]
    fn any_name_can_be_quoted() {
        assert_eq!(quoted("a\"b\\c\né"), r#""a\"b\\c??""#);
    }
}

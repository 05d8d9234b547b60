//! What an HTTP response says of the attempt that it ends.

use std::time::{Duration, SystemTime};

use http::header::{DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, Response, StatusCode};
use stanchion_core::{Classifier, Outcome};

/// The classifier for HTTP: a response by its status, as [`outcome`] says. An error
/// is one of the transport, and transient.
///
/// ```
/// use http::Response;
/// use stanchion_core::{Classifier, Outcome};
/// use stanchion_tower::ByStatus;
///
/// let busy: std::io::Result<_> = Ok(Response::builder().status(429).header("retry-after", "7").body(())?);
/// let retry_after = Some(std::time::Duration::from_secs(7));
/// assert_eq!(ByStatus.classify(&busy), Outcome::Throttled { retry_after });
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct ByStatus;

impl<B, E> Classifier<Response<B>, E> for ByStatus {
    fn classify(&self, result: &Result<Response<B>, E>) -> Outcome {
        match result {
            Ok(response) => outcome(response.status(), response.headers()),
            Err(_) => Outcome::Transient,
        }
    }
}

/// How an attempt with this response ended.
///
/// | status | outcome |
/// |---|---|
/// | 1xx, 2xx, 3xx | `Success` |
/// | 404, 410 | `Ignored`: an answer, and none about the other side's health |
/// | 401, 407 | `Unauthenticated` |
/// | 408, 504 | `TimedOut` |
/// | 429, and 503 with `Retry-After` | `Throttled`, for as long as it says |
/// | 425, 500, 502, 503, other 5xx | `Transient` |
/// | other 4xx, 501, 505, 506, 508, 510, 511 | `Permanent` |
///
/// Whether the request may be sent again is another question: see
/// [`is_repeatable`].
pub fn outcome(status: StatusCode, headers: &HeaderMap) -> Outcome {
    match status.as_u16() {
        ..=399 => Outcome::Success,
        404 | 410 => Outcome::Ignored,
        401 | 407 => Outcome::Unauthenticated,
        408 | 504 => Outcome::TimedOut,
        429 => Outcome::Throttled { retry_after: retry_after(headers) },
        503 => match retry_after(headers) {
            None => Outcome::Transient,
            told => Outcome::Throttled { retry_after: told },
        },
        425 => Outcome::Transient,
        501 | 505 | 506 | 508 | 510 | 511 => Outcome::Permanent,
        500.. => Outcome::Transient,
        _ => Outcome::Permanent,
    }
}

/// Whether a request may be sent twice without harm: its method is idempotent (RFC
/// 9110, section 9.2.2), or it carries an `Idempotency-Key`.
///
/// For [`Call::repeatable`](stanchion_core::Call::repeatable).
///
/// ```
/// use http::Request;
/// use stanchion_core::Call;
/// use stanchion_tower::is_repeatable;
///
/// let order = Request::post("/orders").body(())?;
/// let call = Call::new().repeatable(is_repeatable(order.method(), order.headers()));
/// assert_eq!(call.is_repeatable(), Some(false));
///
/// let order = Request::post("/orders").header("idempotency-key", "8e03978e").body(())?;
/// assert!(is_repeatable(order.method(), order.headers()));
/// # Ok::<(), http::Error>(())
/// ```
pub fn is_repeatable(method: &Method, headers: &HeaderMap) -> bool {
    method.is_idempotent() || headers.contains_key(IDEMPOTENCY_KEY)
}

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What `Retry-After` says (RFC 9110, section 10.2.3): seconds, or a date, which is
/// compared with the response's own `Date` where it has one, since that is the same clock.
/// A date that has passed is no wait. What is neither is as if it weren't there.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More seconds than a number can hold are very many.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    let date = |value: &HeaderValue| httpdate::parse_http_date(value.to_str().ok()?).ok();
    let now = headers.get(DATE).and_then(date).unwrap_or_else(SystemTime::now);
    Some(until.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    fn of(status: u16) -> Outcome {
        outcome(StatusCode::from_u16(status).unwrap(), &HeaderMap::new())
    }

    #[test]
    fn each_status_is_told_as_in_the_table() {
        assert_eq!([200, 204, 304].map(of), [Outcome::Success; 3]);
        assert_eq!([404, 410].map(of), [Outcome::Ignored; 2]);
        assert_eq!([401, 407].map(of), [Outcome::Unauthenticated; 2]);
        assert_eq!([408, 504].map(of), [Outcome::TimedOut; 2]);
        assert_eq!(of(429), Outcome::Throttled { retry_after: None });
        assert_eq!([425, 500, 502, 503, 507, 599].map(of), [Outcome::Transient; 6]);
        assert_eq!([400, 403, 409, 422, 499, 501, 505, 511].map(of), [Outcome::Permanent; 8]);
        let told = headers(&[(RETRY_AFTER, "0")]);
        assert_eq!(
            outcome(StatusCode::SERVICE_UNAVAILABLE, &told),
            Outcome::Throttled { retry_after: Some(Duration::ZERO) }
        );
    }

    #[test]
    fn an_error_of_any_type_is_transient_and_a_response_is_told_by_its_status() {
        assert_eq!(ByStatus.classify(&Err::<Response<()>, _>("reset")), Outcome::Transient);
        let missing = Response::builder().status(404).body(()).unwrap();
        assert_eq!(ByStatus.classify(&Ok::<_, ()>(missing)), Outcome::Ignored);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let wait = |text: &str| retry_after(&headers(&[(RETRY_AFTER, text), (DATE, "Fri, 31 Dec 1999 23:59:00 GMT")]));
        assert_eq!(wait("120"), Some(Duration::from_secs(120)));
        assert_eq!(wait("Fri, 31 Dec 1999 23:59:59 GMT"), Some(Duration::from_secs(59)));
        assert_eq!(wait("Fri, 31 Dec 1999 23:58:59 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("99999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        for nonsense in ["", "-1", "1.5", "+1", "soon", "Fri, 99 Dec 1999 23:59:59 GMT"] {
            assert_eq!(wait(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn without_a_date_of_its_own_the_systems_clock_is_asked() {
        let far = retry_after(&headers(&[(RETRY_AFTER, "Tue, 31 Dec 2199 23:59:59 GMT")])).unwrap();
        assert!(far > Duration::from_secs(100 * 365 * 24 * 3_600));
        assert_eq!(retry_after(&headers(&[(RETRY_AFTER, "Fri, 31 Dec 1999 23:59:59 GMT")])), Some(Duration::ZERO));
    }

    #[test]
    fn what_may_be_sent_twice_is_what_the_rfc_says() {
        let plain = HeaderMap::new();
        let repeatable = |method: Method| is_repeatable(&method, &plain);
        assert!(
            [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE]
                .map(repeatable)
                .iter()
                .all(|is| *is)
        );
        assert_eq!([Method::POST, Method::PATCH, Method::CONNECT].map(repeatable), [false; 3]);
    }
}

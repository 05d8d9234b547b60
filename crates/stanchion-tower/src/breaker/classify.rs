//! How a response counts.

use std::time::Duration;

use http::{Response, StatusCode, header};
use stanchion_core::{Classifier, Outcome};

/// By the response's status; any error of the service itself is transient.
///
/// | | outcome |
/// |---|---|
/// | 408, 504 | `TimedOut` |
/// | 429 | `Throttled`, with the seconds of `Retry-After` if it has them |
/// | 501, 505 | `Permanent`: it will say so again |
/// | any other 5xx, an error | `Transient` |
/// | 404, 410 | `Ignored` |
/// | any other 4xx | `Permanent` |
/// | the rest | `Success` |
#[derive(Debug, Clone, Copy, Default)]
pub struct ByStatus;

impl<R, E> Classifier<Response<R>, E> for ByStatus {
    fn classify(&self, result: &Result<Response<R>, E>) -> Outcome {
        let Ok(response) = result else { return Outcome::Transient };
        match response.status() {
            StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => Outcome::TimedOut,
            StatusCode::TOO_MANY_REQUESTS => {
                let seconds = || response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok();
                Outcome::Throttled { retry_after: seconds().map(Duration::from_secs) }
            }
            StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => Outcome::Permanent,
            StatusCode::NOT_FOUND | StatusCode::GONE => Outcome::Ignored,
            status if status.is_server_error() => Outcome::Transient,
            status if status.is_client_error() => Outcome::Permanent,
            _ => Outcome::Success,
        }
    }
}

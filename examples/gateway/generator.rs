//! Sends the requests of a schedule, each when it is due, whatever becomes of the others.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderValue, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::endings::Ending;
use crate::exchange::TENANT;
use crate::proxy::{CACHE_STATUS, HIT, LAST_KNOWN};
use crate::tally::Tally;
use crate::traffic::Arrival;

/// Requests under way at a time. One that is due beyond them is not sent, and
/// is counted as dropped. It is far more than a healthy gateway has, and few
/// enough for 1,024 file descriptors.
const IN_FLIGHT: u32 = 200;

/// What that takes of them: each request has two connections, each of which has
/// two ends in this process; and some are for the runtime.
pub(crate) const DESCRIPTORS: u64 = 4 * IN_FLIGHT as u64 + 64;

/// A client waits so long for an answer. A gateway with timeouts gives up before that.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// Plays `schedule`, which is counted from `start`, to the end, and waits for the last answer.
pub(crate) async fn play(schedule: Vec<Arrival>, start: Instant, gateway: SocketAddr, tally: Arc<Mutex<Tally>>) {
    let client: Client<HttpConnector, Body> = Client::builder(TokioExecutor::new()).build_http();
    let places = Arc::new(Semaphore::new(IN_FLIGHT as usize));
    for arrival in schedule {
        let due = start + arrival.due;
        sleep_until(due).await;
        let Ok(place) = places.clone().try_acquire_owned() else {
            record(&tally, arrival, Ending::Dropped);
            continue;
        };
        let request = Request::get(format!("http://{gateway}{}", arrival.wanted))
            .header(TENANT, arrival.tenant.to_string())
            .body(Body::empty())
            .expect("an address and a tenant make a request");
        let (client, tally) = (client.clone(), tally.clone());
        tokio::spawn(async move {
            record(&tally, arrival, ending(&client, request, due).await);
            drop(place);
        });
    }
    // Whoever has all places knows that nothing is under way.
    let _all = places.acquire_many(IN_FLIGHT).await;
}

/// Time counts from when the request was due: a generator that is late must not
/// flatter what it measures.
async fn ending(client: &Client<HttpConnector, Body>, request: Request<Body>, due: Instant) -> Ending {
    let answer = async {
        let (head, body) = client.request(request).await.ok()?.into_parts();
        // An answer is there when its last byte is.
        to_bytes(Body::new(body), usize::MAX).await.ok()?;
        Some(head)
    };
    match timeout_at(due + PATIENCE, answer).await {
        Ok(Some(head)) => told(head.status, head.headers.get(CACHE_STATUS), due.elapsed()),
        _ => Ending::Failed,
    }
}

/// What an answer says of itself.
fn told(status: StatusCode, cached: Option<&HeaderValue>, took: Duration) -> Ending {
    match (status, cached) {
        (StatusCode::OK, None) => Ending::Served(took),
        (StatusCode::OK, Some(how)) if how == HIT => Ending::Hit(took),
        (StatusCode::OK, Some(how)) if how == LAST_KNOWN => Ending::FellBack(took),
        (StatusCode::TOO_MANY_REQUESTS, _) => Ending::Refused,
        _ => Ending::Failed,
    }
}

fn record(tally: &Mutex<Tally>, arrival: Arrival, ending: Ending) {
    tally.lock().expect("nothing panics while it counts").record(arrival, ending);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_fresh_answer_is_a_success() {
        let took = Duration::from_millis(3);
        let told = |status, cached: Option<HeaderValue>| told(status, cached.as_ref(), took);
        assert_eq!(told(StatusCode::OK, None), Ending::Served(took));
        assert_eq!(told(StatusCode::OK, Some(HIT)), Ending::Hit(took));
        assert_eq!(told(StatusCode::OK, Some(LAST_KNOWN)), Ending::FellBack(took));
        assert_eq!(told(StatusCode::OK, Some(HeaderValue::from_static("gateway; fwd=stale"))), Ending::Failed);
        assert_eq!(told(StatusCode::TOO_MANY_REQUESTS, None), Ending::Refused);
        assert_eq!(told(StatusCode::BAD_GATEWAY, Some(HIT)), Ending::Failed);
    }
}

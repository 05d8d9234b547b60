//! Something else instead.

use std::future::Future;

use stanchion_core::CallError;

/// Waits for `call`; where it fails, `instead` has the reason in hand and says
/// what to do: another value, another place to ask, the cache's last word, or the
/// reason itself.
///
/// A panic is no failure: it goes on.
///
/// # Cancellation
/// Dropping the future drops whichever of the two is under way.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// use stanchion_retry::{CallError, Retry, fallback};
///
/// async fn fetch_rate() -> std::io::Result<f64> {
///     Err(std::io::ErrorKind::ConnectionRefused.into())
/// }
///
/// let retry = Retry::exponential();
/// let last_known = Some(1.07);
/// let rate = fallback(retry.run(|_| fetch_rate()), |reason: CallError<std::io::Error>| async move {
///     last_known.ok_or(reason)
/// })
/// .await;
/// assert_eq!(rate.unwrap(), 1.07);
/// # }
/// ```
pub async fn fallback<T, E, F, Fut>(
    call: impl Future<Output = Result<T, CallError<E>>>,
    instead: F,
) -> Result<T, CallError<E>>
where
    F: FnOnce(CallError<E>) -> Fut,
    Fut: Future<Output = Result<T, CallError<E>>>,
{
    match call.await {
        Ok(value) => Ok(value),
        Err(reason) => instead(reason).await,
    }
}

//! An end to waiting.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use stanchion_core::{CallError, Scope};
use tokio::task::coop;
use tokio::time::Sleep;

/// Waits for `operation` at most `limit`; then it is dropped.
///
/// The time runs from when the operation is first found not to be ready. One that is ready at once costs
/// neither a clock nor a timer, and one that is ready at the very end is ready in
/// time.
///
/// # Errors
/// The operation's error as [`CallError::Inner`], or [`CallError::TimedOut`].
///
/// # Cancellation
/// Dropping the future drops the operation.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// use std::time::Duration;
/// use stanchion_retry::{CallError, timeout};
///
/// let slow = async {
///     tokio::time::sleep(Duration::from_secs(9)).await;
///     Ok::<_, std::io::Error>("late")
/// };
/// let error = timeout(Duration::from_secs(2), slow).await.unwrap_err();
/// assert_eq!(error.to_string(), "no success within 2s");
/// # }
/// ```
pub async fn timeout<T, E>(limit: Duration, operation: impl Future<Output = Result<T, E>>) -> Result<T, CallError<E>> {
    match within(limit, operation).await {
        Ok(result) => result.map_err(|error| CallError::Inner { error, attempts: 1 }),
        Err(after) => Err(CallError::TimedOut { after, scope: Scope::Total }),
    }
}

/// The future's output, or the limit that ran out: [`timeout`] for futures of
/// any kind, on the same terms.
pub fn within<F: Future>(limit: Duration, future: F) -> Within<F> {
    Within { future, limit, sleep: None }
}

pin_project! {
    /// The future of [`within`].
    #[derive(Debug)]
    pub struct Within<F> {
        #[pin]
        future: F,
        limit: Duration,
        // Begun when the future is first found pending.
        #[pin]
        sleep: Option<Sleep>,
    }
}

impl<F: Future> Future for Within<F> {
    type Output = Result<F::Output, Duration>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let had_budget = coop::has_budget_remaining();
        if let Poll::Ready(output) = this.future.poll(context) {
            return Poll::Ready(Ok(output));
        }
        if this.sleep.is_none() {
            this.sleep.set(Some(tokio::time::sleep(*this.limit)));
        }
        let sleep = this.sleep.as_mut().as_pin_mut().expect("it was set just now");
        poll_timer(sleep, had_budget, context).map(|()| Err(*this.limit))
    }
}

/// Polls a timer after something that may have used up the task's turn, tokio's
/// cooperative budget: a timer that waited for the next turn, too, would never
/// end an operation that always uses up its turn.
pub(crate) fn poll_timer(timer: Pin<&mut Sleep>, had_budget: bool, context: &mut Context<'_>) -> Poll<()> {
    if had_budget && !coop::has_budget_remaining() {
        pin!(coop::unconstrained(timer)).poll(context)
    } else {
        timer.poll(context)
    }
}

/// Waits for so long. Where that is no time at all, others on the thread have
/// their turn, so that a loop of retries without delays can be stopped.
pub async fn pause(delay: Duration) {
    if delay.is_zero() {
        tokio::task::yield_now().await;
    } else {
        tokio::time::sleep(delay).await;
    }
}

//! An answer that is either here already or still on its way.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll};

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a store says: at once where it can, later where it must ask.
///
/// A store in memory answers [`Ready`](Self::Ready): nothing is allocated and
/// no runtime is needed. A remote one answers [`Later`](Self::Later). Either
/// can be awaited.
///
/// # Cancellation
/// Dropping a `Later` drops the question. Whether the remote side has acted on
/// it by then is unknown; no answer is ever asked for twice by itself.
///
/// ```
/// use stanchion_core::Answer;
///
/// let here: Answer<'_, u32> = Answer::Ready(7);
/// assert_eq!(here.ready(), Some(7));
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let later = Answer::later(async { 8 });
/// assert_eq!(later.await, 8);
/// # });
/// ```
#[must_use = "an answer that is neither awaited nor read was asked for in vain"]
pub enum Answer<'a, T> {
    /// The answer.
    Ready(T),
    /// The future that brings it.
    Later(BoxFuture<'a, T>),
}

impl<'a, T> Answer<'a, T> {
    /// An answer that `future` will bring.
    pub fn later(future: impl Future<Output = T> + Send + 'a) -> Self {
        Self::Later(Box::pin(future))
    }

    /// The answer if it is here already; a `Later` is dropped.
    pub fn ready(self) -> Option<T> {
        match self {
            Self::Ready(value) => Some(value),
            Self::Later(_) => None,
        }
    }

    /// The same answer with `f` applied to it, now or on arrival.
    pub fn map<U>(self, f: impl FnOnce(T) -> U + Send + 'a) -> Answer<'a, U>
    where
        T: 'a,
    {
        match self {
            Self::Ready(value) => Answer::Ready(f(value)),
            Self::Later(future) => Answer::later(async move { f(future.await) }),
        }
    }
}

impl<'a, T> IntoFuture for Answer<'a, T> {
    type Output = T;
    type IntoFuture = AnswerFuture<'a, T>;

    fn into_future(self) -> AnswerFuture<'a, T> {
        AnswerFuture(match self {
            Self::Ready(value) => State::Ready(Some(value)),
            Self::Later(future) => State::Later(future),
        })
    }
}

impl<T: fmt::Debug> fmt::Debug for Answer<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(value) => f.debug_tuple("Ready").field(value).finish(),
            Self::Later(_) => f.write_str("Later(..)"),
        }
    }
}

/// The future of an [`Answer`].
pub struct AnswerFuture<'a, T>(State<'a, T>);

enum State<'a, T> {
    Ready(Option<T>),
    Later(BoxFuture<'a, T>),
}

// The value is only ever moved out whole; nothing points into it.
impl<T> Unpin for AnswerFuture<'_, T> {}

impl<T> Future for AnswerFuture<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match &mut self.0 {
            State::Ready(value) => Poll::Ready(value.take().expect("a future is not polled after it is ready")),
            State::Later(future) => future.as_mut().poll(context),
        }
    }
}

impl<T> fmt::Debug for AnswerFuture<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            State::Ready(_) => "AnswerFuture(ready)",
            State::Later(_) => "AnswerFuture(later)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_is_the_same_awaited_or_read() {
        assert_eq!(Answer::Ready(1).ready(), Some(1));
        assert_eq!(Answer::Ready(1).await, 1);
        assert_eq!(Answer::later(async { 1 }).await, 1);
        assert_eq!(Answer::later(async { 1 }).ready(), None);
    }

    #[tokio::test]
    async fn map_applies_now_or_on_arrival() {
        assert_eq!(Answer::Ready(1).map(|n| n + 1).ready(), Some(2));
        assert_eq!(Answer::later(async { 1 }).map(|n| n + 1).await, 2);
    }
}

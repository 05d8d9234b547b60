//! backon. Its builders can be handed over by reference, and so they are made
//! once, as ours are.

use std::future::ready;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};

use super::{succeed, succeed_at_third};
use crate::runs::{self, Run};

pub(super) fn happy() -> Run {
    let policy = ExponentialBuilder::default().with_jitter();
    runs::polled(async move || {
        let result = succeed.retry(&policy).await;
        assert!(matches!(result, Ok(7)));
    })
}

/// Its own sleeper makes a timer even for no time, which then rounds up to a
/// millisecond; the one of its documentation that is ready at once doesn't.
pub(super) fn three_attempts() -> Run {
    let policy = ExponentialBuilder::default().with_min_delay(Duration::ZERO).with_max_times(2).with_jitter();
    runs::polled(async move || {
        let mut made = 0;
        let fails_twice = || {
            made += 1;
            succeed_at_third(made)
        };
        let result = fails_twice.retry(&policy).sleep(|_| ready(())).await;
        assert!(matches!(result, Ok(7)) && made == 3);
    })
}

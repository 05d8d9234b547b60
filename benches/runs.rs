//! Loops that time themselves.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

/// Does so many operations, and says how long they took.
pub type Run = Box<dyn FnMut(u64) -> Duration>;

/// Does an operation for each place, and puts there how many nanoseconds it took.
pub type Samples = Box<dyn FnMut(&mut [u32])>;

/// `operation`, each by itself between two readings of the timestamp counter, one of
/// which is the next one's first: the counter's own 10 to 30 ns are in each time.
pub(crate) fn each_timed(mut operation: impl FnMut() + 'static) -> Samples {
    let clock = quanta::Clock::new();
    Box::new(move |times| {
        let mut before = clock.raw();
        for time in times {
            operation();
            let after = clock.raw();
            *time = u32::try_from(clock.delta_as_nanos(before, after)).unwrap_or(u32::MAX);
            before = after;
        }
    })
}

/// `operation`, in a loop.
pub(crate) fn one_thread(mut operation: impl FnMut() + 'static) -> Run {
    Box::new(move |count| {
        let start = Instant::now();
        for _ in 0..count {
            operation();
        }
        start.elapsed()
    })
}

/// `operation`, in a loop on one thread; each future is polled until it is ready,
/// which none of them waits for a timer to be.
///
/// By hand, so that nothing of a scheduler is measured, and inside of a runtime,
/// since tokio's timers can be made nowhere else. It is never asked to run one.
pub(crate) fn polled(mut operation: impl AsyncFnMut() + 'static) -> Run {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("it needs no file");
    Box::new(move |count| {
        let _inside = runtime.enter();
        let mut context = Context::from_waker(Waker::noop());
        let start = Instant::now();
        for _ in 0..count {
            let mut future = pin!(operation());
            while future.as_mut().poll(&mut context).is_pending() {}
        }
        start.elapsed()
    })
}

/// `operation`, in a loop on each of two threads at a time, with something that
/// they share; the time is the mean of theirs, for as many operations on each.
///
/// Each run has a new one to share, in a new place: what two cores pay to pass a
/// cache line to and fro depends on its address. With one place for each side,
/// two limiters of the same kind differed by up to 20 %; with many, by 2 to 4 %.
///
/// This thread is one of the two. The other sleeps between the runs, so that it
/// takes nothing from the side that has its turn.
pub(crate) fn two_threads<T: Send + Sync + 'static>(make: impl Fn() -> T + 'static, operation: fn(&T, u64)) -> Run {
    let arrived = Arc::new(AtomicU64::new(0));
    let (orders, incoming) = mpsc::channel::<(u64, Arc<T>)>();
    let (outgoing, times) = mpsc::channel();

    let its_arrived = Arc::clone(&arrived);
    // It ends when `orders` is dropped with the run.
    thread::spawn(move || {
        for (round, (count, shared)) in (1..).zip(incoming) {
            let time = together(&its_arrived, round, || operation(&shared, count));
            if outgoing.send(time).is_err() {
                return;
            }
        }
    });

    // All are kept, so that no place is used again.
    let mut used = Vec::new();
    Box::new(move |count| {
        let shared = Arc::new(make());
        used.push(Arc::clone(&shared));
        orders.send((count, Arc::clone(&shared))).expect("the other thread ends only after the orders do");
        let ours = together(&arrived, used.len() as u64, || operation(&shared, count));
        let theirs = times.recv().expect("the other thread answers each order");
        (ours + theirs) / 2
    })
}

/// Waits for the other thread, then does its part of the round.
///
/// The barrier is one that spins: a thread that has to be woken comes some
/// 50 µs late, for which the first would have the limiter to itself.
fn together(arrived: &AtomicU64, round: u64, part: impl FnOnce()) -> Duration {
    // SeqCst: it isn't measured.
    arrived.fetch_add(1, Ordering::SeqCst);
    while arrived.load(Ordering::SeqCst) < 2 * round {
        // The other may need this very core to arrive.
        thread::yield_now();
    }
    let start = Instant::now();
    part();
    start.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_does_each_operation_once() {
        let done = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&done);
        let mut run = one_thread(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        run(3);
        run(4);
        assert_eq!(done.load(Ordering::Relaxed), 7);
    }

    #[test]
    fn polled_awaits_each_future() {
        let done = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&done);
        let mut run = polled(async move || {
            std::future::ready(()).await;
            counted.fetch_add(1, Ordering::Relaxed);
        });
        run(3);
        run(4);
        assert_eq!(done.load(Ordering::Relaxed), 7);
    }

    #[test]
    fn two_threads_share_something_new_in_every_round() {
        static MADE: AtomicU64 = AtomicU64::new(0);
        static DONE: AtomicU64 = AtomicU64::new(0);
        let mut run = two_threads(
            || MADE.fetch_add(1, Ordering::Relaxed),
            |made, count| {
                DONE.fetch_add(count * (made + 1), Ordering::Relaxed);
            },
        );
        let mut expected = 0;
        for round in 1..=20 {
            run(100);
            expected += 2 * 100 * round;
            assert_eq!(DONE.load(Ordering::Relaxed), expected);
        }
    }
}

//! Listens for changes, on a connection of its own.

use std::future::poll_fn;
use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_core::Stream;
use redis::aio::{PubSub, PubSubSink};
use redis::{RedisResult, Value};
use stanchion_core::{Change, ChangeListener, Subscription};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::backlog::Backlog;
use super::change::{self, Identity, Told};

/// How often the server is asked whether it is there, and how long it may take to say so or to take
/// a connection.
const PULSE: Duration = Duration::from_secs(1);
/// The pauses between attempts to connect: the first, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(25), Duration::from_secs(1)];

/// Tells `listener` what stores other than `own` say on the channel.
///
/// One task reads, and never waits for the listener; another tells. Between them is a bounded line, for redis'
/// own line has no bound: it is as long as its reader is slow, and this one only moves what it has read.
pub(super) fn listen(
    runtime: &Handle,
    nodes: Vec<redis::Client>,
    channel: Vec<u8>,
    own: Identity,
    listener: ChangeListener,
) -> Subscription {
    let backlog = Arc::new(Backlog::default());
    let reader = runtime.spawn(read(nodes, channel, own, backlog.clone()));
    let teller = runtime.spawn(tell(backlog.clone(), listener));
    Subscription::new(Tasks { backlog, tasks: [reader, teller] })
}

/// Ends with the subscription.
struct Tasks {
    backlog: Arc<Backlog>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.backlog.close();
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn tell(backlog: Arc<Backlog>, listener: ChangeListener) {
    while let Some(told) = backlog.next().await {
        let change = match &told {
            Told::Key(key) => Change::Key(key),
            Told::Tag(tag) => Change::Tag(tag),
            Told::All => Change::All,
            Told::Interrupted => Change::Interrupted,
            Told::Resumed => Change::Resumed,
        };
        // One that is told nothing any more would keep what is long invalid. That it panics is
        // reported by its own panic.
        catch_unwind(AssertUnwindSafe(|| listener(change))).ok();
    }
}

async fn read(nodes: Vec<redis::Client>, channel: Vec<u8>, own: Identity, backlog: Arc<Backlog>) {
    let mut failures = 0;
    // Not all subscribers begin with the same node.
    let first = usize::try_from(chance(100)).expect("a percentage is small");
    for node in nodes.iter().cycle().skip(first) {
        let began = Instant::now();
        if let Ok(Ok(connection)) = timeout(PULSE, subscribe(node, &channel)).await {
            backlog.push(Told::Resumed);
            hear(connection, own, &backlog).await;
            backlog.push(Told::Interrupted);
            if began.elapsed() > PULSE {
                failures = 0;
            }
        }
        // A half of it at least, and not in step with other subscribers.
        sleep(pause(failures) * (50 + chance(50)) / 100).await;
        failures = u32::saturating_add(failures, 1);
    }
}

async fn subscribe(node: &redis::Client, channel: &[u8]) -> RedisResult<PubSub> {
    let mut connection = node.get_async_pubsub().await?;
    connection.subscribe(channel).await?;
    Ok(connection)
}

/// Listens until the connection is lost, or silent.
async fn hear(connection: PubSub, own: Identity, backlog: &Backlog) {
    let (sink, mut messages) = connection.split();
    let mut silent = pin!(silence(sink));
    poll_fn(|context| {
        while let Poll::Ready(message) = Pin::new(&mut messages).poll_next(context) {
            let Some(message) = message else { return Poll::Ready(()) };
            match change::read(message.get_payload_bytes(), own) {
                Some(told) => told.into_iter().for_each(|told| backlog.push(told)),
                None => [Told::Interrupted, Told::Resumed].into_iter().for_each(|told| backlog.push(told)),
            }
        }
        silent.as_mut().poll(context)
    })
    .await;
}

/// Ends when the server doesn't answer any more.
async fn silence(mut sink: PubSubSink) {
    loop {
        sleep(PULSE).await;
        if !matches!(timeout(PULSE, sink.ping::<Value>()).await, Ok(Ok(_))) {
            return;
        }
    }
}

/// A number below `most`, by the randomness that the operating system seeds std with.
fn chance(most: u32) -> u32 {
    u32::try_from(RandomState::new().hash_one(()) % u64::from(most)).expect("below a number of 32 bits")
}

fn pause(failures: u32) -> Duration {
    let [first, longest] = PAUSES;
    first.saturating_mul(1 << failures.min(10)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_differ() {
        let chances: Vec<u32> = (0..100).map(|_| chance(50)).collect();
        assert!(chances.iter().all(|chance| *chance < 50) && chances.iter().any(|chance| *chance != chances[0]));
    }

    #[test]
    fn pauses_grow_up_to_a_second() {
        assert_eq!([0, 1, 5, 6, u32::MAX].map(|failures| pause(failures).as_millis()), [25, 50, 800, 1_000, 1_000]);
    }
}

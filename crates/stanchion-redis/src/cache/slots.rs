//! The hash slots over which a cache is spread.

use std::future::{Future, poll_fn};
use std::task::Poll;

/// The slot of a key: the same in each process and for ever, by FNV-1a (Fowler, Noll, Vo).
pub(super) fn slot(key: &[u8], slots: u32) -> u32 {
    if slots == 1 {
        return 0;
    }
    let hash = key
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    // Folded: its upper half alone is much the same for keys that are much the same.
    u32::try_from((hash ^ hash >> 32) % u64::from(slots)).expect("below the number of slots")
}

/// The outcomes of all, which run at once.
pub(super) async fn together<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    poll_fn(|context| {
        let mut all = true;
        for (future, outcome) in &mut running {
            if outcome.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(ready) => *outcome = Some(ready),
                    Poll::Pending => all = false,
                }
            }
        }
        if all { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    running.into_iter().filter_map(|(_, outcome)| outcome).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slot_of_a_key_is_the_same_for_ever_and_keys_are_spread() {
        assert_eq!([b"alice".as_slice(), b"bob", b""].map(|key| slot(key, 64)), [60, 13, 1]);
        assert_eq!(slot(b"alice", 1), 0);
        let mut keys = [0; 64];
        (0..6_400).for_each(|number: u32| keys[slot(format!("key-{number}").as_bytes(), 64) as usize] += 1);
        assert!(keys.iter().all(|keys| (50..=150).contains(keys)), "{keys:?}");
    }
}

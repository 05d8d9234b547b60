//! The optimum, which knows the future.

use std::collections::{BinaryHeap, HashMap};

/// The hits of a cache that evicts whoever is asked for last (Belady, "A study of replacement algorithms for a virtual
/// storage computer", 1966). No cache that must put in what it misses hits more often.
pub fn hits(requests: &[u64], capacity: usize) -> u64 {
    let next = next_requests(requests);
    // Whoever is in, by the request at which it is wanted again; a member's older ones stay behind and are passed over.
    let mut by_next = BinaryHeap::new();
    let mut wanted = HashMap::<u64, usize>::new();
    let mut hits = 0;
    for (&key, &next) in requests.iter().zip(&next) {
        if wanted.insert(key, next).is_some() {
            hits += 1;
        } else if wanted.len() > capacity {
            // The newcomer isn't in the heap yet: it can't go for itself.
            while let Some((at, gone)) = by_next.pop() {
                if wanted.get(&gone) == Some(&at) {
                    wanted.remove(&gone);
                    break;
                }
            }
        }
        by_next.push((next, key));
    }
    hits
}

/// For each request the place of the next one for the same key; for the last one, a place of its
/// own behind all of them.
fn next_requests(requests: &[u64]) -> Vec<usize> {
    let mut seen = HashMap::new();
    let mut next: Vec<usize> =
        requests.iter().enumerate().rev().map(|(place, &key)| seen.insert(key, place).unwrap_or(usize::MAX)).collect();
    next.reverse();
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_example() {
        // a b c d, a b e, a b c d e in three places: five of twelve.
        assert_eq!(hits(&[1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5], 3), 5);
        assert_eq!(hits(&[1, 1, 2, 1, 2], 1), 1);
    }

    #[test]
    fn it_keeps_of_a_loop_what_fits_but_one() {
        let rounds: Vec<u64> = (0..100).flat_map(|_| 0..10).collect();
        // Of the nine that are asked for between a key and itself, four stay.
        assert_eq!(hits(&rounds, 10), 990);
        assert!(hits(&rounds, 5).abs_diff(990 * 4 / 9) < 10, "{}", hits(&rounds, 5));
    }
}

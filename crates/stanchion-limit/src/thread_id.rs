//! A small number for each thread: dense, so that threads seldom meet where the
//! number chooses a place, and never two living threads with the same one.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Mutex, PoisonError};

/// What a thread is called that has no number, not yet or no longer. No thread has it.
pub(crate) const NOBODY: u32 = u32::MAX - 1;

/// The greatest number of a thread. The numbers begin with 1.
const LAST: u32 = u32::MAX - 2;

thread_local! {
    // Apart from `HELD`, so that to read it is to read one word: what has a
    // destructor is asked first whether it lives.
    static ID: Cell<u32> = const { Cell::new(NOBODY) };
    static HELD: Cell<Option<Held>> = const { Cell::new(None) };
}

/// The numbers that no living thread has.
struct Free {
    returned: BinaryHeap<Reverse<u32>>,
    next: u32,
}

static FREE: Mutex<Free> = Mutex::new(Free { returned: BinaryHeap::new(), next: 1 });

/// This thread's number, or [`NOBODY`] if it hasn't asked for one.
#[inline]
pub(crate) fn current() -> u32 {
    ID.get()
}

/// This thread's number; from now on it has one, unless it is about to end, or
/// four thousand million others live. Takes a lock and may allocate, once in a
/// thread.
#[cold]
#[inline(never)]
pub(crate) fn claim() -> u32 {
    if ID.get() != NOBODY {
        return ID.get();
    }
    // A thread that is ending would never return it.
    if HELD.try_with(|_| ()).is_err() {
        return NOBODY;
    }
    let Some(id) = take() else { return NOBODY };
    ID.set(id);
    HELD.set(Some(Held(id)));
    id
}

/// The least that is free: the more threads come and go, the less it grows.
fn take() -> Option<u32> {
    let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(Reverse(id)) = free.returned.pop() {
        return Some(id);
    }
    let id = free.next;
    (id <= LAST).then(|| {
        free.next += 1;
        id
    })
}

/// Returns the number when its thread ends.
struct Held(u32);

impl Drop for Held {
    fn drop(&mut self) {
        // Before somebody else has it: destructors that run later are nobody's.
        ID.set(NOBODY);
        FREE.lock().unwrap_or_else(PoisonError::into_inner).returned.push(Reverse(self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::sync::Barrier;

    /// In one test: the numbers are the process's, and other tests may take some.
    #[test]
    fn living_threads_have_numbers_of_their_own_and_the_dead_return_theirs() {
        let barrier = Barrier::new(8);
        let all_at_once = || {
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8)
                    .map(|_| {
                        scope.spawn(|| {
                            let before = current();
                            let id = claim();
                            barrier.wait();
                            (before, id, claim(), current())
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
            })
        };
        let mut highest = 0;
        for _ in 0..100 {
            let ids = all_at_once();
            assert!(ids.iter().all(|(before, id, again, now)| *before == NOBODY && id == again && id == now));
            assert_eq!(ids.iter().map(|ids| ids.1).collect::<HashSet<_>>().len(), 8);
            highest = highest.max(ids.iter().map(|ids| ids.1).max().unwrap());
        }
        // Far below the 800 threads that there were.
        assert!(highest < 200, "{highest}");
    }

    /// Other destructors of the thread may run before the number is returned, or after.
    #[test]
    fn a_thread_that_is_ending_gets_no_number() {
        use std::sync::mpsc::{Sender, channel};

        struct Probe(Sender<(u32, u32)>);
        impl Drop for Probe {
            fn drop(&mut self) {
                self.0.send((current(), claim())).unwrap();
            }
        }
        thread_local! {
            static EARLY: Cell<Option<Probe>> = const { Cell::new(None) };
            static LATE: Cell<Option<Probe>> = const { Cell::new(None) };
        }
        let (sender, receiver) = channel();
        let id = std::thread::spawn(move || {
            EARLY.set(Some(Probe(sender.clone())));
            let id = claim();
            LATE.set(Some(Probe(sender)));
            id
        });
        let id = id.join().unwrap();
        let mut seen: Vec<_> = receiver.iter().collect();
        seen.sort_unstable();
        assert_eq!(seen, [(id, id), (NOBODY, NOBODY)]);
    }
}

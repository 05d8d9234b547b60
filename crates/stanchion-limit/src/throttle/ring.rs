//! The last two minutes, in a ring of buckets.

use std::time::Duration;

use stanchion_core::Moment;

/// How many buckets a window is made of.
pub(super) const BUCKETS: u64 = 120;

/// Requests and accepts of the window that ends with the current bucket, each
/// counted in the bucket in which it was sent.
#[derive(Debug)]
pub(super) struct Ring {
    buckets: Box<[Bucket]>,
    /// How long a bucket is, in nanoseconds.
    length: u64,
    /// The current bucket's number, counted from the clock's start.
    current: u64,
    /// The sums over all buckets.
    sent: u64,
    accepted: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    /// Which bucket this was last.
    number: u64,
    sent: u64,
    accepted: u64,
    /// Those sent that are neither answered nor refused here.
    open: u64,
}

/// What the window holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    /// Without those that are too fresh to have been answered.
    pub(super) requests: u64,
    pub(super) accepts: u64,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Accepted,
    NotAccepted,
    /// Nobody waited for the answer.
    GivenUp,
}

impl Ring {
    pub(super) fn new(window: Duration) -> Self {
        let length = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX) / BUCKETS;
        let buckets = (0..BUCKETS).map(|_| Bucket::default()).collect();
        Self { buckets, length: length.max(1), current: 0, sent: 0, accepted: 0 }
    }

    /// What was sent in the window that ends now.
    pub(super) fn counts(&mut self, now: Moment) -> Counts {
        self.advance(now.as_nanos() / self.length);
        let open = |number: u64| self.buckets[index(number)].open;
        let fresh = open(self.current) + self.current.checked_sub(1).map_or(0, open);
        Counts { requests: self.sent - fresh, accepts: self.accepted }
    }

    /// A request is sent, or refused here, at the time last told; the bucket that
    /// it is counted in.
    pub(super) fn send(&mut self, refused: bool) -> u64 {
        let bucket = &mut self.buckets[index(self.current)];
        bucket.sent += 1;
        bucket.open += u64::from(!refused);
        self.sent += 1;
        self.current
    }

    /// A request that was counted in this bucket has ended.
    pub(super) fn answer(&mut self, number: u64, answer: Answer) {
        let fresh = number.saturating_add(1) >= self.current;
        let bucket = &mut self.buckets[index(number)];
        if bucket.number != number || bucket.open == 0 {
            // It was sent before the window.
            return;
        }
        bucket.open -= 1;
        match answer {
            Answer::Accepted => {
                bucket.accepted += 1;
                self.accepted += 1;
            }
            Answer::GivenUp if fresh => {
                bucket.sent -= 1;
                self.sent -= 1;
            }
            Answer::NotAccepted | Answer::GivenUp => {}
        }
    }

    /// Forgets what the window has left behind. A number of before changes nothing.
    fn advance(&mut self, number: u64) {
        // After a pause longer than the window each bucket is emptied once.
        let from = self.current.saturating_add(1).max(number.saturating_sub(BUCKETS - 1));
        for number in from..=number {
            let bucket = &mut self.buckets[index(number)];
            self.sent -= bucket.sent;
            self.accepted -= bucket.accepted;
            *bucket = Bucket { number, ..Bucket::default() };
        }
        self.current = self.current.max(number);
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number % BUCKETS).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Each request by itself, in a list that is looked through each time.
    #[derive(Default)]
    struct Naive(Vec<Option<(u64, Option<bool>)>>);

    impl Naive {
        fn counts(&self, bucket: u64) -> Counts {
            let within = || self.0.iter().flatten().filter(move |(sent, _)| sent + BUCKETS > bucket);
            let counted = |(sent, answer): &&(u64, Option<bool>)| answer.is_some() || sent + 1 < bucket;
            Counts {
                requests: within().filter(counted).count() as u64,
                accepts: within().filter(|(_, answer)| *answer == Some(true)).count() as u64,
            }
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Send { refused: bool },
        Answer { which: usize, answer: Answer },
        Wait { nanos: u64 },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let answer = prop_oneof![Just(Answer::Accepted), Just(Answer::NotAccepted), Just(Answer::GivenUp)];
        let step = prop_oneof![
            6 => any::<bool>().prop_map(|refused| Step::Send { refused }),
            5 => (any::<usize>(), answer).prop_map(|(which, answer)| Step::Answer { which, answer }),
            // Ten to a bucket: some buckets, some windows.
            4 => (0..40_u64).prop_map(|nanos| Step::Wait { nanos }),
            1 => (0..2_000_u64).prop_map(|nanos| Step::Wait { nanos }),
        ];
        prop::collection::vec(step, 1..600)
    }

    proptest! {
        /// Over histories of several windows, of 1,200 ns each.
        #[test]
        fn the_ring_counts_as_a_list_does(steps in steps(), begin in 0..5_000_u64) {
            let mut ring = Ring::new(Duration::from_nanos(10 * BUCKETS));
            let mut naive = Naive::default();
            let mut open: Vec<(u64, usize)> = Vec::new();
            let mut now = begin;
            for step in steps {
                let counts = ring.counts(Moment::from_nanos(now));
                prop_assert_eq!(counts, naive.counts(now / 10));
                match step {
                    Step::Send { refused } => {
                        let bucket = ring.send(refused);
                        prop_assert_eq!(bucket, now / 10);
                        naive.0.push(Some((bucket, refused.then_some(false))));
                        if !refused {
                            open.push((bucket, naive.0.len() - 1));
                        }
                    }
                    Step::Answer { which, answer } if !open.is_empty() => {
                        let (bucket, which) = open.swap_remove(which % open.len());
                        ring.answer(bucket, answer);
                        naive.0[which] = match answer {
                            Answer::GivenUp if bucket + 1 >= now / 10 => None,
                            answer => Some((bucket, Some(answer == Answer::Accepted))),
                        };
                    }
                    Step::Answer { .. } => {}
                    Step::Wait { nanos } => now += nanos,
                }
            }
        }
    }

    #[test]
    fn a_time_that_lags_counts_now_and_the_end_of_time_is_a_time() {
        let mut ring = Ring::new(Duration::from_secs(120));
        let second = 1_000_000_000;
        ring.counts(Moment::from_nanos(1_000 * second));
        ring.send(true);
        assert_eq!(ring.counts(Moment::from_nanos(1)), Counts { requests: 1, accepts: 0 });
        assert_eq!(ring.send(true), 1_000);
        assert_eq!(ring.counts(Moment::from_nanos(1_119 * second)), Counts { requests: 2, accepts: 0 });
        assert_eq!(ring.counts(Moment::from_nanos(1_120 * second)), Counts { requests: 0, accepts: 0 });
        assert_eq!(ring.counts(Moment::MAX), Counts { requests: 0, accepts: 0 });
        let last = ring.send(false);
        ring.answer(last, Answer::Accepted);
        assert_eq!(ring.counts(Moment::MAX), Counts { requests: 1, accepts: 1 });
    }
}

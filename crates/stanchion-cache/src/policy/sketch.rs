//! How often keys were asked for of late, estimated in four bits each.

/// A count-min sketch with counters of four bits, all of which are halved once in
/// [`FADE`] additions for each member.
///
/// Halving them there and then would be a pause for as long as the sketch is large.
/// So an age passes instead, and a block is halved for each age that it has missed when
/// it is next touched.
#[derive(Debug)]
pub(super) struct Sketch {
    /// A power of two of them.
    blocks: Vec<Block>,
    /// Additions in this age.
    additions: usize,
    age: u8,
}

/// What one key looks at: 112 counters in a cache line, and the age in which they were
/// right. A block that nobody touches for 256 ages counts as of this one; that
/// is a hint too much for a key or two.
#[derive(Debug, Clone, Copy, Default)]
struct Block {
    words: [u64; 7],
    age: u8,
}

/// An age lasts so many additions for each member.
const FADE: usize = 7;
/// Members for each block: seven counters for a member.
const MEMBERS: usize = 16;
const HALVED: u64 = 0x7777_7777_7777_7777;

impl Sketch {
    pub(super) fn new() -> Self {
        Self { blocks: vec![Block::default()], additions: 0, age: 0 }
    }

    /// Makes room for so many members. What is known stays: a block is found in
    /// both halves of a sketch that has doubled.
    pub(super) fn fit(&mut self, members: usize) {
        while self.blocks.len() * MEMBERS < members {
            self.blocks.extend_from_within(..);
        }
    }

    /// The key of this hash was asked for `times` times more.
    #[inline]
    pub(super) fn add(&mut self, hash: u32, times: u8) {
        let (block, places) = self.places(hash);
        let block = &mut self.blocks[block];
        let missed = self.age.wrapping_sub(block.age);
        if missed > 0 {
            block.words = block.words.map(|word| halved(word, missed));
            block.age = self.age;
        }
        for (word, shift) in places {
            let count = block.words[word] >> shift & 15;
            block.words[word] += u64::from(times).min(15 - count) << shift;
        }
        self.additions += usize::from(times);
        if self.additions >= FADE * MEMBERS * self.blocks.len() {
            self.additions = 0;
            self.age = self.age.wrapping_add(1);
        }
    }

    /// How often it was asked for of late; more if it shares all its counters.
    #[inline]
    pub(super) fn estimate(&self, hash: u32) -> u64 {
        let (block, places) = self.places(hash);
        let block = &self.blocks[block];
        let missed = u32::from(self.age.wrapping_sub(block.age)).min(4);
        let [count, other] = places.map(|(word, shift)| block.words[word] >> shift & 15);
        count.min(other) >> missed
    }

    /// The key's block, and two counters in it: one of the first four words, one of the other three. (With four
    /// counters for a key each was added to so often in an age that estimates were mostly of others.)
    #[inline]
    fn places(&self, hash: u32) -> (usize, [(usize, u32); 2]) {
        let mixed = u64::from(hash).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        // The low bits, so that a sketch that doubles finds each block in both halves.
        let block = hash as usize & (self.blocks.len() - 1);
        let (word, other) = ((mixed >> 4 & 3) as usize, (mixed >> 12 & 3).min(2) as usize);
        (block, [(word, (mixed as u32 & 15) * 4), (4 + other, (mixed >> 8) as u32 % 16 * 4)])
    }
}

fn halved(word: u64, times: u8) -> u64 {
    if times >= 4 { 0 } else { (0..times).fold(word, |word, _| word >> 1 & HALVED) }
}

#[cfg(all(test, not(stanchion_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_underestimated_until_it_fades() {
        let mut sketch = Sketch::new();
        sketch.fit(1_000);
        for hash in (0..15).map(|key: u32| key.wrapping_mul(0x9e37_79b9)) {
            sketch.add(hash, 1);
            assert!(sketch.estimate(hash) >= 1);
        }
        sketch.add(77, 200);
        assert_eq!(sketch.estimate(77), 15);
    }

    #[test]
    fn what_is_known_survives_the_sketchs_growth() {
        let mut sketch = Sketch::new();
        let hash = 0xdead_beef;
        sketch.add(hash, 3);
        sketch.fit(100_000);
        assert_eq!(sketch.estimate(hash), 3);
    }

    #[test]
    fn all_counters_are_halved_in_ten_additions_for_each_member() {
        let mut sketch = Sketch::new();
        sketch.fit(64);
        sketch.add(5, 8);
        (8..447).for_each(|_| sketch.add(6, 1));
        assert_eq!((sketch.estimate(5), sketch.estimate(6)), (8, 15));
        sketch.add(6, 1);
        assert_eq!((sketch.estimate(5), sketch.estimate(6)), (4, 7));
        // Touched or not, it is the same.
        sketch.add(5, 0);
        assert_eq!(sketch.estimate(5), 4);
    }
}

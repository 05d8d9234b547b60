//! An allocator that counts what is asked of it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The system's allocator, which counts while it is told to: at other times a
/// contestant that allocates pays for no more than it would elsewhere.
#[derive(Debug)]
pub(crate) struct Counting {
    on: AtomicBool,
    blocks: AtomicUsize,
    bytes: AtomicUsize,
}

/// What was asked of the allocator.
#[derive(Debug)]
pub(crate) struct Counted {
    /// Blocks, given back or not.
    pub(crate) blocks: usize,
    /// Bytes that weren't given back. What the system adds of its own to each
    /// block isn't counted.
    pub(crate) bytes: usize,
}

impl Counting {
    pub(crate) const fn new() -> Self {
        Self { on: AtomicBool::new(false), blocks: AtomicUsize::new(0), bytes: AtomicUsize::new(0) }
    }

    /// Counts while `work` is done.
    pub(crate) fn during<T>(&self, work: impl FnOnce() -> T) -> (T, Counted) {
        self.blocks.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
        self.on.store(true, Ordering::Relaxed);
        let done = work();
        self.on.store(false, Ordering::Relaxed);
        let counted =
            Counted { blocks: self.blocks.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) };
        (done, counted)
    }
}

#[allow(unsafe_code, reason = "an allocator is an unsafe trait, and there is no other way to count")]
// SAFETY: all that the trait asks is what `System` does; counters beside it change none of that.
// Relaxed: they guard nothing, and are read when no other thread allocates.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if self.on.load(Ordering::Relaxed) {
            self.blocks.fetch_add(1, Ordering::Relaxed);
            self.bytes.fetch_add(layout.size(), Ordering::Relaxed);
        }
        // SAFETY: the caller's promise about the layout is passed on as it is.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if self.on.load(Ordering::Relaxed) {
            self.bytes.fetch_sub(layout.size(), Ordering::Relaxed);
        }
        // SAFETY: the block came from `System`, by the methods of this impl, with this layout.
        unsafe { System.dealloc(block, layout) }
    }
}

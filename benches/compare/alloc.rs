//! An allocator that knows how many bytes are out.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator, and a count of the bytes that were asked of it and
/// not given back. What it adds of its own to each block isn't counted.
#[derive(Debug)]
pub(crate) struct Counting {
    bytes: AtomicUsize,
}

impl Counting {
    pub(crate) const fn new() -> Self {
        Self { bytes: AtomicUsize::new(0) }
    }

    /// The bytes that are out.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

#[allow(unsafe_code, reason = "an allocator is an unsafe trait, and there is no other way to count")]
// SAFETY: all that the trait asks is what `System` does; a counter beside it changes none of that.
// Relaxed: it guards nothing, and is read when no other thread allocates.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.bytes.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise about the layout is passed on as it is.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        self.bytes.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the block came from `System`, by the methods of this impl, with this layout.
        unsafe { System.dealloc(block, layout) }
    }
}

//! Where the memory of Rust values comes from: the allocator of the process, or mimalloc once it is the program `replay`.
//!
//! An application that imports `cloaca` keeps its own allocator: it has half the memory with it. The console script `replay`
//! makes and drops millions of small values, as the program of the same name does, and mimalloc takes a fifth of the time off
//! that. (`benches/README.md` has the numbers of both.) The script cannot choose before the first allocation: importing
//! anything of the package loads this module, and that allocates. So it chooses when the program starts, once and for good,
//! and each block goes back to the allocator that it came from.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: Chosen = Chosen;

/// Whether new blocks are mimalloc's. Set once, never unset.
static MIMALLOC: AtomicBool = AtomicBool::new(false);

/// From here on new blocks of this process are mimalloc's.
pub fn use_mimalloc() {
    MIMALLOC.store(true, Relaxed);
}

struct Chosen;

#[expect(unsafe_code)]
unsafe extern "C" {
    /// mimalloc's own, of the library that its crate links. It looks the address up in a table of the pages that mimalloc
    /// gives blocks from, reads nothing at the address, and may be asked of any.
    safe fn mi_is_in_heap_region(block: *const c_void) -> bool;
}

/// Whether mimalloc made this block. Who has a block of mimalloc's also sees that it was chosen: the flag was set before the
/// block was made, and what handed the block to this thread handed that over, too. So a process that never chooses looks
/// nothing up.
#[inline]
fn is_of_mimalloc(block: *mut u8) -> bool {
    MIMALLOC.load(Relaxed) && mi_is_in_heap_region(block.cast())
}

// SAFETY: both allocators keep the contract of `GlobalAlloc`, the layouts are passed on as they are, and a block is moved and
// freed by the one that made it.
#[expect(unsafe_code)]
unsafe impl GlobalAlloc for Chosen {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if MIMALLOC.load(Relaxed) { unsafe { MiMalloc.alloc(layout) } } else { unsafe { System.alloc(layout) } }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if MIMALLOC.load(Relaxed) {
            unsafe { MiMalloc.alloc_zeroed(layout) }
        } else {
            unsafe { System.alloc_zeroed(layout) }
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if is_of_mimalloc(block) {
            unsafe { MiMalloc.dealloc(block, layout) }
        } else {
            unsafe { System.dealloc(block, layout) }
        }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if is_of_mimalloc(block) {
            unsafe { MiMalloc.realloc(block, layout, size) }
        } else {
            unsafe { System.realloc(block, layout, size) }
        }
    }
}

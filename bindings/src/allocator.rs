//! Where the memory of Rust values comes from: the allocator of the process, or mimalloc once it is the program `replay`.
//!
//! An application that imports `cloaca` keeps its own allocator: it has less memory with it. The console script `replay`
//! makes and drops millions of small values, as the program of the same name does, and takes less of the processor with
//! mimalloc. (`benches/README.md` has the numbers of both.) The script cannot choose before the first allocation: importing
//! anything of the package loads this module, and that allocates. So it chooses when the program starts, once and for good,
//! and each block goes back to the allocator that it came from.
//!
//! This is no `#[global_allocator]`. With one, whatever it does, the compiler no longer sees that a block which is filled with
//! zeros could be asked for as zeros, which costs nothing until it is used: an application that ran workflows had 61 MB
//! instead of 40, the 21 for statistics of sled that nobody asks for. So the standard library has its ordinary allocator, and the linker leads
//! its calls of `malloc` here (`--wrap`, in `build.rs`), and those of nothing outside of this module.
#![expect(unsafe_code, reason = "an allocator is made of raw blocks")]

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use libmimalloc_sys::{mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_zalloc};

/// Whether new blocks are mimalloc's. Set once, never unset.
static MIMALLOC: AtomicBool = AtomicBool::new(false);

/// From here on new blocks of this module are mimalloc's.
pub fn use_mimalloc() {
    MIMALLOC.store(true, Relaxed);
}

unsafe extern "C" {
    // The allocator of the process, by the names that the linker has for it.
    fn __real_malloc(size: usize) -> *mut c_void;
    fn __real_calloc(count: usize, size: usize) -> *mut c_void;
    fn __real_realloc(block: *mut c_void, size: usize) -> *mut c_void;
    fn __real_posix_memalign(block: *mut *mut c_void, align: usize, size: usize) -> c_int;
    fn __real_free(block: *mut c_void);

    /// mimalloc's own. It looks the address up in a table of the pages that mimalloc gives blocks from, reads nothing at the
    /// address, and may be asked of any.
    safe fn mi_is_in_heap_region(block: *const c_void) -> bool;
}

/// Whether mimalloc made this block. Who has a block of mimalloc's also sees that it was chosen: the flag was set before the
/// block was made, and what handed the block to this thread handed that over, too. So a process that never chooses looks
/// nothing up.
fn is_of_mimalloc(block: *mut c_void) -> bool {
    MIMALLOC.load(Relaxed) && mi_is_in_heap_region(block)
}

// SAFETY of all five: they keep the contract of the C function that they stand for, because both allocators do, and because a
// block is moved and freed by the one that made it.

#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_malloc(size: usize) -> *mut c_void {
    if MIMALLOC.load(Relaxed) { unsafe { mi_malloc(size) } } else { unsafe { __real_malloc(size) } }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_calloc(count: usize, size: usize) -> *mut c_void {
    if !MIMALLOC.load(Relaxed) {
        return unsafe { __real_calloc(count, size) };
    }
    match count.checked_mul(size) {
        Some(size) => unsafe { mi_zalloc(size) },
        None => std::ptr::null_mut(),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_realloc(block: *mut c_void, size: usize) -> *mut c_void {
    if is_of_mimalloc(block) { unsafe { mi_realloc(block, size) } } else { unsafe { __real_realloc(block, size) } }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_posix_memalign(block: *mut *mut c_void, align: usize, size: usize) -> c_int {
    /// The number of the error, the same in every Linux.
    const ENOMEM: c_int = 12;
    if !MIMALLOC.load(Relaxed) {
        return unsafe { __real_posix_memalign(block, align, size) };
    }
    let made = unsafe { mi_malloc_aligned(size, align) };
    if made.is_null() {
        return ENOMEM;
    }
    unsafe { block.write(made) };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_free(block: *mut c_void) {
    if is_of_mimalloc(block) { unsafe { mi_free(block) } } else { unsafe { __real_free(block) } }
}

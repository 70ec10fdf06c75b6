//! Forks of this process: the child closes the logs of its parent.
//!
//! This happens in the child before `fork` returns there (`pthread_atfork`), whether it was called by `os.fork`,
//! `multiprocessing` or another extension module. [`cloacina_store::forks`] has the marked descriptors of each log; all
//! other descriptors in the directory of a marked lock file are closed as well, including sled's. A descriptor is
//! replaced by `/dev/null` rather than closed: its number stays taken, so objects copied from the parent that use the
//! number do no harm.
//!
//! This code runs right after `fork`, so it may only do what is safe in a signal handler: no locks, no allocation.
#![expect(unsafe_code, reason = "system calls on descriptors that belong to objects of the parent")]

use std::ffi::{CStr, c_int};
use std::mem::MaybeUninit;
use std::sync::Once;

use cloacina_store::forks::{CloseInForks, marks};
use pyo3::prelude::*;

use crate::exit::forget_waits;

/// Installs the handler that closes this process's logs in its forks.
pub fn close_logs_in_forks() {
    static ONCE: Once = Once::new();
    // SAFETY: the handler only does what is allowed in a forked child of a process with threads.
    ONCE.call_once(|| unsafe {
        let registered = libc::pthread_atfork(None, None, Some(in_child));
        if registered != 0 {
            tracing::warn!(
                registered,
                "cannot register the fork handler; forks of this process will keep its logs open"
            );
        }
    });
}

/// Keeps a descriptor out of forks while this lives. Drop it before closing the descriptor.
#[pyclass(frozen, module = "cloaca._cloaca")]
pub struct ForkGuard(#[expect(dead_code, reason = "held for its Drop")] CloseInForks);

#[pymethods]
impl ForkGuard {
    #[new]
    fn new(descriptor: c_int) -> Self {
        struct Number(c_int);
        impl std::os::fd::AsRawFd for Number {
            fn as_raw_fd(&self) -> c_int {
                self.0
            }
        }
        Self(CloseInForks::new(&Number(descriptor)))
    }
}

const PATH: usize = libc::PATH_MAX as usize;

extern "C" fn in_child() {
    forget_waits();
    let mut marks = marks().peekable();
    if marks.peek().is_none() {
        return;
    }
    // SAFETY: system calls on buffers of this frame.
    unsafe {
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        for mark in marks {
            let mut name = [0_u8; PATH];
            let directory = directory_of_lock(path_of(mark, &mut name));
            let socket = SocketName::of(mark);
            replace(mark, null);
            if !directory.is_empty() || socket.is_named() {
                each_descriptor(|descriptor| {
                    let mut name = [0_u8; PATH];
                    let mut is_in_directory = || is_below(path_of(descriptor, &mut name), directory);
                    if descriptor != null && (SocketName::of(descriptor).is_same(&socket) || is_in_directory()) {
                        replace(descriptor, null);
                    }
                });
            }
        }
        if null >= 0 {
            libc::close(null);
        }
    }
}

/// Replaces a descriptor by `/dev/null`, or closes it if that could not be opened.
unsafe fn replace(descriptor: c_int, null: c_int) {
    unsafe {
        if null < 0 || libc::dup2(null, descriptor) < 0 {
            libc::close(descriptor);
        } else {
            libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
}

/// The path of an open file, or the kernel's name for others (`socket:[1]`); empty if unknown.
fn path_of(descriptor: c_int, into: &mut [u8; PATH]) -> &[u8] {
    let mut link = [0_u8; 32];
    let prefix = b"/proc/self/fd/";
    link[..prefix.len()].copy_from_slice(prefix);
    let mut digits = [0_u8; 10];
    let (mut left, mut count) = (descriptor.unsigned_abs(), 0);
    loop {
        digits[count] = b'0' + (left % 10) as u8;
        (left, count) = (left / 10, count + 1);
        if left == 0 {
            break;
        }
    }
    for (place, digit) in link[prefix.len()..].iter_mut().zip(digits[..count].iter().rev()) {
        *place = *digit;
    }
    // SAFETY: the link ends with a zero, and the buffer has the given length.
    let length = unsafe { libc::readlink(link.as_ptr().cast(), into.as_mut_ptr().cast(), PATH) };
    &into[..usize::try_from(length).unwrap_or(0)]
}

/// The directory of a lock file, with a trailing slash; empty for anything else, such as a descriptor already replaced.
fn directory_of_lock(path: &[u8]) -> &[u8] {
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    match path.strip_suffix(b"lock") {
        // Not for a lock file in the root directory: that would match every path.
        Some(directory) if directory.len() > 1 && directory.ends_with(b"/") => directory,
        _ => &[],
    }
}

/// Whether a path is the directory or something in it.
fn is_below(path: &[u8], directory: &[u8]) -> bool {
    !directory.is_empty() && (path.starts_with(directory) || path == &directory[..directory.len() - 1])
}

/// The address that a socket is bound to. An accepted connection has that of its listening socket.
struct SocketName {
    name: MaybeUninit<libc::sockaddr_un>,
    length: usize,
}

impl SocketName {
    fn of(descriptor: c_int) -> Self {
        let mut name = MaybeUninit::<libc::sockaddr_un>::zeroed();
        let mut length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
        // SAFETY: the buffer has the given length.
        let known = unsafe { libc::getsockname(descriptor, name.as_mut_ptr().cast(), &raw mut length) } == 0;
        Self { name, length: if known { (length as usize).min(size_of::<libc::sockaddr_un>()) } else { 0 } }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: it was zeroed and consists of plain bytes.
        unsafe { std::slice::from_raw_parts(self.name.as_ptr().cast(), self.length) }
    }

    /// Whether it is a Unix socket with a name.
    fn is_named(&self) -> bool {
        let family = (libc::AF_UNIX as libc::sa_family_t).to_ne_bytes();
        self.length > family.len() && self.bytes().starts_with(&family)
    }

    fn is_same(&self, other: &Self) -> bool {
        self.is_named() && self.bytes() == other.bytes()
    }
}

/// Calls `call` for each open descriptor.
#[cfg(target_os = "linux")]
unsafe fn each_descriptor(mut call: impl FnMut(c_int)) {
    #[repr(align(8))]
    struct Entries([u8; 4096]);

    const NAME: usize = 19;

    let mut entries = Entries([0; 4096]);
    // SAFETY: `getdents64` fills the buffer with whole entries. Each has its length at byte 16, and a null-terminated
    // name from byte 19 on.
    unsafe {
        let directory = libc::open(c"/proc/self/fd".as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC);
        if directory < 0 {
            return;
        }
        loop {
            let read = libc::syscall(libc::SYS_getdents64, directory, entries.0.as_mut_ptr(), entries.0.len());
            let Ok(read @ 1..) = usize::try_from(read) else { break };
            let mut at = 0;
            while at + NAME < read {
                let length = usize::from(u16::from_ne_bytes([entries.0[at + 16], entries.0[at + 17]]));
                let name = CStr::from_bytes_until_nul(&entries.0[at + NAME..(at + length).min(read)]);
                if let Some(descriptor) = name.ok().and_then(|name| name.to_str().ok()?.parse().ok())
                    && descriptor != directory
                {
                    call(descriptor);
                }
                at += length.max(NAME);
            }
        }
        libc::close(directory);
    }
}

/// Calls `call` for each descriptor that is likely to be open.
#[cfg(not(target_os = "linux"))]
unsafe fn each_descriptor(mut call: impl FnMut(c_int)) {
    (0..1024).for_each(&mut call);
}

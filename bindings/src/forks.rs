//! A fork of this process: it lets go of the logs that are its parent's.
//!
//! It happens in the child before `fork` returns there (`pthread_atfork`), however it was forked: by `os.fork`, by
//! `multiprocessing`, by another extension module. What marks a log is noted in [`cloacina_store::forks`]; whatever else is
//! open in the directory of a lock file goes with it, sled's files too. A descriptor is not closed but replaced, by
//! `/dev/null`: the number stays taken, and what the memory of the parent has open in the child under that number can do no
//! harm.
//!
//! Between `fork` and the end of this, a child may only do what is safe in a signal handler: no locks, no allocation.
#![expect(unsafe_code, reason = "system calls on descriptors that belong to objects of the parent")]

use std::ffi::{CStr, c_int};
use std::mem::MaybeUninit;
use std::sync::Once;

use cloacina_store::forks::{KeptOut, marks};
use pyo3::prelude::*;

use crate::exit::forget_waits;

/// Lets forks of this process let go of its logs, from now on.
pub fn let_go_in_forks() {
    static ONCE: Once = Once::new();
    // SAFETY: the handler does only what a child of a process with threads may do.
    ONCE.call_once(|| unsafe {
        let registered = libc::pthread_atfork(None, None, Some(in_child));
        if registered != 0 {
            tracing::warn!(registered, "forks of this process will hold its logs");
        }
    });
}

/// Keeps a descriptor out of forks for as long as this lives. Drop it before the descriptor is closed.
#[pyclass(frozen, module = "cloaca._cloaca")]
pub struct OutOfForks(#[expect(dead_code, reason = "it is there to be dropped")] KeptOut);

#[pymethods]
impl OutOfForks {
    #[new]
    fn new(descriptor: c_int) -> Self {
        struct Number(c_int);
        impl std::os::fd::AsRawFd for Number {
            fn as_raw_fd(&self) -> c_int {
                self.0
            }
        }
        Self(KeptOut::new(&Number(descriptor)))
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

/// Makes a descriptor one of `/dev/null`; where that could not be opened, closes it.
unsafe fn replace(descriptor: c_int, null: c_int) {
    unsafe {
        if null < 0 || libc::dup2(null, descriptor) < 0 {
            libc::close(descriptor);
        } else {
            libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
}

/// The path of an open file, or a word for what has none (`socket:[1]`); empty if it cannot be known.
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
    // SAFETY: the link ends with a zero, and the buffer is as long as is said.
    let length = unsafe { libc::readlink(link.as_ptr().cast(), into.as_mut_ptr().cast(), PATH) };
    &into[..usize::try_from(length).unwrap_or(0)]
}

/// The directory of a lock file, with the slash at its end; empty for anything else, such as what was replaced before.
fn directory_of_lock(path: &[u8]) -> &[u8] {
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    match path.strip_suffix(b"lock") {
        // Of a file right below the root, everything would be in the directory.
        Some(directory) if directory.len() > 1 && directory.ends_with(b"/") => directory,
        _ => &[],
    }
}

/// Whether a path is that of the directory, or of something in it.
fn is_below(path: &[u8], directory: &[u8]) -> bool {
    !directory.is_empty() && (path.starts_with(directory) || path == &directory[..directory.len() - 1])
}

/// The address that a socket is bound to; a connection has that of the socket that took it.
struct SocketName {
    name: MaybeUninit<libc::sockaddr_un>,
    length: usize,
}

impl SocketName {
    fn of(descriptor: c_int) -> Self {
        let mut name = MaybeUninit::<libc::sockaddr_un>::zeroed();
        let mut length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
        // SAFETY: the buffer is as long as is said.
        let known = unsafe { libc::getsockname(descriptor, name.as_mut_ptr().cast(), &raw mut length) } == 0;
        Self { name, length: if known { (length as usize).min(size_of::<libc::sockaddr_un>()) } else { 0 } }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: it was zeroed, and is plain bytes.
        unsafe { std::slice::from_raw_parts(self.name.as_ptr().cast(), self.length) }
    }

    /// Whether it is a socket of the file system with a name.
    fn is_named(&self) -> bool {
        let family = (libc::AF_UNIX as libc::sa_family_t).to_ne_bytes();
        self.length > family.len() && self.bytes().starts_with(&family)
    }

    fn is_same(&self, other: &Self) -> bool {
        self.is_named() && self.bytes() == other.bytes()
    }
}

/// Calls for each open descriptor.
#[cfg(target_os = "linux")]
unsafe fn each_descriptor(mut call: impl FnMut(c_int)) {
    #[repr(align(8))]
    struct Entries([u8; 4096]);

    const NAME: usize = 19;

    let mut entries = Entries([0; 4096]);
    // SAFETY: `getdents64` fills the buffer with whole entries, each with its length at byte 16 and a name that ends with
    // a zero from byte 19 on.
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

/// Calls for each descriptor that is likely to be open.
#[cfg(not(target_os = "linux"))]
unsafe fn each_descriptor(mut call: impl FnMut(c_int)) {
    (0..1024).for_each(&mut call);
}

//! Where the socket is. The path of a Unix socket has room for 107 bytes, and a log can lie deeper than that: then it is
//! reached through a descriptor of its directory.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::descriptors::above_standard_streams;

const NAME: &str = "socket";

/// What surely fits an address.
const SHORT: usize = 100;

/// How many connections may wait to be taken.
const BACKLOG: i32 = 16;

const RETRY_EVERY: Duration = Duration::from_millis(10);

/// An address that is short enough, and the descriptor that it goes through, if it does.
struct Address {
    path: PathBuf,
    _directory: Option<File>,
}

impl Address {
    fn of(directory: &Path) -> io::Result<Self> {
        let path = directory.join(NAME);
        if path.as_os_str().len() <= SHORT {
            return Ok(Self { path, _directory: None });
        }
        let descriptor = File::open(directory)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{NAME}", descriptor.as_raw_fd()));
        Ok(Self { path, _directory: Some(descriptor) })
    }
}

/// Listens in a directory. Whoever calls this holds the log's lock: a socket that is there is a dead process's.
pub(super) fn listen(directory: &Path) -> io::Result<UnixListener> {
    remove(directory)?;
    let address = Address::of(directory)?;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let socket = above_standard_streams(socket)?;
    // On Linux the file gets the mode that the socket had when it was bound: it is never open to others, not for a moment.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(&address.path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(UnixListener::from(socket))
}

/// Connects, within some time: a process that takes no connections (it is suspended, perhaps) lets some wait, and then the
/// system would keep the next one waiting for good.
pub(super) fn connect(directory: &Path, patience: Duration) -> io::Result<UnixStream> {
    let address = Address::of(directory)?;
    let until = Instant::now() + patience;
    loop {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        match rustix::net::connect(&socket, &SocketAddrUnix::new(&address.path)?) {
            Ok(()) => {
                let stream = UnixStream::from(socket);
                stream.set_nonblocking(false)?;
                return above_standard_streams(stream);
            }
            Err(Errno::AGAIN) if Instant::now() < until => thread::sleep(RETRY_EVERY),
            Err(Errno::AGAIN) => return Err(ErrorKind::TimedOut.into()),
            Err(error) => return Err(error.into()),
        }
    }
}

pub(super) fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_file(directory.join(NAME)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

//! The address of the socket. The path of a Unix socket is limited to 107 bytes, so a longer one is
//! shortened by going through a descriptor of the directory.

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

/// The maximum length of a path that certainly fits an address.
const SHORT: usize = 100;

/// The maximum number of connections that wait to be accepted.
const BACKLOG: i32 = 16;

const RETRY_EVERY: Duration = Duration::from_millis(10);

/// A path that is short enough, and the descriptor that it goes through, if any.
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

/// Listens in a directory. The caller holds the log's lock, so an existing socket belongs to a dead process.
pub(super) fn listen(directory: &Path) -> io::Result<UnixListener> {
    remove(directory)?;
    let address = Address::of(directory)?;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let socket = above_standard_streams(socket)?;
    // On Linux, the file gets the socket's mode at the time of the bind, so it is never accessible to others.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(&address.path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(UnixListener::from(socket))
}

/// Connects within a time limit. A process that accepts no connections (it may be suspended) fills its backlog, and
/// then the system would block the next connection forever.
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

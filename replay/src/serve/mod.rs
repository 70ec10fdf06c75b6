//! `replay serve`: the executions of a log in the browser, live. Shows a list of them, and for each the page of the
//! report, which updates while the execution runs.
//!
//! The server listens on the loopback interface only, and answers only requests with the secret token in its address,
//! which is new for each run. It never changes the log. Pages receive updates as server-sent events. The server itself
//! learns of changes by long polling: the engine that has the log open answers a waiting request when the log has grown.

mod connections;
mod follow;
mod guard;
mod routes;
mod watch;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cloacina_store::log::OpenError;

pub use connections::Limits;
use watch::LogWatch;

/// A server that listens but does not answer yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    token: String,
    watch: Arc<LogWatch>,
    limits: Limits,
}

/// Why the server cannot start or run.
#[derive(Debug, thiserror::Error)]
pub enum NotServed {
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The port is taken, or the system refuses it.
    #[error("cannot listen on port {port} of the loopback interface: {error}")]
    Port {
        /// The requested port.
        port: u16,
        /// The system's error.
        error: io::Error,
    },
    /// The system refuses a thread or socket.
    #[error("cannot serve: {0}")]
    Io(#[from] io::Error),
}

impl Server {
    /// Opens a log and listens on a port of the loopback interface; 0 picks a free one. Pages show `location` as the
    /// log's name.
    ///
    /// # Errors
    /// [`NotServed`].
    pub fn bind(log: PathBuf, location: String, port: u16) -> Result<Self, NotServed> {
        let watch = Arc::new(LogWatch::open(log, location)?);
        let refused = |error| NotServed::Port { port, error };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(refused)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let token = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 24]>());
        Ok(Self { listener, address, token, watch, limits: Limits::default() })
    }

    /// Replaces the default limits on connections.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Returns the address to open in a browser. It contains the token: anybody who has it can read the log.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/{}/", self.address, self.token)
    }

    /// Answers requests until the process is interrupted (Ctrl-C) or `until` completes.
    ///
    /// # Errors
    /// [`NotServed::Io`].
    pub fn run(self, until: impl Future<Output = ()>) -> Result<(), NotServed> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("replay-serve")
            .enable_all()
            .build()?;
        let ended: io::Result<()> = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(self.listener)?;
            let watching = LogWatch::start(&self.watch)?;
            let app = routes::routes(self.watch.clone(), guard::Guard::new(self.address, self.token));
            let served = tokio::select! {
                never = connections::serve(listener, app, self.limits) => match never {},
                interrupted = tokio::signal::ctrl_c() => interrupted,
                () = until => Ok(()),
            };
            drop(watching);
            served
        });
        // Event streams never end by themselves, so do not wait for them.
        runtime.shutdown_background();
        Ok(ended?)
    }
}

//! The executions of a log in the browser, live: a list of them, and the page of the report for each, which moves while
//! the execution runs.
//!
//! The server listens on the loopback interface alone and answers nobody who does not know the token in its address, which
//! is made anew for each run. It asks the log and changes nothing. Pages are pushed what is new, as server-sent events, and
//! the engine that has the log pushes it to the server: it answers a request that waits until the log has moved.

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
use watch::Watch;

/// A server that listens, and does not answer yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    token: String,
    watch: Arc<Watch>,
    limits: Limits,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum NotServed {
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The port cannot be had, or the system refuses.
    #[error("cannot listen on port {port} of the loopback interface: {error}")]
    Port {
        /// The port that was asked for.
        port: u16,
        /// What the system says.
        error: io::Error,
    },
    /// The system gives no threads.
    #[error("cannot serve: {0}")]
    Io(#[from] io::Error),
}

impl Server {
    /// Opens a log, and listens on a port of the loopback interface; 0 is any that is free. `location` is what pages say
    /// the log is.
    ///
    /// # Errors
    /// [`NotServed`].
    pub fn bind(log: PathBuf, location: String, port: u16) -> Result<Self, NotServed> {
        let watch = Arc::new(Watch::open(log, location)?);
        let refused = |error| NotServed::Port { port, error };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(refused)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let token = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 24]>());
        Ok(Self { listener, address, token, watch, limits: Limits::default() })
    }

    /// Keeps connections within other limits than the usual ones.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The address to open in a browser. Whoever knows it can read the log.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/{}/", self.address, self.token)
    }

    /// Answers until the process is told to stop (Ctrl-C), or `until` is done.
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
            let watching = Watch::start(&self.watch)?;
            let app = routes::routes(self.watch.clone(), guard::Guard::new(self.address, self.token));
            let served = tokio::select! {
                never = connections::answer(listener, app, self.limits) => match never {},
                interrupted = tokio::signal::ctrl_c() => interrupted,
                () = until => Ok(()),
            };
            drop(watching);
            served
        });
        // Streams of events never end by themselves.
        runtime.shutdown_background();
        Ok(ended?)
    }
}

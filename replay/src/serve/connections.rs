//! The table of connections, with limits on their number and timeouts.
//!
//! Every user of the machine can connect to the loopback interface, and the token arrives only with the complete head
//! of a request. To keep the owner from being locked out, each request head has a timeout and the number of connections
//! is fixed. If the table is full, a new connection evicts the oldest one that has not shown the token.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

/// The pause before accepting again after the process ran out of descriptors. It needs a connection to end first.
const PAUSE: Duration = Duration::from_millis(50);

/// Limits on the connections of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The maximum number of connections. Most systems allow 1,024 descriptors, and reading the log needs some too.
    pub connections: usize,
    /// The maximum number of connections that are event streams, one for each open page.
    pub pages: usize,
    /// The timeout for the head of a request, also for the next one on a kept-alive connection.
    pub head: Duration,
    /// How long a new connection is safe from eviction: enough for its request to arrive, however many others connect.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 192, pages: 64, head: Duration::from_secs(5), grace: Duration::from_millis(100) }
    }
}

/// The trust in a connection. Connections with a lower value are evicted first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trust {
    /// It has not shown the token yet.
    Unknown = 0,
    /// It has shown the token.
    Authenticated = 1,
    /// It has shown the token, and is an event stream.
    Streaming = 2,
}

/// A handle to a connection, shared by the table and its requests.
#[derive(Clone, Debug)]
pub struct Connection(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    number: u64,
    since: Instant,
    trust: AtomicU8,
    closed: Notify,
    table: Arc<Table>,
}

impl Connection {
    /// Records that a request on it has shown the token.
    pub fn mark_authenticated(&self) {
        self.0.trust.fetch_max(Trust::Authenticated as u8, Ordering::Relaxed);
    }

    /// Records that it is an event stream. Closes the oldest stream if there are too many.
    pub fn mark_streaming(&self) {
        self.0.trust.store(Trust::Streaming as u8, Ordering::Relaxed);
        let slots = self.0.table.slots();
        let streams = slots.values().filter(|one| one.trust() == Trust::Streaming);
        if streams.clone().count() > self.0.table.limits.pages
            && let Some(oldest) = streams.clone().find(|one| one.0.number != self.0.number)
        {
            oldest.0.closed.notify_one();
        }
    }

    fn trust(&self) -> Trust {
        match self.0.trust.load(Ordering::Relaxed) {
            0 => Trust::Unknown,
            1 => Trust::Authenticated,
            _ => Trust::Streaming,
        }
    }
}

/// The open connections, oldest first.
#[derive(Debug)]
struct Table {
    limits: Limits,
    slots: Mutex<BTreeMap<u64, Connection>>,
    /// Notified when a connection has left the table.
    freed: Notify,
}

impl Table {
    fn slots(&self) -> MutexGuard<'_, BTreeMap<u64, Connection>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the connection to evict next: the oldest of those with the least trust.
    fn eviction_candidate(&self) -> Option<Connection> {
        self.slots().values().min_by_key(|one| one.trust()).cloned()
    }

    /// Waits until there is a free slot, evicting a connection if necessary.
    async fn make_room(&self) {
        while self.slots().len() >= self.limits.connections {
            let Some(oldest) = self.eviction_candidate() else { return };
            let freed = self.freed.notified();
            let safe_until = oldest.0.since + self.limits.grace;
            if Instant::now() < safe_until {
                // Meanwhile, others may leave or show the token.
                tokio::select! { () = freed => {}, () = sleep_until(safe_until) => {} }
                continue;
            }
            oldest.0.closed.notify_one();
            freed.await;
        }
    }
}

/// Frees a connection's slot on drop, however the connection ended.
struct Slot(Connection);

impl Drop for Slot {
    fn drop(&mut self) {
        let table = &self.0.0.table;
        table.slots().remove(&self.0.0.number);
        table.freed.notify_one();
    }
}

/// Accepts connections and answers the requests on them, forever. Errors of connections and of accepting are survived.
pub async fn serve(listener: TcpListener, app: Router, limits: Limits) -> Infallible {
    let table = Arc::new(Table { limits, slots: Mutex::default(), freed: Notify::new() });
    for number in 0.. {
        table.make_room().await;
        let stream = accept(&listener, &table).await;
        let connection = Connection(Arc::new(Shared {
            number,
            since: Instant::now(),
            trust: AtomicU8::new(Trust::Unknown as u8),
            closed: Notify::new(),
            table: table.clone(),
        }));
        table.slots().insert(number, connection.clone());
        tokio::spawn(serve_connection(stream, Slot(connection), app.clone(), limits));
    }
    unreachable!("no process accepts 2^64 connections")
}

/// Accepts the next connection. Evicts one if a limit of the process or of the machine prevents that.
async fn accept(listener: &TcpListener, table: &Table) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) if is_of_connection(&error) => {}
            Err(_) => {
                if let Some(oldest) = table.eviction_candidate() {
                    oldest.0.closed.notify_one();
                }
                sleep(PAUSE).await;
            }
        }
    }
}

/// Whether accepting failed only because the client has disconnected.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Answers requests on a connection until it ends, times out, or is evicted.
async fn serve_connection(stream: TcpStream, slot: Slot, app: Router, limits: Limits) {
    let connection = slot.0.clone();
    let app = TowerToHyperService::new(app);
    let with_connection = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(connection.clone());
        app.call(request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .serve_connection(TokioIo::new(stream), with_connection);
    tokio::select! {
        // The client sees any error of its connection.
        _ = served => {}
        () = slot.0.0.closed.notified() => {}
    }
}

//! Which connections are kept, and for how long.
//!
//! Every user of the machine can connect to the loopback interface, and the token is seen only once the head of a request
//! is complete. So a connection has seconds for each head, there is room for a fixed number of connections, and when it
//! is full the oldest connection that has not shown the token makes place for a new one: the owner is always answered.

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

/// How long accepting pauses after an error: that of a connection passes at once, that of the process (no descriptor is
/// free) once a connection has ended.
const PAUSE: Duration = Duration::from_millis(50);

/// How many connections a server keeps, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many connections are kept at once. A process may have 1,024 descriptors on most systems, and reading the log
    /// needs some too.
    pub connections: usize,
    /// How many of them may be streams of events, one for each page that listens.
    pub pages: usize,
    /// How long the head of a request may take, also that of the next one on a connection that is kept.
    pub head: Duration,
    /// How long a connection is safe from making place for another one. In this time a request arrives, however many
    /// others connect.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 192, pages: 64, head: Duration::from_secs(5), grace: Duration::from_millis(100) }
    }
}

/// What a connection has shown. The order is that in which connections make place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// No token yet.
    Unknown = 0,
    /// The token.
    Known = 1,
    /// The token, and it listens to a stream of events.
    Listening = 2,
}

/// A connection, as the table and its requests have it.
#[derive(Clone, Debug)]
pub struct Connection(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    number: u64,
    since: Instant,
    standing: AtomicU8,
    closed: Notify,
    table: Arc<Table>,
}

impl Connection {
    /// Notes that a request on it has shown the token.
    pub fn is_known(&self) {
        self.0.standing.fetch_max(Standing::Known as u8, Ordering::Relaxed);
    }

    /// Notes that a page listens on it. If too many do, the one that has listened longest is closed.
    pub fn listens(&self) {
        self.0.standing.store(Standing::Listening as u8, Ordering::Relaxed);
        let places = self.0.table.places();
        let listening = places.values().filter(|one| one.standing() == Standing::Listening);
        if listening.clone().count() > self.0.table.limits.pages
            && let Some(oldest) = listening.clone().find(|one| one.0.number != self.0.number)
        {
            oldest.0.closed.notify_one();
        }
    }

    fn standing(&self) -> Standing {
        match self.0.standing.load(Ordering::Relaxed) {
            0 => Standing::Unknown,
            1 => Standing::Known,
            _ => Standing::Listening,
        }
    }
}

/// The connections that are kept, oldest first.
#[derive(Debug)]
struct Table {
    limits: Limits,
    places: Mutex<BTreeMap<u64, Connection>>,
    left: Notify,
}

impl Table {
    fn places(&self) -> MutexGuard<'_, BTreeMap<u64, Connection>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that is the first to make place: the oldest of those that have shown least.
    fn first_to_go(&self) -> Option<Connection> {
        self.places().values().min_by_key(|one| one.standing()).cloned()
    }

    /// Waits until there is room for one more connection, and makes it.
    async fn make_room(&self) {
        while self.places().len() >= self.limits.connections {
            let Some(oldest) = self.first_to_go() else { return };
            let left = self.left.notified();
            let safe_until = oldest.0.since + self.limits.grace;
            if Instant::now() < safe_until {
                // Others may leave, or show the token, meanwhile.
                tokio::select! { () = left => {}, () = sleep_until(safe_until) => {} }
                continue;
            }
            oldest.0.closed.notify_one();
            left.await;
        }
    }
}

/// Ends a connection's place when it is dropped, whatever ended the connection.
struct Place(Connection);

impl Drop for Place {
    fn drop(&mut self) {
        let table = &self.0.0.table;
        table.places().remove(&self.0.0.number);
        table.left.notify_one();
    }
}

/// Accepts connections and answers the requests on them. No error of a connection, and none of accepting one, ends it.
pub async fn answer(listener: TcpListener, app: Router, limits: Limits) -> Infallible {
    let table = Arc::new(Table { limits, places: Mutex::default(), left: Notify::new() });
    for number in 0.. {
        table.make_room().await;
        let stream = accept(&listener, &table).await;
        let connection = Connection(Arc::new(Shared {
            number,
            since: Instant::now(),
            standing: AtomicU8::new(Standing::Unknown as u8),
            closed: Notify::new(),
            table: table.clone(),
        }));
        table.places().insert(number, connection.clone());
        tokio::spawn(keep(stream, Place(connection), app.clone(), limits));
    }
    unreachable!("no process accepts 2^64 connections")
}

/// The next connection. Where the system gives none, because a limit of the process or of the machine is reached, the
/// first to go makes place.
async fn accept(listener: &TcpListener, table: &Table) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) if is_of_connection(&error) => {}
            Err(_) => {
                if let Some(oldest) = table.first_to_go() {
                    oldest.0.closed.notify_one();
                }
                sleep(PAUSE).await;
            }
        }
    }
}

/// Whether accepting failed only because the other side had gone.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Answers requests on a connection until it ends, takes too long, or makes place.
async fn keep(stream: TcpStream, place: Place, app: Router, limits: Limits) {
    let connection = place.0.clone();
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
        // What goes wrong on a connection is its client's business, who sees it.
        _ = served => {}
        () = place.0.0.closed.notified() => {}
    }
}

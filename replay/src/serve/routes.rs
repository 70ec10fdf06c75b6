//! The routes: pages, and their event streams.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use cloacina_engine::core::event::ExecutionId;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{Sender, channel};
use tokio::task::spawn_blocking;
use tokio_stream::wrappers::ReceiverStream;

use super::connections::Connection;
use super::follow::{ExecutionFollower, LISTED, ListFollower, Message, list_entry};
use super::guard::{Guard, guard_request};
use super::watch::{Liveness, LogWatch, Tick};
use crate::json::document::Object;
use crate::report::document::{NotReported, write_documents};
use crate::report::page::{self, Origin};
use crate::source::{self, Wanted};

#[derive(Clone)]
struct AppState {
    watch: Arc<LogWatch>,
}

/// Creates the routes, behind the guard.
pub fn routes(watch: Arc<LogWatch>, guard: Arc<Guard>) -> Router {
    Router::new()
        .route("/{token}/", get(list))
        .route("/{token}/events", get(list_events))
        .route("/{token}/x/{id}", get(execution))
        .route("/{token}/x/{id}/events", get(execution_events))
        .with_state(AppState { watch })
        .layer(from_fn_with_state(guard, guard_request))
}

/// A plain-text error response.
fn error_response(status: StatusCode, why: &str) -> Response {
    (status, format!("{why}\n")).into_response()
}

/// Makes a page on a thread that may block.
async fn render(work: impl FnOnce() -> Result<Vec<u8>, NotReported> + Send + 'static) -> Response {
    match spawn_blocking(work).await {
        Ok(Ok(html)) => {
            let headers = [
                (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
                (header::CONTENT_SECURITY_POLICY, format!("{}; frame-ancestors 'none'", page::server_policy())),
            ];
            (headers, Body::from(html)).into_response()
        }
        Ok(Err(NotReported::Log(error @ cloacina_store::log::ReadError::NoStream(_)))) => {
            error_response(StatusCode::NOT_FOUND, &error.to_string())
        }
        Ok(Err(error)) => error_response(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
        Err(error) => error_response(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

#[derive(Serialize)]
struct LiveState<'a> {
    live: bool,
    why: &'a str,
    /// How long ago the execution started, in microseconds.
    age_us: i64,
}

async fn list(State(AppState { watch, .. }): State<AppState>) -> Response {
    render(move || {
        let tick = watch.refresh();
        let wanted = Wanted { limit: Some(LISTED), ..Wanted::default() };
        let reader = watch.reader();
        let (heads, more) = source::list(&*reader, &wanted)?;
        let mut json = Vec::new();
        let mut object = Object::begin(&mut json, "list")?;
        object.member("log", &watch.location)?;
        object.member("position", &tick.position)?;
        object.member("standing", &tick.liveness)?;
        object.member("more", &more)?;
        let heads = heads.iter().map(|head| Ok::<_, io::Error>(list_entry(&*reader, head, &watch.location)));
        object.list("executions", heads)?;
        object.end()?;
        let mut html = Vec::new();
        page::write(&mut html, Origin::Server, "executions", &[("log", &json)])?;
        Ok(html)
    })
    .await
}

async fn execution(State(AppState { watch, .. }): State<AppState>, Path((_, id)): Path<(String, String)>) -> Response {
    let Ok(id) = id.parse::<ExecutionId>() else {
        return error_response(StatusCode::NOT_FOUND, "Not an execution id.");
    };
    render(move || {
        let Tick { liveness, .. } = watch.refresh();
        let reader = watch.reader();
        let head = source::head(&*reader, id)?;
        let (mut history, mut report, mut html) = (Vec::new(), Vec::new(), Vec::new());
        write_documents(&*reader, id, &watch.location, &mut history, &mut report)?;
        let age_us = chrono::Utc::now().timestamp_micros() - head.entry.started.0;
        let Liveness { live, why } = &liveness;
        let live = serde_json::to_vec(&LiveState { live: *live, why, age_us }).map_err(io::Error::from)?;
        let title = format!("{} …{}", head.workflow(), crate::ids::short(id));
        let documents: [(&str, &[u8]); 3] = [("history", &history), ("report", &report), ("live-state", &live)];
        page::write(&mut html, Origin::Server, &title, &documents)?;
        Ok(html)
    })
    .await
}

/// What a page has already: the point from which its event stream continues.
#[derive(Deserialize)]
struct Resume {
    #[serde(default)]
    from: u64,
    /// How many of its events are erased.
    #[serde(default)]
    erased: usize,
}

async fn list_events(
    State(served): State<AppState>,
    Extension(connection): Extension<Connection>,
    Query(Resume { from, .. }): Query<Resume>,
) -> Response {
    let mut follower = ListFollower::new(served.watch.clone(), from);
    event_stream(served, &connection, move |tick| Ok((follower.step(tick)?.into_iter().collect(), false)))
}

async fn execution_events(
    State(served): State<AppState>,
    Extension(connection): Extension<Connection>,
    Path((_, id)): Path<(String, String)>,
    Query(Resume { from, erased }): Query<Resume>,
) -> Response {
    let Ok(id) = id.parse::<ExecutionId>() else {
        return error_response(StatusCode::NOT_FOUND, "Not an execution id.");
    };
    let mut follower = ExecutionFollower::new(served.watch.clone(), id, from, erased);
    event_stream(served, &connection, move |_| follower.step())
}

/// Streams the messages of `step` to a page. `step` is called each time the log has changed.
fn event_stream<S>(served: AppState, connection: &Connection, step: S) -> Response
where
    S: FnMut(&Tick) -> io::Result<(Vec<Message>, bool)> + Send + 'static,
{
    connection.mark_streaming();
    let (sender, receiver) = channel(16);
    tokio::spawn(async move {
        // Fails only if the page is gone.
        let _ = push(served.watch, step, sender).await;
    });
    let events = ReceiverStream::new(receiver);
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}

/// The page is gone.
struct PageGone;

async fn push<S>(watch: Arc<LogWatch>, mut step: S, sender: Sender<Result<Event, Infallible>>) -> Result<(), PageGone>
where
    S: FnMut(&Tick) -> io::Result<(Vec<Message>, bool)> + Send + 'static,
{
    let mut ticks = watch.ticks();
    let mut sent: Option<Liveness> = None;
    loop {
        let tick = ticks.borrow_and_update().clone();
        if sent.as_ref() != Some(&tick.liveness) {
            let message = Message::new("standing", &tick.liveness).map_err(|_| PageGone)?;
            send(&sender, message).await?;
            sent = Some(tick.liveness.clone());
        }
        loop {
            let current = tick.clone();
            let worked = spawn_blocking(move || {
                let found = step(&current);
                (step, found)
            });
            let (again, found) = worked.await.map_err(|_| PageGone)?;
            step = again;
            // After a read error, try again when the log has changed.
            let Ok((messages, more)) = found else { break };
            for message in messages {
                send(&sender, message).await?;
            }
            if !more {
                break;
            }
        }
        tokio::select! {
            changed = ticks.changed() => changed.map_err(|_| PageGone)?,
            () = sender.closed() => return Err(PageGone),
        }
    }
}

async fn send(sender: &Sender<Result<Event, Infallible>>, message: Message) -> Result<(), PageGone> {
    let event = Event::default().event(message.kind).data(message.data);
    sender.send(Ok(event)).await.map_err(|_| PageGone)
}

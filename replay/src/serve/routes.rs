//! The pages, and the streams that they listen to.

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
use super::follow::{Follower, LISTED, Lister, Message, listed};
use super::guard::{Guard, guarded};
use super::watch::{Standing, Tick, Watch};
use crate::json::document::Object;
use crate::report::document::{NotReported, write_documents};
use crate::report::page::{self, Place};
use crate::source::{self, Wanted};

#[derive(Clone)]
struct Served {
    watch: Arc<Watch>,
}

/// What is answered, to those whom the guard lets pass.
pub fn routes(watch: Arc<Watch>, guard: Arc<Guard>) -> Router {
    Router::new()
        .route("/{token}/", get(list))
        .route("/{token}/events", get(list_events))
        .route("/{token}/x/{id}", get(execution))
        .route("/{token}/x/{id}/events", get(execution_events))
        .with_state(Served { watch })
        .layer(from_fn_with_state(guard, guarded))
}

/// An answer that says why there is none.
fn refused(status: StatusCode, why: &str) -> Response {
    (status, format!("{why}\n")).into_response()
}

/// Does what blocks where it may.
async fn blocking(work: impl FnOnce() -> Result<Vec<u8>, NotReported> + Send + 'static) -> Response {
    match spawn_blocking(work).await {
        Ok(Ok(html)) => {
            let headers = [
                (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
                (header::CONTENT_SECURITY_POLICY, format!("{}; frame-ancestors 'none'", page::server_policy())),
            ];
            (headers, Body::from(html)).into_response()
        }
        Ok(Err(NotReported::Log(error @ cloacina_store::log::ReadError::NoStream(_)))) => {
            refused(StatusCode::NOT_FOUND, &error.to_string())
        }
        Ok(Err(error)) => refused(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
        Err(error) => refused(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

#[derive(Serialize)]
struct LiveState<'a> {
    live: bool,
    why: &'a str,
    /// How long ago the execution started, in microseconds.
    age_us: i64,
}

async fn list(State(Served { watch, .. }): State<Served>) -> Response {
    blocking(move || {
        let tick = watch.look();
        let wanted = Wanted { limit: Some(LISTED), ..Wanted::default() };
        let reader = watch.reader();
        let (heads, more) = source::list(&*reader, &wanted)?;
        let mut json = Vec::new();
        let mut object = Object::begin(&mut json, "list")?;
        object.member("log", &watch.location)?;
        object.member("position", &tick.position)?;
        object.member("standing", &tick.standing)?;
        object.member("more", &more)?;
        let heads = heads.iter().map(|head| Ok::<_, io::Error>(listed(&*reader, head, &watch.location)));
        object.list("executions", heads)?;
        object.end()?;
        let mut html = Vec::new();
        page::write(&mut html, Place::Server, "executions", &[("log", &json)])?;
        Ok(html)
    })
    .await
}

async fn execution(State(Served { watch, .. }): State<Served>, Path((_, id)): Path<(String, String)>) -> Response {
    let Ok(id) = id.parse::<ExecutionId>() else {
        return refused(StatusCode::NOT_FOUND, "This is no id of an execution.");
    };
    blocking(move || {
        let Tick { standing, .. } = watch.look();
        let reader = watch.reader();
        let head = source::head(&*reader, id)?;
        let (mut history, mut report, mut html) = (Vec::new(), Vec::new(), Vec::new());
        write_documents(&*reader, id, &watch.location, &mut history, &mut report)?;
        let age_us = chrono::Utc::now().timestamp_micros() - head.entry.started.0;
        let Standing { live, why } = &standing;
        let live = serde_json::to_vec(&LiveState { live: *live, why, age_us }).map_err(io::Error::from)?;
        let title = format!("{} …{}", head.workflow(), crate::ids::short(id));
        let documents: [(&str, &[u8]); 3] = [("history", &history), ("report", &report), ("live-state", &live)];
        page::write(&mut html, Place::Server, &title, &documents)?;
        Ok(html)
    })
    .await
}

/// Where a page is.
#[derive(Deserialize)]
struct From {
    #[serde(default)]
    from: u64,
    /// How many of the events that it has are erased.
    #[serde(default)]
    erased: usize,
}

async fn list_events(
    State(served): State<Served>,
    Extension(connection): Extension<Connection>,
    Query(From { from, .. }): Query<From>,
) -> Response {
    let mut lister = Lister::new(served.watch.clone(), from);
    pushed(served, &connection, move |tick| Ok((lister.step(tick)?.into_iter().collect(), false)))
}

async fn execution_events(
    State(served): State<Served>,
    Extension(connection): Extension<Connection>,
    Path((_, id)): Path<(String, String)>,
    Query(From { from, erased }): Query<From>,
) -> Response {
    let Ok(id) = id.parse::<ExecutionId>() else {
        return refused(StatusCode::NOT_FOUND, "This is no id of an execution.");
    };
    let mut follower = Follower::new(served.watch.clone(), id, from, erased);
    pushed(served, &connection, move |_| follower.step())
}

/// A stream to a page: what `step` gives, each time that the log has moved.
fn pushed<S>(served: Served, connection: &Connection, step: S) -> Response
where
    S: FnMut(&Tick) -> io::Result<(Vec<Message>, bool)> + Send + 'static,
{
    connection.listens();
    let (sender, receiver) = channel(16);
    tokio::spawn(async move {
        // Whoever no longer listens is told nothing.
        let _ = push(served.watch, step, sender).await;
    });
    let events = ReceiverStream::new(receiver);
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}

/// The page has gone.
struct Gone;

async fn push<S>(watch: Arc<Watch>, mut step: S, sender: Sender<Result<Event, Infallible>>) -> Result<(), Gone>
where
    S: FnMut(&Tick) -> io::Result<(Vec<Message>, bool)> + Send + 'static,
{
    let mut ticks = watch.ticks();
    let mut told: Option<Standing> = None;
    loop {
        let tick = ticks.borrow_and_update().clone();
        if told.as_ref() != Some(&tick.standing) {
            let message = Message::new("standing", &tick.standing).map_err(|_| Gone)?;
            send(&sender, message).await?;
            told = Some(tick.standing.clone());
        }
        loop {
            let current = tick.clone();
            let worked = spawn_blocking(move || {
                let found = step(&current);
                (step, found)
            });
            let (again, found) = worked.await.map_err(|_| Gone)?;
            step = again;
            // What cannot be read now is asked for again when the log has moved.
            let Ok((messages, more)) = found else { break };
            for message in messages {
                send(&sender, message).await?;
            }
            if !more {
                break;
            }
        }
        tokio::select! {
            moved = ticks.changed() => moved.map_err(|_| Gone)?,
            () = sender.closed() => return Err(Gone),
        }
    }
}

async fn send(sender: &Sender<Result<Event, Infallible>>, message: Message) -> Result<(), Gone> {
    let event = Event::default().event(message.kind).data(message.data);
    sender.send(Ok(event)).await.map_err(|_| Gone)
}

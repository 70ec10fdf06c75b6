//! `replay serve`: says where to look, and answers until it is stopped.

use std::future::pending;
use std::path::Path;

use super::failure::{Failure, code};
use super::found;
use super::surroundings::Surroundings;
use crate::json::document::Object;
use crate::serve::{NotServed, Server};

/// Serves the log that is meant.
///
/// # Errors
/// [`Failure`].
pub fn run(option: Option<&Path>, port: u16, json: bool, around: &mut Surroundings<'_>) -> Result<i32, Failure> {
    let path = found::first_path(option, around)?;
    let location = path.display().to_string();
    let server = Server::bind(around.whole(&path), location.clone(), port).map_err(|error| match error {
        NotServed::Log(error) => Failure::open(&error),
        error @ NotServed::Port { .. } => {
            Failure::usage(error.to_string(), "replay serve (takes any port that is free)")
        }
        error @ NotServed::Io(_) => Failure::cannot_read(error.to_string(), "try again once the cause is gone"),
    })?;
    if json {
        let mut object = Object::begin(around.out, "serve")?;
        object.member("log", &location)?;
        object.member("url", &server.url())?;
        object.end()?;
    } else {
        writeln!(around.out, "{}", server.url())?;
    }
    around.out.flush()?;
    writeln!(around.err, "serves {location}, read-only, to whoever knows this address; Ctrl-C ends it")?;
    around.err.flush()?;
    server.run(pending()).map_err(|error| Failure::cannot_read(error.to_string(), "replay serve"))?;
    Ok(code::OK)
}

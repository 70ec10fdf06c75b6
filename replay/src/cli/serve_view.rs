//! `replay serve`: prints its address, and serves the log until it is stopped.

use std::future::pending;
use std::path::Path;

use super::failure::{Failure, code};
use super::surroundings::Surroundings;
use super::target;
use crate::json::document::Object;
use crate::serve::{NotServed, Server};

/// Serves the log at `option`, or the default log.
///
/// # Errors
/// [`Failure`].
pub fn run(option: Option<&Path>, port: u16, json: bool, env: &mut Surroundings<'_>) -> Result<i32, Failure> {
    let path = target::first_path(option, env)?;
    let location = path.display().to_string();
    let server = Server::bind(env.absolute(&path), location.clone(), port).map_err(|error| match error {
        NotServed::Log(error) => Failure::open(&error),
        error @ NotServed::Port { .. } => Failure::usage(error.to_string(), "replay serve (picks a free port)"),
        error @ NotServed::Io(_) => Failure::cannot_read(error.to_string(), "fix the cause and try again"),
    })?;
    if json {
        let mut object = Object::begin(env.out, "serve")?;
        object.member("log", &location)?;
        object.member("url", &server.url())?;
        object.end()?;
    } else {
        writeln!(env.out, "{}", server.url())?;
    }
    env.out.flush()?;
    writeln!(env.err, "serving {location}, read-only, to everyone who has this address; press Ctrl-C to stop")?;
    env.err.flush()?;
    server.run(pending()).map_err(|error| Failure::cannot_read(error.to_string(), "replay serve"))?;
    Ok(code::OK)
}

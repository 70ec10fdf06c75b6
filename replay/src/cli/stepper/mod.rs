//! `replay ID -i`: stepping through an execution in the terminal. Everything that is shown is what the commands show.

mod app;
mod keys;
mod panels;

use std::io;

use ratatui::crossterm::event::{self, Event, KeyEventKind};

use super::failure::Failure;
use super::found::Found;
use super::screen::Times;
use crate::history::History;
use crate::source::Head;

use app::App;

/// Steps through an execution until somebody has seen enough.
///
/// # Errors
/// [`Failure`] if it cannot be read, or the terminal does not do what it is told.
pub fn run(found: &Found, head: Head, history: &History, times: Option<Times>) -> Result<(), Failure> {
    let mut app = App::new(found, head, history, times);
    let mut terminal = ratatui::try_init()?;
    let ended = step(&mut terminal, &mut app);
    // Whatever happened, the terminal is as it was before.
    ratatui::try_restore()?;
    Ok(ended?)
}

fn step(terminal: &mut ratatui::DefaultTerminal, app: &mut App<'_>) -> io::Result<()> {
    loop {
        terminal.draw(|frame| app.draw(frame))?;
        match event::read()? {
            Event::Key(key) if key.kind != KeyEventKind::Release && !app.key(key) => return Ok(()),
            // A resized terminal is drawn again, and so is whatever else there may be.
            _ => {}
        }
    }
}

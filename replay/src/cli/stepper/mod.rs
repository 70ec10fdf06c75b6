//! `replay ID -i`: steps through an execution in the terminal. It shows the same as the commands.

mod app;
mod keys;
mod panels;

use std::io;

use ratatui::crossterm::event::{self, Event, KeyEventKind};

use super::failure::Failure;
use super::screen::Times;
use super::target::Target;
use crate::history::History;
use crate::source::Head;

use app::App;

/// Steps through an execution until the user quits.
///
/// # Errors
/// [`Failure`] if the execution cannot be read or the terminal fails.
pub fn run(target: &Target, head: Head, history: &History, times: Option<Times>) -> Result<(), Failure> {
    let mut app = App::new(target, head, history, times);
    let mut terminal = ratatui::try_init()?;
    let result = event_loop(&mut terminal, &mut app);
    // Restore the terminal after an error, too.
    ratatui::try_restore()?;
    Ok(result?)
}

fn event_loop(terminal: &mut ratatui::DefaultTerminal, app: &mut App<'_>) -> io::Result<()> {
    loop {
        terminal.draw(|frame| app.draw(frame))?;
        match event::read()? {
            Event::Key(key) if key.kind != KeyEventKind::Release && !app.key(key) => return Ok(()),
            // Redraw after any other event, such as a resize.
            _ => {}
        }
    }
}

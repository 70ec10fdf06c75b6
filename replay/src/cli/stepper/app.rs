//! The state of the stepper: the current event, the panel beside it, and what keys do.

use std::collections::BTreeMap;

use cloacina_engine::core::event::{Event, Seq};
use cloacina_engine::core::state::Execution;
use ratatui::Frame;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{List, ListState, Paragraph};

use super::{keys, panels};
use crate::cli::screen::Times;
use crate::cli::target::{Target, quoted};
use crate::cli::text;
use crate::fold::Folder;
use crate::history::History;
use crate::moment::task_of;
use crate::reading::Entry;
use crate::source::Head;

/// The maximum number of snapshots of the state, so that stepping back does not fold the whole history again.
const MAX_SNAPSHOTS: u64 = 64;

/// The panel beside the events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Panel {
    /// Every task's state and the context.
    State,
    /// Where a value came from.
    Why(String),
    /// What the event changed.
    Step,
    /// The graph.
    Graph,
}

/// The input line that is open.
enum Input {
    Filter,
    Key,
}

/// The stepper for one execution.
pub struct App<'a> {
    target: &'a Target,
    head: Head,
    history: &'a History,
    times: Option<Times>,
    /// The index of the current event.
    at: usize,
    /// The indexes of the events that match the filter.
    shown: Vec<usize>,
    filter: String,
    panel: Panel,
    input: Option<(Input, String)>,
    /// Whether the help is shown instead of the events and the panel.
    shows_help: bool,
    scroll: u16,
    /// Snapshots of the state after some events, by index.
    snapshots: BTreeMap<usize, Execution>,
}

impl<'a> App<'a> {
    /// Begins at the last event, because users look for the outcome first.
    pub fn new(target: &'a Target, head: Head, history: &'a History, times: Option<Times>) -> Self {
        let count = history.entries.len();
        Self {
            target,
            head,
            history,
            times,
            at: count.saturating_sub(1),
            shown: (0..count).collect(),
            filter: String::new(),
            panel: Panel::State,
            input: None,
            shows_help: false,
            scroll: 0,
            snapshots: BTreeMap::new(),
        }
    }

    /// Handles a key, and returns whether to continue.
    pub fn key(&mut self, key: KeyEvent) -> bool {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return false;
        }
        if let Some((input, text)) = self.input.take() {
            self.handle_input(input, text, key.code);
            return true;
        }
        if std::mem::take(&mut self.shows_help) && matches!(key.code, KeyCode::Esc | KeyCode::Char('?')) {
            return true;
        }
        let shift = key.modifiers.contains(KeyModifiers::SHIFT);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return false,
            KeyCode::Right if shift => self.move_to(|place, app| place > app.at && app.starts_task(place), true),
            KeyCode::Left if shift => self.move_to(|place, app| place < app.at && app.starts_task(place), false),
            KeyCode::Right | KeyCode::Char('l') => self.move_to(|place, app| place > app.at, true),
            KeyCode::Left | KeyCode::Char('h') => self.move_to(|place, app| place < app.at, false),
            KeyCode::Home => self.move_to(|_, _| true, true),
            KeyCode::End => self.move_to(|_, _| true, false),
            KeyCode::Down => self.scroll = self.scroll.saturating_add(1),
            KeyCode::Up => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::PageDown => self.scroll = self.scroll.saturating_add(10),
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(10),
            KeyCode::Char('/') => self.input = Some((Input::Filter, self.filter.clone())),
            KeyCode::Char('w') => self.input = Some((Input::Key, self.last_key())),
            KeyCode::Char('d') => self.show(Panel::Step),
            KeyCode::Char('g') => self.show(Panel::Graph),
            KeyCode::Char('s') => self.show(Panel::State),
            KeyCode::Char('?') => self.shows_help = true,
            _ => {}
        }
        true
    }

    fn show(&mut self, panel: Panel) {
        self.panel = panel;
        self.scroll = 0;
    }

    fn handle_input(&mut self, input: Input, mut text: String, code: KeyCode) {
        match code {
            KeyCode::Enter => match input {
                Input::Filter => self.set_filter(text),
                Input::Key => self.show(Panel::Why(text)),
            },
            KeyCode::Esc => {}
            KeyCode::Backspace => {
                text.pop();
                self.input = Some((input, text));
            }
            KeyCode::Char(letter) => {
                text.push(letter);
                self.input = Some((input, text));
            }
            _ => self.input = Some((input, text)),
        }
    }

    fn set_filter(&mut self, filter: String) {
        let wanted = filter.to_lowercase();
        let entries = self.history.entries.iter().enumerate();
        let fits = |entry: &Entry| wanted.is_empty() || summary(entry).to_lowercase().contains(&wanted);
        let shown: Vec<usize> = entries.filter(|(_, entry)| fits(entry)).map(|(place, _)| place).collect();
        self.filter = filter;
        if let Some(nearest) = shown.iter().copied().min_by_key(|place| place.abs_diff(self.at)) {
            self.at = nearest;
        }
        self.shown = shown;
        self.scroll = 0;
    }

    /// Moves to the first or last event that passes both the filter and `wanted`; stays if there is none.
    fn move_to(&mut self, wanted: impl Fn(usize, &Self) -> bool, first: bool) {
        let mut fits = self.shown.iter().copied().filter(|place| wanted(*place, self));
        let next = if first { fits.next() } else { fits.next_back() };
        if let Some(place) = next {
            self.at = place;
            self.scroll = 0;
        }
    }

    fn starts_task(&self, place: usize) -> bool {
        let event = self.history.entries[place].event.as_ref();
        matches!(event, Some(Event::TaskStarted(_) | Event::TaskSkipped(_)))
    }

    /// Returns the key that was written last, the default for `w`.
    fn last_key(&self) -> String {
        let before = self.history.entries[..=self.at.min(self.history.entries.len().saturating_sub(1))].iter().rev();
        let written = before.filter_map(|entry| match entry.event.as_ref()? {
            Event::ContextWritten(write) => Some(write.key.to_string()),
            _ => None,
        });
        written.into_iter().next().unwrap_or_default()
    }

    /// Returns the current event.
    fn entry(&self) -> Option<&'a Entry> {
        self.history.entries.get(self.at)
    }

    fn seq(&self) -> Seq {
        self.entry().map_or(0, |entry| entry.seq)
    }

    /// Returns the state after an event; `None` if the events up to it cannot be folded.
    fn state(&mut self, place: usize) -> Option<Execution> {
        let known = self.snapshots.range(..=place).next_back().map(|(place, state)| (*place, state.clone()));
        let every = (self.history.entries.len() as u64 / MAX_SNAPSHOTS).max(1);
        let (begin, mut folder) = match known {
            Some((known, state)) => (known + 1, Folder::resume(self.history.id(), self.history.graphs.clone(), state)),
            None => (0, Folder::new(self.history.id(), self.history.graphs.clone())),
        };
        for (number, entry) in self.history.entries.iter().enumerate().take(place + 1).skip(begin) {
            let state = folder.step(entry).ok()?;
            if (number as u64).is_multiple_of(every) {
                self.snapshots.insert(number, state.clone());
            }
        }
        folder.finish().0
    }

    /// Returns the shell command that prints the same.
    fn command(&self) -> String {
        let seq = self.seq();
        match &self.panel {
            Panel::State => self.target.command(&format!("--at {seq}")),
            Panel::Why(key) => self.target.command(&format!("why {} --at {seq}", quoted(key))),
            Panel::Graph => self.target.command(&format!("graph --at {seq}")),
            Panel::Step => {
                let at = |seq: Seq| self.target.command(&format!("--at {seq}"));
                format!("diff <({}) <({})", at(seq.saturating_sub(1)), at(seq))
            }
        }
    }

    /// Draws the screen.
    pub fn draw(&mut self, frame: &mut Frame<'_>) {
        let [top, below, middle, bottom] =
            Layout::vertical([Constraint::Length(1), Constraint::Length(1), Constraint::Min(3), Constraint::Length(1)])
                .areas(frame.area());
        let strong = Style::new().add_modifier(Modifier::BOLD);
        let columns = usize::from(frame.area().width);
        let command = text::cut(&format!("$ {}", self.command()), columns);
        frame.render_widget(Paragraph::new(command).style(strong), top);
        frame.render_widget(Paragraph::new(self.about(columns)), below);
        if self.shows_help {
            let lines: Vec<Line<'_>> = keys::help(columns).into_iter().map(Line::from).collect();
            frame.render_widget(Paragraph::new(lines), middle);
        } else {
            let width = (middle.width / 2).clamp(30, 64).min(middle.width);
            let [events, panel] = Layout::horizontal([Constraint::Length(width), Constraint::Min(0)]).areas(middle);
            self.draw_events(frame, events);
            self.draw_panel(frame, panel);
        }
        let prompt = match &self.input {
            Some((Input::Filter, text)) => end_of(&format!("/{text}▏"), columns),
            Some((Input::Key, text)) => end_of(&format!("why KEY: {text}▏"), columns),
            None => keys::footer(columns),
        };
        frame.render_widget(Paragraph::new(prompt), bottom);
    }

    /// Describes the execution and the current event in at most `columns`. Leaves out what does not fit, the least
    /// important first.
    fn about(&self, columns: usize) -> String {
        let (count, head) = (self.history.entries.len(), &self.head);
        let at = format!(" {} · seq {} of {}", head.status(), self.seq(), count.saturating_sub(1));
        let workflow = text::cut(&text::clean(head.workflow()), columns.saturating_sub(text::width(&at)));
        let mut line = format!("{workflow}{at}");
        let room = |line: &str| columns.saturating_sub(text::width(line) + 3);
        if !self.filter.is_empty() {
            let shown = format!(": {} of {count}", self.shown.len());
            let fixed = text::width("filter ''") + text::width(&shown);
            let filter = text::cut(&text::clean(&self.filter), room(&line).saturating_sub(fixed).max(4));
            line = format!("{line} · filter '{filter}'{shown}");
        }
        for note in ["read-only, no task code is run", "read-only"] {
            if text::width(note) <= room(&line) {
                line = format!("{line} · {note}");
                break;
            }
        }
        let what = self.entry().map(summary).unwrap_or_default();
        if room(&line) > 8 && !what.is_empty() {
            line = format!("{line} · {}", text::cut(&what, room(&line)));
        }
        text::cut(&line, columns)
    }

    fn draw_events(&self, frame: &mut Frame<'_>, area: Rect) {
        let selected = self.shown.iter().position(|place| *place == self.at);
        // Format only the visible events, so that a million events draw as fast as ten.
        let height = usize::from(area.height);
        // The selection mark takes two columns, and the gap to the panel one.
        let columns = usize::from(area.width).saturating_sub(3);
        let first = selected.unwrap_or(0).saturating_sub(height / 2).min(self.shown.len().saturating_sub(height));
        let lines = self.shown.iter().skip(first).take(height).map(|place| {
            let entry = &self.history.entries[*place];
            Line::from(text::cut(&format!("{:>6}  {}", entry.seq, summary(entry)), columns))
        });
        let list =
            List::new(lines).highlight_symbol("▶ ").highlight_style(Style::new().add_modifier(Modifier::REVERSED));
        let mut state = ListState::default().with_selected(selected.map(|selected| selected - first));
        frame.render_stateful_widget(list, area, &mut state);
    }

    fn draw_panel(&mut self, frame: &mut Frame<'_>, area: Rect) {
        let before = match self.panel {
            Panel::Step => self.at.checked_sub(1).and_then(|place| self.state(place)),
            _ => None,
        };
        let width = usize::from(area.width).saturating_sub(2).max(20);
        let lines = match (self.state(self.at), self.entry()) {
            (Some(state), Some(entry)) => {
                let show = panels::Show { target: self.target, history: self.history, times: self.times, width };
                show.lines(&self.panel, &state, before.as_ref(), entry)
            }
            _ => vec!["the events up to here cannot be folded; replay ID verify shows why".to_owned()],
        };
        let is_drawn = self.panel == Panel::Graph;
        let fitted = lines.into_iter().flat_map(|line| match text::width(&line) <= width {
            true => vec![line],
            // A drawing cannot be wrapped.
            false if is_drawn => vec![text::cut(&line, width)],
            false => text::wrap(&line, width),
        });
        let lines: Vec<Line<'_>> = fitted.map(|line| Line::from(format!("│ {line}"))).collect();
        let most = u16::try_from(lines.len()).unwrap_or(u16::MAX).saturating_sub(area.height);
        self.scroll = self.scroll.min(most);
        frame.render_widget(Paragraph::new(lines).scroll((self.scroll, 0)), area);
    }
}

/// Cuts an input line to `columns`, keeping its end.
fn end_of(typed: &str, columns: usize) -> String {
    if text::width(typed) <= columns {
        return typed.to_owned();
    }
    let begins = typed.char_indices().map(|(at, _)| at);
    let end = begins.map(|at| &typed[at..]).find(|end| text::width(end) < columns);
    format!("…{}", end.unwrap_or_default())
}

/// Summarizes an event in one line.
fn summary(entry: &Entry) -> String {
    let Some(event) = &entry.event else { return "(erased)".to_owned() };
    let task = task_of(event).map(|task| format!(" {}", text::clean(task))).unwrap_or_default();
    let key = match event {
        Event::ContextWritten(write) => format!(" {}", text::clean(&write.key)),
        Event::ContextRemoved(removal) => format!(" {}", text::clean(&removal.key)),
        Event::TaskFailed(failed) => format!(": {}", text::clean(&crate::words::error(&failed.error))),
        _ => String::new(),
    };
    format!("{}{task}{key}", event.name())
}

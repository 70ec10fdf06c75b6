//! What is stepped through: the event that one is at, what is beside it, and what keys do.

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
use crate::cli::found::{Found, quoted};
use crate::cli::screen::Times;
use crate::cli::text;
use crate::fold::Folder;
use crate::history::History;
use crate::moment::task_of;
use crate::reading::Entry;
use crate::source::Head;

/// So many states are kept at most, to go back from without folding all of it again.
const KEPT: u64 = 64;
/// What stands beside the events.
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

/// What is being typed.
enum Typing {
    Filter,
    Key,
}

/// Stepping through one execution.
pub struct App<'a> {
    found: &'a Found,
    head: Head,
    history: &'a History,
    times: Option<Times>,
    /// The place in the events that one is at.
    at: usize,
    /// The places of the events that the filter lets through.
    shown: Vec<usize>,
    filter: String,
    panel: Panel,
    typing: Option<(Typing, String)>,
    /// Whether the help is shown, instead of the events and what is beside them.
    helps: bool,
    scroll: u16,
    /// States after some of the events, to fold on from.
    states: BTreeMap<usize, Execution>,
}

impl<'a> App<'a> {
    /// Begins at the last event: where it ended is what one looks for.
    pub fn new(found: &'a Found, head: Head, history: &'a History, times: Option<Times>) -> Self {
        let count = history.entries.len();
        Self {
            found,
            head,
            history,
            times,
            at: count.saturating_sub(1),
            shown: (0..count).collect(),
            filter: String::new(),
            panel: Panel::State,
            typing: None,
            helps: false,
            scroll: 0,
            states: BTreeMap::new(),
        }
    }

    /// Does what a key says; `false` ends.
    pub fn key(&mut self, key: KeyEvent) -> bool {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return false;
        }
        if let Some((typing, text)) = self.typing.take() {
            self.type_on(typing, text, key.code);
            return true;
        }
        if std::mem::take(&mut self.helps) && matches!(key.code, KeyCode::Esc | KeyCode::Char('?')) {
            return true;
        }
        let shift = key.modifiers.contains(KeyModifiers::SHIFT);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return false,
            KeyCode::Right if shift => self.go(|place, app| place > app.at && app.begins_task(place), true),
            KeyCode::Left if shift => self.go(|place, app| place < app.at && app.begins_task(place), false),
            KeyCode::Right | KeyCode::Char('l') => self.go(|place, app| place > app.at, true),
            KeyCode::Left | KeyCode::Char('h') => self.go(|place, app| place < app.at, false),
            KeyCode::Home => self.go(|_, _| true, true),
            KeyCode::End => self.go(|_, _| true, false),
            KeyCode::Down => self.scroll = self.scroll.saturating_add(1),
            KeyCode::Up => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::PageDown => self.scroll = self.scroll.saturating_add(10),
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(10),
            KeyCode::Char('/') => self.typing = Some((Typing::Filter, self.filter.clone())),
            KeyCode::Char('w') => self.typing = Some((Typing::Key, self.last_key())),
            KeyCode::Char('d') => self.show(Panel::Step),
            KeyCode::Char('g') => self.show(Panel::Graph),
            KeyCode::Char('s') => self.show(Panel::State),
            KeyCode::Char('?') => self.helps = true,
            _ => {}
        }
        true
    }

    fn show(&mut self, panel: Panel) {
        self.panel = panel;
        self.scroll = 0;
    }

    fn type_on(&mut self, typing: Typing, mut text: String, code: KeyCode) {
        match code {
            KeyCode::Enter => match typing {
                Typing::Filter => self.set_filter(text),
                Typing::Key => self.show(Panel::Why(text)),
            },
            KeyCode::Esc => {}
            KeyCode::Backspace => {
                text.pop();
                self.typing = Some((typing, text));
            }
            KeyCode::Char(letter) => {
                text.push(letter);
                self.typing = Some((typing, text));
            }
            _ => self.typing = Some((typing, text)),
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

    /// Goes to the first, or last, of the events that are shown and wanted; stays if there is none.
    fn go(&mut self, wanted: impl Fn(usize, &Self) -> bool, first: bool) {
        let mut fits = self.shown.iter().copied().filter(|place| wanted(*place, self));
        let found = if first { fits.next() } else { fits.next_back() };
        if let Some(place) = found {
            self.at = place;
            self.scroll = 0;
        }
    }

    fn begins_task(&self, place: usize) -> bool {
        let event = self.history.entries[place].event.as_ref();
        matches!(event, Some(Event::TaskStarted(_) | Event::TaskSkipped(_)))
    }

    /// The key that was written last: what `w` most likely asks for.
    fn last_key(&self) -> String {
        let before = self.history.entries[..=self.at.min(self.history.entries.len().saturating_sub(1))].iter().rev();
        let written = before.filter_map(|entry| match entry.event.as_ref()? {
            Event::ContextWritten(write) => Some(write.key.to_string()),
            _ => None,
        });
        written.into_iter().next().unwrap_or_default()
    }

    /// The event that one is at.
    fn entry(&self) -> Option<&'a Entry> {
        self.history.entries.get(self.at)
    }

    fn seq(&self) -> Seq {
        self.entry().map_or(0, |entry| entry.seq)
    }

    /// The state after an event; `None` if it cannot be folded so far.
    fn state(&mut self, place: usize) -> Option<Execution> {
        let known = self.states.range(..=place).next_back().map(|(place, state)| (*place, state.clone()));
        let every = (self.history.entries.len() as u64 / KEPT).max(1);
        let (begin, mut folder) = match known {
            Some((known, state)) => (known + 1, Folder::resume(self.history.id(), self.history.graphs.clone(), state)),
            None => (0, Folder::new(self.history.id(), self.history.graphs.clone())),
        };
        for (number, entry) in self.history.entries.iter().enumerate().take(place + 1).skip(begin) {
            let state = folder.step(entry).ok()?;
            if (number as u64).is_multiple_of(every) {
                self.states.insert(number, state.clone());
            }
        }
        folder.finish().0
    }

    /// The shell command that shows the same.
    fn command(&self) -> String {
        let seq = self.seq();
        match &self.panel {
            Panel::State => self.found.command(&format!("--at {seq}")),
            Panel::Why(key) => self.found.command(&format!("why {} --at {seq}", quoted(key))),
            Panel::Graph => self.found.command(&format!("graph --at {seq}")),
            Panel::Step => {
                let at = |seq: Seq| self.found.command(&format!("--at {seq}"));
                format!("diff <({}) <({})", at(seq.saturating_sub(1)), at(seq))
            }
        }
    }

    /// Draws all of it.
    pub fn draw(&mut self, frame: &mut Frame<'_>) {
        let [top, below, middle, bottom] =
            Layout::vertical([Constraint::Length(1), Constraint::Length(1), Constraint::Min(3), Constraint::Length(1)])
                .areas(frame.area());
        let strong = Style::new().add_modifier(Modifier::BOLD);
        let columns = usize::from(frame.area().width);
        let command = text::cut(&format!("$ {}", self.command()), columns);
        frame.render_widget(Paragraph::new(command).style(strong), top);
        frame.render_widget(Paragraph::new(self.about(columns)), below);
        if self.helps {
            let lines: Vec<Line<'_>> = keys::help(columns).into_iter().map(Line::from).collect();
            frame.render_widget(Paragraph::new(lines), middle);
        } else {
            let width = (middle.width / 2).clamp(30, 64).min(middle.width);
            let [events, panel] = Layout::horizontal([Constraint::Length(width), Constraint::Min(0)]).areas(middle);
            self.draw_events(frame, events);
            self.draw_panel(frame, panel);
        }
        let prompt = match &self.typing {
            Some((Typing::Filter, text)) => end_of(&format!("/{text}▏"), columns),
            Some((Typing::Key, text)) => end_of(&format!("why which key? {text}▏"), columns),
            None => keys::footer(columns),
        };
        frame.render_widget(Paragraph::new(prompt), bottom);
    }

    /// Which execution and event this is, in so many columns. What there is no room for is left out, the least
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
        // Only what can be seen is made: a million events are as quick to draw as ten.
        let height = usize::from(area.height);
        // The sign of the selected one takes two columns, and one is left free before the panel.
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
        let told = match (self.state(self.at), self.entry()) {
            (Some(state), Some(entry)) => {
                let show = panels::Show { found: self.found, history: self.history, times: self.times, width };
                show.lines(&self.panel, &state, before.as_ref(), entry)
            }
            _ => vec!["the events cannot be folded so far: replay ID verify tells why".to_owned()],
        };
        let is_drawn = self.panel == Panel::Graph;
        let fitted = told.into_iter().flat_map(|line| match text::width(&line) <= width {
            true => vec![line],
            // A drawing cannot go on in the next line.
            false if is_drawn => vec![text::cut(&line, width)],
            false => text::wrap(&line, width),
        });
        let lines: Vec<Line<'_>> = fitted.map(|line| Line::from(format!("│ {line}"))).collect();
        let most = u16::try_from(lines.len()).unwrap_or(u16::MAX).saturating_sub(area.height);
        self.scroll = self.scroll.min(most);
        frame.render_widget(Paragraph::new(lines).scroll((self.scroll, 0)), area);
    }
}

/// The end of what is typed, so that it takes at most so many columns.
fn end_of(typed: &str, columns: usize) -> String {
    if text::width(typed) <= columns {
        return typed.to_owned();
    }
    let begins = typed.char_indices().map(|(at, _)| at);
    let end = begins.map(|at| &typed[at..]).find(|end| text::width(end) < columns);
    format!("…{}", end.unwrap_or_default())
}

/// An event in a line.
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

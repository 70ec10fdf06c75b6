//! The panel beside the events: the same lines that the commands print.

use cloacina_engine::core::context::values;
use cloacina_engine::core::state::Execution;
use cloacina_engine::core::time::Timestamp;

use super::app::Panel;
use crate::cli::screen::{Screen, Times};
use crate::cli::style::Style;
use crate::cli::target::Target;
use crate::cli::{graph_view, state_view, text, why_view};
use crate::diff::first::value_words;
use crate::diff::values::compare;
use crate::graph::Picture;
use crate::history::History;
use crate::reading::Entry;
use crate::story::tell;
use crate::why::{Facts, NoValue};

/// Formats panels.
pub struct Show<'a> {
    /// The execution.
    pub target: &'a Target,
    /// Its history.
    pub history: &'a History,
    /// How to show times.
    pub times: Option<Times>,
    /// The width of the panel.
    pub width: usize,
}

impl Show<'_> {
    /// Returns the lines of a panel after event `entry`. `state` is the state after that event, `before` the state
    /// before it.
    pub fn lines(&self, panel: &Panel, state: &Execution, before: Option<&Execution>, entry: &Entry) -> Vec<String> {
        let mut out = Vec::new();
        let mut screen = Screen {
            out: &mut out,
            width: self.width,
            style: Style { on: false },
            times: self.times,
            now: Timestamp::default(),
        };
        let written = match panel {
            Panel::State => state_view::write(&mut screen, self.target, state, entry),
            Panel::Graph => {
                let entries = self.history.entries.iter().take_while(|other| other.seq <= entry.seq);
                let story = tell(self.history.id(), self.history.graphs.clone(), entries.cloned().map(Ok));
                match Picture::of(&story) {
                    Some(picture) => graph_view::write(&mut screen, &picture, true),
                    None => screen.line("the events up to here cannot be folded"),
                }
            }
            Panel::Why(key) => match self.why(state, key) {
                Ok(steps) => why_view::write(&mut screen, &steps, state.started()),
                Err(error) => screen.line(&text::clean(&error.to_string())),
            },
            Panel::Step => step(before, state).iter().try_for_each(|line| screen.line(line)),
        };
        // Writing to memory does not fail.
        let _ = written;
        String::from_utf8_lossy(&out).lines().map(ToOwned::to_owned).collect()
    }

    fn why(&self, state: &Execution, key: &str) -> Result<Vec<crate::why::Step>, NoValue> {
        let mut facts = Facts::default();
        let until = state.next_seq();
        self.history.entries.iter().take_while(|entry| entry.seq < until).cloned().for_each(|entry| facts.note(entry));
        facts.why(state, key)
    }
}

/// Describes what one event changed: states of tasks, and values of keys.
fn step(before: Option<&Execution>, after: &Execution) -> Vec<String> {
    let Some(before) = before else { return vec!["this is the first event".to_owned()] };
    let mut lines = Vec::new();
    if before.status() != after.status() {
        lines.push(format!("execution: {} → {}", before.status().name(), after.status().name()));
    }
    for task in after.graph().tasks() {
        let name = after.graph().name(task);
        let now = after.task(task);
        let then = before.graph().find(name).map(|task| before.task(task));
        let (was, is) = (then.map_or("not in the graph", |then| then.state().name()), now.state().name());
        let again = then.is_some_and(|then| then.attempts() != now.attempts());
        if was != is || again {
            let attempt = if again { format!(", attempt {}", now.attempts()) } else { String::new() };
            lines.push(format!("{}: {was} → {is}{attempt}", text::clean(name)));
        }
    }
    let (old, new) = (before.context(), after.context());
    let values_of = |context| values(context).map(|(key, value)| (key.clone(), value.clone())).collect();
    let (old, new): (std::collections::BTreeMap<_, _>, std::collections::BTreeMap<_, _>) =
        (values_of(&old), values_of(&new));
    for key in old.keys().chain(new.keys()).collect::<std::collections::BTreeSet<_>>() {
        if let Some(diff) = compare(key, old.get(key), new.get(key)) {
            let change = value_words(&diff).replace(" in A", " before").replace(" in B", " now");
            lines.push(text::clean(&change));
        }
    }
    if lines.is_empty() {
        lines.push("no change of a task's state or of the context".to_owned());
    }
    lines
}

//! A table that fits the width of the screen. If it is too wide, columns shrink, the last one first; then optional
//! columns are left out, the last one first.

use std::io;

use super::screen::Screen;
use super::style::Tone;
use super::text;

const GAP: usize = 2;
/// The width to which columns may shrink on a narrow screen, when there is no optional column left to leave out.
const NARROW: usize = 10;

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    heading: &'static str,
    right: bool,
    /// The smallest width to shrink to; `None` if the column does not shrink.
    min_width: Option<usize>,
    /// Whether to leave the column out if the table is too wide.
    optional: bool,
}

impl Column {
    /// A column of fixed width, aligned left.
    #[must_use]
    pub fn left(heading: &'static str) -> Self {
        Self { heading, right: false, min_width: None, optional: false }
    }

    /// A column of fixed width, aligned right: for numbers.
    #[must_use]
    pub fn right(heading: &'static str) -> Self {
        Self { heading, right: true, min_width: None, optional: false }
    }

    /// A column that can shrink to `min_width`.
    #[must_use]
    pub fn shrinking(heading: &'static str, min_width: usize) -> Self {
        Self { heading, right: false, min_width: Some(min_width), optional: false }
    }

    /// Marks the column as one to leave out if the table is too wide.
    #[must_use]
    pub fn optional(self) -> Self {
        Self { optional: true, ..self }
    }
}

/// A cell. Its parts are shown in full as long as there is room for at least one of them.
#[derive(Clone, Debug)]
pub struct Cell {
    parts: Vec<String>,
    tone: Tone,
    /// How many characters at the end are highlighted; `None` if the whole cell looks the same.
    highlighted_end: Option<usize>,
}

impl Cell {
    /// A cell of one part.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self { parts: vec![text.into()], tone: Tone::Plain, highlighted_end: None }
    }

    /// A cell of several parts, with commas between them.
    #[must_use]
    pub fn list(parts: Vec<String>) -> Self {
        Self { parts, tone: Tone::Plain, highlighted_end: None }
    }

    /// Sets the tone.
    #[must_use]
    pub fn tone(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }

    /// Highlights the last `letters` characters.
    #[must_use]
    pub fn highlight_end(self, letters: usize) -> Self {
        Self { highlighted_end: Some(letters), ..self }
    }

    fn paint(&self, style: super::style::Style, text: &str) -> String {
        let Some(letters) = self.highlighted_end else { return style.paint(self.tone, text) };
        let begin = text.char_indices().rev().nth(letters.saturating_sub(1)).map_or(0, |(place, _)| place);
        format!("{}{}", style.paint(Tone::Dim, &text[..begin]), style.paint(self.tone, &text[begin..]))
    }

    fn full_text(&self) -> String {
        self.parts.join(", ")
    }

    /// Returns as many parts as fit into `columns`, and how many more there are.
    fn fit(&self, columns: usize) -> String {
        let full = self.full_text();
        if text::width(&full) <= columns || self.parts.len() < 2 {
            return text::cut(&full, columns);
        }
        // Stop at the first part that does not fit: there may be thousands.
        let mut used = 0;
        let ends = self.parts[..self.parts.len() - 1].iter().enumerate().map(|(place, part)| {
            used += text::width(part) + if place == 0 { 0 } else { text::width(", ") };
            used
        });
        let more = |shown: usize| format!(" … {} more", self.parts.len() - shown);
        let fits = |(shown, used): &(usize, usize)| used + text::width(&more(*shown)) <= columns;
        let shown = (1..).zip(ends.take_while(|used| *used <= columns)).filter(fits).last();
        match shown {
            Some((shown, _)) => format!("{}{}", self.parts[..shown].join(", "), more(shown)),
            None => text::cut(&full, columns),
        }
    }
}

/// Returns by how much the table is wider than the screen. A column of width 0 is left out.
fn excess(widths: &[usize], screen: usize) -> usize {
    widths.iter().filter(|width| **width > 0).map(|width| width + GAP).sum::<usize>().saturating_sub(screen)
}

/// The rows of a table, collected before they are written.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    lines: Vec<Line>,
    /// The column below which notes begin.
    notes_under: usize,
}

#[derive(Debug)]
enum Line {
    Cells(Vec<Cell>),
    Note(Tone, String),
}

impl Table {
    /// Creates a table without rows. Notes begin below column `notes_under`.
    #[must_use]
    pub fn new(columns: Vec<Column>, notes_under: usize) -> Self {
        Self { columns, lines: Vec::new(), notes_under }
    }

    /// Adds a row: a cell for each column.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.lines.push(Line::Cells(cells));
    }

    /// Adds a note below the last row.
    pub fn note(&mut self, tone: Tone, text: impl Into<String>) {
        self.lines.push(Line::Note(tone, text.into()));
    }

    /// Returns the width of each column; 0 if it is left out.
    fn widths(&self, screen: usize) -> Vec<usize> {
        let mut natural = self.natural_widths();
        for column in (0..natural.len()).rev().filter(|column| self.columns[*column].optional) {
            let widths = self.shrunk(natural.clone(), screen, usize::MAX);
            if excess(&widths, screen) == 0 {
                return widths;
            }
            natural[column] = 0;
        }
        let widths = self.shrunk(natural, screen, usize::MAX);
        self.shrunk(widths, screen, NARROW)
    }

    /// Returns the width that each column needs.
    fn natural_widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.columns.iter().map(|column| text::width(column.heading)).collect();
        for line in &self.lines {
            let Line::Cells(cells) = line else { continue };
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(text::width(&cell.full_text()));
            }
        }
        widths
    }

    /// Shrinks columns, the last one first, until the table fits or each one has reached its smallest width or `limit`,
    /// whichever is smaller.
    fn shrunk(&self, mut widths: Vec<usize>, screen: usize, limit: usize) -> Vec<usize> {
        for (number, column) in self.columns.iter().enumerate().rev() {
            let room = column.min_width.map_or(0, |least| widths[number].saturating_sub(least.min(limit)));
            widths[number] -= excess(&widths, screen).min(room);
        }
        widths
    }

    /// Writes the table.
    ///
    /// # Errors
    /// Errors from writing to the screen.
    pub fn write(&self, screen: &mut Screen<'_>) -> io::Result<()> {
        let widths = self.widths(screen.width);
        let heading: Vec<Cell> = self.columns.iter().map(|column| Cell::new(column.heading).tone(Tone::Dim)).collect();
        self.write_cells(screen, &widths, &heading)?;
        let indent = widths[..self.notes_under].iter().map(|width| width + GAP).sum::<usize>() + GAP + 2;
        for line in &self.lines {
            match line {
                Line::Cells(cells) => self.write_cells(screen, &widths, cells)?,
                Line::Note(tone, note) => screen.paragraph(indent, *tone, note)?,
            }
        }
        Ok(())
    }

    fn write_cells(&self, screen: &mut Screen<'_>, widths: &[usize], cells: &[Cell]) -> io::Result<()> {
        let mut line = String::new();
        for ((column, width), cell) in self.columns.iter().zip(widths).zip(cells) {
            if *width == 0 {
                continue;
            }
            let fit = cell.fit(*width);
            let space = " ".repeat(width.saturating_sub(text::width(&fit)));
            let painted = cell.paint(screen.style, &fit);
            line.push_str(&" ".repeat(GAP));
            line.push_str(&if column.right { format!("{space}{painted}") } else { format!("{painted}{space}") });
        }
        screen.line(&line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression test: the time was quadratic in the number of parts. A task with 16,000 keys took 20 seconds.
    #[test]
    fn a_list_shows_as_many_parts_as_fit_however_many_there_are() {
        let cell = |count: usize| Cell::list((0..count).map(|number| format!("+ key{number}")).collect());
        assert_eq!(cell(3).fit(40), "+ key0, + key1, + key2");
        assert_eq!(cell(5).fit(30), "+ key0, + key1 … 3 more");
        assert_eq!(cell(12).fit(22), "+ key0 … 11 more");
        assert_eq!(cell(5).fit(8), "+ key0,…");
        assert_eq!(cell(200_000).fit(40), "+ key0, + key1, + key2 … 199997 more");
        let wide = Cell::list(vec!["日本".to_owned(), "語".to_owned(), "x".repeat(30)]);
        assert_eq!(wide.fit(20), "日本, 語 … 1 more");
    }
}

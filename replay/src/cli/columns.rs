//! A table as wide as the screen: columns take what they need, and give way from the last to the first where that is
//! too much. Then the last ones are left out.

use std::io;

use super::screen::Screen;
use super::style::Tone;
use super::text;

const GAP: usize = 2;
/// How narrow a column that gives way becomes on a narrow screen, when no other is left to be left out.
const NARROW: usize = 10;

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    heading: &'static str,
    right: bool,
    /// How narrow it may become; `None` if it never gives way.
    least: Option<usize>,
    /// Whether it is left out rather than that the table becomes too wide.
    may_go: bool,
}

impl Column {
    /// A column that never gives way, its cells at the left.
    #[must_use]
    pub fn left(heading: &'static str) -> Self {
        Self { heading, right: false, least: None, may_go: false }
    }

    /// A column that never gives way, its cells at the right: for numbers.
    #[must_use]
    pub fn right(heading: &'static str) -> Self {
        Self { heading, right: true, least: None, may_go: false }
    }

    /// A column that may become as narrow as `least`.
    #[must_use]
    pub fn giving_way(heading: &'static str, least: usize) -> Self {
        Self { heading, right: false, least: Some(least), may_go: false }
    }

    /// The same, but left out rather than that the table becomes too wide.
    #[must_use]
    pub fn may_go(self) -> Self {
        Self { may_go: true, ..self }
    }
}

/// A cell: parts that stay whole as long as there is room for one of them.
#[derive(Clone, Debug)]
pub struct Cell {
    parts: Vec<String>,
    tone: Tone,
    /// How many letters at its end stand out from the rest; `None` if all of it is alike.
    end: Option<usize>,
}

impl Cell {
    /// A cell of one part.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self { parts: vec![text.into()], tone: Tone::Plain, end: None }
    }

    /// A cell of several parts, with commas between them.
    #[must_use]
    pub fn list(parts: Vec<String>) -> Self {
        Self { parts, tone: Tone::Plain, end: None }
    }

    /// The same in another tone.
    #[must_use]
    pub fn tone(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }

    /// The same, with so many letters at its end standing out.
    #[must_use]
    pub fn end(self, letters: usize) -> Self {
        Self { end: Some(letters), ..self }
    }

    fn paint(&self, style: super::style::Style, text: &str) -> String {
        let Some(letters) = self.end else { return style.paint(self.tone, text) };
        let begin = text.char_indices().rev().nth(letters.saturating_sub(1)).map_or(0, |(place, _)| place);
        format!("{}{}", style.paint(Tone::Dim, &text[..begin]), style.paint(self.tone, &text[begin..]))
    }

    fn whole(&self) -> String {
        self.parts.join(", ")
    }

    /// What fits into so many columns, and that there is more.
    fn fit(&self, columns: usize) -> String {
        let whole = self.whole();
        if text::width(&whole) <= columns || self.parts.len() < 2 {
            return text::cut(&whole, columns);
        }
        // Parts are looked at until they are too wide, and no further: there may be thousands.
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
            None => text::cut(&whole, columns),
        }
    }
}

/// How many columns the table has too many. One that is left out takes none.
fn over(widths: &[usize], screen: usize) -> usize {
    widths.iter().filter(|width| **width > 0).map(|width| width + GAP).sum::<usize>().saturating_sub(screen)
}

/// A table in the making.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    lines: Vec<Line>,
    /// The column under which notes begin.
    notes_under: usize,
}

#[derive(Debug)]
enum Line {
    Cells(Vec<Cell>),
    Note(Tone, String),
}

impl Table {
    /// A table without rows, whose notes begin under a column.
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

    /// How wide each column is; 0 if it is left out.
    fn widths(&self, screen: usize) -> Vec<usize> {
        let mut whole = self.natural_widths();
        for column in (0..whole.len()).rev().filter(|column| self.columns[*column].may_go) {
            let widths = self.given_way(whole.clone(), screen, usize::MAX);
            if over(&widths, screen) == 0 {
                return widths;
            }
            whole[column] = 0;
        }
        let widths = self.given_way(whole, screen, usize::MAX);
        self.given_way(widths, screen, NARROW)
    }

    /// How wide each column is where there is room.
    fn natural_widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.columns.iter().map(|column| text::width(column.heading)).collect();
        for line in &self.lines {
            let Line::Cells(cells) = line else { continue };
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(text::width(&cell.whole()));
            }
        }
        widths
    }

    /// The widths after columns became narrower, the last one first, until the table fits or each one is as narrow as it
    /// may be, or as `narrow`.
    fn given_way(&self, mut widths: Vec<usize>, screen: usize, narrow: usize) -> Vec<usize> {
        for (number, column) in self.columns.iter().enumerate().rev() {
            let may = column.least.map_or(0, |least| widths[number].saturating_sub(least.min(narrow)));
            widths[number] -= over(&widths, screen).min(may);
        }
        widths
    }

    /// Writes it.
    ///
    /// # Errors
    /// Whatever writing gives.
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

    /// Each number of parts was tried with all of them put together: a task with 16,000 keys took 20 seconds to be shown.
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

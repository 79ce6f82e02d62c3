//! The only printer. Colour only where it is wanted, and never as the only sign.

use std::io::{IsTerminal as _, Write as _};

use anstyle::{AnsiColor, Color, Style};

use super::Failure;

/// Where results and stories go.
#[derive(Clone, Debug)]
pub struct Ui {
    /// Whether results are JSON.
    pub json: bool,
}

/// What a piece of text is; decides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    Plain,
    /// All is well.
    Good,
    /// It waits.
    Waiting,
    /// Something is wrong.
    Bad,
    /// Less important.
    Faint,
    /// A heading.
    Strong,
}

impl Tone {
    fn style(self) -> Style {
        let colour = |it: AnsiColor| Style::new().fg_color(Some(Color::Ansi(it)));
        match self {
            Self::Plain => Style::new(),
            Self::Good => colour(AnsiColor::Green),
            Self::Waiting => colour(AnsiColor::Yellow),
            Self::Bad => colour(AnsiColor::Red).bold(),
            Self::Faint => Style::new().dimmed(),
            Self::Strong => Style::new().bold(),
        }
    }
}

impl Ui {
    /// A printer of results as text or JSON.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether somebody watches the story on a terminal.
    pub fn is_live(&self) -> bool {
        !self.json && std::io::stderr().is_terminal()
    }

    /// Whether results go to a terminal that wants colour.
    pub fn wants_colour(&self) -> bool {
        anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never
    }

    /// Text in a tone, with the signs that colour it; they are dropped where none is wanted.
    pub fn paint(&self, tone: Tone, text: impl std::fmt::Display) -> String {
        let style = tone.style();
        format!("{style}{text}{style:#}")
    }

    /// One line of a result.
    pub fn result(&self, line: impl std::fmt::Display) {
        // Whoever reads us may have heard enough (`| head`).
        let _ = writeln!(anstream::stdout(), "{line}");
    }

    /// A result as one line of JSON.
    pub fn result_json(&self, value: &serde_json::Value) {
        let _ = writeln!(anstream::stdout(), "{value}");
    }

    /// One line of the story.
    pub fn story(&self, line: impl std::fmt::Display) {
        let _ = writeln!(anstream::stderr(), "{line}");
    }

    /// Why it did not work, and what to do.
    pub fn failure(&self, failure: &Failure) {
        if self.json {
            let value = serde_json::json!({
                "error": failure.error,
                "hint": failure.hint,
                "status": failure.kind.status(),
            });
            let _ = writeln!(anstream::stderr(), "{value}");
            return;
        }
        self.story(format_args!("{} {}", self.paint(Tone::Bad, "error:"), failure.error));
        if let Some(hint) = &failure.hint {
            self.story(format_args!("{} {hint}", self.paint(Tone::Strong, "help:")));
        }
    }

    /// Rows with columns lined up, two spaces between them.
    pub fn table(&self, rows: &[Vec<(Tone, String)>]) {
        for line in self.lined_up(rows) {
            self.result(line);
        }
    }

    /// The lines of a table.
    pub fn lined_up(&self, rows: &[Vec<(Tone, String)>]) -> Vec<String> {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|(_, text)| text.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |row: &Vec<(Tone, String)>| {
            let mut line = String::new();
            for ((tone, text), (at, width)) in row.iter().zip(widths.iter().enumerate()) {
                line.push_str(&self.paint(*tone, text));
                if at + 1 < row.len() {
                    line.push_str(&" ".repeat(width - text.chars().count() + 2));
                }
            }
            line.trim_end().to_owned()
        };
        rows.iter().map(line).collect()
    }
}

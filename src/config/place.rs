//! Where in a file something is written, and what was found wrong there. Texts are not kept, so
//! line and column are counted while the text is at hand.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;

use crate::text::{self, Diagnostic, LineIndex, Severity};

/// Where a value stands in its file. Half the size of four `usize`: thousands are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    start: u32,
    end: u32,
    line: u32,
    column: u32,
}

/// A value, and where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct At<T> {
    /// The value.
    pub(super) value: T,
    /// Where it is written.
    pub(super) place: Place,
}

/// A mistake in the config, with its line and column.
///
/// Spans in [`Self::diagnostic`] are bytes of the file at the commit that was read; to show
/// excerpts, give `text::render` the text of that file at that commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub diagnostic: Diagnostic,
    /// Line and column, from 1; none if the whole file is meant.
    pub position: Option<(u32, u32)>,
}

impl Finding {
    /// Whether it holds targets.
    pub fn is_error(&self) -> bool {
        self.diagnostic.severity == Severity::Error
    }

    /// A finding about a whole file.
    pub(super) fn whole(diagnostic: Diagnostic) -> Self {
        Self { diagnostic, position: None }
    }

    /// A finding at a place.
    pub(super) fn at(diagnostic: Diagnostic, place: Place) -> Self {
        let position = Some((place.line, place.column));
        Self { diagnostic: diagnostic.at(place.start as usize..place.end as usize), position }
    }

    /// Order by file and place, then by what is said, so that equal configs report equally.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        let key = |it: &Self| {
            let span = it.diagnostic.span.clone().unwrap_or_default();
            (it.position.is_some(), span.start, span.end, it.diagnostic.severity)
        };
        (self.diagnostic.file.cmp(&other.diagnostic.file))
            .then_with(|| key(self).cmp(&key(other)))
            .then_with(|| self.diagnostic.message.cmp(&other.diagnostic.message))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", text::visible(&self.diagnostic.file))?;
        if let Some((line, column)) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", text::visible(&self.diagnostic.message))
    }
}

/// Counts lines and columns of one text. Values are asked for mostly in the order of the file, so
/// it counts on from the last one: a file of one long line costs no more than others.
pub(super) struct Places<'a> {
    text: &'a str,
    lines: LineIndex<'a>,
    last: (usize, u32, u32),
}

impl<'a> Places<'a> {
    /// Finds where the lines of `text` begin.
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, lines: LineIndex::new(text), last: (0, 1, 1) }
    }

    /// Where a range of bytes is.
    pub(super) fn of(&mut self, span: &Range<usize>) -> Place {
        let (byte, line, column) = self.last;
        let between = (byte > 0).then(|| self.text.get(byte..span.start)).flatten();
        let (line, column) = match between {
            Some(between) if !between.contains('\n') => (line, column + count(between)),
            _ => {
                let (line, column) = self.lines.position(span.start);
                (narrow(line), narrow(column))
            }
        };
        self.last = (span.start, line, column);
        Place { start: narrow(span.start), end: narrow(span.end), line, column }
    }
}

fn count(text: &str) -> u32 {
    narrow(text.chars().count())
}

/// Files that are read have at most 256 KiB.
fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

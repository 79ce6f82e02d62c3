//! A mistake in a text, where it is, and how to mend it; and how a person gets to see it.
//!
//! Invariants: spans are byte ranges of the whole file, byte order mark included. Nothing that a
//! file contains reaches a terminal as a control character.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::Range;

/// How bad a [`Diagnostic`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The text cannot be used as it is.
    Error,
    /// The text can be used, but probably says something else than meant.
    Warning,
}

/// One mistake in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the file can be used nevertheless.
    pub severity: Severity,
    /// A stable name in kebab-case, for searching and for machines.
    pub code: &'static str,
    /// What is wrong, as a lowercase fragment.
    pub message: String,
    /// The file, as a path in its repository.
    pub file: String,
    /// Where it is wrong, in bytes; nowhere if the whole file is.
    pub span: Option<Range<usize>>,
    /// How to mend it.
    pub hint: Option<String>,
    /// Other places that matter, each with a label.
    pub related: Vec<(String, Range<usize>)>,
}

impl Diagnostic {
    /// Makes an error about a whole file; see [`Self::at`] for a place in it.
    pub fn error(file: &str, code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, file, code, message.into())
    }

    /// Makes a warning about a whole file; see [`Self::at`] for a place in it.
    pub fn warning(file: &str, code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, file, code, message.into())
    }

    /// Says where the mistake is.
    #[must_use]
    pub fn at(mut self, span: Range<usize>) -> Self {
        self.span = Some(span);
        self
    }

    /// Says how to mend it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Points at another place that matters.
    #[must_use]
    pub fn related(mut self, label: impl Into<String>, span: Range<usize>) -> Self {
        self.related.push((label.into(), span));
        self
    }

    fn new(severity: Severity, file: &str, code: &'static str, message: String) -> Self {
        let (span, hint, related) = (None, None, Vec::new());
        Self { severity, code, message, file: file.to_owned(), span, hint, related }
    }
}

/// Turns byte offsets into lines and columns; worth making when a file has many to ask for.
#[derive(Clone, Debug)]
pub struct LineIndex<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> LineIndex<'a> {
    /// Finds where the lines of `text` start.
    pub fn new(text: &'a str) -> Self {
        let breaks = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n');
        let starts = std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    /// Gives line and column of a byte, both from 1, the column in characters.
    ///
    /// A byte order mark takes no column; a byte inside a character counts as its start; a byte
    /// past the end counts as the end.
    pub fn position(&self, byte: usize) -> (usize, usize) {
        let byte = self.text.floor_char_boundary(byte);
        let line = self.starts.partition_point(|&start| start <= byte);
        let start = line.checked_sub(1).and_then(|at| self.starts.get(at)).copied().unwrap_or(0);
        (line, column(self.text.get(start..byte).unwrap_or_default(), start))
    }
}

/// Gives line and column of one byte, both from 1, the column in characters.
pub fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..text.floor_char_boundary(byte)).unwrap_or_default();
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
    (line, column(before.get(start..).unwrap_or_default(), start))
}

fn column(before: &str, start: usize) -> usize {
    let mark = usize::from(start == 0 && before.starts_with('\u{feff}'));
    before.chars().count() - mark + 1
}

/// Writes diagnostics the way rustc does, with excerpts of the sources that `source` knows.
pub fn render<'s>(
    diagnostics: &[Diagnostic],
    source: impl Fn(&str) -> Option<&'s str>,
    colour: bool,
) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let mut out = String::new();
    for diagnostic in diagnostics {
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(visible(&diagnostic.message)).id(diagnostic.code);
        let mut group = excerpt(Group::with_title(title), diagnostic, source(&diagnostic.file));
        if let Some(hint) = &diagnostic.hint {
            group = group.element(Level::HELP.message(visible(hint)));
        }
        out.push_str(&renderer.render(&[group]));
        out.push_str("\n\n");
    }
    out.pop();
    out
}

/// Longest piece of source shown around a mistake; beyond it lines are cut, not the message.
const EXCERPT_BYTES_MAX: usize = 16 * 1024;

fn excerpt<'a>(group: Group<'a>, diagnostic: &'a Diagnostic, source: Option<&str>) -> Group<'a> {
    let file = visible(&diagnostic.file);
    let (Some(source), Some(span)) = (source, &diagnostic.span) else {
        return group.element(annotate_snippets::Origin::path(file));
    };
    let near = |range: &Range<usize>| {
        let (from, to) = (range.start.min(span.start), range.end.max(span.end));
        to.saturating_sub(from) <= EXCERPT_BYTES_MAX
    };
    let shown: Vec<_> = diagnostic.related.iter().filter(|(_, range)| near(range)).collect();
    let from = shown.iter().map(|(_, range)| range.start).fold(span.start, usize::min);
    let to = shown.iter().map(|(_, range)| range.end).fold(span.end, usize::max);
    let window = Window::new(source, from, to);

    let mut snippet = Snippet::source(window.text.clone())
        .line_start(window.first_line)
        .path(file)
        .annotation(AnnotationKind::Primary.span(window.map(span)));
    for (label, range) in shown {
        let label = visible(label);
        snippet = snippet.annotation(AnnotationKind::Context.span(window.map(range)).label(label));
    }
    let mut group = group.element(snippet);
    for (label, range) in diagnostic.related.iter().filter(|(_, range)| !near(range)) {
        let (line, column) = position(source, range.start);
        let text = format!("{} at line {line}, column {column}", visible(label));
        group = group.element(Level::NOTE.message(text));
    }
    group
}

/// The lines around a mistake, made harmless, and the way from the file's bytes to theirs.
struct Window<'s> {
    raw: &'s str,
    text: String,
    offset: usize,
    first_line: usize,
}

impl<'s> Window<'s> {
    fn new(source: &'s str, from: usize, to: usize) -> Self {
        let from = source.floor_char_boundary(from);
        let to = source.ceil_char_boundary(to).max(from);
        let before = source.get(..from).unwrap_or_default();
        let line = before.rfind('\n').map_or(0, |at| at + 1);
        let line = if line == 0 && source.starts_with('\u{feff}') && from > 0 { 3 } else { line };
        let start = source.floor_char_boundary(line.max(from.saturating_sub(EXCERPT_BYTES_MAX)));
        let after = source.get(to..).unwrap_or_default();
        let stop = to.saturating_add(after.find('\n').unwrap_or(after.len()));
        let stop = source.floor_char_boundary(stop.min(to.saturating_add(EXCERPT_BYTES_MAX)));
        let raw = source.get(start..stop).unwrap_or_default();
        let first_line = before.bytes().filter(|&byte| byte == b'\n').count() + 1
            - before.get(start..).unwrap_or_default().matches('\n').count();
        Self { raw, text: harmless(raw, true).into_owned(), offset: start, first_line }
    }

    fn map(&self, range: &Range<usize>) -> Range<usize> {
        let at = |byte: usize| {
            let end = self.raw.floor_char_boundary(byte.saturating_sub(self.offset));
            harmless(self.raw.get(..end).unwrap_or_default(), true).len()
        };
        let start = at(range.start);
        start..at(range.end).max(start)
    }
}

/// Makes control characters and characters that reorder text visible, and newlines too.
pub fn visible(text: &str) -> Cow<'_, str> {
    harmless(text, false)
}

fn harmless(text: &str, lines: bool) -> Cow<'_, str> {
    let keep = |c: char| !hostile(c) || (lines && matches!(c, '\n' | '\t'));
    if text.chars().all(keep) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let line_end = lines && c == '\r' && rest.peek().is_none_or(|&next| next == '\n');
        if keep(c) {
            out.push(c);
        } else if !line_end {
            // Writing to a string cannot fail.
            let _ = write!(out, "{}", c.escape_default());
        }
    }
    Cow::Owned(out)
}

/// Whether a character could drive a terminal or change the order in which text is shown.
pub(super) fn hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Finds what a misspelt word was probably meant to be.
///
/// The nearest candidate within a third of the word's length (at least one edit), where a swap of
/// neighbours is one edit; the earlier candidate wins a tie.
pub fn closest<'c, S: AsRef<str> + ?Sized + 'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c S>,
) -> Option<&'c str> {
    /// Longest word we compare; the cost grows with the square.
    const WORD_CHARS_MAX: usize = 64;
    let word: Vec<char> = word.chars().take(WORD_CHARS_MAX + 1).collect();
    if word.len() > WORD_CHARS_MAX {
        return None;
    }
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let candidate = candidate.as_ref();
        let limit = (word.len().max(candidate.chars().count()) / 3).max(1);
        if candidate.chars().count() > WORD_CHARS_MAX {
            continue;
        }
        let edits = distance(&word, candidate);
        if edits <= limit && best.is_none_or(|(least, _)| edits < least) {
            best = Some((edits, candidate));
        }
    }
    // A word with nothing in common is no suggestion, however short both are.
    best.filter(|&(edits, candidate)| edits < candidate.chars().count().max(word.len()))
        .map(|(_, candidate)| candidate)
}

/// Counts insertions, deletions, changes and swaps of neighbours between two words.
fn distance(word: &[char], other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut earlier: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (row, &a) in word.iter().enumerate() {
        let mut next = Vec::with_capacity(other.len() + 1);
        next.push(row + 1);
        for (column, &b) in other.iter().enumerate() {
            let change = last[column] + usize::from(a != b);
            let mut cost = change.min(last[column + 1] + 1).min(next[column] + 1);
            let swapped = row > 0 && column > 0 && a == other[column - 1] && b == word[row - 1];
            if swapped {
                cost = cost.min(earlier[column - 1] + 1);
            }
            next.push(cost);
        }
        earlier = std::mem::replace(&mut last, next);
    }
    last.last().copied().unwrap_or(word.len())
}

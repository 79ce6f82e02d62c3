//! Adds one string to a top-level list in YAML text: how a bad ref gets onto `blocked:`.
//!
//! Invariants: no byte of the file goes away, except for a `null` that the list replaces; a second
//! reading differs from the first by this one element. What cannot be proved is refused.

use super::find::{Found, Item, List, What, find};
use super::pointer::Pointer;
use super::proof::{Added, Change, proves};
use super::refusal::Refusal;
use super::scalar::{Ambiguity, ambiguity, encode};
use super::splice::{Patch, gap, line, text, unsure};
use super::tree::Style;

/// Adds `value` to the list at `pointer`, a top-level key; a missing list is written as a line of
/// its own above the key `before_key`. Gives the same bytes back if the list has the value.
pub fn insert_into_list(
    bytes: &[u8],
    document: usize,
    pointer: &Pointer,
    before_key: &str,
    value: &str,
) -> Result<Vec<u8>, Refusal> {
    let text = text(bytes)?;
    let [key] = pointer.segments() else { return Err(Refusal::Unsure { line: 1 }) };
    let found = match find(text, document, pointer) {
        Ok(found) => found,
        Err(Refusal::NotFound { .. }) => return add_key(text, document, key, before_key, value),
        Err(refusal) => return Err(refusal),
    };
    let not_a_list = |kind| Err(Refusal::NotAList { line: line(text, &found), kind });
    match &found.what {
        What::List(list) => extend(text, &found, list, value),
        What::Missing => begin(text, &found, value),
        What::Scalar { text: null, style: Style::Plain, is_string: false }
            if ambiguity(null) == Some(Ambiguity::Null) =>
        {
            begin(text, &found, value)
        }
        What::Scalar { .. } => not_a_list("a single value"),
        What::Map => not_a_list("a mapping"),
    }
}

/// An edit and what it may change.
struct Edit<'e> {
    patch: Patch,
    event: usize,
    removed: usize,
    added: &'e [Added<'e>],
}

fn prove(text: &str, found: &Found, edit: Option<Edit<'_>>) -> Result<Vec<u8>, Refusal> {
    let proved = edit.and_then(|Edit { patch, event, removed, added }| {
        let after = patch.apply(text)?;
        proves(text, &after, &Change::Inserted { event, removed, added }).then_some(after)
    });
    proved.map(String::into_bytes).ok_or_else(|| unsure(text, found))
}

/// Adds to a list that is there.
fn extend(text: &str, found: &Found, list: &List, value: &str) -> Result<Vec<u8>, Refusal> {
    let is_there = |item: &Item| {
        item.scalar.as_ref().is_some_and(|(text, style)| {
            text == value && (*style != Style::Plain || ambiguity(text).is_none())
        })
    };
    if list.items.iter().any(is_there) {
        return Ok(text.as_bytes().to_vec());
    }
    let patch = if list.flow {
        extend_flow(found, list, value)
    } else {
        list.items.last().and_then(|last| extend_block(text, last, value))
    };
    let added = [Added::Text(value)];
    let edit = patch.map(|patch| Edit { patch, event: list.end_event, removed: 0, added: &added });
    prove(text, found, edit)
}

fn extend_flow(found: &Found, list: &List, value: &str) -> Option<Patch> {
    let Some(item) = list.items.last() else {
        let new = encode(value, Style::Plain, true);
        return Some(Patch { span: found.span.end..found.span.end, new });
    };
    let (_, style) = item.scalar.as_ref()?;
    let new = format!(", {}", encode(value, *style, true));
    // A bracket that the parser closed elsewhere than behind the last item is for a person.
    (item.span.end <= list.end.start).then_some(Patch { span: item.span.end..item.span.end, new })
}

/// Adds a line below the line of the last item, with its dash in the same column.
fn extend_block(text: &str, last: &Item, value: &str) -> Option<Patch> {
    let (_, style) = last.scalar.as_ref().filter(|(_, style)| match style {
        Style::Plain | Style::SingleQuoted | Style::DoubleQuoted => true,
        Style::Literal | Style::Folded => false,
    })?;
    let start = line_start(text, last.span.start);
    let dash = text.get(start..last.span.start)?;
    let (indent, blanks) = dash.split_once('-')?;
    let plain = indent.bytes().all(|b| b == b' ') && blanks.bytes().all(|b| b == b' ');
    let rest = text.get(last.span.end..)?;
    let stop = last.span.end + rest.find(['\n', '\r']).unwrap_or(rest.len());
    let new = format!("{}{dash}{}", line_end(text), encode(value, *style, false));
    plain.then_some(Patch { span: stop..stop, new })
}

/// Puts the first list where nothing stands.
fn begin(text: &str, found: &Found, value: &str) -> Result<Vec<u8>, Refusal> {
    let list = format!("[{}]", encode(value, Style::Plain, true));
    let patch = match &found.what {
        What::Missing => gap(text, found).map(|at| Patch { span: at..at, new: format!(" {list}") }),
        What::Scalar { .. } | What::Map | What::List(_) => {
            Some(Patch { span: found.span.clone(), new: list })
        }
    };
    let added = [Added::ListStart, Added::Text(value), Added::ListEnd];
    let edit = patch.map(|patch| Edit { patch, event: found.event, removed: 1, added: &added });
    prove(text, found, edit)
}

/// Adds the key with a list of one above another key and above the comments that belong to that.
fn add_key(
    text: &str,
    document: usize,
    key: &str,
    before_key: &str,
    value: &str,
) -> Result<Vec<u8>, Refusal> {
    let found = find(text, document, &Pointer::new([before_key]))?;
    let patch = found.key.as_ref().filter(|_| !found.in_flow).and_then(|at| {
        let start = line_start(text, at.span.start);
        let start = if start == 0 && text.starts_with('\u{feff}') { 3 } else { start };
        let indent = text.get(start..at.span.start)?;
        let is_first = text.get(..at.before)?.trim_start_matches('\u{feff}').trim().is_empty();
        let above = if is_first { start } else { above_comments(text, at.before, start) };
        let written = encode(key, Style::Plain, false);
        let value = encode(value, Style::Plain, true);
        let new = format!("{indent}{written}: [{value}]{}", line_end(text));
        indent.bytes().all(|b| b == b' ').then_some(Patch { span: above..above, new })
    });
    let added = [Added::Text(key), Added::ListStart, Added::Text(value), Added::ListEnd];
    let event = found.key.as_ref().map_or(found.event, |key| key.event);
    prove(text, &found, patch.map(|patch| Edit { patch, event, removed: 0, added: &added }))
}

/// Goes up from a line over the comment lines directly above it, not beyond `limit`.
fn above_comments(text: &str, limit: usize, start: usize) -> usize {
    let mut at = start;
    while let Some(above) = at.checked_sub(1).map(|end| line_start(text, end)) {
        let is_comment = text.get(above..at).is_some_and(|line| line.trim_start().starts_with('#'));
        if above < limit || !is_comment {
            break;
        }
        at = above;
    }
    at
}

fn line_start(text: &str, at: usize) -> usize {
    text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1)
}

/// The line end the file uses.
fn line_end(text: &str) -> &'static str {
    match text.find('\n').and_then(|at| text.get(..at)) {
        Some(line) if line.ends_with('\r') => "\r\n",
        Some(_) | None => "\n",
    }
}

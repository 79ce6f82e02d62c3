//! Replaces one string in YAML text by splicing its bytes, and proves that nothing else changed.
//!
//! Whatever a file holds elsewhere is kept: comments, quotes, blank lines, line ends, anchors,
//! tags, further documents. Writing the whole file anew would be simpler and would ruin all that.
//!
//! Invariants: the bytes before and behind the value are the same; a second reading of the result
//! differs from the first in this one value, which every YAML reader takes for this string. What
//! cannot be proved is refused.

use super::find::{Found, What, find};
use super::pointer::Pointer;
use super::proof::{Change, proves};
use super::refusal::Refusal;
use super::scalar::{ambiguity, encode};
use super::tree::Style;
use std::ops::Range;

/// Largest file that is edited. Generated manifests grow to a few MB; this bounds the three reads.
pub const EDIT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Replaces the scalar at `pointer` in a document of a YAML stream by the string `new`.
///
/// Gives the same bytes back if `new` stands there already, as what every reader takes for a string.
pub fn replace(
    bytes: &[u8],
    document: usize,
    pointer: &Pointer,
    new: &str,
) -> Result<Vec<u8>, Refusal> {
    splice(bytes, document, pointer, new, |style| style)
}

/// Does the same to JSON, which knows no strings without double quotes.
pub(super) fn replace_json(
    bytes: &[u8],
    document: usize,
    pointer: &Pointer,
    new: &str,
) -> Result<Vec<u8>, Refusal> {
    splice(bytes, document, pointer, new, |_| Style::DoubleQuoted)
}

fn splice(
    bytes: &[u8],
    document: usize,
    pointer: &Pointer,
    new: &str,
    restyle: fn(Style) -> Style,
) -> Result<Vec<u8>, Refusal> {
    let text = text(bytes)?;
    let found = find(text, document, pointer)?;
    if stands_already(&found, new) {
        return Ok(bytes.to_vec());
    }
    let patch = patch(text, &found, new, restyle)?;
    let after = patch.apply(text);
    let change = Change::Replaced { event: found.event, new };
    match after {
        Some(after) if proves(text, &after, &change) => Ok(after.into_bytes()),
        Some(_) | None => Err(unsure(text, &found)),
    }
}

/// Takes bytes for text, if there are not too many.
pub(super) fn text(bytes: &[u8]) -> Result<&str, Refusal> {
    if bytes.len() > EDIT_BYTES_MAX {
        return Err(Refusal::TooLarge { bytes: bytes.len(), limit: EDIT_BYTES_MAX });
    }
    std::str::from_utf8(bytes).map_err(|error| Refusal::NotUtf8 { at: error.valid_up_to() })
}

/// The refusal for what was found but cannot be changed with certainty.
pub(super) fn unsure(text: &str, found: &Found) -> Refusal {
    Refusal::Unsure { line: line(text, found) }
}

/// The line of what was found, or of its key if nothing stands there.
pub(super) fn line(text: &str, found: &Found) -> usize {
    let at = match (&found.what, &found.key) {
        (What::Missing, Some(key)) => key.span.start,
        _ => found.span.start,
    };
    super::diagnostic::position(text, at).0
}

fn stands_already(found: &Found, new: &str) -> bool {
    match &found.what {
        What::Scalar { text, style, is_string } => {
            text == new && (*style != Style::Plain || *is_string || ambiguity(text).is_none())
        }
        What::Missing | What::Map | What::List(_) => false,
    }
}

/// Bytes to put in place of others.
pub(super) struct Patch {
    pub(super) span: Range<usize>,
    pub(super) new: String,
}

impl Patch {
    /// Applies it, unless it does not fit the text.
    pub(super) fn apply(&self, text: &str) -> Option<String> {
        let (before, behind) = (text.get(..self.span.start)?, text.get(self.span.end..)?);
        Some([before, &self.new, behind].concat())
    }
}

fn patch(
    text: &str,
    found: &Found,
    new: &str,
    restyle: fn(Style) -> Style,
) -> Result<Patch, Refusal> {
    let not_a_scalar = |kind| Refusal::NotAScalar { line: line(text, found), kind };
    let patch = match &found.what {
        What::Map => return Err(not_a_scalar("a mapping")),
        What::List(_) => return Err(not_a_scalar("a list")),
        What::Missing => gap(text, found)
            .map(|at| Patch { span: at..at, new: value(new, restyle(Style::Plain), found) }),
        What::Scalar { style: style @ (Style::Literal | Style::Folded), .. } => {
            let new = encode(new, restyle(*style), found.in_flow);
            block(text, found).map(|block| Patch { span: block.span, new: new + block.comment })
        }
        What::Scalar { style, .. } => {
            let new = encode(new, restyle(*style), found.in_flow);
            Some(Patch { span: found.span.clone(), new })
        }
    };
    patch.ok_or_else(|| unsure(text, found))
}

/// A value that follows a colon, a dash, an anchor or a tag.
fn value(new: &str, style: Style, found: &Found) -> String {
    format!(" {}", encode(new, style, found.in_flow))
}

/// Where a missing value belongs: behind its anchor or tag, its colon or its dash.
pub(super) fn gap(text: &str, found: &Found) -> Option<usize> {
    if let Some(end) = found.properties_end {
        return Some(end);
    }
    if let Some(key) = &found.key {
        let at = skip(text, key.span.end, &[]);
        return text.get(at..)?.starts_with(':').then_some(at + 1);
    }
    let dash_before = |at: usize| {
        let before = text.get(..at)?.trim_end_matches([' ', '\t']);
        before.ends_with('-').then_some(before.len())
    };
    // The parser notices a missing item behind its dash or only behind the comment after that.
    // It places the start of a list behind the first dash.
    dash_before(found.span.start).or_else(|| {
        if found.is_first {
            return dash_before(found.before);
        }
        let at = skip(text, found.before, &[]);
        text.get(at..)?.starts_with('-').then_some(at + 1)
    })
}

/// A block scalar from its indicator to the end of its last line that is not blank.
struct Block<'t> {
    span: Range<usize>,
    /// The comment on its first line, blanks included.
    comment: &'t str,
}

fn block<'t>(text: &'t str, found: &Found) -> Option<Block<'t>> {
    // The parser's span starts at the first word of the content; the indicator is before it.
    let start = found.properties_end.unwrap_or(found.before);
    let start = skip(text, start, b":-?");
    let header = text.get(start..)?.strip_prefix(['|', '>'])?;
    let header = header.split(['\n', '\r']).next().unwrap_or_default();
    let comment = header.trim_start_matches(|c: char| c.is_ascii_digit() || "+-".contains(c));
    let header_end = start + 1 + header.len();
    let comment = if comment.trim().is_empty() { "" } else { comment.trim_end() };
    let body = text.get(header_end..found.span.end.max(header_end))?;
    let end = header_end + body.trim_end_matches(['\n', '\r', ' ', '\t']).len();
    Some(Block { span: start..end, comment })
}

/// Skips blanks, line ends, comments and the given signs.
fn skip(text: &str, from: usize, signs: &[u8]) -> usize {
    let bytes = text.as_bytes();
    let mut at = from;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => at += 1,
            b'#' => at += bytes.iter().skip(at).take_while(|&&b| b != b'\n' && b != b'\r').count(),
            sign if signs.contains(sign) => at += 1,
            _ => break,
        }
    }
    at
}

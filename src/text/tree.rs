//! Bytes of one YAML file → a tree with spans, in the strict dialect that Towpath interprets.
//!
//! Strict means: one document, no anchors, aliases, merge keys, tags or directives, no duplicate
//! keys, keys are scalars, and limits on size, depth and count. What is refused here is legal YAML
//! that makes a file say something else to another reader, or cost more than it should.
//!
//! Invariants: spans are bytes of the file; children lie within their parents; a tree is returned
//! only if nothing at all was wrong; time is linear in the size of the file.

use super::build::Builder;
use super::diagnostic::Diagnostic;
use granit_parser::ScalarStyle;
use std::borrow::Cow;
use std::ops::Range;

/// Largest file we interpret. A service with a hundred targets needs a tenth of it.
pub const FILE_BYTES_MAX: usize = 256 * 1024;
/// Deepest nesting. What we interpret needs eight; code that walks a tree may recurse.
pub const DEPTH_MAX: usize = 32;
/// Most scalars, lists and mappings in a file. Bounds memory to some 10 MB for a hostile one.
pub const NODES_MAX: usize = 100_000;
/// Most mistakes reported of one file; nobody reads more, and each costs memory.
pub const PROBLEMS_MAX: usize = 64;

/// One file, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document<'a> {
    /// The whole file, byte order mark included, so that spans index it.
    pub text: &'a str,
    /// What the file says.
    pub root: Node<'a>,
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node<'a> {
    /// Bytes of the value, quotes and brackets included; empty after its key if it is missing.
    pub span: Range<usize>,
    /// What stands there.
    pub value: Value<'a>,
}

/// What a node can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A single value. Nothing is interpreted here: all of them are text.
    Scalar(Scalar<'a>),
    /// Keys with values, in the order of the file, keys unique.
    Map(Vec<Entry<'a>>),
    /// Values in order.
    Seq(Vec<Node<'a>>),
}

/// A single value as text, and how it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scalar<'a> {
    /// The text after unquoting; empty for a missing value.
    pub text: Cow<'a, str>,
    /// How it was written.
    pub style: Style,
}

/// The five ways to write a scalar in YAML.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Style {
    /// `word`
    Plain,
    /// `'word'`
    SingleQuoted,
    /// `"word"`
    DoubleQuoted,
    /// `|` and lines
    Literal,
    /// `>` and lines
    Folded,
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The key.
    pub key: Key<'a>,
    /// Its value.
    pub value: Node<'a>,
}

/// A key of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key<'a> {
    /// Bytes of the key, quotes included.
    pub span: Range<usize>,
    /// The text after unquoting.
    pub text: Cow<'a, str>,
    /// How it was written.
    pub style: Style,
}

impl<'a> Node<'a> {
    /// Names what the node is, for messages: "a list".
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Scalar(scalar) if scalar.is_missing() => "nothing",
            Value::Scalar(_) => "a single value",
            Value::Map(_) => "a mapping",
            Value::Seq(_) => "a list",
        }
    }

    /// Gets the value of a key, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node<'a>> {
        match &self.value {
            Value::Map(entries) => {
                entries.iter().find(|entry| entry.key.text == key).map(|entry| &entry.value)
            }
            Value::Scalar(_) | Value::Seq(_) => None,
        }
    }
}

impl Scalar<'_> {
    /// Whether nothing was written at all, as in `key:`.
    pub fn is_missing(&self) -> bool {
        self.text.is_empty() && self.style == Style::Plain
    }
}

impl From<ScalarStyle> for Style {
    fn from(style: ScalarStyle) -> Self {
        match style {
            ScalarStyle::Plain => Self::Plain,
            ScalarStyle::SingleQuoted => Self::SingleQuoted,
            ScalarStyle::DoubleQuoted => Self::DoubleQuoted,
            ScalarStyle::Literal => Self::Literal,
            ScalarStyle::Folded => Self::Folded,
        }
    }
}

/// Reads one file, or says everything that is wrong with it.
pub fn parse<'a>(file: &str, bytes: &'a [u8]) -> Result<Document<'a>, Vec<Diagnostic>> {
    if bytes.len() > FILE_BYTES_MAX {
        let message =
            format!("the file has {} bytes, at most {FILE_BYTES_MAX} are read", bytes.len());
        let hint = "split it: one file per service or environment";
        return Err(vec![Diagnostic::error(file, "too-large", message).hint(hint)]);
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let problem = Diagnostic::error(file, "not-utf8", format!("not UTF-8 at byte {at}"));
        vec![problem.at(at..at).hint("save the file as UTF-8")]
    })?;
    let mut builder = Builder::new(file, text);
    builder.read();
    builder.finish()
}

//! Reads a tree into records and reports every mistake on the way, where serde would stop at the
//! first. One declaration of a record is its type, its reading and its shape in the JSON Schema.
//!
//! Invariant: `None` is returned only after an error was reported.

use std::ops::Range;

use crate::text::{self, Diagnostic, Entry, Node, Scalar, Severity, Value};

use super::place::{At, Finding, Place, Places};

/// Most findings of one file that are kept; nobody reads more, and each costs memory.
const FINDINGS_MAX: usize = 64;

/// A value that can be read from a tree.
pub(super) trait Read: Sized {
    /// What it looks like, for the schema.
    fn shape() -> Shape;
    /// Reads it; reports all that is wrong with it.
    fn read(node: &Node<'_>, at: &mut Reader<'_>) -> Option<Self>;
}

/// What a value looks like.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// Text; with a regular expression where the grammar is one.
    Text(Option<&'static str>),
    /// `true` or `false`.
    Bool,
    /// A whole number from the first to the second.
    Number(u32, u32),
    /// One of these words.
    Words(&'static [&'static str]),
    /// A list.
    List(Box<Shape>),
    /// Keys of a user's choice.
    Map(&'static str, Box<Shape>),
    /// Fixed keys.
    Record(&'static str, Vec<Field>),
    /// Fixed keys, and exactly one of these among them.
    OneKeyOf(&'static [&'static str], Box<Shape>),
    /// Any of these.
    Any(Vec<Shape>),
}

/// A key of a record.
#[derive(Clone, Debug)]
pub(super) struct Field {
    /// The key.
    pub(super) key: &'static str,
    /// What it means.
    pub(super) docs: &'static str,
    /// Whether it must be there.
    pub(super) required: bool,
    /// What it looks like.
    pub(super) shape: Shape,
}

/// Collects what is wrong with one file.
pub(super) struct Reader<'a> {
    file: &'a str,
    places: Places<'a>,
    found: Vec<Finding>,
    unlisted: usize,
}

impl<'a> Reader<'a> {
    /// Begins with a file that has this text.
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, places: Places::new(text), found: Vec::new(), unlisted: 0 }
    }

    /// Where a range of bytes is.
    pub(super) fn place(&mut self, span: &Range<usize>) -> Place {
        self.places.of(span)
    }

    /// Reports an error at a place.
    pub(super) fn error(
        &mut self,
        span: &Range<usize>,
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        if self.found.len() >= FINDINGS_MAX {
            self.unlisted += 1;
            return;
        }
        let hint = hint.into();
        let diagnostic = Diagnostic::error(self.file, code, message);
        let diagnostic = if hint.is_empty() { diagnostic } else { diagnostic.hint(hint) };
        let place = self.place(span);
        self.found.push(Finding::at(diagnostic, place));
    }

    /// Reports that something else was expected.
    pub(super) fn expected(&mut self, node: &Node<'_>, what: &str, hint: &str) {
        let message = format!("expected {what}, found {}", found(node));
        self.error(&node.span, "wrong-type", message, hint);
    }

    /// All that was found.
    pub(super) fn finish(mut self) -> Vec<Finding> {
        if self.unlisted > 0 {
            let message = format!("and {} more mistakes", self.unlisted);
            let diagnostic = Diagnostic::error(self.file, "too-many-mistakes", message);
            self.found.push(Finding::whole(diagnostic));
        }
        self.found
    }

    /// The entries of a mapping.
    pub(super) fn map<'n, 't>(&mut self, node: &'n Node<'t>) -> Option<&'n [Entry<'t>]> {
        match &node.value {
            Value::Map(entries) => Some(entries),
            Value::Scalar(_) | Value::Seq(_) => {
                self.expected(node, "a mapping of keys to values", "");
                None
            }
        }
    }

    /// Reports a key that nobody knows.
    pub(super) fn unknown_key(&mut self, entry: &Entry<'_>, known: &[&str]) {
        let key = text::visible(&entry.key.text);
        let hint = if LATER.contains(&key.as_ref()) {
            format!("not in this version of Towpath: remove `{key}`")
        } else if let Some(near) = text::closest(&key, known.iter().copied()) {
            format!("did you mean `{near}`?")
        } else {
            format!("known here: {}", known.join(", "))
        };
        let message = format!("unknown key `{}`", shortened(&key));
        self.error(&entry.key.span, "unknown-key", message, hint);
    }

    /// Reports a key that should be there; at the mapping's first key, for a mapping may be long.
    pub(super) fn missing_key(&mut self, node: &Node<'_>, key: &str) {
        let span = match &node.value {
            Value::Map(entries) => entries.first().map(|entry| entry.key.span.clone()),
            Value::Scalar(_) | Value::Seq(_) => None,
        };
        let span = span.unwrap_or_else(|| node.span.clone());
        self.error(&span, "missing-key", format!("the key `{key}` is missing here"), "");
    }
}

/// Keys of the design that are yet to be built. They get an honest answer, for they are written
/// in good faith.
const LATER: [&str; 4] = ["apt", "kubernetes", "protect", "ssh"];

/// Names what stands somewhere, for messages.
fn found(node: &Node<'_>) -> String {
    match &node.value {
        Value::Scalar(scalar) if !scalar.is_missing() => {
            format!("`{}`", shortened(&text::visible(&scalar.text)))
        }
        Value::Scalar(_) | Value::Map(_) | Value::Seq(_) => node.kind().to_owned(),
    }
}

/// The beginning of a text that may be long.
pub(super) fn shortened(text: &str) -> String {
    /// Characters of a value in a message.
    const SHOWN_MAX: usize = 60;
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A value that is one scalar.
pub(super) trait Leaf: Sized {
    /// What to call it in messages: "a duration".
    const WHAT: &'static str;
    /// What it looks like.
    fn shape() -> Shape;
    /// Reads it, or says why not and how to mend it.
    fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused>;
}

/// Why a scalar was refused.
pub(super) struct Refused {
    /// A stable name.
    pub(super) code: &'static str,
    /// What is wrong.
    pub(super) message: String,
    /// How to mend it; may be empty.
    pub(super) hint: String,
}

impl Refused {
    /// A value that breaks its own rule.
    pub(super) fn value(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code: "bad-value", message: message.into(), hint: hint.into() }
    }
}

impl<T: Leaf> Read for T {
    fn shape() -> Shape {
        <T as Leaf>::shape()
    }

    fn read(node: &Node<'_>, at: &mut Reader<'_>) -> Option<Self> {
        let Value::Scalar(scalar) = &node.value else {
            at.expected(node, T::WHAT, "");
            return None;
        };
        if scalar.is_missing() {
            at.expected(node, T::WHAT, "write a value, or remove the key");
            return None;
        }
        match T::parse(scalar) {
            Ok(value) => Some(value),
            Err(Refused { code, message, hint }) => {
                at.error(&node.span, code, message, hint);
                None
            }
        }
    }
}

impl<T: Read> Read for At<T> {
    fn shape() -> Shape {
        T::shape()
    }

    fn read(node: &Node<'_>, at: &mut Reader<'_>) -> Option<Self> {
        let place = at.place(&node.span);
        Some(Self { value: T::read(node, at)?, place })
    }
}

impl<T: Read> Read for Vec<T> {
    fn shape() -> Shape {
        Shape::List(Box::new(T::shape()))
    }

    fn read(node: &Node<'_>, at: &mut Reader<'_>) -> Option<Self> {
        let Value::Seq(items) = &node.value else {
            at.expected(node, "a list", "write it as `[one, two]`");
            return None;
        };
        let read: Vec<Option<T>> = items.iter().map(|item| T::read(item, at)).collect();
        read.into_iter().collect()
    }
}

/// A mapping with keys of the user's choice, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Keyed<K, V>(pub(super) Vec<(At<K>, V)>);

impl<K: Leaf, V: Read> Read for Keyed<K, V> {
    fn shape() -> Shape {
        let pattern = match K::shape() {
            Shape::Text(Some(pattern)) => pattern,
            _ => "",
        };
        Shape::Map(pattern, Box::new(V::shape()))
    }

    fn read(node: &Node<'_>, at: &mut Reader<'_>) -> Option<Self> {
        let mut read: Option<Vec<(At<K>, V)>> = Some(Vec::new());
        for entry in at.map(node)? {
            let place = at.place(&entry.key.span);
            let name = Scalar { text: entry.key.text.clone(), style: entry.key.style };
            let name = match K::parse(&name) {
                Ok(value) => Some(At { value, place }),
                Err(Refused { code, message, hint }) => {
                    at.error(&entry.key.span, code, message, hint);
                    None
                }
            };
            let value = V::read(&entry.value, at);
            read = read.zip(name.zip(value)).map(|(mut all, one)| {
                all.push(one);
                all
            });
        }
        read.map(Self)
    }
}

/// Declares a record: `"key" field: required Type` or `"key" field: optional Type`, each with docs.
macro_rules! record {
    (
        $(#[doc = $about:literal])+
        $name:ident { $( $(#[doc = $docs:literal])+ $key:literal $field:ident: $kind:ident $ty:ty, )+ }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(in crate::config) struct $name {
            $( $(#[doc = $docs])+ pub(in crate::config) $field: record!(@type $kind $ty), )+
        }

        impl $crate::config::reader::Read for $name {
            fn shape() -> $crate::config::reader::Shape {
                $crate::config::reader::Shape::Record(
                    concat!($($about, "\n"),+),
                    vec![$( $crate::config::reader::Field {
                        key: $key,
                        docs: concat!($($docs, "\n"),+),
                        required: record!(@required $kind),
                        shape: <$ty as $crate::config::reader::Read>::shape(),
                    }, )+],
                )
            }

            fn read(
                node: &$crate::text::Node<'_>,
                at: &mut $crate::config::reader::Reader<'_>,
            ) -> Option<Self> {
                /// What has become of each key: not met, met and bad, met and good.
                struct Met { $( $field: Option<Option<$ty>>, )+ }
                let mut met = Met { $( $field: None, )+ };
                let mut all_known = true;
                for entry in at.map(node)? {
                    match entry.key.text.as_ref() {
                        $( $key => {
                            met.$field =
                                Some(<$ty as $crate::config::reader::Read>::read(&entry.value, at));
                        } )+
                        _ => {
                            at.unknown_key(entry, &[$($key),+]);
                            all_known = false;
                        }
                    }
                }
                $( record!(@check $kind met.$field, node, at, $key); )+
                let read = Self { $( $field: record!(@take $kind met.$field), )+ };
                all_known.then_some(read)
            }
        }
    };
    (@type required $ty:ty) => { $ty };
    (@type optional $ty:ty) => { Option<$ty> };
    (@required required) => { true };
    (@required optional) => { false };
    (@check required $met:expr, $node:ident, $at:ident, $key:literal) => {
        if $met.is_none() {
            $at.missing_key($node, $key);
        }
    };
    (@check optional $met:expr, $node:ident, $at:ident, $key:literal) => {};
    (@take required $met:expr) => { $met?? };
    (@take optional $met:expr) => {
        match $met {
            Some(read) => Some(read?),
            None => None,
        }
    };
}
pub(super) use record;

/// Declares a choice between words.
macro_rules! choice {
    (
        $(#[doc = $about:literal])+
        $name:ident($what:literal) { $( $(#[doc = $docs:literal])+ $word:literal $variant:ident, )+ }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(in crate::config) enum $name { $( $(#[doc = $docs])+ $variant, )+ }

        impl $crate::config::reader::Leaf for $name {
            const WHAT: &'static str = $what;

            fn shape() -> $crate::config::reader::Shape {
                $crate::config::reader::Shape::Words(&[$($word),+])
            }

            fn parse(
                scalar: &$crate::text::Scalar<'_>,
            ) -> Result<Self, $crate::config::reader::Refused> {
                match scalar.text.as_ref() {
                    $( $word => Ok(Self::$variant), )+
                    other => Err($crate::config::reader::not_among(other, $what, &[$($word),+])),
                }
            }
        }
    };
}
pub(super) use choice;

/// Refuses a word that is none of those possible.
pub(super) fn not_among(word: &str, what: &str, possible: &[&str]) -> Refused {
    let word = text::visible(word);
    let message = format!("`{}` is not {what}", shortened(&word));
    let hint = match text::closest(&word, possible.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("possible: {}", possible.join(", ")),
    };
    Refused::value(message, hint)
}

/// Whether any of these holds targets.
pub(super) fn any_error(found: &[Finding]) -> bool {
    found.iter().any(|it| it.diagnostic.severity == Severity::Error)
}

//! Replaces one string in TOML text by splicing its bytes, and proves that nothing else changed.
//!
//! The writer of `toml_edit` keeps comments but turns line ends around; its spans let us do better.
//! Same promises as for YAML.

use super::diagnostic::{closest, position};
use super::pointer::{Pointer, list_index};
use super::refusal::Refusal;
use super::splice::{Patch, text};
use std::fmt::Write as _;
use toml_edit::{Document, Item, TableLike, TomlError, Value};

/// Replaces the string at `pointer` by another; what is no string is refused.
pub fn replace(bytes: &[u8], pointer: &Pointer, new: &str) -> Result<Vec<u8>, Refusal> {
    let text = text(bytes)?;
    let before = Document::parse(text).map_err(|error| unreadable(text, &error))?;
    let found = find(Node::Item(before.as_item()), pointer)?;
    let at = found.span().unwrap_or_default();
    let line = position(text, at.start).0;
    let old = match found.string() {
        Ok(old) => old,
        Err(kind) if found.is_collection() => return Err(Refusal::NotAScalar { line, kind }),
        Err(kind) => return Err(Refusal::NotAString { line, kind }),
    };
    if old == new {
        return Ok(bytes.to_vec());
    }
    let literal = text.get(at.clone()).is_some_and(|raw| raw.starts_with('\''));
    let patch = Patch { span: at, new: encode(new, literal) };
    let after = patch.apply(text).filter(|after| {
        Document::parse(after.as_str()).is_ok_and(|document| {
            let (before, after) = (Node::Item(before.as_item()), Node::Item(document.as_item()));
            same(before, after, Some(pointer.segments()), new)
        })
    });
    after.map(String::into_bytes).ok_or(Refusal::Unsure { line })
}

fn unreadable(text: &str, error: &TomlError) -> Refusal {
    let (line, column) = position(text, error.span().unwrap_or_default().start);
    Refusal::Unreadable { line, column, what: error.message().to_owned() }
}

/// A table, list or value; the library has two types for what is one to us.
#[derive(Clone, Copy)]
enum Node<'a> {
    Item(&'a Item),
    Value(&'a Value),
    Table(&'a toml_edit::Table),
}

impl<'a> Node<'a> {
    fn table(self) -> Option<&'a dyn TableLike> {
        match self {
            Self::Item(item) => item.as_table_like(),
            Self::Value(value) => value.as_inline_table().map(|table| table as &dyn TableLike),
            Self::Table(table) => Some(table),
        }
    }

    fn value(self) -> Option<&'a Value> {
        match self {
            Self::Item(item) => item.as_value(),
            Self::Value(value) => Some(value),
            Self::Table(_) => None,
        }
    }

    fn items(self) -> Option<Vec<Node<'a>>> {
        if let Self::Item(Item::ArrayOfTables(tables)) = self {
            return Some(tables.iter().map(Node::Table).collect());
        }
        Some(self.value()?.as_array()?.iter().map(Node::Value).collect())
    }

    fn span(self) -> Option<std::ops::Range<usize>> {
        match self {
            Self::Item(item) => item.span(),
            Self::Value(value) => value.span(),
            Self::Table(table) => table.span(),
        }
    }

    fn is_collection(self) -> bool {
        self.table().is_some() || self.items().is_some()
    }

    /// The string, or what it is instead.
    fn string(self) -> Result<&'a str, &'static str> {
        match self.value() {
            Some(Value::String(string)) => Ok(string.value()),
            Some(Value::Integer(_) | Value::Float(_)) => Err("a number"),
            Some(Value::Boolean(_)) => Err("a boolean"),
            Some(Value::Datetime(_)) => Err("a date"),
            Some(Value::Array(_) | Value::InlineTable(_)) | None if self.table().is_some() => {
                Err("a table")
            }
            Some(Value::Array(_) | Value::InlineTable(_)) | None => Err("a list"),
        }
    }
}

fn find<'a>(root: Node<'a>, pointer: &Pointer) -> Result<Node<'a>, Refusal> {
    let mut node = root;
    for (depth, segment) in pointer.segments().iter().enumerate() {
        let next = match node.table() {
            Some(table) => table.get(segment).map(Node::Item),
            None => list_index(segment).and_then(|at| node.items()?.get(at).copied()),
        };
        let missing = || {
            let keys: Vec<String> = node
                .table()
                .into_iter()
                .flat_map(TableLike::iter)
                .map(|(key, _)| key.to_owned())
                .collect();
            let meant = closest(segment, &keys).map(str::to_owned);
            let pointer = pointer.prefix(depth + 1);
            Refusal::NotFound { pointer, segment: segment.clone(), meant }
        };
        node = next.ok_or_else(missing)?;
    }
    Ok(node)
}

/// Writes a string, in single quotes if they were used and can hold it.
fn encode(value: &str, literal: bool) -> String {
    if literal && !value.contains('\'') && !value.chars().any(char::is_control) {
        return format!("'{value}'");
    }
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Writing to a string cannot fail. Control characters are below U+10000.
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Whether two documents are the same, but for the string at `changed`, which must be `new`.
///
/// Recursion is bounded by the parser, which stops at 80 levels.
fn same(before: Node<'_>, after: Node<'_>, changed: Option<&[String]>, new: &str) -> bool {
    if changed.is_some_and(<[String]>::is_empty) {
        return before.string().is_ok() && after.string() == Ok(new);
    }
    let towards = |key: &str| {
        changed
            .and_then(<[String]>::split_first)
            .filter(|(first, _)| *first == key)
            .map(|(_, rest)| rest)
    };
    if let (Some(old), Some(new_table)) = (before.table(), after.table()) {
        return old.len() == new_table.len()
            && old.iter().zip(new_table.iter()).all(|((key, old), (other, item))| {
                key == other && same(Node::Item(old), Node::Item(item), towards(key), new)
            });
    }
    if let (Some(old), Some(items)) = (before.items(), after.items()) {
        return old.len() == items.len()
            && old
                .into_iter()
                .zip(items)
                .enumerate()
                .all(|(at, (old, item))| same(old, item, towards(&at.to_string()), new));
    }
    match (before.value(), after.value()) {
        (Some(Value::String(a)), Some(Value::String(b))) => a.value() == b.value(),
        (Some(Value::Integer(a)), Some(Value::Integer(b))) => a.value() == b.value(),
        (Some(Value::Float(a)), Some(Value::Float(b))) => {
            a.value().to_bits() == b.value().to_bits()
        }
        (Some(Value::Boolean(a)), Some(Value::Boolean(b))) => a.value() == b.value(),
        (Some(Value::Datetime(a)), Some(Value::Datetime(b))) => a.value() == b.value(),
        _ => false,
    }
}

//! Why an edit was not made. Refusing is cheap: a person makes the edit by hand, and nothing that
//! nobody asked for is ever written.
//!
//! Invariant: no message holds a control character, whatever the file holds.

use super::diagnostic::visible;
use super::pointer::Pointer;

/// Why a text was left as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The name of the file does not tell a format we edit.
    #[error("{} is neither YAML nor TOML nor JSON", visible(file))]
    UnknownFormat {
        /// The file.
        file: String,
    },
    /// The file is larger than any that people write.
    #[error("the file has {bytes} bytes, more than the {limit} that can be edited")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The most we edit.
        limit: usize,
    },
    /// The file is not UTF-8.
    #[error("the file is not UTF-8 at byte {at}")]
    NotUtf8 {
        /// The first byte that is not.
        at: usize,
    },
    /// The file cannot be read.
    #[error("line {line}, column {column}: {}", visible(what))]
    Unreadable {
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What the parser says.
        what: String,
    },
    /// The file has fewer documents.
    #[error("there is no document {asked}: the file has {documents}, counted from 0")]
    NoSuchDocument {
        /// The one asked for.
        asked: usize,
        /// How many there are.
        documents: usize,
    },
    /// Nothing is at the pointer.
    #[error("nothing at {}: no `{}`", visible(&pointer.to_string()), visible(segment))]
    NotFound {
        /// What was asked for.
        pointer: Pointer,
        /// Its first segment that leads nowhere.
        segment: String,
        /// A key that is there and is spelt nearly so.
        meant: Option<String>,
    },
    /// A mapping or list stands at the pointer.
    #[error("line {line}: {kind} stands there, not a single value")]
    NotAScalar {
        /// Where.
        line: usize,
        /// What it is.
        kind: &'static str,
    },
    /// Something else than a list stands at the pointer.
    #[error("line {line}: {kind} stands there, not a list")]
    NotAList {
        /// Where.
        line: usize,
        /// What it is.
        kind: &'static str,
    },
    /// The value has a type of its own.
    #[error("line {line}: the value is {kind}, not a string")]
    NotAString {
        /// Where.
        line: usize,
        /// What it is.
        kind: &'static str,
    },
    /// A key on the way is given twice.
    #[error("line {second}: key `{}` is given twice, first on line {first}", visible(key))]
    DuplicateKey {
        /// The key.
        key: String,
        /// Line where it is first.
        first: usize,
        /// Line where it is again.
        second: usize,
    },
    /// The value is an alias of another.
    #[error("line {line}: the value is the alias `{}`", visible(alias))]
    Alias {
        /// Where.
        line: usize,
        /// The alias as written.
        alias: String,
    },
    /// The way to the value leads through an alias.
    #[error("line {line}: the way there leads through the alias `{}`", visible(alias))]
    ThroughAlias {
        /// Where.
        line: usize,
        /// The alias as written.
        alias: String,
    },
    /// The value may come out of a merge key.
    #[error(
        "line {line}: `{}` is not there itself, but a merge key `<<` may bring it",
        visible(segment)
    )]
    ThroughMerge {
        /// Line of the merge key.
        line: usize,
        /// The key that was looked for.
        segment: String,
    },
    /// The value, or something around it, is used again elsewhere.
    #[error(
        "line {line}: `&{}` is used again on {}, which would change too",
        visible(anchor),
        lines(aliases)
    )]
    Shared {
        /// Name of the anchor.
        anchor: String,
        /// Line of the anchor.
        line: usize,
        /// Lines of its aliases.
        aliases: Vec<usize>,
    },
    /// The value is tagged as something else than a string.
    #[error("line {line}: the value is tagged `{}`", visible(tag))]
    Tagged {
        /// Where.
        line: usize,
        /// The tag as written.
        tag: String,
    },
    /// We could not prove that only this would change.
    #[error("line {line}: cannot change this and be sure that nothing else changes")]
    Unsure {
        /// Where.
        line: usize,
    },
}

impl Refusal {
    /// Says what a person can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::UnknownFormat { .. } => "rename it to .yaml, .yml, .json or .toml".to_owned(),
            Self::TooLarge { .. } => "split the file".to_owned(),
            Self::NotUtf8 { .. } => "save the file as UTF-8".to_owned(),
            Self::Unreadable { .. } => "mend the file first".to_owned(),
            Self::NoSuchDocument { .. } => "choose one of the documents that are there".to_owned(),
            Self::NotFound { meant: Some(meant), .. } => {
                format!("did you mean `{}`?", visible(meant))
            }
            Self::NotFound { .. } => {
                "add it by hand first; only what is there is changed".to_owned()
            }
            Self::NotAScalar { .. } => "point at a single value inside it".to_owned(),
            Self::NotAList { .. } => "make it a list by hand first".to_owned(),
            Self::NotAString { .. } => "put it in quotes by hand first".to_owned(),
            Self::DuplicateKey { .. } => {
                "remove one of the two; readers differ in which one counts".to_owned()
            }
            Self::Alias { .. } | Self::ThroughAlias { .. } => {
                "write the value out in place of the alias".to_owned()
            }
            Self::ThroughMerge { .. } => "write the key out below the merge key".to_owned(),
            Self::Shared { .. } => "write the value out in place of its aliases".to_owned(),
            Self::Tagged { .. } => "remove the tag, or edit by hand".to_owned(),
            Self::Unsure { .. } => {
                "edit by hand, or put the value in quotes on one line".to_owned()
            }
        }
    }
}

/// Names lines in a sentence, not all of them if they are many.
fn lines(lines: &[usize]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<_> = lines.iter().take(SHOWN).map(usize::to_string).collect();
    let word = if lines.len() == 1 { "line" } else { "lines" };
    match lines.len().saturating_sub(SHOWN) {
        0 => format!("{word} {}", shown.join(", ")),
        more => format!("{word} {} and {more} more", shown.join(", ")),
    }
}

//! Text that people write, with positions: reads it, says exactly where it is wrong, and changes
//! one value in it without touching another byte.
//!
//! Pure: bytes in, values out; knows nothing of what the text means. Three users: the config room
//! reads files with [`parse`], a promotion and the `towpath edit` verb change them with [`edit`].
//!
//! Invariants: no input panics; time and memory are bounded by the size of the input, which is
//! itself bounded; an edit is returned only if a second reading of the result proves it.

mod diagnostic;
mod refusal;
mod scalar;
mod tree;

mod build;
mod find;
mod insert;
mod pointer;
mod proof;
mod splice;
mod toml;

#[cfg(test)]
mod tests;

pub use diagnostic::{Diagnostic, LineIndex, Severity, closest, position, render, visible};
pub use insert::insert_into_list;
pub use pointer::{Pointer, PointerError};
pub use refusal::Refusal;
pub use scalar::{Ambiguity, ambiguity, encode};
pub use splice::{EDIT_BYTES_MAX, replace};
pub use toml::replace as replace_toml;
pub use tree::{
    DEPTH_MAX, Document, Entry, FILE_BYTES_MAX, Key, NODES_MAX, Node, PROBLEMS_MAX, Scalar, Style,
    Value, parse,
};

/// Replaces the string at `pointer` in a file whose name tells its format.
///
/// `document` counts from zero and is for YAML streams; TOML and JSON files have only document 0.
pub fn edit(
    file_name: &str,
    bytes: &[u8],
    document: usize,
    pointer: &Pointer,
    new: &str,
) -> Result<Vec<u8>, Refusal> {
    let extension = file_name.rsplit_once('.').map_or("", |(_, extension)| extension);
    match extension.to_ascii_lowercase().as_str() {
        "yaml" | "yml" => replace(bytes, document, pointer, new),
        "json" => splice::replace_json(bytes, document, pointer, new),
        "toml" if document == 0 => toml::replace(bytes, pointer, new),
        "toml" => Err(Refusal::NoSuchDocument { asked: document, documents: 1 }),
        _ => Err(Refusal::UnknownFormat { file: file_name.to_owned() }),
    }
}

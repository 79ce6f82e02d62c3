//! The names that a file speaks of, read even where the rest of it is wrong: so that one look
//! reports a misspelt environment beside a misspelt key, and not only after that is mended.

use crate::config::place::At;
use crate::config::reader::{Read, Reader};
use crate::model::{EnvironmentName, PipelineName, RecipeName, RoleName};
use crate::text::{Document, Node, Value};

use super::Promote;

/// What a file under `services/` or `pipelines/` refers to, as far as it can be read.
#[derive(Clone, Debug)]
pub(in crate::config) struct Mentions {
    /// Its recipe.
    pub(in crate::config) recipe: Option<At<RecipeName>>,
    /// Its pipeline.
    pub(in crate::config) pipeline: Option<At<PipelineName>>,
    /// Its targets.
    pub(in crate::config) targets: Vec<MentionedTarget>,
    /// Whether some key of `targets` is no name.
    pub(in crate::config) incomplete: bool,
}

/// What a target refers to.
#[derive(Clone, Debug)]
pub(in crate::config) struct MentionedTarget {
    /// Where it is.
    pub(in crate::config) environment: At<EnvironmentName>,
    /// When a ref comes there.
    pub(in crate::config) promote: Option<Promote>,
    /// The roles that run it.
    pub(in crate::config) roles: Option<Vec<At<RoleName>>>,
}

impl Mentions {
    /// Reads what can be read. What cannot be was reported already, when the file was read as a
    /// whole.
    pub(in crate::config) fn read(file: &str, document: &Document<'_>) -> Self {
        let mut silent = Reader::new(file, document.text);
        let at = &mut silent;
        let recipe = key(&document.root, "recipe", at);
        let pipeline = key(&document.root, "pipeline", at);
        let mut targets = Vec::new();
        let mut incomplete = true;
        if let Some(Node { value: Value::Map(entries), .. }) = document.root.get("targets") {
            for entry in entries {
                let place = at.place(&entry.key.span);
                let Ok(value) = EnvironmentName::parse(&entry.key.text) else { continue };
                targets.push(MentionedTarget {
                    environment: At { value, place },
                    promote: key(&entry.value, "promote", at),
                    roles: key(&entry.value, "roles", at),
                });
            }
            incomplete = targets.len() < entries.len();
        }
        Self { recipe, pipeline, targets, incomplete }
    }
}

fn key<T: Read>(node: &Node<'_>, key: &str, at: &mut Reader<'_>) -> Option<T> {
    node.get(key).and_then(|it| T::read(it, at))
}

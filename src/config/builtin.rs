//! The recipes that every config repo has without writing them: texts like a user's own, read by
//! the same reader. A file `recipes/NAME.yaml` of the same name takes the place of one.

use crate::model::{RecipeName, RepoPath};

use super::files::{Content, File, read};
use super::raw;

/// A recipe that is built in.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    /// Its name.
    pub name: &'static str,
    /// What it is for, in one line.
    pub about: &'static str,
    /// The recipe as YAML, to read and to copy.
    pub text: &'static str,
}

/// All of them.
pub const ALL: [Builtin; 2] = [
    Builtin {
        name: "plain-fleet",
        about: "install a Debian package, stateful roles first, the fleet in batches",
        text: include_str!("builtin/plain-fleet.yaml"),
    },
    Builtin {
        name: "omnibus-fleet",
        about: "an omnibus package: warm-up, migrations on the deploy node, gitaly, fleet",
        text: include_str!("builtin/omnibus-fleet.yaml"),
    },
];

/// The same as files, as if they stood in the config repo.
pub(super) fn files() -> Vec<(RecipeName, File<raw::Recipe>)> {
    let read = |it: &Builtin| {
        let name = RecipeName::parse(it.name).ok()?;
        let path = RepoPath::parse(&format!("recipes/{}.yaml", it.name)).ok()?;
        let file = read(&path, &Content::Bytes(it.text.as_bytes().to_vec()))?;
        Some((name, file))
    };
    ALL.iter().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_one_can_be_read() {
        let files = files();
        assert_eq!(files.len(), ALL.len());
        for (name, file) in files {
            assert!(file.found.is_empty(), "{name}: {:?}", file.found);
            assert!(file.raw.is_some(), "{name}");
        }
    }
}
